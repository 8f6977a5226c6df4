"""`worker-state offer`: its options. `offer_job` runs it."""

import json
import math
from typing import Annotated, Any

import typer

from worker_state.cli.output import bad_usage
from worker_state.cli.session import Session, take_session
from worker_state.cli.shared_options import SERVER_OPTIONS, checked_settings, server_of, text, with_options

OPTIONS = SERVER_OPTIONS | {
    "room": text(
        "ID", "The worker's room, with its --token; or give a --session, which names all.  [WORKER_STATE_ROOM_ID]"
    ),
    "api_key": text("KEY", "The worker's room is that of this key (server v3.0).  [SLEAP_RTC_API_KEY]"),
}


@with_options(OPTIONS)
def offer_command(
    given: dict[str, Any],
    session: Session = None,
    worker: Annotated[
        str | None,
        typer.Option("--worker", metavar="ID", help="Its peer id, in the room. Without, any that is available."),
    ] = None,
    sdp: Annotated[str, typer.Option(metavar="TEXT", help="The offer's session description.")] = "v=0",
    data: Annotated[
        str | None, typer.Option(metavar="JSON", help="An object with more fields of the offer, for the handler.")
    ] = None,
    wait: Annotated[float, typer.Option(metavar="SECONDS", help="For the worker's next message; 0: no limit.")] = 60.0,
) -> None:
    """Send a job to a worker: an offer, as clients send it. Print what the worker answers, until the job is over.

    Each line is the payload of one of the worker's messages, as JSON. Ctrl-C cancels the job, and waits for
    its end for 10 s, or --wait if that is less: one that blocks hears of no cancel, and goes on.

    Exit codes: 0 the job is done; 1 it was refused, has failed or was cancelled, or nobody answered; 2 bad usage or
    configuration; 3 it may have left its identity on the server.

    \b
    Examples:
      worker-state offer --ws ws://127.0.0.1:8080 --http http://127.0.0.1:8001 --session sleap-session:…
      worker-state offer --room 1a2b3c4d --token 5e6f70
      worker-state offer --api-key slp_…
    """
    if (named := take_session(given, session)) is not None:
        to, source = named
        if worker is not None:
            raise bad_usage(f"--worker goes with --room or --api-key: {source} names its worker.")
        worker = to.peer_id
    settings = checked_settings(given)
    if settings.given("room_id") is None and settings.given("api_key") is None:
        raise bad_usage("Which worker? Give its --session, or its room: --room and --token, or --api-key.")
    if server_of(settings) is None:
        raise bad_usage("No server is named, by --ws and --http, the environment or a file: a worker is on a server.")
    if not 0 <= wait < math.inf:
        raise bad_usage(f"--wait must be a number of seconds, 0 or more, not {wait:g}.")
    more = {} if data is None else _object(data)

    import trio

    from worker_state.cli.offer_job import offer

    trio.run(offer, settings.config(), worker, {**more, "sdp": sdp}, wait or math.inf)


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
        json.dumps(found, allow_nan=False)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise bad_usage("--data must be a JSON object.")
    if taken := [name for name in ("type", "sender", "target", "sdp") if name in found]:
        raise bad_usage(f"--data must not contain {taken[0]!r}: that is the offer's own.")
    return found
