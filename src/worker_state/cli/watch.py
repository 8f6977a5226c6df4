"""`worker-state watch`: its options, and what they may not say together. What runs is in `lookout`."""

import os
from typing import Annotated

import typer

from worker_state.cli.settings import ApiKey, Http, Token, Ws, addresses, bad_usage, settled
from worker_state.core.settings import SESSION_VARIABLE

NO_SERVER = "No server is named, by --ws and --http, the environment or a file: a room is on a server."


def watch_command(
    session: Annotated[
        str | None,
        typer.Option(
            "--session",
            metavar="STRING",
            help=f"A worker's session string, or - to read it from stdin. It is a secret.  [{SESSION_VARIABLE}]",
        ),
    ] = None,
    room: Annotated[
        str | None, typer.Option("--room", metavar="ID", help="The room to watch.  [WORKER_STATE_ROOM_ID]")
    ] = None,
    token: Token = None,
    api_key: ApiKey = None,
    ws: Ws = None,
    http: Http = None,
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", help="Between two searches, from 0.5 to 300.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print the workers of this moment, and leave.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --once: print one JSON object.")] = False,
) -> None:
    """Watch the workers of a room: who is there, doing what, on which GPU, for how long.

    It searches as a client does, and asks the server at the end to delete its own identity. A terminal gets a live
    screen; a pipe (and NO_COLOR) a line for each change. What was so before the first look is marked with ≥.

    Exit codes: 0 a clean end; 1 the server did not let it look; 2 bad usage or configuration; 3 it may have left its
    identity on the server.

    \b
    The object of --once --json: room_id, count, and workers by peer id, each with peer_id, status, job_id,
    gpu_model, gpu_memory_mb, hostname, tags, registered_at (UTC); null for what is not known.

    \b
    Examples:
      worker-state watch --ws ws://127.0.0.1:8080 --http http://127.0.0.1:8001 --session sleap-session:…
      worker-state watch --room 1a2b3c4d --token 5e6f70 --once --json
    """
    if as_json and not once:
        raise bad_usage("--json belongs to --once: give both.")
    typed = {"--session": session, "--room": room, "--api-key": api_key}
    several = [option for option, value in typed.items() if value is not None]
    if len(several) > 1:
        raise bad_usage(f"{' and '.join(several)} exclude each other: give one.")
    if not several:
        session = os.environ.get(SESSION_VARIABLE) or None
    named: dict[str, str] = {}
    if session is not None:
        source = "--session" if several else SESSION_VARIABLE
        room, token = _room_of(session, source)
        named = {"room_id": source, "room_token": source}
    settings = settled(
        named=named, signaling_websocket=ws, signaling_http=http, room_id=room, room_token=token, api_key=api_key
    )

    import trio

    from worker_state.cli import lookout
    from worker_state.tools.observer import LEAST, MOST

    if addresses(settings) is None:
        raise bad_usage(NO_SERVER)
    if not LEAST <= every <= MOST:
        raise bad_usage(f"--every must be a number of seconds from {LEAST:g} to {MOST:g}.")
    config = settings.config()
    if config.creates_room:
        raise bad_usage("Which room? Give --session, or --room and --token, or --api-key.")
    trio.run(lookout.look, config, every, lookout.Form.of(once, as_json))


def _room_of(session: str, source: str) -> tuple[str, str]:
    from worker_state.cli.session import parsed

    found = parsed(session, source)
    return found.room_id, found.token
