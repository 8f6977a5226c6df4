"""Do the simulation and the tests see what they are there to see? Small sabotages of the product, each to be caught.

Each is applied to a copy of `src` in a temporary directory, which a process of its own puts first on its path; there
the seeds run until one shows a violation, or the tests that it names until one fails. Exit 1: one was not caught, or
its text is no longer in the source.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "worker_state"
STALE = ("tests/faults/test_stale.py",)


@dataclass(frozen=True)
class Mutant:
    """One sabotage."""

    name: str
    file: str
    old: str
    new: str
    first: tuple[int, ...] = ()
    """Seeds tried before all others: the long runs found this mistake there when it was one, and it takes thousands."""
    by: tuple[str, ...] = ()
    """The test files that have to catch it; without any, the simulation has to."""


MUTANTS = (
    Mutant(
        "never echo, never look",
        "actors/status.py",
        "            self._probe(registered, now)\n",
        "            registered.schedule.sent(now)\n",
    ),
    Mutant(
        "no full update with the steady echo",
        "actors/status.py",
        "proof is probe.Proof.FULL or self._refusals.in_force",
        "self._refusals.in_force",
        by=("tests/integrations/test_readiness.py", "tests/integrations/test_health.py"),
    ),
    Mutant(
        "ignore a lost echo",
        "actors/status.py",
        "            if not self._refusals.count():\n                registered.misses.add(registered.echo_at, now)",
        "            if not self._refusals.count():\n                pass",
    ),
    Mutant(
        "ignore that the server has forgotten us",
        "actors/registration.py",
        "                self._evicted(why, now)",
        "                pass",
    ),
    Mutant(
        "forget the tags in updates",
        "protocol/frames.py",
        '{"type": "update_metadata", "peer_id": peer_id, "metadata": record}',
        '{"type": "update_metadata", "peer_id": peer_id, "metadata": {"properties": record["properties"]}}',
    ),
    Mutant(
        "no null for the job that is over",
        "protocol/record.py",
        '        "current_job_id": truth.job_id if isinstance(truth, Busy) else None,',
        '        **({"current_job_id": truth.job_id} if isinstance(truth, Busy) else {}),',
    ),
    Mutant(
        "no update for a change while registering",
        "actors/status.py",
        "schedule, event.revision, event.revision, late_acks",
        "schedule, self._revision, self._revision, late_acks",
        by=("tests/scenarios/test_status_updates.py",),
    ),
    Mutant(
        "no update for a change while registered",
        "actors/status.py",
        "stale = registered.confirmed != self._revision",
        "stale = registered.confirmed is None",
    ),
    Mutant(
        "register with the status of the start",
        "actors/registration.py",
        "                self._revision, self._truth = revision, truth",
        "                self._revision = revision",
        by=("tests/scenarios/test_status_updates.py",),
    ),
    Mutant(
        "no renewal of the ID token in time",
        "protocol/lease.py",
        "RENEW_TOKEN = (0.80, 0.85)",
        "RENEW_TOKEN = (80.0, 85.0)",
    ),
    Mutant(
        "renew the ID token all the time",
        "protocol/lease.py",
        "RENEW_TOKEN = (0.80, 0.85)",
        "RENEW_TOKEN = (0.10, 0.12)",
    ),
    Mutant(
        "keep the room until it is over", "protocol/lease.py", "RENEW_ROOM = (0.90, 0.92)", "RENEW_ROOM = (90.0, 92.0)"
    ),
    Mutant(
        "a refused ID token is tried again",
        "protocol/error_policy.py",
        'return Renew(Lease.IDENTITY, "the ID token is refused")',
        'return Retry(TRANSIENT_PAUSE, "the ID token is refused")',
    ),
    Mutant(
        "a lost room is waited for",
        "protocol/error_policy.py",
        "return Renew(Lease.ROOM, meaning) if own_room else GiveUp(meaning)",
        "return GiveUp(meaning)",
    ),
    Mutant(
        "a 401 for a room is no refusal of the token",
        "protocol/credentials.py",
        "self.id_token.refuse(now) if token_refused else None",
        "None",
    ),
    Mutant(
        "a new peer id with each sign-in",
        "actors/registration.py",
        "self._peer_id = self._peer_id or identity.username",
        "self._peer_id = identity.username",
    ),
    Mutant(
        "no search for silence",
        "actors/link.py",
        'self.end(Closed(reason=f"no pong in {self._timing.silence:g} s", cause=Cause.SILENT))',
        "pass",
        by=("tests/actors/test_link.py",),
    ),
    Mutant(
        "no time limit for a register",
        "actors/registration.py",
        "self._pending.sent(now, self._link.epoch, self._revision, record, answer_by,",
        "self._pending.sent(now, self._link.epoch, self._revision, record, math.inf,",
        by=("tests/faults/test_exchange.py",),
    ),
    Mutant(
        "an unanswered dial is given up",
        "net/dial.py",
        "if self._kept is None and deadlines.upgrade < deadlines.register:",
        "if False:",
        by=("tests/net/test_dial.py",),
    ),
    Mutant(
        "a kept dial's answer ends the actor's dial, not the call's",
        "net/dial.py",
        "self._kept_answered = dialling.cancel",
        "self._kept_answered = kept_answered",
        by=("tests/net/test_dial.py",),
    ),
    Mutant(
        "the server is never heard",
        "protocol/reconnect.py",
        "self._server_heard = self._server_heard or cause in _HEARD",
        "pass",
        by=("tests/protocol/test_reconnect.py",),
    ),
    Mutant("no delay between dials", "protocol/reconnect.py", "return max(pause, p.shortest)", "return 0.0"),
    Mutant(
        "backoff is reset when a link opens",
        "protocol/reconnect.py",
        "if self._answered_at is None or now - self._answered_at < p.lived:",
        "if False:",
        by=("tests/protocol/test_reconnect.py",),
    ),
    Mutant(
        "HTTP is tried again at once",
        "protocol/credentials.py",
        "now + max(self._random.uniform(0.5, 1.0) * pause, asked_for(hint, self._random))",
        "now + 1.0",
    ),
    Mutant(
        "no pause after an error of the store",
        "actors/registration.py",
        "                self._register_at = now + self._backoff.refused(pause)",
        "                self._register_at = now",
    ),
    Mutant(
        "pay only the first identity",
        "actors/cleanup.py",
        "for username in self._undeleted if username not in tried",
        "for username in self._undeleted[:1] if username not in tried",
    ),
    Mutant(
        "an update for every flip of the status",
        "protocol/probe.py",
        "UPDATES_APART = 0.1 ",
        "UPDATES_APART = 0.0 ",
        first=(46,),
    ),
    Mutant(
        "a neighbour's deep record hides that we are registered",
        "protocol/frames.py",
        'if isinstance(cut, dict) and cut.get("type") in WITH_RECORDS:',
        "if False:",
        first=(47,),
    ),
    Mutant(
        "a room is left without a goodbye",
        "actors/connection.py",
        "                if polite:",
        "                if False:",
        by=("tests/faults/test_exchange.py",),
    ),
    Mutant(
        "the refusal of an ID token condemns its successor",
        "actors/registration.py",
        "isinstance(decision, error_policy.Renew) and self._credentials.renewed_since(sent_at, decision.what)",
        "False",
        by=(
            "tests/faults/test_exchange.py",
            "tests/faults/test_races.py",
        ),
    ),
    Mutant(
        "close before the deletion",
        "actors/cleanup.py",
        "        over_at = ",
        "        self._publish(events.CloseLink(0.5))\n"
        "        with trio.CancelScope(shield=True):\n"
        "            await trio.sleep(0.3)\n"
        "        over_at = ",
    ),
    Mutant(
        "no time limit for the deletion",
        "actors/cleanup.py",
        "over_at = trio.current_time() + timing.exit",
        "over_at = trio.current_time() + 20 + timing.exit",
    ),
    Mutant(
        "an exit does not wait for the sign-in under way",
        "actors/cleanup.py",
        "            if not self._awaited:",
        "            if True:",
    ),
    Mutant(
        "a Close frame behind an unanswered register",
        "actors/registration.py",
        "self._closing and self._link is not None and not self.unanswered:",
        "self._closing and self._link is not None:",
    ),
    Mutant("dial on while leaving", "actors/connection.py", "        while not self._leaving:", "        while True:"),
    Mutant(
        "the worker's cancel reaches every actor",
        "actors/runner.py",
        "trio.CancelScope(deadline=deadline, shield=True)",
        "trio.CancelScope(deadline=deadline)",
        by=("tests/faults/test_leaving.py",),
    ),
    Mutant(
        "an exit waits for the last signals whatever happens",
        "actors/cleanup.py",
        "with trio.move_on_after(timing.exit / 2):",
        "with trio.CancelScope(shield=True):",
    ),
    Mutant(
        "a given room is left as one of its own",
        "actors/cleanup.py",
        "                if self._keeps_room:",
        "                if False:",
    ),
    Mutant(
        "the deletion does not wait until the server has let go",
        "actors/cleanup.py",
        "        while self._linked:",
        "        while False:",
    ),
    Mutant(
        "an identity is deleted although the server may list it",
        "protocol/peer_listing.py",
        "            self.until = now + LETS_GO",
        "            self.until = now + NOTICE",
    ),
    Mutant(
        "replaced identities stay until the exit",
        "actors/cleanup.py",
        "if isinstance(event, events.IdentityCreated):",
        "if False:",
    ),
    Mutant(
        "nothing is sent behind a register",
        "protocol/pending_register.py",
        "answer_by, now + FIRST_PROBE",
        "answer_by, math.inf",
    ),
    Mutant(
        "only an echo behind a register",
        "protocol/pending_register.py",
        "if not self.is_first or self._probes % 2 == 0:",
        "if True:",
        by=("tests/faults/test_real_server.py",),
    ),
    Mutant("a month for a room of one's own", "protocol/lease.py", "ROOM_LIFE = 7200.0", "ROOM_LIFE = 30 * 86400.0"),
    Mutant(
        "a forger has the first minute to himself",
        "protocol/probe.py",
        "return Proof.ECHO if first else Proof.LOOK",
        "return Proof.ECHO",
        by=("tests/faults/test_real_server.py",),
    ),
    Mutant(
        "an error with a code refuses a register",
        "protocol/frames.py",
        'case {"type": "error", "code": code} if code is not None:',
        'case {"type": "error", "code": code} if code == 7:',
        by=("tests/faults/test_real_server.py",),
    ),
    Mutant(
        "an exception for a frame of a strange shape",
        "protocol/frames.py",
        'return Malformed(f"JSON, {error}")',
        "raise RecursionError from error",
    ),
    Mutant(
        "a link once silent stays in doubt",
        "actors/status.py",
        "self._deaf_epoch = 0\n        self._refusals.proved()",
        "pass",
        by=STALE,
    ),
    Mutant(
        "an event of an older link means something",
        "supervisor.py",
        "return epoch != self._epoch or",
        "return",
        by=("tests/test_supervisor.py",),
    ),
    Mutant(
        "a dropped link goes on meaning something",
        "supervisor.py",
        " or (self.link is None and not ends_link)",
        "",
        by=("tests/test_supervisor.py",),
    ),
    Mutant(
        "an acceptance in whatever room",
        "actors/registration.py",
        " and self._credentials.names(room_id)",
        "",
        by=STALE,
    ),
    Mutant(
        "an old answer confirms the new status",
        "actors/status.py",
        "confirmed = update.revision",
        "confirmed = self._revision",
        by=STALE,
    ),
    Mutant(
        "an exit waits for a refused sign-in",
        "actors/cleanup.py",
        "case events.IdentityFailed():\n                self._awaited -= 1",
        "case events.IdentityFailed():\n                pass",
        by=STALE,
    ),
)

SHOW = "import worker_state; print(worker_state.__file__, flush=True)"
HUNT = """
import json, sys
from tests.simulation import runs
from tests.simulation.plan import calm, draw
runs.LIMIT = 20.0
for plan in [calm(1, hours=3.0), *map(draw, map(int, sys.argv[1:]))]:
    outcome = runs.run_plan(plan)
    if outcome.violations:
        first = outcome.violations[0]
        print(json.dumps([plan.seed if plan.faults else "calm", first.judge, first.what]))
        break
