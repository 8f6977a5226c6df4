"""The session string that a worker shows and a client types in. It contains the room token, so it is a secret.

Clients in the field decode it with a plain urlsafe base64 and JSON parser, so prefix, key names, alphabet and padding
are fixed (protocol.md, F).
"""

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Self

from worker_state import foreign_json
from worker_state.errors import SessionStringError

PREFIX = "sleap-session:"
_KEYS = {"r": "room id", "t": "room token", "p": "peer id"}


@dataclass(frozen=True, slots=True)
class SessionString:
    """A room, its token and the worker's peer id; `str()` gives the text that clients take.

    >>> from worker_state import SessionString
    >>> text = str(SessionString(room_id="1a2b3c4d", token="5e6f70", peer_id="gpu-07"))
    >>> text
    'sleap-session:eyJyIjogIjFhMmIzYzRkIiwgInQiOiAiNWU2ZjcwIiwgInAiOiAiZ3B1LTA3In0='
    >>> SessionString.parse(text).peer_id
    'gpu-07'
    """

    room_id: str
    token: str = field(repr=False)
    peer_id: str

    def __str__(self) -> str:
        body = json.dumps({"r": self.room_id, "t": self.token, "p": self.peer_id})
        return PREFIX + base64.urlsafe_b64encode(body.encode("ascii")).decode("ascii")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a session string, with or without white space around it. Anything else raises `SessionStringError`,
        which never repeats the text, because a damaged session string still contains a token."""
        if not isinstance(text, str):
            raise SessionStringError(f"a session string is text, not {type(text).__name__}")
        text = text.strip()
        if not text.startswith(PREFIX):
            raise SessionStringError(f"a session string begins with {PREFIX!r}")
        try:
            if "+" in text or "/" in text:
                raise binascii.Error("the other alphabet, which clients in the field do not read")
            raw = base64.b64decode(text.removeprefix(PREFIX).encode("ascii"), altchars=b"-_", validate=True)
        except (UnicodeEncodeError, binascii.Error):
            raise SessionStringError(
                f"what follows {PREFIX!r} is no urlsafe base64 with its padding (was it cut off?)"
            ) from None
        try:
            body = foreign_json.read(raw)
        except ValueError:
            raise SessionStringError("the base64 of a session string contains JSON, this one does not") from None
        if not isinstance(body, dict):
            raise SessionStringError("the JSON of a session string is an object, this one is not")
        for key, meaning in _KEYS.items():
            if not isinstance(body.get(key), str):
                raise SessionStringError(f"the session string has no {meaning} (key {key!r}, a string)")
        return cls(room_id=body["r"], token=body["t"], peer_id=body["p"])
