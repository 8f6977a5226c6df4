"""The unit of examples/ under a real systemd: started, watched, killed, stopped, and started again."""

import json
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.operations.own_systemd import Systemd, skip_where_it_cannot_run, systemd
from tests.operations.waiting import until
from tests.support.served import Served, serving

pytestmark = pytest.mark.operations

ROOT = Path(__file__).parents[2]
UNIT = "worker-state"
HANDLER = """\
import os, time

def handle(job):  # until the test has seen enough
    while not os.path.exists("/opt/worker/enough") and not job.cancelled:
        time.sleep(0.1)
"""
SHORTER = """\
[Service]
WatchdogSec=4
RestartSec=2
ExecStart=
ExecStart={command}
StandardOutput=append:/opt/worker/log
StandardError=append:/opt/worker/log
"""


class Service:
    """The unit, under a systemd that has nothing else to do."""

    def __init__(self, own: Systemd, lines: list[str], ws: int, http: int, health: int) -> None:
        self.own = own
        self.ws, self.http, self.health = ws, http, health  # ports
        self._lines = lines
        self._began = time.monotonic()

    def ctl(self, *arguments: str, check: bool = True) -> str:
        return self.own.run("systemctl", *arguments, UNIT, check=check)

    def now(self) -> dict[str, str]:
        names = ("ActiveState", "Result", "NRestarts", "ExecMainStatus", "StatusText", "MainPID")
        return self.own.show(UNIT, *names)

    def until(self, **wanted: str) -> None:
        """Until it is so: texts that these properties have to contain."""
        until(lambda: all(text in self.now()[name] for name, text in wanted.items()), f"{UNIT} shows {wanted}")

    def saw(self, what: str) -> None:
        now = self.now()
        failed = "" if now["Result"] == "success" else f"Result={now['Result']} ExecMainStatus={now['ExecMainStatus']}"
        seen = failed or now["StatusText"]
        self._lines.append(f"{what:34}  {now['ActiveState']:12}  NRestarts={now['NRestarts']}  {seen}".rstrip())

    def answer(self, path: str) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health}{path}", timeout=30) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def log(self) -> str:
        return (self.own.place / "opt" / "log").read_text("utf-8")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Systemd]:
    """A systemd with the unit of examples/."""
    skip_where_it_cannot_run()
    place = tmp_path_factory.mktemp("systemd")
    for folder in ("opt", "units", f"units/{UNIT}.service.d"):
        (place / folder).mkdir()
    unit = (ROOT / "examples" / f"{UNIT}.service").read_text("utf-8")
    (place / "units" / f"{UNIT}.service").write_text(unit, "utf-8")
    (place / "opt" / ".venv").symlink_to(sys.prefix)
    (place / "opt" / "my_worker.py").write_text(HANDLER, "utf-8")
    (place / "env").touch()
    with systemd(place, Path(sys.base_prefix), Path(sys.prefix), ROOT / "src") as own:
        yield own


