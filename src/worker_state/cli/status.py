"""`worker-state status`: finds the workers of this user on this machine, and asks for their `/worker` page.

`run --health` leaves a small file in a private directory, `$XDG_RUNTIME_DIR/worker-state` or one in the system's
directory for temporary files. A killed worker leaves its file behind; the next reader removes it.
"""

import json
import os
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Timer
from typing import Annotated, Any

import typer

from worker_state.cli.output import ExitCode, fail
from worker_state.cli.shared_options import Json
from worker_state.redact import shown

TIMEOUT = 3.0  # seconds for a worker's answer, from the first byte to the last
AT_ONCE = 32  # workers that are asked at the same time
LONGEST_ANSWER, LONGEST_FILE = 64 * 1024, 4096  # bytes
LARGEST = 2**63  # a number beyond this is no time, no count and no process
NOBODY = (
    "No worker was found on this machine; one that can be asked is started with: worker-state run --health 0. "
    "A program of yours that calls serve_health is asked by its port: worker-state status --port PORT"
)


def status_command(
    port: Annotated[
        int | None, typer.Option(metavar="PORT", min=1, max=65535, help="Ask the worker on this port of loopback only.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show this user's workers on this machine that were started with --health: what they do, and if they are ready.

    A program of yours that calls serve_health leaves no file behind by which it is found: --port asks it.

    Exit codes: 0 all are ready; 1 one is not, or does not answer, or there is none.

    \b
    Examples:
      worker-state status
      worker-state status --port 8790
      worker-state status --json
    """
    if port is None:
        found = found_workers()
        with ThreadPoolExecutor(AT_ONCE) as threads:
            rows = list(threads.map(_row, found.values(), found))
    else:
        rows = [_row(f"http://127.0.0.1:{port}", None)]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    elif not rows:
        raise fail(NOBODY)
    else:
        for row in rows:
            typer.echo(_line(row))
    if not rows or not all(row.get("ready") is True for row in rows):
        raise typer.Exit(ExitCode.FAILED)


def ask(url: str, pid: int | None = None) -> dict[str, Any] | None:
    """The worker's answer; None without one in time, or if it is no worker's, or that of another one than `pid`."""
    from http.client import HTTPConnection, HTTPException
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        # Unlike urllib.request it uses no proxy and follows no redirect.
        with closing(HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT)) as connection:
            connection.connect()
            end = Timer(TIMEOUT, _shut_down, (connection.sock,))  # that of the connection counts from each byte
            end.start()
            try:
                connection.request("GET", "/worker")
                answer = json.loads(connection.getresponse().read(LONGEST_ANSWER))
            finally:
                end.cancel()
    except (OSError, HTTPException, ValueError, RecursionError):
        return None
    if not isinstance(answer, dict) or "ready" not in answer:
        return None
    answer = {name: value for name, value in answer.items() if _is_plain(value)}
    return answer if type(answer.get("pid")) is int and pid in (None, answer["pid"]) else None


def _shut_down(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _is_plain(value: object) -> bool:
    """What a worker says is texts and numbers. Anything else may be nested too deeply to be shown."""
    return value is None or isinstance(value, str | bool) or (isinstance(value, int | float) and abs(value) < LARGEST)


def _row(url: str, pid: int | None) -> dict[str, Any]:
    answer = ask(url, pid)
    ours = {"url": url, "answered": answer is not None}
    return {"pid": pid, **ours, **(answer or {}), **ours}  # in this order, and whatever the answer contains


def _line(row: dict[str, Any]) -> str:
    name = "worker" if row["pid"] is None else f"worker {row['pid']}"
    if not row["answered"]:
        return f"{name}: no answer at {row['url']}"
    doing, job = shown(str(row.get("status", "")), 40), row.get("job_id")
    doing += "" if job is None else f" (job {shown(str(job))})"
    since, reason = _for(row.get("reason_seconds")), shown(str(row.get("reason")), 400)
    ready = f"ready: {reason}{since}" if row.get("ready") is True else f"not ready{since}: {reason}"
    return f"{name}: {doing + ', ' if doing else ''}{ready}; {row['url']}"


def _for(seconds: object) -> str:
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        return ""
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f" for {seconds / unit:.0f} {name}"
    return f" for {seconds:.0f} s"


def directories() -> list[Path]:
    """Where to look; the first one is written to. A service and a shell of one user may differ in their environment."""
    found = []
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime) and os.path.isdir(runtime):
        found.append(Path(runtime, "worker-state"))
    with suppress(OSError):  # a read-only system need not have a directory for temporary files (G36)
        found.append(Path(tempfile.gettempdir(), f"worker-state-{_user()}"))
    return found


@contextmanager
def published(url: str, warn: Callable[[str], None]) -> Iterator[None]:
    """This process can be found inside the block. If not, `warn` gets the reason."""
    written: list[Path] = []
    try:
        _publish(url, written)
    except OSError as error:
        warn(f"`worker-state status` will not find this worker: {error}")
    try:
        yield
    finally:
        for file in written:
            with suppress(OSError):
                file.unlink()


def _publish(url: str, written: list[Path]) -> None:
    directory = next(iter(directories()), None)
    if directory is None:
        raise FileNotFoundError("there is no directory for temporary files")
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    if not _is_private(directory):
        raise PermissionError(f"{directory} belongs to somebody else, or others may write there")
    file = directory / f"{os.getpid()}.json"
    unfinished = file.with_suffix(".new")
    written += file, unfinished  # a full disk leaves an empty one
    unfinished.write_text(json.dumps({"pid": os.getpid(), "url": url}), "utf-8")
    unfinished.replace(file)


def found_workers() -> dict[int, str]:
    """The URLs of the workers that run, by pid. Removes the files of those that have ended."""
    urls = {}
    for directory in filter(_is_private, directories()):
        for file in directory.glob("*.json"):
            if not file.stem.isdecimal():
                continue
            pid = int(file.stem)
            if not _lives(pid):
                with suppress(OSError):
                    file.unlink()
                continue
            with suppress(OSError, ValueError, KeyError, TypeError, RecursionError), file.open("rb") as opened:
                content = json.loads(opened.read(LONGEST_FILE))
                if content["pid"] == pid and isinstance(content["url"], str):
                    urls[pid] = content["url"]
    return dict(sorted(urls.items()))


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0  # where there is none, each user has such directories alone


def _lives(pid: int) -> bool:
    if sys.platform == "win32":
        return True  # signal 0 is Ctrl-C there; one that has ended gives no answer
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):  # ended, or now the pid of another user's process
        return False
    return True


def _is_private(directory: Path) -> bool:
    # No link either: only then can its files be trusted.
    try:
        status = directory.lstat()
    except OSError:
        return False
    if not stat.S_ISDIR(status.st_mode):
        return False
    if sys.platform == "win32":
        return True  # the mode says nothing there, and the directory for temporary files is the user's own
    return status.st_uid == _user() and not status.st_mode & 0o077
