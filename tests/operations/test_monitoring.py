"""Alert rules and dashboard in a real Prometheus, with workers whose server is killed and comes back."""

import json
import os
import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from tests.operations.debian import unpacked
from tests.operations.ops import needs
from tests.support.processes import PROGRAM, Running, Spawn, spawning

pytestmark = pytest.mark.operations

ROOT = Path(__file__).parents[2]
FILES = ROOT / "examples" / "monitoring"
PAGE = (ROOT / "docs" / "how-to" / "monitor.md").read_text("utf-8")
PATIENCE = 90.0  # seconds; every wait is over in a fraction of that


@pytest.fixture(scope="module")
def prometheus() -> Path:
    """The folder of `prometheus` and `promtool`."""
    into = ROOT / "build" / "prometheus"
    into.mkdir(parents=True, exist_ok=True)
    assert unpacked("promtool", "prometheus", into).exists()
    return unpacked("prometheus", "prometheus", into).parent


def promtool(folder: Path, *words: str, cwd: Path = FILES) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(folder / "promtool"), *words], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )


def expressions() -> list[str]:
    """What the dashboard asks, without Grafana's variables."""
    board = json.loads((FILES / "dashboard.json").read_text("utf-8"))
    found = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    return [each.replace("$job", ".*").replace("$__rate_interval", "10s") for each in found]


def test_the_rules_do_what_their_tests_say(prometheus: Path, tmp_path: Path) -> None:
    """promtool finds nothing wrong, every alert fires in a test, and a rule that is changed fails it."""
    tested = promtool(prometheus, "test", "rules", "rules_test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    shutil.copytree(FILES, tmp_path, dirs_exist_ok=True)
    rules = (FILES / "rules.yml").read_text("utf-8")
    (tmp_path / "rules.yml").write_text(rules.replace(" < 0.5", " < 0.2"), "utf-8")
    assert promtool(prometheus, "test", "rules", "rules_test.yml", cwd=tmp_path).returncode != 0


def test_the_dashboard_is_what_its_program_writes() -> None:
    """The committed JSON is that of the committed program."""
    words = [str(needs("python")), "dashboard.py"]
    written = subprocess.run(words, cwd=FILES, capture_output=True, text=True, timeout=60, check=True)
    assert written.stdout == (FILES / "dashboard.json").read_text("utf-8")


def test_every_expression_of_the_dashboard_parses(prometheus: Path, tmp_path: Path) -> None:
    rules = [{"record": f"panel:{n}", "expr": each} for n, each in enumerate(expressions())]
    (tmp_path / "rules.yml").write_text(
        json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}), "utf-8"
    )  # YAML
    checked = promtool(prometheus, "check", "rules", "rules.yml", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@dataclass
class Asked:
    """A running Prometheus."""

    url: str

    def is_ready(self) -> bool:
        try:
            with urlopen(f"{self.url}/-/ready", timeout=30) as answer:
                return bool(answer.status == 200)
        except HTTPError:
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        with urlopen(f"{self.url}/api/v1/query?{urlencode({'query': expression})}", timeout=30) as answer:
            return list(json.load(answer)["data"]["result"])

    def value(self, expression: str) -> float | None:
        """The one value, None if there is none."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else None

    def alerts(self) -> set[tuple[str, str]]:
        """The alerts that fire, each with its instance."""
        with urlopen(f"{self.url}/api/v1/alerts", timeout=30) as answer:
            found = json.load(answer)["data"]["alerts"]
        firing = (each["labels"] for each in found if each["state"] == "firing")
        return {(labels["alertname"], labels.get("instance", "")) for labels in firing}


def until(condition: Callable[[], object], about: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up_at, about()
        time.sleep(0.2)


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Starts `worker-state`, or another program, with these arguments."""
    with spawning() as start:
        yield start


@pytest.fixture
def asked(prometheus: Path, spawn: Spawn, tmp_path: Path) -> Asked:
    """The example's configuration as it is, but for its times: everything happens every second."""
    for name in ("prometheus.yml", "rules.yml"):
        text = (FILES / name).read_text("utf-8")
        text = re.sub(r"(_interval): 15s", r"\1: 1s", text)
        (tmp_path / name).write_text(re.sub(r"^( +for): .*$", r"\1: 2s", text, flags=re.MULTILINE), "utf-8")
    (tmp_path / "targets").mkdir()
    checked = promtool(prometheus, "check", "config", "prometheus.yml", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    options = f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"
    address = "--web.listen-address=127.0.0.1:0"
    running = spawn(*options, address, program=("sh", "-c", 'exec "$@" 2>&1', "sh", prometheus / "prometheus"))
    (port,) = re.findall(r"127\.0\.0\.1:([1-9]\d*)", running.until('"Listening on"'))
    asked = Asked(f"http://127.0.0.1:{port}")
    until(asked.is_ready, lambda: running.lines)
    return asked


def announced(spawn: Spawn, folder: Path, server: dict[str, str]) -> tuple[Running, str]:
    """A worker that is started by the page's lines for a batch job, and the address that it has announced."""
    (lines,) = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    lines = lines.replace("$(hostname)", "127.0.0.1").replace("0.0.0.0", "127.0.0.1")
    port = free_port()
    path = f"{Path(PROGRAM).parent}:{os.environ['PATH']}"
    job = {"SLURM_JOB_ID": str(port - 20_000), "PATH": path, **server}
    worker = spawn(f"cd {folder}\n{lines}", program=("bash", "-c"), **job)
    worker.until("  discoverable")
    return worker, f"127.0.0.1:{port}"


def free_port() -> int:
    """One that the page's lines can come to, and that nobody uses."""
    while True:
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port := random.randrange(20_000, 30_000)))
            return port


