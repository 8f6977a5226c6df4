"""`worker-state status`: asks the workers on this machine for their `/worker` page."""

import json
from typing import Annotated, Any

import typer

from worker_state.cli import address_files
from worker_state.cli.errors import ExitCode, fail
from worker_state.cli.options import Json
from worker_state.redact import shown

TIMEOUT = 3.0  # seconds until a worker's answer begins, and for each piece of it
LONGEST = 64 * 1024  # bytes of an answer

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
    if port is None:
        rows = [_row(url, pid, ask(url, pid)) for pid, url in address_files.found().items()]
    else:
        url = f"http://127.0.0.1:{port}"
        rows = [_row(url, None, ask(url))]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    elif not rows:
        raise fail(NOBODY)
    for row in rows if not as_json else ():
        typer.echo(_line(row))
    if not rows or not all(row.get("ready") is True for row in rows):
        raise typer.Exit(ExitCode.FAILED)


def _row(url: str, pid: int | None, answer: dict[str, Any] | None) -> dict[str, Any]:
    ours = {"url": url, "answered": answer is not None}
    return {"pid": pid, **ours, **(answer or {}), **ours}  # in this order, and whatever the answer contains


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


def _line(row: dict[str, Any]) -> str:
    who = "worker" if row["pid"] is None else f"worker {row['pid']}"
    if not row["answered"]:
        return f"{who}: no answer at {row['url']}"
    doing, job = shown(str(row.get("status", "")), 40), row.get("job_id")
    doing += "" if job is None else f" (job {shown(str(job))})"
    since, reason = _for(row.get("reason_seconds")), shown(str(row.get("reason")), 400)
    ready = f"ready: {reason}{since}" if row["ready"] is True else f"not ready{since}: {reason}"
    return f"{who}: {doing + ', ' if doing else ''}{ready}; {row['url']}"


def _for(seconds: object) -> str:
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        return ""
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f" for {seconds / unit:.0f} {name}"
    return f" for {seconds:.0f} s"
