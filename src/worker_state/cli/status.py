"""`worker-state status`: asks the workers of this machine how they are, by their own `/worker`."""

import json
from typing import Annotated, Any

import typer

from worker_state.cli import addresses
from worker_state.cli.refusal import ExitCode, refuse
from worker_state.core.words import shown

PATIENCE = 3.0
"""Seconds for one worker's answer to begin, and for each piece of it."""
LONGEST = 64 * 1024
"""Bytes of an answer."""

NOBODY = "No worker was found on this machine; one that can be asked is started with: worker-state run --health 0"


def status_command(
    port: Annotated[
        int | None, typer.Option(metavar="PORT", min=1, max=65535, help="Ask the worker on this port of loopback only.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list, for scripts.")] = False,
) -> None:
    """Show each worker of this user on this machine that was started with --health: what it does, and if it is ready.

    Exit codes: 0 all are ready; 1 one is not, or does not answer, or there is none.

    \b
    Examples:
      worker-state status
      worker-state status --port 8790
      worker-state status --json
    """
    answers: list[tuple[int | None, str, dict[str, Any] | None]]
    if port is None:
        answers = [(worker.pid, worker.url, ask(worker.url, worker.pid)) for worker in addresses.found()]
    else:
        url = f"http://127.0.0.1:{port}"
        answer = ask(url)
        answers = [(None if answer is None else answer["pid"], url, answer)]
    if as_json:
        typer.echo(
            json.dumps(
                [
                    {"pid": pid, "url": url, "answered": answer is not None, **(answer or {})}
                    for pid, url, answer in answers
                ],
                indent=2,
            )
        )
    for pid, url, answer in answers if not as_json else ():
        typer.echo(line(pid, url, answer))
    if not answers:
        if as_json:
            raise typer.Exit(ExitCode.STARTUP_FAILED)
        raise refuse(NOBODY, ExitCode.STARTUP_FAILED)
    if not all(answer is not None and answer["ready"] is True for _, _, answer in answers):
        raise typer.Exit(ExitCode.STARTUP_FAILED)


def ask(url: str, pid: int | None = None) -> dict[str, Any] | None:
    """What the worker there says of itself; None when nobody answers, no worker does, or another than `pid`."""
    from http.client import HTTPConnection, HTTPException
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        # No proxy comes between, whatever the environment says, and no redirect is followed.
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE)
        try:
            connection.request("GET", "/worker")
            answer = json.loads(connection.getresponse().read(LONGEST))
        finally:
            connection.close()
    except (OSError, HTTPException, ValueError):
        return None
    if not isinstance(answer, dict) or "ready" not in answer or type(answer.get("pid")) is not int:
        return None
    return answer if pid in (None, answer["pid"]) else None


def line(pid: int | None, url: str, answer: dict[str, Any] | None) -> str:
    """One worker as a person reads it."""
    who = f"worker {pid}" if pid is not None else "worker"
    if answer is None:
        return f"{who}: no answer at {url}"
    status = shown(str(answer.get("status", "")), 40)
    job = answer.get("job_id")
    doing = f"{status} (job {shown(str(job))})" if job is not None else status
    since = _for(answer.get("reason_seconds"))
    reason = shown(str(answer.get("reason")), 400)
    ready = f"ready: {reason}{since}" if answer["ready"] is True else f"not ready{since}: {reason}"
    return f"{who}: {doing + ', ' if doing else ''}{ready}; {url}"


def _for(seconds: object) -> str:
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        return ""
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f" for {seconds / unit:.0f} {name}"
    return f" for {seconds:.0f} s"
