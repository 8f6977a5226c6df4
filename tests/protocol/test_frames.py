"""The frames and bodies of the protocol: what we send, letter by letter, and how whatever comes is read."""

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from worker_state.protocol import echo, frames
from worker_state.protocol.frames import (
    Around,
    Echo,
    Frame,
    Malformed,
    MetadataUpdated,
    NotInRoom,
    OtherMessage,
    Ping,
    RegisterError,
    RegistrationAccepted,
    read,
)
from worker_state.protocol.record import build_record, look
from worker_state.protocol.status import Available, Reserved
from worker_state.redact import Secrets
from worker_state.tools.roster import read_answer

RECORDED = Path(__file__).parents[1] / "recorded"
FIRST = {"room_id": "ROOM_1", "token": "TOKEN_1", "id_token": "ID_TOKEN_1"}
SECOND = {**FIRST, "id_token": "ID_TOKEN_2"}
DEEP = 40_000
ME = "me"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
words = st.sampled_from(
    ["registered_auth", "metadata_updated", "error", "ping", "peer_message", "offer", "NOT_IN_ROOM", "PEER_NOT_FOUND"]
)
keys = st.sampled_from(
    ["type", "error", "reason", "code", "peer_id", "room_id", "token", "metadata", "payload", "peer_list"]
) | st.sampled_from(["from_peer_id", "peer_metadata"])
near_misses = st.dictionaries(keys, words | json_values | st.dictionaries(st.just(echo.KEY), json_values))


# --- what we send -----------------------------------------------------------------------------------------------------


def recorded(step: str, generation: str = "v2") -> dict[str, Any]:
    (found,) = [entry for entry in entries(generation) if entry["step"] == step]
    return found


def entries(generation: str) -> Iterator[dict[str, Any]]:
    for line in (RECORDED / f"{generation}.jsonl").read_text("utf-8").splitlines():
        yield json.loads(line)


def test_register_as_recorded() -> None:
    """A registration has exactly the keys that the real server accepted, and no other."""
    sent = recorded("register")["sent"]
    assert frames.register("PEER_1", sent["metadata"], **FIRST) == sent


def test_a_client_as_recorded() -> None:
    """A client registers under its own role, and `read_answer` reads what its search is answered."""
    sent = recorded("register the client")["sent"]
    assert frames.register("PEER_2", sent["metadata"], "client", **SECOND) == sent
    assert frames.register("PEER_2", {}, "client", api_key="slp_good")["role"] == "client"
    search = recorded("found again")
    assert frames.discover_workers("PEER_2") == search["sent"]
    (answer,) = search["received"]
    (entry,) = read_answer(answer, Secrets()) or ()
    assert (entry.peer_id, entry.status, entry.gpu_memory_mb) == ("PEER_1", "available", 24576)


def test_register_by_key() -> None:
    """A registration by API key names neither room nor token."""
    assert frames.register("PEER_1", {"tags": []}, api_key="slp_good") == {
        "type": "register",
        "peer_id": "PEER_1",
        "api_key": "slp_good",
        "role": "worker",
        "metadata": {"tags": []},
    }


def test_update_as_recorded() -> None:
    """An update has exactly the keys that the real server accepted."""
    sent = recorded("busy, with tags")["sent"]
    assert frames.update_metadata("PEER_1", sent["metadata"]) == sent


def test_look_as_recorded() -> None:
    """The least update that changes nothing is one that the real server has answered with all that it has stored."""
    record = build_record(("a", "b"), {"gpu_memory_mb": 1}, Reserved("job"))
    assert frames.update_metadata("PEER_1", look(record)) == {
        "type": "update_metadata",
        "peer_id": "PEER_1",
        "metadata": {"tags": ["a", "b"], "properties": {"pending_job_id": "job"}},
    }
    assert (
        frames.update_metadata("PEER_1", look(record)).keys()
        == recorded("the worker's next probe shows it")["sent"].keys()
    )


