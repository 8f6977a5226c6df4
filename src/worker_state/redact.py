"""Makes the server's words fit for a log, a terminal or an exception: without secrets, and on one line."""

import re
from collections.abc import Iterable

_TOKENS = re.compile(r"slp_[\w-]+|eyJ[\w.=-]+")  # how API keys and ID tokens look


def redacted(text: str, secrets: Iterable[str | None]) -> str:
    """Text of the server's without these secrets, and without what looks like one."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[secret]")
    return _TOKENS.sub("[secret]", text)


def shown(text: str, limit: int = 200) -> str:
    """Text of the server's as one line without control characters, cut off after `limit` characters."""
    text = text if len(text) <= limit else text[:limit] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
