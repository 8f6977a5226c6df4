"""`worker-state storm`: starts `benchmarks/storm_demo.py`, which only a checkout of the project has."""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from worker_state.cli.output import bad_usage

CHECKOUT = Path(__file__).parents[3]


def storm_command(
    workers: Annotated[int, typer.Option(metavar="N", help="How many come back at once.")] = 300,
    capacity: Annotated[float, typer.Option(metavar="C", help="How many the server can register in a second.")] = 20.0,
    down: Annotated[float, typer.Option(metavar="D", help="Seconds for which the server is away.")] = 4.0,
) -> None:
    """Watch a reconnect storm: a server is killed, comes back slow, and all its workers want to be registered.

    Server and workers run in this process, over real sockets. Each worker begins a job while the server is away; it is
    back when the server shows that job and an echo has proved it. Less than a minute by default. Ctrl-C ends it and
    leaves nothing behind. It needs a checkout of the project.

    \b
    Examples:
      worker-state storm
      worker-state storm --workers 1000 --capacity 50 --down 10
    """
    if not (CHECKOUT / "benchmarks" / "storm_demo.py").exists():
        raise bad_usage("`worker-state storm` needs a checkout of the project: its benchmarks are not installed here.")
    if find_spec("resource") is None:
        raise bad_usage("`worker-state storm` asks the system for its limits, which this one does not tell.")
    sys.path.insert(0, str(CHECKOUT))
    import_module("benchmarks.storm_demo").main(workers, capacity, down)
