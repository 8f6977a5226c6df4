"""`worker-state watch`: its options. `watch_room` runs it."""

from functools import partial
from typing import Annotated, Any

import typer

from worker_state.cli.output import bad_usage
from worker_state.cli.session import Session, take_session
from worker_state.cli.shared_options import SERVER_OPTIONS, checked_settings, server_of, text, with_options

OPTIONS = SERVER_OPTIONS | {
    "room": text(
        "ID", "The room to watch, with its --token; or give a --session, which names both.  [WORKER_STATE_ROOM_ID]"
    ),
    "api_key": text("KEY", "Watch the room of this key (server v3.0), in place of both.  [SLEAP_RTC_API_KEY]"),
}


@with_options(OPTIONS)
def watch_command(
    given: dict[str, Any],
    session: Session = None,
    every: Annotated[float, typer.Option(metavar="SECONDS", help="Between two searches, from 0.5 to 300.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print the workers of this moment, and leave.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object for each change, a line each; with --once a single one.")
    ] = False,
) -> None:
    """Watch the workers of a room: who is there, doing what, on which GPU, for how long.

    It searches as a client does, and at the end asks the server to delete its identity. A terminal gets a live screen;
    a pipe (and NO_COLOR) a line for each change. ≥ marks the time of what was there before the first look.

    Exit codes: 0 a clean end; 1 the server did not let it look; 2 bad usage or configuration; 3 it may have left its
    identity on the server.

    \b
    The object of --once --json: room_id, count, and workers by peer id, each with peer_id, status, job_id,
    gpu_model, gpu_memory_mb, hostname, tags, registered_at (UTC); null for what is not known.

    \b
    The objects of --json alone: time (UTC), event, room_id, and by the event
      watching                          count: there is an answer, and so many workers follow
      present, appeared, changed, gone  a worker, with the fields above
      silent, answered                  reason: why there is no answer; seconds: for how long there was none
      more_changes                      count: of changes in one answer that have no line of their own

    \b
    Examples:
      worker-state watch --ws ws://127.0.0.1:8080 --http http://127.0.0.1:8001 --session sleap-session:…
      worker-state watch --room 1a2b3c4d --token 5e6f70 --once --json
      worker-state watch --json | jq -c 'select(.event == "gone")'
    """
    take_session(given, session)
    settings = checked_settings(given)

    import trio

    from worker_state.cli.watch_room import watch
    from worker_state.tools.observer import LEAST, MOST

    if server_of(settings) is None:
        raise bad_usage("No server is named, by --ws and --http, the environment or a file: a room is on a server.")
    if not LEAST <= every <= MOST:
        raise bad_usage(f"--every must be a number of seconds from {LEAST:g} to {MOST:g}.")
    config = settings.config()
    if config.creates_room:
        raise bad_usage("Which room? Give --session, or --room and --token, or --api-key.")
    trio.run(partial(watch, config, every, once=once, as_json=as_json))
