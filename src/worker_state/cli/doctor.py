"""`worker-state doctor`: its options, and how its findings are printed. What it does is in `tools.doctor`."""

import json
import logging
from typing import TYPE_CHECKING, Any

import typer

from worker_state.cli.refusal import ExitCode
from worker_state.cli.settings import (
    ApiKey,
    GpuMemory,
    GpuModel,
    Http,
    Json,
    RoomId,
    Tag,
    Token,
    Ws,
    addresses,
    bad_usage,
    described,
    settled,
)

if TYPE_CHECKING:
    from worker_state import Config
    from worker_state.cli.screen import Screen
    from worker_state.core.settings import Settings
    from worker_state.tools.checks import Result

NO_SERVER = (
    "No server is named, by --ws and --http, the environment or a file. To try it, start `worker-state serve` and then "
    "`worker-state doctor --ws ws://127.0.0.1:8080 --http http://127.0.0.1:8001`."
)


def doctor_command(
    ws: Ws = None,
    http: Http = None,
    room: RoomId = None,
    token: Token = None,
    api_key: ApiKey = None,
    gpu_model: GpuModel = None,
    gpu_memory_mb: GpuMemory = None,
    tag: Tag = None,
    as_json: Json = False,
) -> None:
    """Try the whole way of a worker once, and say for each step whether it works, and if not, what to do.

    Configuration, DNS, TCP, TLS, HTTP, sign-in, upgrade, room, registration, discovery by a second identity, deletion.
    The worker says "maintenance", so that nobody uses it. The server is asked to delete everything again, also after
    Ctrl-C. Exit codes: 0 all is well; 1 something is not; 2 bad usage or configuration. Values come from where `run`
    takes them.

    \b
    Examples:
      worker-state doctor
      worker-state doctor --ws wss://signaling.example.org --http https://signaling.example.org
      worker-state doctor --json
    """
    settings = settled(
        signaling_websocket=ws,
        signaling_http=http,
        room_id=room,
        room_token=token,
        api_key=api_key,
        gpu_model=gpu_model,
        gpu_memory_mb=gpu_memory_mb,
        tags=tuple(tag) if tag else None,
    )
    if addresses(settings) is None:
        raise bad_usage(NO_SERVER)

    import trio

    from worker_state.cli.screen import Screen
    from worker_state.tools.checks import Result, Step, all_well, ok

    screen = Screen(logging.WARNING if as_json else logging.INFO)
    results: list[Result] = []

    def tell(result: Result) -> None:
        results.append(result)
        if not as_json:
            screen.plain("\n".join(_lines(result)))

    config = settings.config()
    tell(Result(Step.CONFIGURATION, ok(_described(settings, config))))
    trio.run(_examine, config, tell, screen)
    if screen.gone:
        raise typer.Exit  # nobody reads the rest, which was not tried for that
    well = all_well(results)
    if as_json:
        typer.echo(json.dumps({"ok": well, "steps": [_as_object(result) for result in results]}))
    if not well:
        raise typer.Exit(ExitCode.STARTUP_FAILED)


async def _examine(config: "Config", tell: Any, screen: "Screen") -> None:
    import trio

    from worker_state.cli.stopping import cancel_on_signal
    from worker_state.tools.doctor import examine

    leaving = trio.CancelScope()
    screen.on_gone = leaving.cancel
    async with trio.open_nursery() as nursery:
        await nursery.start(
            cancel_on_signal, leaving, screen, "Leaving, after asking the server to delete what was created"
        )
        with leaving:
            await examine(config, tell)
        nursery.cancel_scope.cancel()


def _described(settings: "Settings", config: "Config") -> str:
    """Where the server's addresses come from, and whether what is said to it can be read on the way."""
    open_ = "; not encrypted: tokens can be read on the way" if config.exposed_urls else ""
    return described(settings) + open_


def _lines(result: "Result") -> list[str]:
    from worker_state.core.words import shown

    finding = result.finding
    took = "" if result.seconds is None else f"{result.seconds * 1000:.0f} ms"
    detail = shown(finding.detail, 400)
    line = f"{result.step:13}  {finding.outcome:9}  {took:>8}  {detail}".rstrip()
    return [line, f"{'':36}{finding.advice}"] if finding.advice else [line]


def _as_object(result: "Result") -> dict[str, Any]:
    finding = result.finding
    return {
        "step": result.step.value,
        "outcome": finding.outcome.value.lower(),
        "milliseconds": None if result.seconds is None else round(result.seconds * 1000, 1),
        "detail": finding.detail,
        "advice": finding.advice,
    }
