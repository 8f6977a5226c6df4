"""A server that repeats what it must not, and everything that anybody can read of a worker or a tool."""

import base64
import json
import logging
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote

import trio

from worker_state.logs import JsonFormatter, PairsFormatter
from worker_state.net.websocket import Socket
from worker_state.protocol.error_policy import Cause, Closed, DialFailure
from worker_state.protocol.http_api import HttpAnswer, HttpFailure, Sending
from worker_state.protocol.reconnect import Deadlines
from worker_state.testing import MemoryServer

FORMS: Mapping[str, Callable[[str], str]] = {
    "plain": str,
    "quoted": json.dumps,
    "repr": lambda text: repr(text.encode()),
    "JSON": lambda text: "".join(f"\\u{ord(each):04x}" for each in text),
    "half": lambda text: "".join(f"\\u{ord(each):04X}" if at % 2 else each for at, each in enumerate(text)),
    "JSON in JSON": lambda text: json.dumps("".join(f"\\u{ord(each):04x}" for each in text)),
    "URL": lambda text: quote(text, safe=""),
    "percent": lambda text: "".join(f"%{ord(each):02x}" for each in text),
    "HTML": lambda text: "".join(f"&#{ord(each)};" for each in text),
    "bytes": lambda text: "".join(f"\\x{ord(each):02x}" for each in text),
    "base64": lambda text: base64.b64encode(f'{{"t": "{text}"}}'.encode()).decode(),
    "urlsafe": lambda text: base64.urlsafe_b64encode(f'"{text}" '.encode()).decode(),
}
"""How a text may stand in another one."""


def decoded(text: str) -> list[str]:
    """The text, and what it says without its escapes of each kind."""
    plain = re.sub(r"\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})", lambda found: chr(int(found[1] or found[2], 16)), text)
    return [text, plain, unquote(text), re.sub(r"&#(\d+);", lambda found: chr(int(found[1])), text)]


class Leaky:
    """A server in memory, as `Dial` and `Http`, that once repeats every secret that it knows, in one form and place.

    `place`: an HTTP path with what is answered, `dial`, or what goes over a link instead of, or behind, an answer.
    `after`: so many times it answers well before.
    """

    def __init__(self, place: str, form: str, after: int, *given: str) -> None:
        self.server = MemoryServer(token_life=60.0)
        self.known: dict[str, None] = dict.fromkeys(given)
        self.said: int = 0
        self.place = place
        self._form = FORMS[form]
        self._left = after

    def words(self) -> str:
        self.said += 1
        return "no " + " ".join(self._form(each) for each in self.known) + " here"

    def due(self, place: str) -> bool:
        if self.place != place or self.said:
            return False
        self._left -= 1
        return self._left < 0

    async def post(
        self,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        bearer: str | None = None,
        sending: Sending | None = None,
    ) -> HttpAnswer | HttpFailure:
        answer = await self.server.post(path, body=body, bearer=bearer, sending=sending)
        if not isinstance(answer, HttpAnswer) or answer.status != 200:
            return answer
        found = json.loads(answer.body)
        if self.due(f"{path} 500"):
            return replace(answer, status=500, body=self.words().encode(), retry_after=self.words())
        if self.due(f"{path} JSON"):
            return replace(answer, status=400, body=json.dumps({"detail": [self.words()]}).encode())
        if self.due(f"{path} type"):
            return replace(answer, content_type=self.words(), body=b"<html>")
        if self.due(f"{path} failure"):
            return HttpFailure(self.words())
        # What follows reaches the client with the new credentials in it.
        self.known.update(dict.fromkeys(found[name] for name in ("id_token", "token") if name in found))
        if self.due(f"{path} text"):
            return replace(answer, body=json.dumps({**found, "status": self.words()}).encode())
        for name in ("username", "room_id"):
            if name in found and self.due(f"{path} {name}"):
                return replace(answer, body=json.dumps({**found, name: self.words()}).encode())
        return answer

    async def dial(
        self, deadlines: Deadlines, nursery: trio.Nursery, kept_answered: Callable[[], object] = lambda: None
    ) -> Socket | DialFailure:
        if self.due("dial"):
            await trio.lowlevel.checkpoint()
            return DialFailure(Cause.SHED, "HTTP 503", 503, retry_after=self.words())
        socket = await self.server.dial(deadlines, nursery)
        return socket if isinstance(socket, DialFailure) else _LeakySocket(socket, self)


