"""What others get to see of a manager: its snapshots and its signals, read-only. Nothing is decided here."""

from collections.abc import AsyncIterator, Callable

import trio

from worker_state.protocol import frames
from worker_state.protocol.state import State
from worker_state.refusals import check_wanted, ended
from worker_state.supervisor import Supervisor
from worker_state.watched import Watching, settled


class Signals(trio.abc.ReceiveChannel[frames.Message]):
    """The messages of a memory channel, whose end comes a moment later (see `settled`). It cannot be closed."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def receive_nowait(self) -> frames.Message:
        """The next message that has come already, else `trio.WouldBlock`. Raises `trio.EndOfChannel` as `receive`."""
        return self._supervisor.signals.receive_nowait()

    def statistics(self) -> trio.MemoryChannelStatistics:
        """How many messages wait: `current_buffer_used`."""
        return self._supervisor.signals.statistics()

    @trio.lowlevel.enable_ki_protection
    async def receive(self) -> frames.Message:
        """The next message. Raises `trio.EndOfChannel` when the manager has ended and all of them are read."""
        self._supervisor.check_thread()
        try:
            return await self._supervisor.signals.receive()
        except trio.EndOfChannel:
            await settled()
            raise

    async def aclose(self) -> None:
        """Does nothing: what is unread is for the next reader."""
        await trio.lowlevel.checkpoint()


class States:
    """The snapshots of a manager: `async for` gives the present one, then each newer one; some may be missed."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def __aiter__(self) -> AsyncIterator[State]:
        return _Iteration(self._supervisor)

    @trio.lowlevel.enable_ki_protection
    async def wait_for(self, wanted: Callable[[State], bool]) -> State:
        """Wait until `wanted(state)` is true and return that state. Raises `ManagerEnded`."""
        check_wanted(wanted)
        self._supervisor.check_thread()
        try:
            return await self._supervisor.state.wait_for(wanted)
        except trio.ClosedResourceError:
            raise ended() from None


class _Iteration(Watching[State]):
    """One loop over the snapshots, in trio's thread."""

    def __init__(self, supervisor: Supervisor) -> None:
        super().__init__(supervisor.state)
        self._supervisor = supervisor

    @trio.lowlevel.enable_ki_protection
    async def __anext__(self) -> State:
        self._supervisor.check_thread()
        return await super().__anext__()
