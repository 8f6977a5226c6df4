"""Notifications to systemd by NOTIFY_SOCKET: READY, STATUS, WATCHDOG and STOPPING, one datagram each (`sd_notify(3)`).

Trouble is logged once and harms nobody. What systemd has not taken is said again until it has.
"""

import math
import os
import socket

import trio

from worker_state.integrations.readiness import line
from worker_state.logs import Logger, event
from worker_state.manager import Manager
from worker_state.refusals import check_manager

log: Logger = Logger("worker_state.systemd")

LOOK_EVERY = 5.0  # seconds. No event says that a proof is overdue, so the status line is looked at again.
RETRY = 0.2  # seconds between tries while systemd's queue is full: READY must not get lost
UNREACHABLE = 1.0  # seconds between tries while there is no such socket, as when systemd starts anew


async def notify_systemd(manager: Manager, *, task_status: "trio.TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
    """Keep systemd informed until cancelled: `nursery.start_soon(worker_state.notify_systemd, manager)`.

    Returns at once when NOTIFY_SOCKET is not set. Sends READY=1 once the server has confirmed registration and status,
    STATUS=… whenever that line changes, and STOPPING=1 at the end. Sends WATCHDOG=1 twice in each WATCHDOG_USEC, from
    the event loop's own task, so a stuck loop is silent. Raises nothing.
    """
    check_manager(manager, "notify_systemd")
    task_status.started()
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    beat = watchdog_beat(os.environ.get("WATCHDOG_USEC"), os.environ.get("WATCHDOG_PID"), os.getpid())
    notifier = _Notifier(address)
    try:
        await _report(manager, notifier, beat)
    finally:
        notifier.send("STOPPING=1")


def watchdog_beat(usec: str | None, pid: str | None, own_pid: int) -> float:
    """Seconds between two signs of life: half of what systemd waits for. Infinite when it waits for none of ours."""
    if usec is None or pid not in (None, "", str(own_pid)):
        return math.inf
    understood = usec.isascii() and usec.isdigit() and len(usec) < 20 and int(usec) > 0
    return int(usec) / 2e6 if understood else math.inf


async def _report(manager: Manager, notifier: "_Notifier", beat: float) -> None:
    states = aiter(manager.states)
    ready, sent = False, ""
    beat_at = trio.current_time() if beat < math.inf else math.inf
    while True:
        now, state = trio.current_time(), manager.state
        status = line(state, now)
        news = [
            *(["READY=1"] if state.confirmed and not ready else []),
            *([f"STATUS={status}"] if status != sent else []),
            *(["WATCHDOG=1"] if now >= beat_at else []),
        ]
        pause = notifier.send("\n".join(news)) if news else 0.0
        wake_at = now + pause
        if not pause:
            ready, sent = ready or state.confirmed, status
            beat_at = now + beat if now >= beat_at else beat_at
            wake_at = min(now + LOOK_EVERY, beat_at)
        with trio.move_on_at(wake_at):
            try:
                await anext(states)
            except StopAsyncIteration:
                return


class _Notifier:
    """systemd's socket. Sending never waits and never raises."""

    def __init__(self, address: str) -> None:
        # An "@" stands for the zero byte that begins the name of an abstract socket.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._logged = False

    def send(self, text: str) -> float:
        """0 when the kernel has taken it, else the seconds to wait before the next try."""
        try:
            if not hasattr(socket, "AF_UNIX"):
                raise OSError("this system has no such sockets")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
                sending.setblocking(False)
                sending.sendto(text.encode(), self._address)
        except BlockingIOError:
            return RETRY
        except (OSError, ValueError) as error:  # no such socket
            if not self._logged:
                about = event("systemd_unreachable", reason=str(error))
                log.warning("systemd cannot be told how this worker is: %s", error, extra=about)
            self._logged = True
            return UNREACHABLE
        return 0.0
