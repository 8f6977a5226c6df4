"""`worker-state status`: asks the workers on this machine for their `/worker` page."""

import json
from typing import Annotated, Any

import typer

from worker_state.cli import address_files
from worker_state.cli.errors import ExitCode, fail
from worker_state.cli.options import Json
from worker_state.core.words import shown

TIMEOUT = 3.0
"""Seconds until a worker's answer begins, and for each piece of it."""
LONGEST = 64 * 1024
"""Bytes of an answer."""

NOBODY = "No worker was found on this machine; one that can be asked is started with: worker-state run --health 0"


def status_command(
    port: Annotated[
        int | None, typer.Option(metavar="PORT", min=1, max=65535, help="Ask the worker on this port of loopback only.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show this user's workers on this machine that were started with --health: what they do, and if they are ready.

    Exit codes: 0 all are ready; 1 one is not, or does not answer, or there is none.

    \b
    Examples:
      worker-state status
      worker-state status --port 8790
      worker-state status --json
    """
    answers: list[tuple[int | None, str, dict[str, Any] | None]]
    if port is None:
        answers = [(pid, url, ask(url, pid)) for pid, url in address_files.found().items()]
    else:
        url = f"http://127.0.0.1:{port}"
        answer = ask(url)
        answers = [(None if answer is None else answer["pid"], url, answer)]
    if as_json:
        common = [{"pid": pid, "url": url, "answered": answer is not None} for pid, url, answer in answers]
        document = [row | (answer or {}) for row, (_, _, answer) in zip(common, answers, strict=True)]
        typer.echo(json.dumps(document, indent=2))
    elif not answers:
        raise fail(NOBODY)
    else:
        for each in answers:
            typer.echo(_line(*each))
    if not answers or not all(answer is not None and answer["ready"] is True for _, _, answer in answers):
        raise typer.Exit(ExitCode.FAILED)


def ask(url: str, pid: int | None = None) -> dict[str, Any] | None:
    """What the worker says of itself; None without an answer, or if it is no worker or another one than `pid`."""
    from http.client import HTTPConnection, HTTPException
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        # Unlike urllib.request it uses no proxy and follows no redirect.
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT)
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


def _line(pid: int | None, url: str, answer: dict[str, Any] | None) -> str:
    who = "worker" if pid is None else f"worker {pid}"
    if answer is None:
        return f"{who}: no answer at {url}"
    doing, job = shown(str(answer.get("status", "")), 40), answer.get("job_id")
    doing += "" if job is None else f" (job {shown(str(job))})"
    since, reason = _for(answer.get("reason_seconds")), shown(str(answer.get("reason")), 400)
    ready = f"ready: {reason}{since}" if answer["ready"] is True else f"not ready{since}: {reason}"
    return f"{who}: {doing + ', ' if doing else ''}{ready}; {url}"


def _for(seconds: object) -> str:
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        return ""
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f" for {seconds / unit:.0f} {name}"
    return f" for {seconds:.0f} s"
