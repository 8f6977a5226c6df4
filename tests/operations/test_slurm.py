"""The scripts of examples/slurm under a real SLURM: jobs are ended in every way, and each worker drains.

Thirty-three workers in eleven jobs run a job of a client each. How they end is seen from outside: by the server and the
client, and in the workers' logs.
"""

import json
import os
import re
import shutil
import signal
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from tests.operations.debian import installed
from tests.operations.room import ServedRoom, served_room
from tests.operations.slurm_cluster import Cluster, cluster
from tests.operations.waiting import until
from tests.support.processes import PROGRAM

pytestmark = pytest.mark.operations

SCRIPTS = Path(__file__).parents[2] / "examples" / "slurm"
WORKERS = 3  # of each job
KILL_WAIT = 15  # seconds between SIGTERM and SIGKILL
REQUEUED = "PENDING (BeginTime)"
HANDLER = """\
import os, time

def handle(job):  # until the test has seen enough
    while not os.path.exists(job.offer["until"]) and not job.cancelled:
        time.sleep(0.1)
"""
ARRAY = ("worker.sbatch", f"--array=0-{WORKERS - 1}")
TOGETHER = ("workers.sbatch", f"--ntasks={WORKERS}")
NAIVE = {
    "naive": "#!/bin/bash\nworker-state run my_worker:handle --withhold-session-string\n",
    "srun": "#!/bin/bash\nexec srun worker-state run my_worker:handle --withhold-session-string\n",
}


@dataclass(frozen=True)
class Way:
    """A way to end a job."""

    name: str
    script: tuple[str, str]
    command: str  # "JOB" stands for its number
    becomes: str  # what SLURM calls the job afterwards
    options: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()

    @property
    def submission(self) -> tuple[str, ...]:
        """What `sbatch` is given."""
        file, tasks = self.script
        return tasks, *self.options, file, *self.arguments


WAYS = [
    Way("preempt", ARRAY, "preempted by a job of a higher partition", REQUEUED, ("--partition=low",)),
    Way("cancel", ARRAY, "scancel JOB", "CANCELLED"),
    Way("batch", ARRAY, "scancel --signal=TERM --batch JOB", "COMPLETED"),
    Way("tasks", ARRAY, "scancel --signal=TERM --batch JOB_1 # _0, _2", "COMPLETED"),
    Way("full", ARRAY, "scancel --signal=TERM --full JOB", "COMPLETED"),
    Way("requeue", ARRAY, "scontrol requeue JOB", REQUEUED),
    Way("cancel-all", TOGETHER, "scancel JOB", "CANCELLED"),
    Way("batch-all", TOGETHER, "scancel --signal=TERM --batch JOB", "COMPLETED"),
    Way("full-all", TOGETHER, "scancel --signal=TERM --full JOB", "COMPLETED"),
    Way("kill-one", TOGETHER, "kill -KILL of one worker, then scancel JOB", "CANCELLED"),
]
LIMIT = Way(
    "limit",
    ARRAY,
    "time limit, --signal=B:TERM@1",
    "COMPLETED",
    options=("--time=1", "--signal=B:TERM@1"),
    arguments=("--drain-timeout", "50"),
)
ALONE = {
    "long": ("worker.sbatch", "--drain-timeout", "1"),
    "beyond": ("worker.sbatch", "--drain-timeout", "3600"),
    "interrupted": ("worker.sbatch",),
    "monitored": ("monitored.sbatch",),
    **{name: (f"{name}.sbatch",) for name in NAIVE},
}
"""More jobs, of one worker each."""


