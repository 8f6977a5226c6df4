"""Words of the server's, before they reach a log, a terminal or an exception: without our secrets, and on one line."""

import re
from collections.abc import Iterable

_TOKENS = re.compile(r"slp_[\w-]+|eyJ[\w.=-]+")  # how API keys and ID tokens look, whoever's they are


def redacted(text: str, secrets: Iterable[str | None]) -> str:
    """Text of the server's without secrets of ours that it may repeat, and without what looks like somebody's."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[secret]")
    return _TOKENS.sub("[secret]", text)


def shown(text: str, limit: int = 200) -> str:
    """Text of the server's, made safe for a log or a terminal: one line, no control characters, not endless."""
    text = text if len(text) <= limit else text[:limit] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
