"""Every rule that decides when to dial again, ours and the published ones, behind one protocol.

A `Rule` says when the next dial comes and how long each of its stages is waited for; nothing else in the benchmarks
does. The peers are the formulas that their projects publish, each with its source beside it, written down anew; where a
project leaves something open, what was assumed stands there too, and is on the peer's side.

A peer's open time-out is the deadline of its connect and, from the SYN-ACK, of the whole rest: that is a little longer
than the libraries wait, and none of them is charged for waiting for ever for the registration's answer. Pauses are what
the formula says, 0 and infinity ("never again") included.
"""

import math
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from worker_state.protocol.error_policy import Cause
from worker_state.protocol.reconnect import Deadlines, ReconnectParameters, ReconnectPolicy


class Rule(Protocol):
    """What the drivers ask; the contract of `core.pace`."""

    def dialling(self, now: float) -> Deadlines:
        """A dial begins."""
        ...

    def failed(self, now: float, cause: Cause, hint: float | None = None) -> float:
        """A dial has ended without an open link: the pause."""
        ...

    def answered(self, now: float) -> None:
        """The server has acknowledged the registration."""
        ...

    def lost(self, now: float, cause: Cause = Cause.CLOSED, code: int = 1006, hint: float | None = None) -> float:
        """An open (upgraded) link has ended, answered or not: the pause."""
        ...

    def moved(self, now: float) -> float:
        """We left a serving link for another."""
        ...