class Fleet:
    """The jobs, by the name of the way that is to end them."""

    def __init__(self, here: Cluster, room: ServedRoom) -> None:
        self.cluster = here
        self.room = room
        self.lines: list[str] = []  # what was seen, for people
        self.jobs: dict[str, str] = {}
        self.peers: dict[str, set[str]] = {}
        """The workers of each, as the server knew them."""
        self.lost: set[str] = set()
        """Those that were killed, whose identities nobody deletes."""

    def submit(self, name: str, *options: str, **settings: str) -> None:
        # `sbatch` hands its environment on to the job.
        variables = {**self.room.environment, "WORKER_STATE_TAGS": name, **settings}
        path = f"{Path(PROGRAM).parent}{os.pathsep}{os.environ['PATH']}"
        self.jobs[name] = self.cluster.run(
            "sbatch", "--parsable", f"--job-name={name}", *options, PATH=path, **variables
        )

    def begin(self, name: str, count: int) -> None:
        """Wait for the workers of this job, and send each of them a job of its own."""
        until(lambda: len(self.room.workers(name)) == count, f"{count} workers of {name} are registered")
        self.peers[name] = set(self.room.workers(name))
        for peer_id in self.peers[name]:
            self.room.offer(peer_id, until=str(self.enough(name)))
        until(lambda: set(self.room.workers(name).values()) == {"busy"}, f"the workers of {name} are busy")

    def enough(self, name: str) -> Path:
        """The file that ends the clients' jobs."""
        return self.cluster.place / f"{name}.enough"

    def log(self, name: str) -> str:
        return "".join(log.read_text("utf-8") for log in sorted(self.cluster.place.glob(f"{name}-[0-9]*.log")))

    def ended(self, name: str) -> list[str]:
        """How the clients' jobs ended, as the client was told."""
        return sorted(kind for peer in self.peers[name] for kind in self.room.heard[peer][1:])

    def saw(self, script: str, command: str, what: str) -> None:
        self.lines.append(f"{script:14}  {command:44}  {what}")

    def state(self, name: str) -> str:
        """What SLURM says of the job, and why it is pending if it is."""
        found = re.findall(r"JobState=(\w+) Reason=(\w+)", self.shown(name))
        return ", ".join(sorted({f"{state} ({why})" if state == "PENDING" else state for state, why in found}))

    def waits(self, name: str) -> str:
        """For how long a job that is pending is not started."""
        begins = max(map(datetime.fromisoformat, re.findall(r"EligibleTime=(\S+)", self.shown(name))))
        minutes = (begins - datetime.now()).total_seconds() / 60  # noqa: DTZ005 - SLURM prints local time
        return f", {minutes:.0f} min" if minutes > 0 else ""

    def shown(self, name: str) -> str:
        return self.cluster.run("scontrol", "show", "job", "--oneliner", self.jobs[name])


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """A cluster, a server, and eleven jobs with three workers each, all of them busy."""
    if os.geteuid() != 0:
        pytest.skip("SLURM's daemons are started by root only")
    installed({"slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "sbatch": "slurm-wlm", "munged": "munge"})
    place = tmp_path_factory.mktemp("slurm")
    (place / "my_worker.py").write_text(HANDLER, "utf-8")
    for name, text in NAIVE.items():
        (place / f"{name}.sbatch").write_text(text, "utf-8")
    for script in SCRIPTS.iterdir():
        shutil.copy(script, place)
    text = (place / "worker.sbatch").read_text("utf-8")
    (option,) = re.findall(r"^#     (--health .*) --health-host 0\.0\.0\.0$", text, re.MULTILINE)
    (place / "monitored.sbatch").write_text(text.replace('20 "$@"', f'20 {option} "$@"'), "utf-8")
    with (
        served_room() as room,
        cluster(place, cpus=WORKERS * len((*WAYS, LIMIT)) + len(ALONE), kill_wait=KILL_WAIT) as here,
    ):
        fleet = Fleet(here, room)
        for way in WAYS:
            fleet.submit(way.name, *way.submission)
        # Without control groups SLURM forgets the worker that a naive script leaves behind.
        alone = [name for name in ALONE if name not in NAIVE or here.tracking == "cgroup"]
        for name in alone:
            fleet.submit(name, *ALONE[name])
        for way in WAYS:
            fleet.begin(way.name, WORKERS)
        for name in alone:
            fleet.begin(name, 1)
        fleet.submit(LIMIT.name, *LIMIT.submission)  # last, for its time runs: a busy machine must not take it
        fleet.begin(LIMIT.name, WORKERS)
        yield fleet
        for name in fleet.jobs:
            fleet.enough(name).touch()
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    assert reporter is not None
    reporter.write_line("\n" + "\n".join(fleet.lines))


def end(fleet: Fleet, way: Way) -> None:
    """Do what ends the job."""
    job = fleet.jobs[way.name]
    if way.name == "preempt":
        _, idle, *_ = fleet.cluster.run("sinfo", "--noheader", "--format=%C", "--partition=high").split("/")
        wanted = int(idle) + WORKERS
        fleet.cluster.run("sbatch", "--partition=high", f"--ntasks={wanted}", "--output=high.log", "--wrap=true")
    elif way.name == "kill-one":
        killed = next(
            pid for pid, text in fleet.cluster.processes().items() if of_job(pid, job) and "my_worker" in text
        )
        os.kill(killed, signal.SIGKILL)
        until(lambda: len(fleet.room.workers(way.name)) == WORKERS - 1, "the killed worker is out of the room")
        fleet.lost |= fleet.peers[way.name] - set(fleet.room.workers(way.name))
        assert set(fleet.room.workers(way.name).values()) == {"busy"}
        fleet.cluster.run("scancel", job)
    elif way.name == "tasks":
        for drained, task in enumerate((1, 0, 2)):
            assert fleet.log(way.name).count("  Draining: ") == drained  # one task does not touch the others
            fleet.cluster.run("scancel", "--signal=TERM", "--batch", f"{job}_{task}")
            until(lambda: fleet.log(way.name).count("  Draining: ") > drained, f"task {task} drains")  # noqa: B023
    elif way is not LIMIT:  # which comes by itself
        fleet.cluster.run(*way.command.replace("JOB", job).split())


def of_job(pid: int, job: str) -> bool:
    return f"SLURM_JOB_ID={job}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_each_worker_drains(fleet: Fleet, way: Way) -> None:
    """The clients' jobs run on until they are done, and then the workers leave in order."""
    name = way.name
    end(fleet, way)
    left = len(fleet.peers[name] - fleet.lost)
    until(lambda: fleet.log(name).count("  Draining: ") == left, f"the workers of {name} drain", 120)
    assert set(fleet.room.workers(name).values()) == {"busy"}
    assert fleet.ended(name) == []

    fleet.enough(name).touch()
    began = time.monotonic()
    until(lambda: not fleet.room.workers(name), f"the workers of {name} have left the room")
    until(lambda: fleet.peers[name] & fleet.room.identities() <= fleet.lost, f"the identities of {name} are deleted")
    gone = time.monotonic() - began
    assert fleet.ended(name) == ["done"] * left
    until(lambda: fleet.log(name).count("event=identity_deleted") == left, "their logs say so")
    assert "sleap-session:" not in fleet.log(name)
    until(lambda: fleet.state(name) == way.becomes, f"{name} is {way.becomes}")
    seen = f"{len(fleet.peers[name])} busy, {left} drained, their jobs done, {left} deleted {gone:.1f} s later"
    fleet.saw(way.script[0], way.command, f"{seen}; {way.becomes}{fleet.waits(name)}")


def test_prometheus_finds_the_workers(fleet: Fleet) -> None:
    """What targets.sh prints leads to the metrics of a worker that the commented line of worker.sbatch has opened."""

    def targets() -> list[str]:
        (found,) = json.loads(fleet.cluster.run("bash", "targets.sh", "monitored"))
        return list(found["targets"])

    (target,) = targets()
    host, _, port = target.partition(":")
    assert host == fleet.cluster.host
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        assert b'worker_state_status{status="busy"} 1.0' in answer.read()
    fleet.cluster.run("scancel", fleet.jobs["monitored"])
    until(lambda: "  Draining: " in fleet.log("monitored"), "it drains")
    fleet.enough("monitored").touch()
    until(lambda: targets() == [], "it is no target any more")


def test_a_signal_for_the_steps_of_srun(fleet: Fleet) -> None:
    """Without --batch or --full a signal is for steps of srun, of which there are none: nothing happens."""
    fleet.cluster.run("scancel", "--signal=TERM", fleet.jobs["long"])
    time.sleep(1)
    assert set(fleet.room.workers("long").values()) == {"busy"}
    assert "Draining" not in fleet.log("long")


def test_ctrl_c(fleet: Fleet) -> None:
    """SIGINT does not wait for the job: it is cancelled, and the worker leaves in order."""
    command = "scancel --signal=INT --batch JOB"
    fleet.cluster.run(*command.replace("JOB", fleet.jobs["interrupted"]).split())
    until(lambda: not fleet.peers["interrupted"] & fleet.room.identities(), "its identity is deleted")
    assert fleet.ended("interrupted") == ["cancelled"]
    fleet.saw("worker.sbatch", command, "1 busy, its job cancelled at once, 1 deleted")


def test_a_job_that_does_not_end(fleet: Fleet) -> None:
    """A job that goes on is cancelled after --drain-timeout, and the worker leaves in order."""
    fleet.cluster.run("scancel", fleet.jobs["long"])
    until(lambda: not fleet.peers["long"] & fleet.room.identities(), "its identity is deleted")
    assert fleet.ended("long") == ["cancelled"]
    assert "The job is not over after 1 s." in fleet.log("long")
    fleet.saw("worker.sbatch", "scancel JOB, --drain-timeout 1", "1 busy, its job cancelled after 1 s, 1 deleted")


def test_a_drain_that_takes_longer_than_kill_wait(fleet: Fleet) -> None:
    """SLURM kills a worker whose --drain-timeout is longer than KillWait: the job is lost, and nothing is deleted."""
    fleet.cluster.run("scancel", fleet.jobs["beyond"])
    until(lambda: not fleet.room.workers("beyond"), "SLURM has killed it")
    assert fleet.peers["beyond"] <= fleet.room.identities()
    fleet.lost |= fleet.peers["beyond"]
    assert fleet.ended("beyond") == []
    assert "Draining" in fleet.log("beyond")
    seen = f"1 busy, killed after KillWait, {KILL_WAIT} s; 0 deleted"
    fleet.saw("worker.sbatch", "scancel JOB, --drain-timeout 3600", seen)


@pytest.mark.parametrize(("name", "command"), [("naive", "scancel JOB"), ("srun", "scancel --signal=TERM --batch JOB")])
def test_the_naive_script_loses_the_job(fleet: Fleet, name: str, command: str) -> None:
    """SIGTERM ends a shell without `exec`, and srun: SLURM kills the busy worker at once, and nothing is deleted."""
    if name not in fleet.jobs:
        pytest.skip("the control groups of version 1 are not mounted here, by which SLURM would find what to kill")
    began = time.monotonic()
    fleet.cluster.run(*command.replace("JOB", fleet.jobs[name]).split())
    until(lambda: not fleet.room.workers(name), "SLURM has killed it")
    gone = time.monotonic() - began
    assert gone < KILL_WAIT / 2
    assert fleet.peers[name] <= fleet.room.identities()
    fleet.lost |= fleet.peers[name]
    assert fleet.ended(name) == []
    script = {"naive": "without exec", "srun": "exec srun"}[name]
    fleet.saw(script, command, f"1 busy, killed after {gone:.1f} s, 0 deleted")


def test_a_room_that_is_over(fleet: Fleet) -> None:
    """--wait waits for a server, not for a room: a worker whose room there is not fails at its start."""
    fleet.submit("no-room", "worker.sbatch", WORKER_STATE_ROOM_ID="00000000")
    until(lambda: fleet.state("no-room") == "FAILED", "the job has failed")
    assert "ExitCode=1:0" in fleet.shown("no-room")
    assert "refuses this worker: room not found" in fleet.log("no-room")
    fleet.saw("worker.sbatch", "a room that the server does not have", "refused at the start, exit code 1; FAILED")


def test_the_time_limit(fleet: Fleet) -> None:
    """SLURM sends the signal before the limit, and the clients' jobs run on as they do otherwise."""
    test_each_worker_drains(fleet, LIMIT)


def test_nothing_is_left(fleet: Fleet) -> None:
    """The room is empty, no worker runs, and the identities that are left are those of workers that were killed."""
    fleet.cluster.clear()
    assert not [text for text in fleet.cluster.processes().values() if "worker-state" in text]
    assert not any(fleet.room.workers(name) for name in fleet.jobs)
    assert fleet.room.identities() == fleet.lost
    workers, killed = sum(len(peers) for peers in fleet.peers.values()), len(fleet.lost)
    fleet.lines.append(
        f"{len(fleet.jobs)} jobs, {workers} workers: the room is empty, no process is left; {killed} were killed"
    )
