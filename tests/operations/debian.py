"""Programs of Debian's packages, for the tests of the operations: had where that is possible, else a skip."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

APT = ["apt-get", "-qq", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]


def installed(programs: Mapping[str, str]) -> None:
    """Each program is on the `PATH`: `programs` names its package, which is installed if need be."""
    missing = {program: package for program, package in programs.items() if shutil.which(program) is None}
    if missing and os.geteuid() != 0:
        pytest.skip(f"there is no {' and no '.join(missing)} here, and only root can install them")
    if missing:
        _apt("install", sorted(set(missing.values())))


def unpacked(program: str, package: str, into: Path) -> Path:
    """A program, from the `PATH` or out of its package, which is not installed: so no service of it is started."""
    if (found := shutil.which(program)) is not None:
        return Path(found)
    place = into / "usr" / "bin" / program
    if not place.exists():
        _apt("download", [package], folder=into)
        (archive,) = into.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "--extract", archive, into], check=True, timeout=60)
    return place


def source() -> tuple[str, str]:
    """The codename of this Debian, and the line that leads apt to its main archive."""
    shown = ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI) $(COMPONENT)", "Created-By: Packages"]
    done = subprocess.run(shown, capture_output=True, text=True, timeout=60, check=True)
    for line in done.stdout.splitlines():
        codename, uri, component = line.split()
        if component == "main" and codename.isalpha():
            return codename, f"deb {uri} {codename} main"
    pytest.skip("apt has no main archive of Debian here")


def _apt(command: str, packages: Iterable[str], folder: Path | None = None) -> None:
    named = " ".join(packages)
    if shutil.which("apt-get") is None:
        pytest.skip(f"{named}: there is no apt-get here")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in ([*APT, "update"], [*APT, command, *packages]):
        if words[-1] == "update" and os.geteuid() != 0:
            continue
        done = subprocess.run(
            words,
            env=quiet,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if done.returncode != 0:
            pytest.skip(f"{named} cannot be had here: {done.stderr.strip().splitlines()[-1:]}")