def test_echo_comes_back() -> None:
    """The message to ourselves is read as the echo of the same sender and nonce."""
    assert read(frames.encode(frames.echo(ME, "nonce")), Secrets()) == Echo(ME, "nonce")
    assert frames.echo(ME, "nonce")["to_peer_id"] == ME


def test_ours() -> None:
    """Everything that only we may send is among the types that `send_signal` refuses."""
    record = build_record(("a",), {}, Available())
    sent = frames.register("", record, api_key=""), frames.update_metadata("", record)
    assert {frame["type"] for frame in sent} == frames.OURS


def test_encode() -> None:
    """A frame's text is compact ASCII, tuples as lists."""
    assert frames.encode({"a": ("é", None), "b": 1.5}) == '{"a":["\\u00e9",null],"b":1.5}'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"x", object()])
def test_encode_refuses(value: Any) -> None:
    """What JSON cannot say is refused before it reaches a socket."""
    with pytest.raises((TypeError, ValueError)):
        frames.encode({"type": "x", "value": value})


# --- what we get: frames ----------------------------------------------------------------------------------------------


FRAMES: list[tuple[str, Frame]] = [
    (
        '{"type": "registered_auth", "room_id": "r", "token": "t", "peer_id": "p", "peer_list": ["a", "b"]}',
        RegistrationAccepted("p", "r", "t", 2, around=Around(("a", "b"))),
    ),
    (
        '{"type": "registered_auth", "room_id": "r", "token": "t", "peer_id": "p", "ice_servers": []}',
        RegistrationAccepted("p", "r", "t", 0),
    ),
    (
        '{"type": "registered_auth", "room_id": "r", "token": null, "peer_id": "p"}',
        RegistrationAccepted("p", "r", None, 0),
    ),
    (
        '{"type": "registered_auth", "room_id": "r", "token": "t", "peer_id": "p", "peer_list": {"a": 1}}',
        RegistrationAccepted("p", "r", "t", 0),
    ),
    (
        (
            '{"type": "registered_auth", "room_id": "r", "token": "t", "peer_id": "p", "peer_list": ["a", 1, null],'
            ' "ice_servers": [{"urls": "turn:x"}, "y"], "mesh_ice_servers": {"urls": "z"}}'
        ),
        RegistrationAccepted("p", "r", "t", 3, around=Around(peer_list=("a",), ice_servers=({"urls": "turn:x"},))),
    ),
    ('{"type": "registered_auth"}', Malformed("a registered_auth without peer_id, room_id or token")),
    (
        '{"type": "registered_auth", "room_id": 1, "token": "t", "peer_id": "p"}',
        Malformed("a registered_auth without peer_id, room_id or token"),
    ),
    (
        '{"type": "registered_auth", "room_id": "r", "peer_id": "p"}',
        Malformed("a registered_auth without peer_id, room_id or token"),
    ),
    (
        '{"type": "registered_auth", "room_id": "r", "token": 7, "peer_id": "p"}',
        Malformed("a registered_auth without peer_id, room_id or token"),
    ),
    ('{"type": "metadata_updated", "peer_id": "p", "metadata": {"tags": []}}', MetadataUpdated("p", {"tags": []})),
    (
        '{"type": "metadata_updated", "peer_id": "p", "metadata": null}',
        Malformed("a metadata_updated without peer_id or metadata"),
    ),
    (
        '{"type": "metadata_updated", "metadata": {}}',
        Malformed("a metadata_updated without peer_id or metadata"),
    ),
    ('{"type": "error", "code": "NOT_IN_ROOM", "message": "..."}', NotInRoom("NOT_IN_ROOM")),
    (
        '{"type": "error", "code": "PEER_NOT_FOUND", "message": "..."}',
        OtherMessage({"type": "error", "code": "PEER_NOT_FOUND", "message": "..."}),
    ),
    ('{"type": "error", "reason": "Room not found"}', RegisterError("Room not found", typed=True)),
    ('{"type": "error", "reason": null}', OtherMessage({"type": "error", "reason": None})),
    (
        '{"type": "error", "code": "PEER_NOT_FOUND", "reason": "peer_not_found"}',
        OtherMessage({"type": "error", "code": "PEER_NOT_FOUND", "reason": "peer_not_found"}),
    ),
    ('{"type": "error", "code": null, "reason": "Room expired"}', RegisterError("Room expired", typed=True)),
    ('{"error": "Invalid token"}', RegisterError("Invalid token", typed=False)),
    ('{"error": 500}', Malformed("a message without a type")),
    ('{"type": "ping"}', Ping()),
    ('{"type": "ping", "at": 1}', Ping()),
    (
        '{"type": "peer_message", "from_peer_id": "me", "payload": {"worker_state_echo": "n"}}',
        Echo("me", "n"),
    ),
    (
        '{"type": "peer_message", "from_peer_id": "me", "payload": {"worker_state_echo": 1}}',
        Malformed("an echo without sender or nonce"),
    ),
    (
        '{"type": "peer_message", "payload": {"worker_state_echo": "n"}}',
        Malformed("an echo without sender or nonce"),
    ),
    ("{}", Malformed("a message without a type")),
    ('{"type": null}', Malformed("a message whose type is no text")),
    ('{"type": ["error"], "reason": "x"}', Malformed("a message whose type is no text")),
    ("[]", Malformed("JSON, but no object")),
    ('"registered_auth"', Malformed("JSON, but no object")),
    ("null", Malformed("JSON, but no object")),
    ("", Malformed("no JSON")),
    ('{"type": "ping"', Malformed("no JSON")),
    ('{"type": "ping"}{}', Malformed("no JSON")),
    ('{"type": "offer", "at": [NaN, Infinity, -Infinity]}', OtherMessage({"type": "offer", "at": [None, None, None]})),
    ('{"type": "ping", "at": nan}', Malformed("no JSON")),
    ('{"type": "ping", "at": ' + "9" * 10_000 + "}", Malformed("JSON, with a number of too many digits")),
    ("[" * DEEP, Malformed("JSON, nested too deeply")),
    ('{"type":' * DEEP, Malformed("JSON, nested too deeply")),
    # One that names a list of records, and is none.
    (
        f'{{"type": "offer", "about": "peer_list", "sdp": {"[" * 200 + "]" * 200}}}',
        Malformed("JSON, nested too deeply"),
    ),
]


