"""Does a peer match the filters of a `discover_peers`?

Pure. It trusts the shapes that it is given, as the real server does: metadata or filters of another shape
raise one of the built-in errors of such a mistake, and `Rooms` closes the searching connection for it.
"""

from __future__ import annotations

from typing import Any


def matches(filters: Any, *, role: Any, metadata: Any) -> bool:
    """Role equal, one tag shared, every property as asked; what is not asked for matches."""
    if "role" in filters and role != filters["role"]:
        return False
    if "tags" in filters and not set(metadata.get("tags", [])) & set(filters["tags"]):
        return False
    if "properties" in filters:
        properties = metadata.get("properties", {})
        return all(_satisfies(properties.get(key), asked) for key, asked in filters["properties"].items())
    return True


def _satisfies(value: Any, asked: Any) -> bool:
    if not isinstance(asked, dict):
        return bool(value == asked)
    if "$gte" in asked and (value is None or value < asked["$gte"]):
        return False
    if "$lte" in asked and (value is None or value > asked["$lte"]):
        return False
    return not ("$eq" in asked and value != asked["$eq"])
