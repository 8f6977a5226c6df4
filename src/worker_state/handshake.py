"""What a server sends before the 101, watched: whether it still can become one, and what it is if it cannot.

trio-websocket reads a refusal's body to its end, however long or slow that is, and forgets the status when the body is
cut off (FAULTS T3). Here the head alone is read, by h11, as it comes. Nothing of frames or retries is known.
"""

import h11
import trio

from worker_state.core.verdict import Cause, DialFailure

UPGRADE = h11.Request(
    method="GET", target="/", headers=[("Host", "any"), ("Connection", "Upgrade"), ("Upgrade", "websocket")]
)
"""What h11 has to be told was asked, so that it takes a 101 for an answer."""

BUSY = frozenset({429, 502, 503, 504})
"""What a server says, or a proxy before it, that has too much to do or is just starting."""
LONGEST_101 = 4096
"""Bytes. A longer one is given to h11, which has limits."""


class Head(trio.abc.Stream):
    """A stream under a handshake: keeps what came so far, and breaks off as soon as it can be no 101 any more.

    What follows a refusal, or is no handshake at all, can be endless (FAULTS T3); nothing of it is read on.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._done = False
        self.received = bytearray()

    def done(self) -> None:
        """The handshake is done: from here on everything passes straight through, and nothing is kept."""
        self._done = True
        self.receive_some = self._stream.receive_some  # type: ignore[method-assign]
        self.send_all = self._stream.send_all  # type: ignore[method-assign]
        self.received.clear()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._stream.receive_some(max_bytes)
        if data and not self._done:  # the reader was here already when it was done, and has got the first frames
            self.received += data
            if self._can_be_no_handshake():
                raise trio.BrokenResourceError("no handshake any more")
        return data

    def rejection(self) -> DialFailure | None:
        """The HTTP status that came in place of the 101, and its `Retry-After`; None when there was none."""
        try:
            response = _response(bytes(self.received))
        except h11.RemoteProtocolError:
            return None
        if not isinstance(response, h11.Response):
            return None
        hint = dict(response.headers).get(b"retry-after", b"").decode("ascii", "replace") or None
        status = response.status_code
        cause = Cause.SHED if status in BUSY else Cause.REJECTED
        return DialFailure(cause, f"HTTP {status}", status=status, retry_after=hint)

    def _can_be_no_handshake(self) -> bool:
        if self.received.startswith(b"HTTP/1.1 101 ") and len(self.received) < LONGEST_101:
            return False  # without h11, for whom this is most of the work of a dial
        try:
            return isinstance(_response(bytes(self.received)), h11.Response)
        except h11.RemoteProtocolError:
            return True

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


def _response(head: bytes) -> h11.InformationalResponse | h11.Response | None:
    """What the server has answered to the upgrade, once its head is whole; raises h11's `RemoteProtocolError`."""
    parser = h11.Connection(h11.CLIENT)
    parser.send(UPGRADE)
    parser.receive_data(head)
    event = parser.next_event()
    return event if isinstance(event, h11.InformationalResponse | h11.Response) else None