def test_the_alerts_follow_the_server(asked: Asked, spawn: Spawn, tmp_path: Path) -> None:
    """Two workers are scraped and every panel has data; the server is killed, and the alerts fire; it comes back, and
    they clear; a worker is killed, and that is another alert."""
    (tmp_path / "my_worker.py").write_text("def handle(job): pass\n", "utf-8")
    server = spawn("serve", "--ws-port", "0", "--http-port", "0")
    ws, http = server.addresses()
    places = {"SLEAP_RTC_SIGNALING_WS": ws, "SLEAP_RTC_SIGNALING_HTTP": http}
    (_, first), (killed, second) = (announced(spawn, tmp_path, places) for _ in range(2))
    until(lambda: asked.value("sum(worker_state_ready)") == 2, lambda: asked.query("up"))
    asked_for = expressions()
    assert len(asked_for) > 15
    until(lambda: all(map(asked.query, asked_for)), lambda: [each for each in asked_for if not asked.query(each)])
    until(lambda: not asked.alerts(), asked.alerts)

    server.process.kill()
    server.end()
    away = {
        ("MostWorkersNotReady", ""),
        ("NoWorkerAvailable", ""),
        ("WorkerNotReady", first),
        ("WorkerNotReady", second),
    }
    until(lambda: asked.alerts() == away, asked.alerts)
    assert asked.value("sum(worker_state_ready)") == 0
    assert asked.value('sum(worker_state_dials_total{outcome="refused"})') != 0

    spawn("serve", "--ws-port", ws.rpartition(":")[2], "--http-port", http.rpartition(":")[2]).addresses()
    until(lambda: asked.value("sum(worker_state_ready)") == 2, lambda: asked.query("worker_state_backoff_seconds"))
    until(lambda: not asked.alerts(), asked.alerts)

    killed.process.kill()
    until(lambda: asked.alerts() == {("WorkerGone", second)}, asked.alerts)
    port = int(second.rpartition(":")[2])
    (tmp_path / "targets" / f"{port - 20_000}.json").unlink()
    until(lambda: not asked.alerts(), asked.alerts)
    assert asked.value("count(worker_state_ready)") == 1