class Published:
    """A peer: so many tries since the last reset, and a pause that follows from their number."""

    patience = 10.0
    """Seconds. The open time-out."""
    resets_on_connect = True
    """Whether an open link is a success, or only the server's answer to what follows."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._tries = 0
        self._limits = Deadlines(self.patience, math.inf, self.patience, self.patience)

    def dialling(self, now: float) -> Deadlines:
        return self._limits

    def failed(self, now: float, cause: Cause, hint: float | None = None) -> float:
        self._tries += 1
        return self.pause(now)

    def answered(self, now: float) -> None:
        self._tries = 0

    def lost(self, now: float, cause: Cause = Cause.CLOSED, code: int = 1006, hint: float | None = None) -> float:
        if self.resets_on_connect:
            self._tries = 0
        return self.failed(now, cause, hint)

    def moved(self, now: float) -> float:
        return self.failed(now, Cause.MOVED)

    def pause(self, now: float) -> float:
        """After the `self._tries`-th failure (1 is the first since the reset)."""
        raise NotImplementedError


class TodaysWorker(Published):
    """min(2ⁿ⁻¹, 300) s after the n-th failure, without jitter; an open link resets; `websockets.connect` waits 10 s.

    Source: docs/explanation/storms.md; sleap-rtc, `run_worker`, tests/test_worker_reconnection.py (v3.0's worker).
    """

    def pause(self, now: float) -> float:
        return min(2.0 ** min(self._tries - 1, 30), 300.0)


class TodaysWorkerBefore(Published):
    """The generation before (v2.0): when its connection ends, it cleans up and exits. Somebody has to start it again.

    Source: sleap-rtc, `run_worker` of worker_class.py before the reconnection was added.
    """

    def pause(self, now: float) -> float:
        return math.inf


class Websockets(Published):
    """U(0, 5) s, then 3.1 · 1.618ⁿ s without jitter up to 90 s; 10 s to open; a link that was open is followed at once.

    Source: websockets 14 and later, `websockets.client.backoff` and `connect.__aiter__` (a loop body that handles
    `ConnectionClosed`, as the documentation shows it).
    """

    def lost(self, now: float, cause: Cause = Cause.CLOSED, code: int = 1006, hint: float | None = None) -> float:
        self._tries = 0
        return 0.0

    def pause(self, now: float) -> float:
        if self._tries == 1:
            return self._random.uniform(0.0, 5.0)
        return min(3.1 * 1.618 ** min(self._tries - 2, 60), 90.0)


class LiveKitAgents(Published):
    """min(2 n, 10) s with n from 0, without jitter; an open link resets; after 16 failures in a row it gives up.

    Source: livekit-agents, worker.py, `_connection_task` (`max_retry` 16). aiohttp's sock_connect is 30 s; how long an
    upgrade is waited for depends on its version: 30 s assumed.
    """

    patience = 30.0

    def pause(self, now: float) -> float:
        return min(2.0 * (self._tries - 1), 10.0) if self._tries <= 16 else math.inf


class Grpc(Published):
    """Starts of attempts 1 · 1.6ⁿ s apart, at most 120 s, each ± 20 %; an attempt may take 20 s at least.

    Source: gRPC's doc/connection-backoff.md. The server's answer (its SETTINGS frame) resets.
    """

    resets_on_connect = False

    def __init__(self, random: Random) -> None:
        super().__init__(random)
        self._next = 0.0

    def dialling(self, now: float) -> Deadlines:
        backoff = min(1.6 ** min(self._tries, 40), 120.0)
        self._next = now + backoff * (self._random.uniform(0.8, 1.2) if self._tries else 1.0)
        limit = max(20.0, self._next - now)
        return Deadlines(limit, math.inf, limit, limit)

    def lost(self, now: float, cause: Cause = Cause.CLOSED, code: int = 1006, hint: float | None = None) -> float:
        return 0.0 if self._tries == 0 else self.failed(now, cause, hint)

    def pause(self, now: float) -> float:
        return max(0.0, self._next - now)


class FullJitter20(Published):
    """U(0, min(20, 2ⁿ)) s, n from 0. Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

    The article has no connections: 10 s to open and a reset by an open link are assumed, as in the libraries.
    """

    cap = 20.0

    def pause(self, now: float) -> float:
        return self._random.uniform(0.0, min(self.cap, 2.0 ** min(self._tries - 1, 30)))


class FullJitter60(FullJitter20):
    """The same with a cap of 60 s."""

    cap = 60.0


class DecorrelatedJitter(Published):
    """min(cap, U(1, 3 · the pause before)) s with a cap of 60 s. Source and assumptions: as for full jitter."""

    def __init__(self, random: Random) -> None:
        super().__init__(random)
        self._before = 1.0

    def pause(self, now: float) -> float:
        self._before = min(60.0, self._random.uniform(1.0, 3.0 * (1.0 if self._tries == 1 else self._before)))
        return self._before


class Centrifuge(Published):
    """min(20, 0.5 + U(0, min(20, 0.5 · 2ⁿ))) s, n from 0; 5 s to be answered; the answer resets.

    Source: centrifuge-js, utils.ts `backoff` and its defaults `minReconnectDelay`, `maxReconnectDelay`, `timeout`.
    """

    patience = 5.0
    resets_on_connect = False

    def pause(self, now: float) -> float:
        return min(20.0, 0.5 + self._random.uniform(0.0, min(20.0, 0.5 * 2.0 ** min(self._tries - 1, 31))))


class Phoenix(Published):
    """10, 50, 100, 150, 200, 250, 500, 1000, 2000 ms, then 5 s for ever; an open link resets.

    Source: phoenix.js, socket.js `reconnectAfterMs`. A browser's open time-out is its own: 20 s (Firefox) assumed.
    """

    patience = 20.0
    steps = (0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.0)

    def pause(self, now: float) -> float:
        return self.steps[self._tries - 1] if self._tries <= len(self.steps) else 5.0


class SocketIo(Published):
    """min(5, 2ⁿ · U(0.5, 1.5)) s, n from 0; 20 s to open; an open link resets.

    Source: socket.io-client, contrib/backo2.js and the manager's defaults (1000, 5000, 0.5, 20000 ms).
    """

    patience = 20.0

    def pause(self, now: float) -> float:
        return min(5.0, 2.0 ** min(self._tries - 1, 30) * self._random.uniform(0.5, 1.5))


class DiscordPy(Published):
    """U(0, 2ⁿ) s, n from 1 to 10; only 2,048 s without a failure reset; 60 s to open.

    Source: discord.py, backoff.py `ExponentialBackoff`; client.py `connect` waits 60 s for the gateway.
    """

    patience = 60.0

    def __init__(self, random: Random) -> None:
        super().__init__(random)
        self._failed_at = -math.inf

    def answered(self, now: float) -> None:
        pass

    def lost(self, now: float, cause: Cause = Cause.CLOSED, code: int = 1006, hint: float | None = None) -> float:
        return self.failed(now, cause, hint)

    def pause(self, now: float) -> float:
        if now - self._failed_at > 2048.0:
            self._tries = 1
        self._failed_at = now
        return self._random.uniform(0.0, 2.0 ** min(self._tries, 10))


class Nats(Published):
    """2 s + U(0, 0.1) s each time; 2 s to connect; after 60 tries in a row it gives up; the answer resets.

    Source: nats.go's `DefaultReconnectWait`, `DefaultReconnectJitter`, `DefaultTimeout`, `DefaultMaxReconnect`.
    """

    patience = 2.0
    resets_on_connect = False

    def pause(self, now: float) -> float:
        return 2.0 + self._random.uniform(0.0, 0.1) if self._tries <= 60 else math.inf


class PatientFullJitter(FullJitter60):
    """Full jitter 1–60 s, 60 s to be answered, only the answer resets, gives up with RST.

    Source: storms.md, "The one-line alternative".
    """

    patience = 60.0
    resets_on_connect = False


class TwoClocks:
    """What `core.pace` started from. Source: storms.md, "The rule to start from"."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._lost_at: float | None = None
        self._busy_at: float | None = None
        self._dialled_at = 0.0
        self._answered_at: float | None = None
        self._patience = 60.0
        self._spread = 0.0
        self._first = True

    def dialling(self, now: float) -> Deadlines:
        self._dialled_at = now
        self._answered_at = None
        if self._lost_at is None:
            self._lost_at = now
        return Deadlines(0.4 if self._first else 10.0, 2.0, self._patience, self._patience)

    def answered(self, now: float) -> None:
        self._answered_at = now

    def lost(self, now: float, cause: Cause = Cause.CLOSED, code: int = 1006, hint: float | None = None) -> float:
        if self._answered_at is None or now - self._answered_at < 30.0:
            return self.failed(now, Cause.CLOSED, hint)
        self._lost_at, self._busy_at, self._patience, self._spread, self._first = now, None, 60.0, 0.0, True
        if hint is not None:
            return self._hinted(hint)
        return self._random.uniform(0.0, 5.0 if code in (1001, 1012, 1013) else 0.3)

    def moved(self, now: float) -> float:
        return self._random.uniform(0.0, 0.3)

    def failed(self, now: float, cause: Cause, hint: float | None = None) -> float:
        first, self._first = self._first, False
        if hint is not None:
            return self._hinted(hint)
        if first and cause is Cause.NO_ANSWER:
            return 0.0
        since = self._dialled_at if self._lost_at is None else self._lost_at
        poll = min(12.0, max(0.25, (now - since) / 3))
        if cause in (Cause.REFUSED, Cause.UNREACHABLE):
            self._busy_at = None
            return self._random.uniform(0.5, 1.0) * poll
        if self._busy_at is None:
            self._busy_at = self._dialled_at
        cap = 600.0
        if cause in (Cause.NO_ANSWER, Cause.UNACKNOWLEDGED):
            cap = 20.0
        elif cause is Cause.SHED:
            cap = 300.0
        elif cause in (Cause.UNANSWERED, Cause.UNREGISTERED):
            self._patience = min(240.0, 2 * self._patience)
        return self._random.uniform(0.5, 1.0) * min(cap, max(2.0, 2 * poll, now - self._busy_at))

    def _hinted(self, hint: float) -> float:
        hint = min(hint, 900.0)
        self._spread = min(300.0, max(0.1 * hint, 2 * self._spread))
        return hint + self._random.uniform(0.0, max(0.25, self._spread))


# --- ours, whole and with one thing taken away ------------------------------------------------------------------------


class ResetsOnConnect(ReconnectPolicy):
    """Ablation: an open link is taken for a success, as most libraries do."""

    def lost(self, now: float, cause: Cause = Cause.CLOSED, code: int = 1006, hint: float | None = None) -> float:
        self.answered(now - 2 * ReconnectParameters().lived)
        return super().lost(now, cause, code, hint)


def _with(**changes: Any) -> Callable[[Random], Rule]:
    parameters = ReconnectParameters(**changes)
    return lambda random: ReconnectPolicy(random, parameters)


OURS = "worker_state"

ABLATIONS: dict[str, Callable[[Random], Rule]] = {
    "ours without patience": _with(held_most=10.0, patience=10.0, longest=10.0),
    "ours resetting on connect": ResetsOnConnect,
    "ours, more patient": _with(patience=240.0, longest=3600.0),
    "ours dialling twice a minute": _with(most=2, full_most=300.0, busy_most=300.0),
    "ours dialling first in 5 s": _with(blip=5.0),
}

PEERS: dict[str, Callable[[Random], Rule]] = {
    "two clocks": TwoClocks,
    "patient full jitter": PatientFullJitter,
    "today's worker": TodaysWorker,
    "today's worker v2.0": TodaysWorkerBefore,
    "websockets": Websockets,
    "LiveKit Agents": LiveKitAgents,
    "gRPC": Grpc,
    "full jitter 20": FullJitter20,
    "full jitter 60": FullJitter60,
    "decorrelated jitter": DecorrelatedJitter,
    "centrifuge": Centrifuge,
    "phoenix.js": Phoenix,
    "socket.io": SocketIo,
    "discord.py": DiscordPy,
    "nats": Nats,
}

RULES: dict[str, Callable[[Random], Rule]] = {OURS: ReconnectPolicy, **PEERS, **ABLATIONS}

RESETS = frozenset({OURS, *ABLATIONS, "two clocks", "patient full jitter"})
"""Whose clients give up with RST. All others close their sockets as their libraries do, with FIN."""
