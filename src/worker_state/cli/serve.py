"""`worker-state serve`: the development server alone, for workers and clients in other processes."""

import errno
import math
from functools import partial
from typing import Annotated, Literal

import typer

from worker_state.cli.output import bad_usage
from worker_state.cli.shared_options import Quiet, Verbose, log_level


def serve_command(
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1",
    ws_port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="WebSocket; 0 takes a free one.")
    ] = 8080,
    http_port: Annotated[int, typer.Option(metavar="PORT", min=0, max=65535, help="HTTP; 0 takes a free one.")] = 8001,
    generation: Annotated[Literal["v2", "v3"], typer.Option(help="The version of the server.")] = "v2",
    capacity: Annotated[
        float | None, typer.Option(metavar="C", help="Register at most C workers a second, as a busy server does.")
    ] = None,
    exposed: Annotated[
        bool,
        typer.Option(
            "--exposed",
            help="Allow an address that others can reach; the environment has to agree. Nothing is protected.",
        ),
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run the development server until Ctrl-C. It keeps nothing: users and rooms are gone when it ends.

    Its HTTP address shows every worker in a browser, and as /workers.json. As v3 it knows three API keys: slp_good,
    slp_revoked and slp_expired.

    \b
    Example:
      worker-state serve
      worker-state run --ws ws://127.0.0.1:8080 --http http://127.0.0.1:8001
    """
    level = log_level(quiet, verbose)
    if capacity is not None and not 0 < capacity < math.inf:
        raise bad_usage(f"--capacity must be a number above 0, not {capacity:g}.")
    if ws_port == http_port != 0:
        raise bad_usage(f"--ws-port and --http-port are both {ws_port}: the server needs two, or 0 for free ones.")

    import trio

    from worker_state.cli.screen import Screen
    from worker_state.cli.signals import ending_on_signal
    from worker_state.devserver import RateLimit, serve

    screen = Screen(level)
    screen.show_log()
    admission = None if capacity is None else RateLimit(capacity)
    listen = partial(serve, host=host, ws_port=ws_port, http_port=http_port, admission=admission)

    async def run() -> OSError | ValueError | None:
        async with ending_on_signal(screen, "Stopping") as scope:
            with scope:
                async with trio.open_nursery() as nursery:
                    try:
                        server = await nursery.start(partial(listen, generation=generation, allow_exposed=exposed))
                    except (OSError, ValueError) as error:
                        return error
                    screen.result("WebSocket", server.ws_url)
                    screen.result("HTTP", server.http_url)
                    screen.line(f"Every worker, in a browser: {server.http_url}/")
                    addresses = f"--ws {server.ws_url} --http {server.http_url}"
                    screen.line(f"Start a worker, from another terminal: worker-state run {addresses}")
        return None

    error = trio.run(run)
    if isinstance(error, OSError):
        if error.errno == errno.EADDRINUSE:
            busy = " or ".join(str(port) for port in (ws_port, http_port) if port)
            raise bad_usage(f"Port {busy} of {host} is in use already: choose another with --ws-port or --http-port.")
        why = error.strerror or error
        raise bad_usage(f"The server cannot listen on {host}, ports {ws_port} and {http_port}: {why}.")
    if error is not None:  # no address, or one that others can reach
        raise bad_usage(str(error).replace("allow_exposed=True", "--exposed"))
