"""The container image: built from this checkout, run by a real runtime, as docs/how-to/container.md says."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.operations.debian import installed, source
from tests.operations.podman import Done, Podman, podman_in
from tests.support.processes import DEADLINE, PROGRAM, Running, Spawn, environment, spawning
from worker_state import SessionString
from worker_state.cli.output import ExitCode

pytestmark = pytest.mark.operations

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "container.md").read_text("utf-8")
PROGRAMS = {"podman": "podman", "runc": "runc", "mmdebstrap": "mmdebstrap", "ip": "iproute2"}
PATHS = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ASK = """
import json, sys, urllib.request as r
given = json.loads(sys.argv[1])
data = given["data"] and given["data"].encode()
print(r.urlopen(r.Request(given["url"], data, given["headers"]), timeout=10).read().decode())
"""
EXTRA = "pathspec"  # a package that the image does not have, small and without dependencies


def block(language: str) -> str:
    """The one block of this language on the page."""
    (text,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(text)


def line(begins: str, ends: str = "") -> str:
    """The one command of the page that begins and ends so."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    lines = [each for text in blocks for each in text.splitlines()]
    (found,) = (each for each in lines if each.startswith(begins) and each.endswith(ends))
    return str(found)


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """podman, with a base image of this Debian and a folder of wheels."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a base image and networks here")
    installed(PROGRAMS)
    tried = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"no namespaces may be made here: {tried.stderr.strip()}")
    with podman_in(tmp_path_factory.mktemp("image") / "podman") as podman:
        make_base(podman, podman.folder / "base.tar")
        yield podman


def make_base(podman: Podman, tar: Path) -> None:
    codename, archive = source()
    left_out = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "locale", "man")]
    packages = "--include=python3,python3-venv,ca-certificates"
    words = ["mmdebstrap", "--quiet", "--variant=minbase", packages, *left_out, codename, str(tar), archive]
    subprocess.run(words, check=True, timeout=600, stdin=subprocess.DEVNULL)
    podman("import", "--change", PATHS, tar, "base")
    tar.unlink()


@pytest.fixture(scope="module")
def image(podman: Podman) -> str:
    """The image of the library, built by the page's command from what the image may contain."""
    python = podman(
        "run", "--rm", "--network=none", "base", "python3", "-c", "import sys; print(*sys.version_info[:2], sep='.')"
    )
    wheels = podman.folder / "wheels"
    get = [sys.executable, "-m", "pip", "download", "-qq", "--only-binary=:all:", "--no-deps", "--dest", str(wheels)]
    version = f"--python-version={python.stdout.strip()}"
    subprocess.run(
        [*get, version, "--require-hashes", "-r", str(ROOT / "requirements-image.lock")], check=True, timeout=300
    )
    get.remove("--no-deps")
    subprocess.run([*get, version, "hatchling", EXTRA], check=True, timeout=300)
    settings = podman.folder / "pip.conf"
    settings.write_text("[global]\nno-index = true\nfind-links = /wheels\n", "utf-8")
    ours = "--format=docker", "--isolation=chroot", "--network=host", f"--volume={wheels}:/wheels:ro"
    secret = f"--secret=id=pip.conf,src={settings}"
    podman.documented(line("docker build", "worker-state ."), *ours, secret, "--build-arg=BASE=base", cwd=ROOT)
    return "worker-state"


@pytest.fixture(scope="module")
def folder(podman: Podman, image: str) -> Path:
    """The files of the page, and the image that is built of them."""
    folder = podman.folder / "mine"
    folder.mkdir()
    for name, language in (("my_worker.py", "python"), ("Dockerfile", "dockerfile"), ("worker.env", "ini")):
        (folder / name).write_text(block(language), "utf-8")
    (folder / "requirements.txt").write_text(f"{EXTRA}\n", "utf-8")
    wheels, settings = podman.folder / "wheels", podman.folder / "pip.conf"
    ours = f"--volume={wheels}:/wheels:ro", f"--volume={settings}:/etc/pip.conf:ro"
    built = "--format=docker", "--isolation=chroot", "--network=host"
    podman.documented(line("docker build", "my-worker ."), *built, *ours, cwd=folder)
    return folder


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Starts `worker-state` with these arguments."""
    with spawning() as start:
        yield start


class Island:
    """A development server on the loopback of a network of its own, so that the page's ports are free."""

    def __init__(self, server: Running, podman: Podman, folder: Path) -> None:
        self.server, self.podman, self.folder = server, podman, folder
        self.entered = ("nsenter", "--target", str(server.process.pid), "--net")
        self.network = f"--network=ns:/proc/{server.process.pid}/ns/net"

    def run(self, command: str, *more: str | Path) -> Done:
        """A `docker run` of the page, in this network."""
        assert " --network host " in command
        return self.podman.documented(command.replace(" --network host ", " "), self.network, *more, cwd=self.folder)

    def ask(self, url: str, data: str | None = None, **headers: str) -> Any:
        """The answer's JSON; `data` is posted."""
        given = json.dumps({"url": url, "data": data, "headers": headers})
        done = subprocess.run(
            [*self.entered, sys.executable, "-c", ASK, given],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=True,
        )
        return json.loads(done.stdout)

    def workers(self) -> list[dict[str, Any]]:
        return list(self.ask("http://127.0.0.1:8001/workers.json")["workers"])

    def logs(self) -> str:
        logs = self.podman("logs", "worker")
        return logs.stdout + logs.stderr

    def until(self, condition: Callable[[], object]) -> None:
        give_up_at = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < give_up_at, self.podman("logs", "worker", check=False)
            time.sleep(0.1)

    def until_found(self) -> None:
        """The worker in the container says that clients find it."""
        self.until(lambda: "  discoverable" in self.logs())

    def healthy(self) -> bool:
        """What the image's own health check says."""
        return self.podman("healthcheck", "run", "worker", check=False).returncode == 0

    def exit_code(self) -> int:
        return int(self.podman("inspect", "--format", "{{.State.ExitCode}}", "worker").stdout)


