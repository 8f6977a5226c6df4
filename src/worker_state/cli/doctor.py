"""`worker-state doctor`: its options and how it prints its findings. `worker_state.tools.doctor` does the work."""

import json
import logging
from typing import TYPE_CHECKING, Any

import typer

from worker_state.cli.output import ExitCode, bad_usage, columns, paragraph
from worker_state.cli.shared_options import (
    WORKER_OPTIONS,
    Json,
    checked_settings,
    described_server,
    server_of,
    with_options,
)
from worker_state.redact import shown

if TYPE_CHECKING:
    from worker_state.tools.checks import Result

NO_SERVER = (
    "No server is named, by --ws and --http, the environment or a file. To try it, start `worker-state serve` and then "
    "`worker-state doctor --ws ws://127.0.0.1:8080 --http http://127.0.0.1:8001`."
)


@with_options(WORKER_OPTIONS)
def doctor_command(given: dict[str, Any], as_json: Json = False) -> None:
    """Try everything that a worker does once. Say for each step whether it works, and if not, what to do.

    Configuration, DNS, TCP, TLS, HTTP, sign-in, upgrade, room, registration, discovery by a second identity, deletion.
    The worker says "maintenance", so that nobody uses it; the server is asked to delete everything, also after Ctrl-C.

    Exit codes: 0 all is well; 1 something is not; 2 bad usage or configuration.

    \b
    Examples:
      worker-state doctor
      worker-state doctor --ws wss://signaling.example.org --http https://signaling.example.org
      worker-state doctor --json
    """
    settings = checked_settings(given)
    if server_of(settings) is None:
        raise bad_usage(NO_SERVER)

    import trio

    from worker_state.cli.screen import Screen
    from worker_state.cli.signals import ending_on_signal
    from worker_state.tools.checks import Result, Step, all_well, ok
    from worker_state.tools.doctor import examine

    screen = Screen(logging.WARNING if as_json else logging.INFO)
    config = settings.config()
    results: list[Result] = []
    width = columns()

    def report(result: Result) -> None:
        results.append(result)
        if not as_json:
            screen.plain(_as_text(result, width))

    async def run() -> None:
        ending = "Leaving, after asking the server to delete what was created"
        async with ending_on_signal(screen, ending) as scope:
            with scope:
                await examine(config, report)

    exposed = "; not encrypted: tokens can be read on the way" if config.exposed_urls else ""
    report(Result(Step.CONFIGURATION, ok(described_server(settings) + exposed)))
    trio.run(run)
    if screen.gone:
        raise typer.Exit
    well = all_well(results)
    if as_json:
        typer.echo(json.dumps({"ok": well, "steps": [_as_object(result) for result in results]}))
    if not well:
        raise typer.Exit(ExitCode.FAILED)


def _as_text(result: "Result", width: int | None = None) -> str:
    """A line; in a terminal of `width` columns as many as the words need, below the heading where it is narrow."""
    finding = result.finding
    took = "" if result.seconds is None else f"{result.seconds * 1000:.0f} ms"
    heading = f"{result.step:13}  {finding.outcome:9}  {took:>8}  "
    indent = 4 if width is not None and width < 2 * len(heading) else len(heading)
    below = [paragraph(text, width, indent) for text in (shown(finding.detail, 400), finding.advice) if text]
    if indent == len(heading) and finding.detail:
        return heading + "\n".join(below).lstrip()
    return "\n".join((heading.rstrip(), *below))


def _as_object(result: "Result") -> dict[str, Any]:
    finding = result.finding
    return {
        "step": result.step.value,
        "outcome": finding.outcome.value.lower(),
        "milliseconds": None if result.seconds is None else round(result.seconds * 1000, 1),
        "detail": finding.detail,
        "advice": finding.advice,
    }
