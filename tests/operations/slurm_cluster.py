"""A SLURM cluster of one node on loopback, in a directory of its own, for as long as a block lasts. It needs root.

Its daemons are children of the tests. What they have started is known by `SLURM_CONF` in its environment.
"""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.operations.waiting import PATIENCE, until
from tests.support.processes import environment

FREEZER = Path("/sys/fs/cgroup/freezer")

CONFIGURATION = """\
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={place}/munge.socket
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
ProctrackType=proctrack/{tracking}
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
KillWait={kill_wait}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=steady Nodes={host} Default=YES PriorityTier=1 PreemptMode=OFF
PartitionName=low Nodes={host} PriorityTier=1 PreemptMode=REQUEUE
PartitionName=high Nodes={host} PriorityTier=2 PreemptMode=OFF
"""


class Cluster:
    """A cluster that runs: `place` is its directory, in which the jobs are submitted and write their logs."""

    def __init__(self, place: Path, tracking: str, host: str) -> None:
        self.place = place
        self.host = host  # the node's name
        self.tracking = tracking
        self.environment: dict[str, str] = {**environment(), "SLURM_CONF": f"{place}/slurm.conf"}

    def run(self, *command: str, **variables: str) -> str:
        """What one of SLURM's commands prints."""
        extra = {**self.environment, **variables}
        done = subprocess.run(
            command, cwd=self.place, env=extra, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout.strip()

    def processes(self) -> dict[int, str]:
        """What runs in this cluster, its daemons included: the command lines by process id."""
        found = {}
        mine = f"SLURM_CONF={self.place}/slurm.conf".encode()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mine in (process / "environ").read_bytes().split(b"\0"):
                    found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:  # it has ended
                continue
        return {number: text for number, text in found.items() if text}

    def clear(self) -> None:
        """Cancel what is queued or runs, and wait until it has ended."""
        if jobs := self.run("squeue", "--noheader", "--format=%A").split():
            self.run("scancel", *jobs)
            until(lambda: not self.run("squeue", "--noheader"), "every job has ended")


@contextmanager
def cluster(place: Path, *, cpus: int, kill_wait: int) -> Iterator[Cluster]:
    """A cluster with one node, which claims to have so many cores, and three partitions: steady, low and high."""
    tracking = (
        "cgroup" if os.access(FREEZER / "cgroup.procs", os.W_OK) and not list(FREEZER.glob("slurm*")) else "linuxproc"
    )
    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.bind(("127.0.0.1", 0))
        controller, node = one.getsockname()[1], two.getsockname()[1]
    host = socket.gethostname().partition(".")[0]
    names = {"place": place, "host": host, "controller": controller, "node": node, "tracking": tracking}
    (place / "slurm.conf").write_text(CONFIGURATION.format(cpus=cpus, kill_wait=kill_wait, **names), "ascii")
    if tracking == "cgroup":
        (place / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nConstrainCores=no\n", "ascii")
    (place / "munge.key").write_bytes(os.urandom(1024))
    (place / "munge.key").chmod(0o400)
    place.chmod(0o755)
    here = Cluster(place, tracking, host)
    with ExitStack() as stack:
        stack.callback(_tidy, here)
        keys = [
            f"--{name}={place}/munge.{name.partition('-')[0]}"
            for name in ("key-file", "socket", "pid-file", "log-file", "seed-file")
        ]
        _daemon(stack, here, "munged", "--foreground", "--force", *keys)
        until((place / "munge.socket").exists, "munged listens")
        _daemon(stack, here, "slurmctld", "-D", "-i", "-c")
        _daemon(stack, here, "slurmd", "-D", "-N", host)
        until(lambda: _is_idle(here), "the node is idle")
        stack.callback(here.clear)
        yield here


def _is_idle(here: Cluster) -> bool:
    done = subprocess.run(
        ["sinfo", "--noheader", "--format=%T", "--partition=steady"],
        env=here.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.stdout.strip() == "idle"


def _daemon(stack: ExitStack, here: Cluster, *command: str) -> None:
    """Run it until the stack ends; what it says goes into a file of its name."""
    log = stack.enter_context((here.place / f"{command[0]}.log").open("wb"))
    process = subprocess.Popen(command, env=here.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def end() -> None:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    stack.callback(end)


def _tidy(here: Cluster) -> None:
    """End what is left of it, by process id, and remove its control groups."""
    for number in here.processes():
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue
    until(lambda: not here.processes(), "nothing of the cluster runs")
    if here.tracking == "cgroup":
        for group in [top for kind in FREEZER.parent.iterdir() for top in kind.glob("slurm*")]:
            for folder in sorted((each for each in group.rglob("*") if each.is_dir()), reverse=True):
                folder.rmdir()
            group.rmdir()
