"""`worker-state watch`: its options, and what they may not say together. What runs is in `lookout`."""

import sys
from typing import Annotated

import typer

from worker_state.cli.refusal import ExitCode, refuse
from worker_state.cli.run import HTTP_VARIABLE, KEY_VARIABLE, TOKEN_VARIABLE, WS_VARIABLE, in_options

SESSION_VARIABLE = "WORKER_STATE_SESSION"


def watch_command(
    context: typer.Context,
    session: Annotated[
        str | None,
        typer.Option(
            "--session",
            metavar="STRING",
            envvar=SESSION_VARIABLE,
            help="A worker's session string, or - to read it from stdin. It is a secret.",
        ),
    ] = None,
    room: Annotated[str | None, typer.Option("--room", metavar="ID", help="The room, with its --token.")] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="TOKEN",
            envvar=TOKEN_VARIABLE,
            help="The room's token. In the environment it does not show in the list of processes.",
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", metavar="KEY", envvar=KEY_VARIABLE, help="The room of an API key (server v3.0)."),
    ] = None,
    ws: Annotated[
        str | None,
        typer.Option(
            "--ws", metavar="URL", envvar=WS_VARIABLE, help="The server's WebSocket address, ws://… or wss://…"
        ),
    ] = None,
    http: Annotated[
        str | None,
        typer.Option("--http", metavar="URL", envvar=HTTP_VARIABLE, help="Its HTTP address, http://… or https://…"),
    ] = None,
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", help="Between two searches, from 0.5 to 300.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print the workers of this moment, and leave.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --once: print one JSON object.")] = False,
) -> None:
    """Watch the workers of a room: who is there, doing what, on which GPU, for how long.

    It searches as a client does, and deletes its own identity at the end. A terminal gets a live screen; a pipe (and
    NO_COLOR) a line for each change. What was so before the first look is marked with ≥.

    \b
    The object of --once --json: room_id, count, and workers by peer id, each with peer_id, status, job_id,
    gpu_model, gpu_memory_mb, hostname, tags, registered_at (UTC); null for what is not known.

    \b
    Examples:
      worker-state watch --ws ws://127.0.0.1:8080 --http http://127.0.0.1:8001 --session sleap-session:…
      worker-state watch --room 1a2b3c4d --token 5e6f70 --once --json
    """
    if as_json and not once:
        raise _bad_usage("--json belongs to --once: give both.")
    for option, value, variable in (("--ws", ws, WS_VARIABLE), ("--http", http, HTTP_VARIABLE)):
        if value is None:
            raise _bad_usage(f"{option} is missing: give it, or {variable} in the environment.")
    named = {"session": session, "room": room, "api_key": api_key}
    chosen = _chosen(context, named)
    if chosen == "session":
        room, token = _room_of(session or "")

    import trio

    from worker_state.cli import lookout
    from worker_state.core.config import Config, Timing
    from worker_state.core.errors import ConfigError
    from worker_state.observer import LEAST, MOST

    if not LEAST <= every <= MOST:
        raise _bad_usage(f"--every must be a number of seconds from {LEAST:g} to {MOST:g}.")
    try:
        config = Config(
            ws or "",
            http or "",
            room_id=room if chosen != "api_key" else None,
            room_token=token if chosen != "api_key" else None,
            api_key=api_key if chosen == "api_key" else None,
            # A person waits at the screen.
            timing=Timing(http=12.0),
        )
    except ConfigError as error:
        raise _bad_usage(in_options(f"{error}.")) from None
    trio.run(lookout.look, config, every, lookout.Form.of(once, as_json))


def _chosen(context: typer.Context, named: dict[str, str | None]) -> str:
    """The one way in which the room is named; what was typed counts more than what the environment says."""
    given = [name for name, value in named.items() if value is not None]
    typed = [name for name in given if (source := context.get_parameter_source(name)) and source.name == "COMMANDLINE"]
    options = {"session": "--session", "room": "--room", "api_key": "--api-key"}
    match typed or given:
        case [one]:
            return one
        case []:
            raise _bad_usage("Which room? Give --session, or --room and --token, or --api-key.")
        case several:
            raise _bad_usage(f"{' and '.join(options[name] for name in several)} exclude each other: give one.")


def _room_of(session: str) -> tuple[str, str]:
    from worker_state.core.errors import SessionStringError
    from worker_state.core.session import SessionString

    try:
        parsed = SessionString.parse(sys.stdin.read() if session == "-" else session)
    except (SessionStringError, UnicodeDecodeError) as error:
        # A decoding error of stdin would quote the bytes; the parser's own sentences quote nothing.
        sentence = str(error) if isinstance(error, SessionStringError) else "a session string is plain text"
        raise _bad_usage(f"--session: {sentence}.") from None
    return parsed.room_id, parsed.token


def _bad_usage(sentence: str) -> typer.Exit:
    return refuse(sentence, ExitCode.BAD_USAGE)