@pytest.fixture
def island(spawn: Spawn, podman: Podman, folder: Path) -> Iterator[Island]:
    alone = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", PROGRAM)
    server = spawn("serve", program=alone)
    server.addresses()
    yield Island(server, podman, folder)
    podman("rm", "--all", "--force", "--time=0")


RUN, STATUS = "docker run --detach", line("docker exec")


def test_what_is_in_it(podman: Podman, image: str) -> None:
    """Not root, by number; no sources, no pip.conf; and little beside the base."""
    (inspected,) = json.loads(podman("inspect", image).stdout)
    (base,) = json.loads(podman("inspect", "base").stdout)
    assert inspected["Config"]["User"] == "10001:10001"
    assert len(inspected["RootFS"]["Layers"]) <= len(base["RootFS"]["Layers"]) + 3
    assert inspected["Size"] - base["Size"] < 80_000_000
    look = "ls -d /build /etc/pip.conf ~root/.cache /app/*"
    found = podman("run", "--rm", "--network=none", "--entrypoint=sh", image, "-c", look, check=False)
    assert found.stdout == ""
    look = "id -un; echo ~; touch /app/mine || echo refused"
    who = podman("run", "--rm", "--network=none", "--entrypoint=sh", image, "-c", look)
    assert who.stdout == "worker\n/home/worker\nrefused\n"


def test_a_worker_from_its_start_to_its_end(island: Island) -> None:
    """It registers, is process 1, healthy and ready, and a stop lets it delete its identity and end with 0."""
    island.run(line(RUN, "30 my-worker"))
    island.until_found()
    assert [worker["status"] for worker in island.workers()] == ["available"]
    assert island.ask("http://127.0.0.1:8790/health")["alive"] is True
    told = island.podman("exec", "worker", "sh", "-c", "id -u; tr '\\0' ' ' < /proc/1/cmdline; pip list").stdout
    assert told.startswith("10001\n/opt/worker/bin/python3 /opt/worker/bin/worker-state run ")
    assert EXTRA in told
    assert island.healthy()
    assert island.podman.documented(line("docker inspect"), cwd=island.folder).stdout == "healthy\n"
    status = island.podman.documented(STATUS, cwd=island.folder).stdout
    assert status.startswith("worker 1: available, ready: discoverable")
    island.podman.documented(line("docker stop"), cwd=island.folder)
    assert "event=identity_deleted" in island.logs()
    assert island.exit_code() == 0
    assert island.workers() == []


def test_a_job_ends_before_the_container(island: Island, spawn: Spawn) -> None:
    """The handler that was baked in runs a client's job, and a stop waits for it."""
    signed_in = island.ask("http://127.0.0.1:8001/anonymous-signin", "{}")
    bearer = f"Bearer {signed_in['id_token']}"
    room = island.ask("http://127.0.0.1:8001/create-room", "{}", Authorization=bearer)
    given = [f"WORKER_STATE_ROOM_ID={room['room_id']}", f"WORKER_STATE_ROOM_TOKEN={room['token']}"]
    island.run(line(RUN, "30 my-worker"), *(f"--env={each}" for each in given))
    island.until_found()
    (worker,) = island.workers()
    session = str(SessionString(room["room_id"], room["token"], worker["peer_id"]))
    server = "--ws=ws://127.0.0.1:8080", "--http=http://127.0.0.1:8001"
    client = spawn(
        "offer", *server, "--session", session, "--data", '{"steps": 100}', program=(*island.entered, PROGRAM)
    )
    client.until('"step": 3')
    island.podman.documented(line("docker stop"), cwd=island.folder)
    assert client.end() == 0
    assert '"done"' in client.lines[-1]
    assert island.exit_code() == 0
    logs = island.logs()
    steps = "Draining: busy with job ", "Leaving (", "event=identity_deleted"
    assert [each for line in logs.splitlines() for each in steps if each in line] == list(steps), logs
    assert "sleap-session:" not in logs


def test_a_mounted_handler_in_a_container_that_is_locked_up(island: Island) -> None:
    """The handler may come from outside; read-only, without capabilities, the worker is as well as ever."""
    island.run(line(RUN, "no-new-privileges my-worker"), "--read-only-tmpfs=false")
    island.until_found()
    island.podman.documented(f"{STATUS} --port 8790", cwd=island.folder)
    island.podman.documented(line("docker stop"), cwd=island.folder)
    assert "event=identity_deleted" in island.logs()
    assert island.exit_code() == 0
    island.podman("rm", "worker")
    island.run(line("docker run --rm", "worker-state my_worker:handle"), "--detach", "--name=worker")
    island.until_found()
    assert [worker["status"] for worker in island.workers()] == ["available"]
    doctor = island.run(line("docker run --rm", " doctor"))
    assert "deleted" in doctor.stdout, doctor.stdout


def test_healthy_is_a_loop_that_turns(island: Island) -> None:
    """A server that is away leaves the worker healthy and not ready; a loop that stands still is unhealthy."""
    island.run(line(RUN, "30 my-worker"))
    island.until_found()
    island.server.process.kill()
    island.until(lambda: "not registered" in island.podman.documented(STATUS, cwd=island.folder, check=False).stdout)
    assert island.healthy()
    island.podman("kill", "--signal=STOP", "worker")
    assert not island.healthy()
    island.podman("kill", "--signal=CONT", "worker")
    island.until(island.healthy)
    island.podman.documented(line("docker stop"), cwd=island.folder)
    assert island.exit_code() == ExitCode.LEFT_SOMETHING
