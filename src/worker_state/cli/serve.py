"""`worker-state serve`: the development server alone, for the workers and clients of other processes."""

import errno
import math
from collections.abc import Awaitable, Callable
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from worker_state.cli.refusal import ExitCode, refuse
from worker_state.cli.run import Verbose, volume

if TYPE_CHECKING:
    from worker_state.cli.screen import Screen


class Generation(StrEnum):
    """The two servers in the field."""

    V2 = "v2"
    V3 = "v3"


def serve_command(
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1",
    ws_port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="WebSocket; 0 takes a free one.")
    ] = 8080,
    http_port: Annotated[int, typer.Option(metavar="PORT", min=0, max=65535, help="HTTP; 0 takes a free one.")] = 8001,
    generation: Annotated[Generation, typer.Option(help="Which of the two servers to be.")] = Generation.V2,
    capacity: Annotated[
        float | None, typer.Option(metavar="C", help="Register C workers a second at most, as a busy server does.")
    ] = None,
    exposed: Annotated[
        bool,
        typer.Option(
            "--exposed",
            help="Allow an address that others can reach; the environment has to agree. Nothing is protected.",
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the two addresses, warnings and errors only.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Run the development server until Ctrl-C. It keeps nothing: users and rooms are gone when it ends.

    Its HTTP address shows every worker in a browser, and gives them as /workers.json.

    As v3 it knows three API keys: slp_good, slp_revoked and slp_expired.

    \b
    Example:
      worker-state serve
      worker-state run --ws ws://127.0.0.1:8080 --http http://127.0.0.1:8001
    """
    level = volume(quiet, verbose)
    if capacity is not None and not 0 < capacity < math.inf:
        raise refuse(f"--capacity must be a number above 0, not {capacity:g}.", ExitCode.BAD_USAGE)
    if ws_port == http_port != 0:
        sentence = f"--ws-port and --http-port are both {ws_port}: the server needs two, or 0 for free ones."
        raise refuse(sentence, ExitCode.BAD_USAGE)

    import trio

    from worker_state.cli.screen import Screen, show_log
    from worker_state.devserver import Gate, Limits, serve

    screen = Screen(level)
    show_log(screen)
    start = partial(
        serve,
        host=host,
        ws_port=ws_port,
        http_port=http_port,
        generation=generation.value,
        allow_exposed=exposed,
        gate=None if capacity is None else Gate(Limits(capacity, at="register")),
    )
    try:
        trio.run(_serve, start, screen)
    except ValueError as error:  # the address is none, or one that is not to be exposed
        raise refuse(str(error).replace("allow_exposed=True", "--exposed"), ExitCode.BAD_USAGE) from None
    except OSError as error:
        raise refuse(_cannot_listen(error, host, ws_port, http_port), ExitCode.BAD_USAGE) from None


async def _serve(start: Callable[..., Awaitable[object]], screen: "Screen") -> None:
    import trio

    from worker_state.cli.stopping import cancel_on_signal

    leaving = trio.CancelScope()
    screen.on_gone = leaving.cancel
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(cancel_on_signal, leaving, screen, "Stopping")
        with leaving:
            # What goes wrong is carried around the nursery, which would put it into a group.
            try:
                server = await nursery.start(start)
            except (OSError, ValueError) as error:
                failure = error
            else:
                screen.result("WebSocket", server.ws_url)
                screen.result("HTTP", server.http_url)
                screen.line(f"Every worker, in a browser: {server.http_url}/")
                await trio.sleep_forever()
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _cannot_listen(error: OSError, host: str, ws_port: int, http_port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        ports = " or ".join(str(port) for port in (ws_port, http_port) if port)
        return f"Port {ports} of {host} is in use already: choose another with --ws-port or --http-port."
    return f"The server cannot listen on {host}, ports {ws_port} and {http_port}: {error.strerror or error}."
