"""Where the workers of this user on this machine answer: one small file each, in a directory that is nobody else's.

`$XDG_RUNTIME_DIR/worker-state`, or, where that is not set, a directory below the system's for temporary files. A
worker that was killed leaves its file behind; whoever reads finds that its process has gone, and removes it.
"""

import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

LONGEST = 4096
"""Bytes. What is longer was not written by us."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One that has left its address."""

    pid: int
    url: str


def directories() -> list[Path]:
    """Where to look, the one to write to first: a service and a shell of one user may have different environments."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    temporary = Path(tempfile.gettempdir(), f"worker-state-{os.getuid()}")
    return (
        [Path(runtime, "worker-state"), temporary] if os.path.isabs(runtime) and os.path.isdir(runtime) else [temporary]
    )


@contextmanager
def left(url: str, complain: Callable[[str], None]) -> Iterator[None]:
    """This process's address can be found inside the block. When it cannot be left, `complain` is told why."""
    directory = directories()[0]
    file = directory / f"{os.getpid()}.json"
    try:
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        if not _is_ours(directory):
            raise PermissionError(f"{directory} belongs to somebody else, or others may write there")
        unfinished = file.with_suffix(".new")
        unfinished.write_text(json.dumps({"pid": os.getpid(), "url": url}), "utf-8")
        unfinished.replace(file)
    except OSError as error:
        complain(f"`worker-state status` will not find this worker: {error}")
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink()


def found() -> list[Worker]:
    """The workers that have left their addresses and still live, by pid. Files of those that have gone are removed."""
    workers = {}
    for directory in directories():
        for file in sorted(directory.glob("*.json")) if _is_ours(directory) else ():
            worker = _read(file)
            if worker is not None and _lives(worker.pid):
                workers[worker.pid] = worker
            elif file.stem.isdecimal() and not _lives(int(file.stem)):
                with suppress(OSError):
                    file.unlink()
    return [workers[pid] for pid in sorted(workers)]


def _is_ours(directory: Path) -> bool:
    """A directory and no link, of this user, that nobody else may look into: its files can be believed."""
    try:
        status = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077


def _read(file: Path) -> Worker | None:
    try:
        with file.open("rb") as opened:
            content = json.loads(opened.read(LONGEST))
        worker = Worker(content["pid"], content["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    understood = type(worker.pid) is int and isinstance(worker.url, str) and file.stem == str(worker.pid)
    return worker if understood else None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):
        return False  # gone, or by now a number of somebody else's process
    return True