@pytest.mark.parametrize("record", ["[" * 1500 + "]" * 1500, "9" * 5_000], ids=["levels", "digits"])
def test_g11_a_neighbours_record_costs_itself(record: str) -> None:
    """What no parser takes in a peer's record is null, in whatever lists records; in any other frame it is refused."""
    of_x = f'{{"deep": {record}, "tags": []}}'
    texts = (
        f'{{"type": "registered_auth", "peer_id": "", "room_id": "", "token": null, "peer_metadata": {{"x": {of_x}}}}}',
        f'{{"type": "metadata_updated", "peer_id": "me", "metadata": {of_x}}}',
        f'{{"type": "peer_list", "peers": [{{"peer_id": "x", "metadata": {{"deep": {record}, "tags": ["t"]}}}}]}}',
        f'{{"type": "offer", "sdp": {record}}}',
    )
    registered, updated, found, offer = (read(text, Secrets()) for text in texts)
    assert isinstance(registered, RegistrationAccepted)
    assert registered.around.peer_metadata["x"]["tags"] == []
    assert isinstance(updated, MetadataUpdated)
    assert updated.metadata["tags"] == []
    assert isinstance(found, OtherMessage)
    assert [entry.tags for entry in read_answer(found.message, Secrets()) or ()] == [("t",)]
    assert isinstance(offer, Malformed)
    json.dumps([registered.around.peer_metadata["x"], updated.metadata, found.message])


