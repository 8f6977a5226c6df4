"""What was recorded on the real server is replayed on ours: the same questions, the same answers.

Identities, rooms and tokens are other ones here; the recordings name them `PEER_1`, `ROOM_1`, `TOKEN_1` and so on.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

import httpx
import pytest

from worker_state.devserver import DevServer, Rooms
from worker_state.devserver.identities import Generation
from worker_state.devserver.model import Close, Reply, Send

if TYPE_CHECKING:
    from tests.devserver.conftest import Client, Dial, Until

RECORDED = Path(__file__).parents[1] / "recorded"
NOW = 1_800_000_000.0
PLACEHOLDER = re.compile(r"\b(?:PEER|ROOM|TOKEN|ID_TOKEN)_[0-9A-Z]\b")

#: The recorder closed this socket without writing a step: the peer deleted next is "last", and the client's own
#: deletion after that finds it "already removed".
CLOSED_UNRECORDED = {"delete peer while registered and last": "client"}


class Driver(Protocol):
    async def http(self, method: str, path: str, headers: dict[str, str], body: Any) -> tuple[int, Any]: ...
    async def open(self, socket: str) -> None: ...
    async def send(self, socket: str, text: str) -> None: ...
    async def receive(self, socket: str) -> Any: ...
    async def closed(self, socket: str) -> tuple[int, str]: ...
    async def close(self, socket: str) -> None: ...


@dataclass
class RoomsAlone:
    """The rules without a network: a socket is its name."""

    rooms: Rooms
    inboxes: dict[str, list[Send | Close]] = field(default_factory=dict)

    async def http(self, method: str, path: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
        assert method == "POST"
        reply: Reply
        match path:
            case "/anonymous-signin":
                reply = self.rooms.sign_in(NOW)
            case "/create-room":
                reply = self.rooms.create_room(headers.get("Authorization"), NOW)
            case "/delete-peer":
                reply = self.rooms.delete_peer(body, NOW)
            case _:
                pytest.fail(f"no such call: {path}")
        return reply.status, reply.body

    async def open(self, socket: str) -> None:
        self.inboxes[socket] = []

    async def send(self, socket: str, text: str) -> None:
        for effect in self.rooms.receive(socket, text, NOW):
            self.inboxes[str(effect.connection)].append(effect)

    async def receive(self, socket: str) -> Any:
        effect = self.inboxes[socket].pop(0)
        assert isinstance(effect, Send)
        return json.loads(json.dumps(effect.message))

    async def closed(self, socket: str) -> tuple[int, str]:
        effect = self.inboxes[socket].pop(0)
        assert isinstance(effect, Close)
        return effect.code, effect.reason

    async def close(self, socket: str) -> None:
        assert self.inboxes.pop(socket) == []
        self.rooms.gone(socket)


@dataclass
class OverTheNetwork:
    server: DevServer
    http_client: httpx.AsyncClient
    dial: Dial
    until: Until
    clients: dict[str, Client] = field(default_factory=dict)

    async def http(self, method: str, path: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
        json_body = {} if body is None else {"json": body}
        answer = await self.http_client.request(method, path, headers=headers, **json_body)
        return answer.status_code, answer.json()

    async def open(self, socket: str) -> None:
        self.clients[socket] = await self.dial()

    async def send(self, socket: str, text: str) -> None:
        await self.clients[socket].send(text)

    async def receive(self, socket: str) -> Any:
        return await self.clients[socket].receive()

    async def closed(self, socket: str) -> tuple[int, str]:
        return await self.clients[socket].closed()

    async def close(self, socket: str) -> None:
        left = len(self.server.connections) - 1
        await self.clients[socket].close()
        await self.until(lambda: len(self.server.connections) == left)


@dataclass
class Names:
    """Which of our values stands for which placeholder; no two may be the same."""

    ours: dict[str, str] = field(default_factory=dict)

    def fill_in(self, recorded: Any) -> Any:
        text = PLACEHOLDER.sub(lambda match: self.ours[match[0]], json.dumps(recorded))
        return json.loads(text)

    def missing(self, recorded: Any) -> bool:
        return not set(PLACEHOLDER.findall(json.dumps(recorded))) <= set(self.ours)

    def check(self, recorded: Any, answer: Any, key: str = "") -> None:
        """The answer is the recorded one, under the names known so far; a new name is learned."""
        match recorded:
            case str() if PLACEHOLDER.fullmatch(recorded):
                assert isinstance(answer, str)
                known = self.ours.setdefault(recorded, answer)
                assert known == answer
                assert len(set(self.ours.values())) == len(self.ours)
            case dict():
                assert list(answer) == [self.fill_in(name) for name in recorded]
                for name, value in recorded.items():
                    self.check(value, answer[self.fill_in(name)], name)
            case list() if key == "tags":
                assert sorted(answer) == sorted(recorded)  # the server keeps them in a set
            case list():
                assert len(answer) == len(recorded)
                for one, ours in zip(recorded, answer, strict=True):
                    self.check(one, ours)
            case _ if key == "connected_at":
                assert isinstance(answer, float)
            case _:
                assert answer == self.fill_in(recorded)


async def replay(file: str, driver: Driver) -> None:
    names = Names()
    for line in (RECORDED / file).read_text().splitlines():
        step = json.loads(line)
        if step["step"] in CLOSED_UNRECORDED:
            await driver.close(CLOSED_UNRECORDED[step["step"]])
        try:
            await play(step, driver, names)
        except (AssertionError, KeyError, IndexError) as error:
            error.add_note(f"in step {step['step']!r} of {file}")
            raise


async def play(step: dict[str, Any], driver: Driver, names: Names) -> None:
    match step:
        case {"http": call, "answer": recorded}:
            status, body = await driver.http(
                call["method"], call["path"], names.fill_in(call["headers"]), names.fill_in(call["body"])
            )
            names.check(recorded, {"status": status, "body": body})
        case {"socket": socket, **rest} if rest.keys() > {"step"}:
            if "sent" in rest:
                if names.missing(rest["sent"]):
                    await sign_in_unrecorded(driver, names)
                sent = names.fill_in(rest["sent"])
                await driver.send(socket, sent if isinstance(sent, str) else json.dumps(sent))
            # Nothing may come that was not recorded: it would be taken for the answer to the next step.
            for message in rest.get("received", []):
                names.check(message, await driver.receive(socket))
            if "closed" in rest:
                assert await driver.closed(socket) == (rest["closed"]["code"], rest["closed"]["reason"])
        case {"socket": socket}:
            await driver.close(socket)
        case {"step": name}:
            await driver.open(name.removeprefix("open socket "))


async def sign_in_unrecorded(driver: Driver, names: Names) -> None:
    """The third identity of the recordings appears without its sign-in."""
    status, body = await driver.http("POST", "/anonymous-signin", {}, None)
    assert status == 200
    names.ours |= {"PEER_3": body["username"], "ID_TOKEN_3": body["id_token"]}


@pytest.mark.parametrize("generation", ["v2", "v3"])
async def test_the_rules_answer_as_recorded(generation: Generation) -> None:
    driver = RoomsAlone(Rooms(random=Random(1), generation=generation))
    await replay(f"{generation}.jsonl", driver)
    assert not any(driver.inboxes.values())


@pytest.mark.parametrize("generation", ["v2", "v3"])
async def test_the_server_answers_as_recorded(
    generation: Generation, server: DevServer, dial: Dial, until: Until
) -> None:
    async with httpx.AsyncClient(base_url=server.http_url, trust_env=False) as http_client:
        await replay(f"{generation}.jsonl", OverTheNetwork(server, http_client, dial, until))
