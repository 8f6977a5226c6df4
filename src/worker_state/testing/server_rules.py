"""What a test may want of the server."""

from collections.abc import Mapping
from typing import TypedDict

from worker_state.devserver.identities import ApiKey, Generation


class Rules(TypedDict, total=False):
    """How the server behaves, where you want it otherwise."""

    generation: Generation
    """Of the protocol: "v2", or "v3" with API keys."""
    token_life: float
    """Seconds that an identity's token is good for (3600)."""
    room_life: float
    """Seconds that a room lives (7200)."""
    api_keys: Mapping[str, ApiKey]
    """The API keys that a "v3" server knows, each with its room."""