@pytest.mark.parametrize(("text", "frame"), FRAMES, ids=[text[:60] for text, _ in FRAMES])
def test_read(text: str, frame: Frame) -> None:
    """Every shape of the protocol is read as what it is, and every near miss as malformed."""
    assert read(text, Secrets()) == frame


@pytest.mark.parametrize(
    "message",
    [
        {"type": "offer", "sender": "client", "sdp": "v=0"},
        {"type": "peer_message", "from_peer_id": "a", "to_peer_id": "b", "payload": {"app_message_type": "job"}},
        {"type": "peer_message", "from_peer_id": "a", "payload": "text"},
        {"type": "error", "code": "PEER_NOT_IN_ROOM", "message": "…"},
        {"type": "error", "code": "UNKNOWN_MESSAGE_TYPE", "message": "…"},
        {"type": "error"},
        {"type": "admin_conflict", "room_id": "r", "current_admin": "x"},
        {"type": "quit"},
        {"type": "", "error": "Invalid token"},
        {"type": "error", "code": ["NOT_IN_ROOM"]},
        {"type": "of a later version", "\ud800": "\udfff"},
    ],
)
def test_foreign(message: frames.Message) -> None:
    """What is not the state manager's is handed on with every key as it came."""
    assert read(json.dumps(message), Secrets()) == OtherMessage(message)


def test_binary() -> None:
    """A binary frame is malformed, whatever is in it."""
    assert read(b'{"type": "ping"}', Secrets()) == Malformed("a binary frame")


@given(st.text() | st.binary() | json_values.map(json.dumps) | near_misses.map(json.dumps))
@example("\ud800")
@example('"\\ud800"')
@example("\ufeff{}")
@example("-" * 5_000)
@example('{"type": "error", "reason": "\\ud800"}')
@example('{"a": 1e999}')
def test_read_is_total(text: str | bytes) -> None:
    """No text and no bytes at all make the reader raise, and everything it returns is one of the declared types."""
    assert isinstance(read(text, Secrets()), get_args(Frame))


@given(near_misses)
def test_declared_field_types(message: frames.Message) -> None:
    """What the reader returns has the types that it declares, whatever types came."""
    match read(json.dumps(message), Secrets()):
        case RegistrationAccepted(peer_id, room_id, token, peers, around):
            assert isinstance(peer_id, str)
            assert isinstance(room_id, str)
            assert token is None or isinstance(token, str)
            assert isinstance(peers, int)
            assert all(isinstance(peer, str) for peer in around.peer_list)
            assert all(isinstance(server, dict) for server in (*around.ice_servers, *around.mesh_ice_servers))
        case MetadataUpdated(peer_id, metadata):
            assert isinstance(peer_id, str)
            assert isinstance(metadata, dict)
        case Echo(sender, nonce):
            assert isinstance(sender, str)
            assert isinstance(nonce, str)
        case RegisterError(reason, typed):
            assert isinstance(reason, str)
            assert typed is ("type" in message)
        case OtherMessage(kept):
            assert isinstance(kept["type"], str)
        case Malformed(why):
            assert isinstance(why, str)
        case NotInRoom() | Ping():
            pass


def kind_of(message: frames.Message) -> type[Frame]:
    """What protocol.md, C calls this frame; the recordings contain no echo of ours."""
    match message:
        case {"type": "registered_auth"}:
            return RegistrationAccepted
        case {"type": "metadata_updated"}:
            return MetadataUpdated
        case {"type": "error", "code": "NOT_IN_ROOM"}:
            return NotInRoom
        case {"type": "error", "reason": _} | {"error": _}:
            return RegisterError
        case _:
            return OtherMessage


RECEIVED = [
    pytest.param(message, id=f"{generation}: {entry['step']}")
    for generation in ("v2", "v3")
    for entry in entries(generation)
    for message in entry.get("received", ())
]


