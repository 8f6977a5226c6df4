"""The unread messages for the worker's other parts: bounded in number and in bytes, since strangers write them."""

import trio

from worker_state.protocol.frames import Message


class SignalBuffer:
    """A memory channel that counts the bytes of what is in it."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._sender, self._receiver = trio.open_memory_channel[tuple[Message, int]](most)
        self._bytes_left = most_bytes

    def put(self, message: Message, size: int) -> None:
        """Add a message of so many bytes. Raises `trio.WouldBlock` when there is no room for it."""
        # What a reader waits for is never unread.
        if size > self._bytes_left and not self._receiver.statistics().tasks_waiting_receive:
            raise trio.WouldBlock
        self._sender.send_nowait((message, size))
        self._bytes_left -= size

    async def receive(self) -> Message:
        """The next message. Raises `trio.EndOfChannel` after `close`, when all are read."""
        return self._taken(await self._receiver.receive())

    def receive_nowait(self) -> Message:
        """The same at once, or `trio.WouldBlock`."""
        return self._taken(self._receiver.receive_nowait())

    def _taken(self, item: tuple[Message, int]) -> Message:
        message, size = item
        self._bytes_left += size
        return message

    def statistics(self) -> trio.MemoryChannelStatistics:
        """Of the channel: how many wait, and who waits."""
        return self._receiver.statistics()

    def close(self) -> None:
        """Nothing more comes."""
        self._sender.close()
