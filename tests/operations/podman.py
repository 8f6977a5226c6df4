"""podman with everything of its own: images, containers, locks, cgroups. At the end nothing of it is left."""

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

PATIENCE = 300.0  # seconds for one command; the longest takes a tenth of that

CONFIGURATION = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "runc"
static_dir = "{folder}/static"
tmp_dir = "{folder}/tmp"
volume_path = "{folder}/volumes"
"""


class Podman:
    """Runs the commands of the documentation, which say `docker`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cgroup = f"/worker-state-test-{os.getpid()}"
        (folder / "tmp").mkdir()
        configuration = folder / "containers.conf"
        configuration.write_text(CONFIGURATION.format(folder=folder), "utf-8")
        told = {"CONTAINERS_CONF": str(configuration), "TMPDIR": str(folder / "tmp"), "HOME": str(folder)}
        self._variables = {"PATH": os.environ["PATH"], **told}

    def __call__(self, *words: str | Path, check: bool = True, cwd: Path | None = None) -> "Done":
        """Run `podman` with these words."""
        ours = (f"--cgroup-parent={self.cgroup}",) if words[0] == "run" else ()
        places = f"--root={self.folder}/root", f"--runroot={self.folder}/run"
        done = subprocess.run(
            ["podman", *places, *map(str, words[:1]), *ours, *map(str, words[1:])],
            cwd=cwd or self.folder,
            env=self._variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert not check or done.returncode == 0, (words, done.stdout, done.stderr)
        return done

    def documented(self, command: str, *more: str | Path, cwd: Path, check: bool = True) -> "Done":
        """Run a line of the documentation. What a test needs beside comes right behind the subcommand."""
        program, subcommand, *words = shlex.split(command.replace("$PWD", str(cwd)))
        assert program == "docker"
        return self(subcommand, *more, *words, cwd=cwd, check=check)

    def end(self) -> None:
        """Remove every container, mount and cgroup, and with the folder every image."""
        self("rm", "--all", "--force", "--time", "0", check=False)
        for mount in reversed(mounts_under(self.folder)):
            subprocess.run(["umount", mount], check=False, timeout=PATIENCE)
        assert not mounts_under(self.folder)
        shutil.rmtree(self.folder)
        for made in Path("/sys/fs/cgroup").glob(f"**{self.cgroup}"):
            for folder in sorted((made, *made.rglob("*/")), reverse=True):
                with suppress(OSError):
                    folder.rmdir()


Done = subprocess.CompletedProcess[str]


def mounts_under(folder: Path) -> Sequence[str]:
    """The places under the folder where something is mounted, in the order in which that was done."""
    lines = Path("/proc/self/mountinfo").read_text("utf-8").splitlines()
    return [place for place in (line.split()[4] for line in lines) if place.startswith(f"{folder}/")]


@contextmanager
def podman_in(folder: Path) -> Iterator[Podman]:
    """Its own place, in this folder, which must not exist."""
    folder.mkdir()
    podman = Podman(folder)
    try:
        yield podman
    finally:
        podman.end()