@pytest.mark.parametrize("message", RECEIVED)
def test_recorded_frames(message: frames.Message) -> None:
    """Every frame that the real server was seen to send is read to its type, with its content."""
    frame = read(json.dumps(message), Secrets())
    assert type(frame) is kind_of(message)
    match frame:
        case RegistrationAccepted():
            assert frame == RegistrationAccepted(
                message["peer_id"],
                message["room_id"],
                message["token"],
                len(message["peer_list"]),
                around=Around(
                    tuple(message["peer_list"]),
                    admin_peer_id=message["admin_peer_id"],
                    peer_metadata=message["peer_metadata"],
                ),
            )
        case MetadataUpdated():
            assert frame == MetadataUpdated(message["peer_id"], message["metadata"])
        case RegisterError():
            assert frame == RegisterError(message.get("reason") or message["error"], typed="type" in message)
        case OtherMessage():
            assert frame.message == message


def test_recordings_are_there() -> None:
    """The recordings contain every kind of answer that the state manager has to know, in both generations."""
    for generation in ("v2", "v3"):
        kinds = {kind_of(message) for entry in entries(generation) for message in entry.get("received", ())}
        assert kinds == {RegistrationAccepted, MetadataUpdated, NotInRoom, RegisterError, OtherMessage}


LONG = "v" * frames.LONGEST


@pytest.mark.parametrize("kind", ["offer", "peer_list", "metadata_updated", "error"])
def test_g10_only_an_answer_to_a_register_may_be_long(kind: str) -> None:
    """Whatever else is longer than 1 MiB is refused, also if it speaks of a registration."""
    for more in "", "registered_auth":
        text = frames.encode({"type": kind, "peer_id": "me", "metadata": {}, "peers": [more], "reason": LONG})
        assert read(text, Secrets()) == frames.Malformed(frames.TOO_LONG)
    short = frames.encode({"type": "offer", "sdp": LONG[:-100]})
    assert isinstance(read(short, Secrets()), frames.OtherMessage)


def test_g10_a_long_answer_to_a_register_is_read() -> None:
    """It lists every peer of the room."""
    answer = {"type": "registered_auth", "peer_id": "me", "room_id": "r", "token": None, "peer_list": [LONG]}
    assert isinstance(read(frames.encode(answer), Secrets()), frames.RegistrationAccepted)


def test_g10_a_client_may_read_longer_answers() -> None:
    """`watch` reads the list of a large room."""
    found = frames.encode({"type": "peer_list", "peers": [LONG]})
    assert isinstance(read(found, Secrets(), longest=2 * frames.LONGEST), frames.OtherMessage)


def test_t16_more_values_than_any_message_has() -> None:
    """A message of millions of values would hold the loop for a second: it is refused unread."""
    answer = '{"type": "registered_auth", "peer_id": "me", "room_id": "r", "token": null, "peer_list": ['
    most, more = (",".join(["1"] * (frames.MOST_VALUES + beyond)) + "]}" for beyond in (-10, 10))
    assert isinstance(read(answer + most, Secrets()), frames.RegistrationAccepted)
    assert read(answer + more, Secrets()) == frames.Malformed("JSON with more than 400000 values")


