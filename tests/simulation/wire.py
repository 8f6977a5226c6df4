"""What the server says as text. Some values can be in a frame, and Python cannot write them: they have names here."""

import json

from worker_state.devserver.model import Message

EXTREMES = {f"<{levels} levels>": "[" * levels + "]" * levels for levels in (90, 500, 900, 1500)}
EXTREMES["<digits>"] = "1" * 5000


def encoded(message: Message) -> str:
    """The JSON of a message, with the values themselves in place of their names."""
    text = json.dumps(message)
    if '"<' in text:
        for name, value in EXTREMES.items():
            text = text.replace(f'"{name}"', value)
    return text
