"""`worker-state session`: reads and writes session strings, without any network."""

import json
import os
import sys
from typing import Annotated, Any

import typer

from worker_state.cli.output import bad_usage
from worker_state.cli.shared_options import TOKEN_VARIABLE, Json
from worker_state.errors import SessionStringError
from worker_state.redact import shown
from worker_state.session_string import SessionString
from worker_state.settings import SESSION_VARIABLE, Setting

Session = Annotated[
    str | None,
    typer.Option(
        "--session",
        metavar="STRING",
        help=f"A worker's session string, or - to read it from stdin. It is a secret.  [{SESSION_VARIABLE}]",
    ),
]
session_app: typer.Typer = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="""Read and write session strings. They contain the room's token: treat them as secrets.

    \b
    Example:
      worker-state session decode sleap-session:eyJyIjogIjFhMmIzYzRkIi...
    """,
)


@session_app.command()
def decode(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The session string, or - to read it from stdin.")],
    as_json: Json = False,
) -> None:
    """Print the room, the token and the peer id of a session string.

    \b
    Examples:
      worker-state session decode sleap-session:eyJyIjogIjFhMmIzYzRkIi...
      pbpaste | worker-state session decode - --json
    """
    session = read_session(text)
    fields = {"room_id": session.room_id, "token": session.token, "peer_id": session.peer_id}
    if as_json:
        typer.echo(json.dumps(fields))
        return
    for name, value in fields.items():
        typer.echo(f"{name:8} {shown(value, limit=1000)}")


@session_app.command()
def encode(
    room: Annotated[str, typer.Option("--room", metavar="ID", help="The room.")],
    token: Annotated[str, typer.Option("--token", metavar="TOKEN", envvar=TOKEN_VARIABLE, help="The room's token.")],
    peer: Annotated[str, typer.Option("--peer", metavar="ID", help="The worker's peer id.")],
) -> None:
    """Print the session string of a worker.

    \b
    Example:
      worker-state session encode --room 1a2b3c4d --token 5e6f70 --peer 6d0f8a1e-...
    """
    for option, value in (("--room", room), ("--token", token), ("--peer", peer)):
        if not value.strip():
            raise bad_usage(f"{option} must not be empty.")
    typer.echo(str(SessionString(room_id=room, token=token, peer_id=peer)))


def read_session(text: str, source: str = "") -> SessionString:
    """Parse the session string, or with - the one on stdin. Prints what is wrong and raises `typer.Exit`."""
    try:
        return SessionString.parse(sys.stdin.read() if text == "-" else text)
    except SessionStringError as error:
        sentence = str(error)
    except UnicodeDecodeError:  # its message would quote the bytes
        sentence = "a session string is plain text"
    except OSError as error:
        sentence = f"stdin cannot be read: {error.strerror or error}"
    raise bad_usage(f"{source}: {sentence}." if source else f"{sentence}.")


def take_session(given: dict[str, Any], session: str | None) -> tuple[SessionString, str] | None:
    """The session string and what it comes from; --room and --token become its own in `given`. The one in the
    environment counts where no option names a room. Prints what excludes each other, and raises `typer.Exit`."""
    typed = {"--session": session, "--room": given["room"], "--api-key": given["api_key"]}
    chosen = [option for option, value in typed.items() if value is not None]
    if len(chosen) > 1:
        raise bad_usage(f"{' and '.join(chosen)} exclude each other: give one.")
    source = "--session" if chosen else SESSION_VARIABLE
    if not chosen:
        session = os.environ.get(SESSION_VARIABLE) or None
    if session is None:
        return None
    found = read_session(session, source)
    given["room"], given["token"] = (Setting(value, source, rank=0) for value in (found.room_id, found.token))
    return found, source