PATHS = {
    "/anonymous-signin": ("500", "JSON", "type", "failure", "username"),
    "/create-room": ("500", "JSON", "type", "failure", "room_id"),
    "/delete-peer": ("500", "JSON", "type", "failure", "text"),
}
HTTP_PLACES = [f"{path} {what}" for path, kinds in PATHS.items() for what in kinds]
LINK_PLACES = {
    "registered_auth": ("close", "error", "typed error", "room", "garbage"),
    "metadata_updated": ("close", "code", "record", "type"),
    "peer_message": ("close", "NOT_IN_ROOM", "offer"),
    "peer_list": ("close", "names", "code"),
}
"""By the frame of the server's that is replaced."""
PLACES = ["dial", "first", *HTTP_PLACES, *(f"{kind} {what}" for kind, each in LINK_PLACES.items() for what in each)]


class _LeakySocket:
    def __init__(self, inner: Socket, leaky: Leaky) -> None:
        self._inner = inner
        self._leaky = leaky
        self._over: Closed | None = None

    @property
    def heard_at(self) -> float:
        return self._inner.heard_at

    @property
    def in_message(self) -> bool:
        return self._inner.in_message

    async def send(self, text: str) -> Closed | None:
        return self._over or await self._inner.send(text)

    async def ping(self) -> Closed | None:
        return self._over or await self._inner.ping()

    async def close(self) -> Closed | None:
        return self._over or await self._inner.close()

    async def abort(self) -> None:
        await self._inner.abort()

    async def receive(self) -> str | bytes | Closed:
        leaky = self._leaky
        if self._over is None and leaky.due("first"):  # before anything went over this link
            self._over = Closed(1008, leaky.words())
        if self._over is not None:
            await trio.lowlevel.checkpoint()
            return self._over
        received = await self._inner.receive()
        if not isinstance(received, str):
            return received
        kind = str(json.loads(received).get("type"))
        what = next((each for each in LINK_PLACES.get(kind, ()) if leaky.due(f"{kind} {each}")), None)
        if what == "close":
            self._over = Closed(1008, leaky.words())
            return self._over
        return received if what is None else self._instead(what, json.loads(received), leaky.words())

    def _instead(self, what: str, frame: dict[str, Any], words: str) -> str:
        properties = dict.fromkeys(("status", "current_job_id", "gpu_model", "hostname", words), words)
        record = {"tags": [words], "properties": properties}
        frames: dict[str, Any] = {
            "error": {"error": words},
            "typed error": {"type": "error", "reason": words},
            "room": {**frame, "room_id": words, "peer_list": [words], "admin_peer_id": words},
            "garbage": {"type": words},
            "code": {"type": "error", "code": words, "message": words},
            "record": {**frame, "metadata": record},
            "type": {"type": words, "sender": words},
            "NOT_IN_ROOM": {"type": "error", "code": "NOT_IN_ROOM", "message": words},
            "offer": {"type": "offer", "sender": words, "sdp": words},
            "names": {"type": "peer_list", "count": 1, "peers": [{"peer_id": words, "metadata": record}]},
        }
        return json.dumps(frames[what])


class Heard(logging.Handler):
    """Everything that anybody can read: the log at its most talkative, and what is added."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []
        self._log = logging.getLogger("worker_state")

    def __enter__(self) -> "Heard":
        self._log.addHandler(self)
        self._level = self._log.level
        self._log.setLevel(logging.DEBUG)
        self._log.propagate = False
        return self

    def __exit__(self, *exc: object) -> None:
        self._log.removeHandler(self)
        self._log.propagate = True
        self._log.setLevel(self._level)

    def emit(self, record: logging.LogRecord) -> None:
        self.texts += [repr(record.__dict__), JsonFormatter().format(record), PairsFormatter().format(record)]

    def raised(self, error: BaseException) -> None:
        """An exception, as each of its faces shows it."""
        self.texts += [*traceback.format_exception(error), *(f"{each}{each!r}{vars(each)}" for each in _leaves(error))]

    def leaks(self, leaky: Leaky) -> list[str]:
        """The texts with a secret in it, or with the form of one in which the server has said it."""
        hidden = {form(each) for each in leaky.known for form in (str, leaky._form)}
        found = re.compile("|".join(map(re.escape, hidden)))
        return [text for text in dict.fromkeys(self.texts) if any(map(found.search, decoded(text)))]


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error
