"""Whatever is sent, in whatever order, the rules have an answer."""

import json
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from worker_state.devserver import Rooms
from worker_state.devserver.model import Close
from worker_state.devserver.rules import MESH

NOW = 1_800_000_000.0

PEERS = ("peer-1", "peer-2")
WORDS = (
    "type peer_id from_peer_id to_peer_id target_peer_id sender target room_id token id_token api_key jwt is_admin "
    "role metadata tags properties filters payload offer candidate $gte $lte $eq"
)
VOCABULARY = st.sampled_from(WORDS.split())
KINDS = st.sampled_from(["register", "update_metadata", "discover_peers", "peer_message", "offer", *MESH])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from((*PEERS, "slp_good")),
    lambda inner: st.lists(inner) | st.dictionaries(VOCABULARY | st.text(), inner),
)
FRAMES = st.dictionaries(VOCABULARY, VALUES).flatmap(lambda frame: KINDS.map(lambda kind: frame | {"type": kind}))
#: Frames of somebody who is let in, with whatever may follow in the fields that nobody checks.
REGISTERS = st.builds(
    lambda peer_id, more: more | {"type": "register", "peer_id": peer_id, "api_key": "slp_good"},
    st.sampled_from(PEERS),
    st.dictionaries(st.sampled_from(["role", "metadata", "is_admin"]), VALUES),
)
ANYTHING = (REGISTERS | FRAMES | VALUES).map(json.dumps) | st.text() | st.binary()


@settings(deadline=None, max_examples=40)  # a busy machine is no finding; forty sequences are hundreds of frames
@given(st.lists(st.tuples(st.sampled_from("abc"), ANYTHING | st.none())))
def test_no_sequence_of_frames_and_deaths_raises(steps: list[tuple[str, str | bytes | None]]) -> None:
    rooms = Rooms(random=Random(1), generation="v3")
    for socket, frame in steps:
        if frame is None:
            rooms.gone(socket)
            continue
        for effect in rooms.receive(socket, frame, NOW):
            assert isinstance(effect, Close) or json.dumps(effect.message)
    for socket in "abc":
        rooms.gone(socket)