def test_g11_whatever_reading_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that is out, say: it costs that frame, and names what has happened."""

    def raises(message: Any, secrets: Secrets) -> frames.Frame:
        raise MemoryError

    monkeypatch.setattr(frames, "_frame", raises)
    assert read('{"type": "ping"}', Secrets()) == frames.Malformed("a frame that cannot be read: MemoryError")


def test_a_signal_that_no_server_takes() -> None:
    """One that is too long, or nested too deeply, is refused before it costs the link."""
    deep: list[Any] = []
    for _ in range(DEEP):
        deep = [deep]
    for message, why in (
        ({"type": "x", "a": deep}, "nested so deeply"),
        ({"type": "x", "a": LONG}, "not be longer than"),
    ):
        with pytest.raises(ValueError, match=why):
            frames.encode_signal(message)


@pytest.mark.parametrize("each", ["[]", "{}", "[" * 90 + "]" * 90])
def test_g12_more_lists_than_any_message_has(each: str) -> None:
    """They hold the loop for longer than as many values: a message of 50,000 is refused unread, but the answer to a
    `register` is not, whoever else is in the room."""
    times = frames.MOST_CONTAINERS // each.count(each[0])
    few, many = (",".join([each] * (times + beyond)) for beyond in (-2, 2))
    refused = frames.Malformed("JSON with more than 50000 lists and objects")
    assert isinstance(read('{"type": "offer", "a": [' + few + "]}", Secrets()), frames.OtherMessage)
    assert read('{"type": "offer", "a": [' + many + "]}", Secrets()) == refused
    assert read('{"type": "offer", "b": "registered_auth", "a": [' + many + "]}", Secrets()) == refused
    answer = '{"type": "registered_auth", "peer_id": "me", "room_id": "r", "token": null, "peer_metadata": {"other": {'
    assert isinstance(read(answer + '"a": [' + many + "]}}}", Secrets()), frames.RegistrationAccepted)


@pytest.mark.parametrize(
    "value",
    [
        '"' + "v" * 50_000 + '"',
        '"' + "v" * 50_000 + '\U0001f600"',
        '"' + "v" * 50_000 + '\\ud83d\\ude00"',
        "[" + ",".join(['{"a":1.5}'] * 5000) + "]",
        "[" + ",".join(["[]"] * 5000) + "]",
        "[" + ",".join(["[" * 90 + "]" * 90] * 500) + "]",
        "{" + ",".join(f'"{n}":"{n}x"' for n in range(5000)) + "}",
    ],
    ids=["ascii", "wide", "escaped", "objects", "lists", "deep lists", "one object"],
)
def test_g10_the_footprint_is_no_less_than_the_memory(value: str) -> None:
    """What a message takes once it is read is never more than what it counts for."""
    text = '{"type":"offer","sdp":' + value + "}"
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        message = read(text, Secrets())
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert isinstance(message, frames.OtherMessage)
    assert taken <= frames.footprint(text) + 1024  # and the frame itself


def test_the_footprint_of_a_binary_frame() -> None:
    """It is never read."""
    assert frames.footprint(b"1234") == 4


@pytest.mark.parametrize(
    ("more", "around"),
    [
        ({"ice_servers": [{"urls": "turn:x"}]}, Around(ice_servers=({"urls": "turn:x"},))),
        ({"mesh_ice_servers": [{"urls": "turn:x"}]}, Around(mesh_ice_servers=({"urls": "turn:x"},))),
        ({"admin_peer_id": "a"}, Around(admin_peer_id="a")),
        ({"admin_peer_id": 7}, Around()),
        ({"peer_metadata": {"a": {"tags": [], "_token_id": "x"}, "b": 7}}, Around(peer_metadata={"a": {"tags": []}})),
    ],
)
def test_each_thing_around(more: frames.Message, around: Around) -> None:
    """Whatever a registration's answer says of the room is kept, also when it says nothing else of it."""
    accepted = read(
        json.dumps({"type": "registered_auth", "room_id": "r", "token": "t", "peer_id": "p", **more}), Secrets()
    )
    assert accepted == RegistrationAccepted("p", "r", "t", 0, around)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "error", "code": "NOT_IN_ROOM", "message": "m"},
        {"type": "error", "reason": "Room expired", "more": 1},
        {"error": "Invalid token", "more": 1},
    ],
)
def test_an_error_keeps_what_came(message: frames.Message) -> None:
    """An error that may answer another part's frame can be handed on to it as it came."""
    frame = read(json.dumps(message), Secrets())
    assert isinstance(frame, NotInRoom | RegisterError)
    assert frame.message == message
