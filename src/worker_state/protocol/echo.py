"""The echo: the message that a worker sends to itself. Coming back, it proves that clients reach it (protocol.md, E).

Its payload, and whether the server refuses it. `frames.py` puts it into a frame, `probe.py` says when it is sent.
"""

from collections import deque
from typing import Any

KEY = "worker_state_echo"  # the one key of the payload; its value is the nonce
REGISTER_PREFIX = "register-"  # of the nonces behind a `register`, which do not prove that the worker is discoverable
REFUSED_AFTER = 2  # echoes in a row that came to nothing, each with an error of an unknown kind
NAMESAKE_AFTER = 2  # echoes that are not ours; a single one may be that of this worker before its restart
REMEMBERED = 16  # echoes of ours that may still come late
TRIED_AGAIN = 5  # one in so many proofs is an echo although echoes were refused: every two minutes


def payload(nonce: str) -> dict[str, Any]:
    """What the `peer_message` to ourselves carries."""
    return {KEY: nonce}


class EchoRefusals:
    """Whether the server refuses messages to oneself, which only an error of an unknown kind can tell."""

    def __init__(self) -> None:
        self._suspected = False
        self._counted = 0
        self._left_out = 0

    @property
    def in_force(self) -> bool:
        """Echoes are of no use here: the answers to full updates have to do."""
        return self._counted >= REFUSED_AFTER

    def worth_an_echo(self) -> bool:
        """Whether the next proof is an echo. While refusals are in force, one in `TRIED_AGAIN` is: a server in trouble
        looks like one that refuses."""
        self._left_out = (self._left_out + 1) % TRIED_AGAIN if self.in_force else 0
        return self._left_out == 0

    def disproved(self) -> None:
        """An echo came back: they are not refused, or no more."""
        self._suspected, self._counted = False, 0

    def suspect(self) -> None:
        """An error that may refuse it came while an echo was under way."""
        self._suspected = True

    def count(self) -> bool:
        """An echo did not come back: was it refused? A second time in a row puts the refusal in force."""
        refused, self._suspected = self._suspected, False
        self._counted = self._counted + 1 if refused else 0
        return refused

    def proved(self) -> None:
        """A proof came, so what was suspected was something else. In force it stays: then the proof was no echo."""
        self._suspected = False
        if not self.in_force:
            self._counted = 0


class Namesake:
    """Whether another worker uses this worker's peer id: the server then hands on its echoes to this one."""

    def __init__(self) -> None:
        self._ours: deque[str] = deque(maxlen=REMEMBERED)
        self._foreign = 0

    @property
    def there(self) -> bool:
        """It was seen."""
        return self._foreign >= NAMESAKE_AFTER

    def sent(self, nonce: str) -> None:
        """An echo of ours, which may come late."""
        self._ours.append(nonce)

    def seen(self, nonce: str) -> bool:
        """An echo came in this worker's name: does it show, for the first time, that there is another?"""
        self._foreign += nonce not in self._ours
        return nonce not in self._ours and self._foreign == NAMESAKE_AFTER