@pytest.fixture(scope="module")
def lines(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """What was seen, for people; printed at the end."""
    lines: list[str] = []
    yield lines
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    assert reporter is not None
    reporter.write_line("\n" + "\n".join(lines))


@pytest.fixture
def service(own: Systemd, lines: list[str]) -> Iterator[Service]:
    """The unit with an environment file, not started yet; it is stopped at the end."""
    service = Service(own, lines, free_port(), free_port(), free_port())
    environment = {
        "SLEAP_RTC_SIGNALING_WS": f"ws://127.0.0.1:{service.ws}",
        "SLEAP_RTC_SIGNALING_HTTP": f"http://127.0.0.1:{service.http}",
    }
    (own.place / "env").write_text("".join(f"{name}={value}\n" for name, value in environment.items()), "ascii")
    unit = (own.place / "units" / f"{UNIT}.service").read_text("utf-8")
    (command,) = [line.partition("=")[2] for line in unit.splitlines() if line.startswith("ExecStart=")]
    assert " --health 8790" in command  # a port that this machine may have taken
    command = command.replace("--health 8790", f"--health {service.health}")
    (own.place / "units" / f"{UNIT}.service.d" / "shorter.conf").write_text(SHORTER.format(command=command), "ascii")
    (own.place / "opt" / "log").write_text("", "ascii")
    (own.place / "opt" / "enough").unlink(missing_ok=True)
    own.run("systemctl", "daemon-reload")
    yield service
    (own.place / "opt" / "enough").touch()
    service.ctl("stop", check=False)
    service.ctl("reset-failed", check=False)


@pytest.fixture
def server(service: Service) -> Iterator[Served]:
    """The server that the environment file names."""
    with serving(service.ws, service.http) as served:
        yield served


def workers(server: Served) -> list[str]:
    rooms = server.server.rooms
    return [peer_id for room_id in rooms.occupied() for peer_id in rooms.peers(room_id)]


def test_systemd_takes_the_unit_as_it_is(own: Systemd) -> None:
    """`systemd-analyze verify` has nothing to say about it."""
    assert own.run("systemd-analyze", "verify", "--man=no", f"{own.place}/units/{UNIT}.service") == ""


def test_start(service: Service, server: Served) -> None:
    """`systemctl start` returns when the worker can be found, and the status says so."""
    began = time.monotonic()
    service.ctl("start")
    assert len(workers(server)) == 1
    service.saw(f"start ({time.monotonic() - began:.1f} s)")
    service.until(ActiveState="active", StatusText="available, discoverable")
    assert service.answer("/ready") == 200
    assert "sleap-session:" not in service.log()


def test_the_watchdog(service: Service, server: Served) -> None:
    """A worker whose loop stands still is ended, and started again; one that is well is left alone."""
    service.ctl("start")
    time.sleep(5)  # more than the watchdog's time
    assert service.now()["NRestarts"] == "0"
    service.saw("alive for longer than WatchdogSec")
    (first,) = workers(server)
    service.ctl("kill", "--signal=STOP", "--kill-who=main")
    service.until(Result="watchdog")
    service.saw("SIGSTOP: the watchdog ends it")
    service.until(NRestarts="1", ActiveState="active")
    (second,) = workers(server)
    assert second != first
    service.saw("after that")


def test_killed(service: Service, server: Served) -> None:
    """A worker that is killed is started again, and registered again."""
    service.ctl("start")
    service.ctl("kill", "--signal=KILL", "--kill-who=main")
    service.until(Result="signal")
    service.saw("SIGKILL")
    service.until(NRestarts="1", ActiveState="active")
    until(lambda: len(workers(server)) == 1, "it is registered again")
    service.saw("after that")


def test_stop(service: Service, server: Served) -> None:
    """`systemctl stop` returns when the running job is done, the identity deleted and the room empty."""
    service.ctl("start")
    (worker,) = workers(server)
    shown = json.load(urllib.request.urlopen(f"{server.server.http_url}/workers.json", timeout=30))
    assert len(shown["workers"]) == 1
    server.say(worker, {"type": "offer", "sdp": "v=0"})
    service.until(StatusText="busy")
    service.until(StatusText="discoverable")
    service.saw("a job runs")
    service.ctl("stop", "--no-block")
    until(lambda: "Draining" in service.log(), "it drains")
    assert service.now()["ActiveState"] == "deactivating"
    service.saw("stop, while the job runs")
    (service.own.place / "opt" / "enough").touch()
    began = time.monotonic()
    service.ctl("stop")
    service.saw(f"{time.monotonic() - began:.1f} s after the job is done")
    now = service.now()
    assert (now["ActiveState"], now["Result"], now["ExecMainStatus"]) == ("inactive", "success", "0")
    assert (workers(server), dict(server.server.rooms.users)) == ([], {})
    shown = json.load(urllib.request.urlopen(f"{server.server.http_url}/workers.json", timeout=30))
    assert shown["workers"] == []


def test_restart(service: Service, server: Served) -> None:
    """`systemctl restart`, as after an upgrade, lets the running job end, and starts the worker again."""
    service.ctl("start")
    (first,) = workers(server)
    server.say(first, {"type": "offer", "sdp": "v=0"})
    service.until(StatusText="busy")
    service.ctl("restart", "--no-block")
    until(lambda: "Draining" in service.log(), "it drains")
    (service.own.place / "opt" / "enough").touch()
    until(lambda: workers(server) not in ([], [first]), "another one is registered")
    service.until(ActiveState="active", StatusText="discoverable")
    assert workers(server) == list(server.server.rooms.users)
    service.saw("restart, while a job ran")


def test_a_bad_configuration(service: Service) -> None:
    """It fails with exit code 2, and is not started again."""
    nonsense = "SLEAP_RTC_SIGNALING_WS=nonsense\nSLEAP_RTC_SIGNALING_HTTP=http://127.0.0.1:1\n"
    (service.own.place / "env").write_text(nonsense, "ascii")
    service.ctl("start", check=False)
    time.sleep(3)  # more than RestartSec
    now = service.now()
    assert (now["ActiveState"], now["ExecMainStatus"], now["NRestarts"]) == ("failed", "2", "0")
    service.saw("a bad configuration")
    assert "SLEAP_RTC_SIGNALING_WS must begin with ws:// or wss://" in service.log()


def test_a_server_that_is_away_at_the_start(service: Service) -> None:
    """The worker waits and says why; when the server comes, it registers, and the unit is active."""
    service.ctl("start", "--no-block")
    service.until(ActiveState="activating", StatusText="connection refused")
    assert service.answer("/health") == 200
    assert service.answer("/ready") == 503
    service.saw("start without a server")
    with serving(service.ws, service.http) as server:
        service.until(ActiveState="active", StatusText="discoverable")
        assert len(workers(server)) == 1
        service.saw("the server has come")
    service.until(ActiveState="active", StatusText="not registered")
    service.saw("the server has gone")
