"""What the rules answer with: HTTP replies, and effects on connections. Pure.

No message is ever part of a `repr`: it may carry tokens.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"
Message: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """An HTTP answer."""

    status: int
    body: JSON = field(repr=False)


@dataclass(frozen=True)
class Send:
    connection: Hashable
    message: Message = field(repr=False)


@dataclass(frozen=True)
class Close:
    connection: Hashable
    code: int
    reason: str


Effect: TypeAlias = Send | Close


def error(connection: Hashable, code: str, message: str) -> Send:
    """The error of everything but a `register`."""
    return Send(connection, {"type": "error", "code": code, "message": message})


def unprocessable(kind: str, where: list[JSON], message: str, given: JSON) -> Reply:
    """The 422 of a request that does not have the declared shape."""
    return Reply(422, {"detail": [{"type": kind, "loc": where, "msg": message, "input": given}]})
