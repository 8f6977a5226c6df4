"""The vocabulary of the actors: named alike, frozen, and silent about secrets."""

import re
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from tests.support.messages import COMMANDS, EVENTS
from worker_state.errors import StartupFailed
from worker_state.protocol import events as m
from worker_state.protocol import frames, http_api

SECRET = "s3cr3t"
VERBS = {"Change", "Reregister", "Request", "Send", "Drop", "Start", "Close"}


async def send(kind: str, text: str) -> bool:
    raise NotImplementedError


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command: type) -> None:
    """A command begins with its verb."""
    assert re.findall("[A-Z][a-z]+", command.__name__)[0] in VERBS


@pytest.mark.parametrize("event", EVENTS)
def test_events(event: type) -> None:
    """An event ends with what has happened."""
    assert re.search("(ed|Lost|Sent|Withdrawn)$", event.__name__)


@pytest.mark.parametrize("note", [*COMMANDS, *EVENTS, m.Link])
def test_frozen(note: type) -> None:
    """No note can be changed once it is in a inbox, and each says in its docstring what it means."""
    names = [each.name for each in fields(note)]
    made = note(*names)
    for name in [*names, "surprise"]:
        with pytest.raises((FrozenInstanceError, TypeError)):  # TypeError: CPython's, for an unknown name with slots
            setattr(made, name, None)
    assert note.__doc__
    assert not note.__doc__.startswith(note.__name__)


def test_all_notes() -> None:
    """Every class of the module that is a message is an `Event`."""
    classes = {value for value in vars(m).values() if isinstance(value, type) and value.__module__ == m.__name__}
    assert classes - {m.Link} == {m.Event, m.Command, *COMMANDS, *EVENTS}


def test_link_is_its_epoch() -> None:
    """Two links are the same when they are of the same epoch, and show nothing else."""

    async def another(kind: str, text: str) -> bool:
        raise NotImplementedError

    assert m.Link(1, 60.0, send) == m.Link(1, 60.0, another)
    assert m.Link(1, 60.0, send) != m.Link(2, 60.0, send)
    assert repr(m.Link(1, 60.0, send)) == "Link(epoch=1, answer_by=60.0)"


SECRETIVE: list[Any] = [
    m.IdentityCreated(http_api.Identity("u", SECRET)),
    m.RoomCreated(http_api.Room("r", SECRET)),
    m.RequestRoom(SECRET),
    m.SendFrame(1, {"type": "register", "token": SECRET}),
    m.WorkerRegistered(1, 0, "p", "r", SECRET, 0, settled=True, at=0.0),
    m.FrameReceived(1, frames.RegistrationAccepted("p", "r", SECRET, 0)),
    m.FrameReceived(1, frames.MetadataUpdated("p", {"_token_id": SECRET})),
    m.FrameReceived(1, frames.OtherMessage({"type": "offer", "token": SECRET})),
    m.StartupAborted(StartupFailed("why")),
]


@pytest.mark.parametrize("note", SECRETIVE, ids=lambda note: type(note).__name__)
def test_repr(note: m.Event) -> None:
    """No note shows a token in its repr, which may end up in a log."""
    assert SECRET not in repr(note)