"""
TESTS = """
import sys, pytest
sys.exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""


@dataclass(frozen=True)
class Caught:
    """What gave a mutant away."""

    seed: object
    judge: str
    what: str


def hunt(source: Path, seeds: Iterable[int], seconds: float) -> Caught | None:
    """Run the seeds over this copy of the product until something is violated."""
    run = run_over(source, HUNT, map(str, seeds), seconds)
    if run is not None and run.returncode != 0:
        return Caught("-", "start", run.stderr.strip().rpartition("\n")[2])
    return None if run is None or not run.stdout.strip() else Caught(*json.loads(run.stdout))


def fail(source: Path, files: Iterable[str], seconds: float) -> Caught | None:
    """Run the test files over this copy of the product until a test fails."""
    run = run_over(source, TESTS, files, seconds)
    said = "" if run is None else run.stdout.partition("\nFAILED ")[2].partition("\n")[0]
    return Caught("-", "tests", said) if said else None


def run_over(
    source: Path, script: str, arguments: Iterable[str], seconds: float
) -> "subprocess.CompletedProcess[str] | None":
    """A process that imports this copy of the product; None when it has taken too long."""
    path = os.pathsep.join((str(source), str(ROOT)))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", f"{SHOW}\n{script}", *arguments]
    try:
        run = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    imported, _, run.stdout = run.stdout.partition("\n")
    # Over any other sources this would say nothing about the copy.
    assert imported.startswith(str(source)), f"{imported or run.stderr} was imported, and not the copy"
    return run


