"""`worker-state storm`: its options. What happens then is in `tempest`, which loads what no other command needs."""

import math
from typing import Annotated

import typer

from worker_state.cli.refusal import ExitCode, refuse

MOST_WORKERS = 2000
"""All of them run in this one process, with one core."""


def storm_command(
    workers: Annotated[int, typer.Option("--workers", metavar="N", help="How many come back at once.")] = 300,
    capacity: Annotated[
        float, typer.Option("--capacity", metavar="C", help="How many the server can register in a second.")
    ] = 20.0,
    down: Annotated[float, typer.Option("--down", metavar="D", help="Seconds for which the server is away.")] = 4.0,
) -> None:
    """Watch a reconnect storm: a server is killed, comes back slow, and all its workers want to be registered.

    Everything is inside this process: the development server, and real workers over real sockets. Each begins a job
    while the server is away; it is back when the server shows that job and an echo has proved it. Less than a minute
    with the usual figures. Ctrl-C ends it at any time and leaves nothing behind.

    \b
    Examples:
      worker-state storm
      worker-state storm --workers 1000 --capacity 50 --down 10
    """
    if not 1 <= workers <= MOST_WORKERS:
        raise refuse(f"--workers must be 1 to {MOST_WORKERS}, not {workers}.", ExitCode.BAD_USAGE)
    if not 0 < capacity < math.inf:
        raise refuse(f"--capacity must be a number above 0, not {capacity:g}.", ExitCode.BAD_USAGE)
    if not 0 <= down < math.inf:
        raise refuse(f"--down must be a number of seconds, at least 0, not {down:g}.", ExitCode.BAD_USAGE)

    import trio

    from worker_state.cli import tempest
    from worker_state.cli.screen import Screen

    missing = tempest.files_missing(workers)
    if missing is not None:
        raise refuse(f"--workers {workers} needs {missing}.", ExitCode.BAD_USAGE)
    trio.run(tempest.watch, tempest.Plan(workers, capacity, down), Screen())
