"""Where `status` finds the workers of this user: one small file each, in a private directory.

The directory is `$XDG_RUNTIME_DIR/worker-state`, or one in the system's directory for temporary files. A killed worker
leaves its file behind; the next reader removes it.
"""

import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LONGEST = 4096  # bytes. Our files are shorter.


def directories() -> list[Path]:
    """Where to look; the first one is written to. A service and a shell of one user may differ in their environment."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    temporary = Path(tempfile.gettempdir(), f"worker-state-{os.getuid()}")
    usable = os.path.isabs(runtime) and os.path.isdir(runtime)
    return [Path(runtime, "worker-state"), temporary] if usable else [temporary]


@contextmanager
def published(url: str, warn: Callable[[str], None]) -> Iterator[None]:
    """This process can be found inside the block. If not, `warn` gets the reason."""
    directory = directories()[0]
    file = directory / f"{os.getpid()}.json"
    try:
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        if not _is_private(directory):
            raise PermissionError(f"{directory} belongs to somebody else, or others may write there")
        unfinished = file.with_suffix(".new")
        unfinished.write_text(json.dumps({"pid": os.getpid(), "url": url}), "utf-8")
        unfinished.replace(file)
    except OSError as error:
        warn(f"`worker-state status` will not find this worker: {error}")
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink()


def found() -> dict[int, str]:
    """The URLs of the workers that run, by pid. Removes the files of those that have ended."""
    urls = {}
    for directory in directories():
        for file in directory.glob("*.json") if _is_private(directory) else ():
            if not file.stem.isdecimal():
                continue
            pid = int(file.stem)
            if not _runs(pid):
                with suppress(OSError):
                    file.unlink()
            elif (url := _url_in(file, pid)) is not None:
                urls[pid] = url
    return dict(sorted(urls.items()))


def _is_private(directory: Path) -> bool:
    # No link either: only then can its files be trusted.
    try:
        status = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077


def _url_in(file: Path, pid: int) -> str | None:
    try:
        with file.open("rb") as opened:
            content = json.loads(opened.read(LONGEST))
        url = content["url"]
        return url if content["pid"] == pid and isinstance(url, str) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):  # ended, or now the pid of another user's process
        return False
    return True