def copies(mutants: tuple[Mutant, ...]) -> Iterator[tuple[Mutant, Path | None]]:
    """Each mutant with its copy of the sources, or with None if its text is no longer there (once, and only once)."""
    for mutant in mutants:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "src"
            shutil.copytree(SOURCE, copy / "worker_state", ignore=shutil.ignore_patterns("__pycache__"))
            file = copy / "worker_state" / mutant.file
            text = file.read_text()
            if text.count(mutant.old) != 1:
                yield mutant, None
                continue
            file.write_text(text.replace(mutant.old, mutant.new))
            yield mutant, copy


def main(
    seeds: Annotated[int, typer.Option(help="Seeds for each mutant, at most.")] = 120,
    seconds: Annotated[float, typer.Option(help="Seconds for each mutant, at most.")] = 180.0,
    only: Annotated[str, typer.Option(help="Only mutants whose name contains this.")] = "",
) -> None:
    """Try every mutant, and the product as it is."""
    console = Console(stderr=True)
    table = Table("mutant", "caught", "judge", "seed", "by what", title="sabotages of the product")
    chosen = tuple(mutant for mutant in MUTANTS if only in mutant.name)
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(SOURCE, Path(folder) / "worker_state", ignore=shutil.ignore_patterns("__pycache__"))
        sound = hunt(Path(folder), range(seeds if not only else 20), 600)
        for files in {mutant.by for mutant in chosen if mutant.by}:
            sound = sound or fail(Path(folder), files, 600)
    if sound is not None:
        bad += 1
        table.add_row("(none)", "[red]yes[/]", sound.judge, str(sound.seed), sound.what)
    for mutant, copy in copies(chosen):
        began = time.monotonic()
        if copy is None:
            caught = None
        elif mutant.by:
            caught = fail(copy, mutant.by, seconds)
        else:
            caught = hunt(copy, (*mutant.first, *range(seeds)), seconds)
        took = time.monotonic() - began
        if copy is None:
            verdict = "[red]its text is not in the source any more[/]"
        else:
            verdict = f"[green]in {took:.0f} s[/]" if caught else f"[red]no, in {took:.0f} s[/]"
        bad += caught is None
        shown = (caught.judge, str(caught.seed), escape(caught.what[:90])) if caught else ("", "", "")
        table.add_row(mutant.name, verdict, *shown)
        console.print(f"{mutant.name}: {verdict}")
    console.print(table)
    raise typer.Exit(1 if bad else 0)


if __name__ == "__main__":
    typer.run(main)
