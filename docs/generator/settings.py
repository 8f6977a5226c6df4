"""The settings: their keys and variables from `settings.KEYS`, their meaning from the docstrings of `Config`."""

import ast
import inspect
from itertools import pairwise
from pathlib import Path
from typing import Any

from docs.generator import code, table
from worker_state import advertised, settings
from worker_state.config import Config, Timing
from worker_state.settings import ADDRESSES, KEYS, Key, Kind

WORDS = {Kind.TEXT: "text", Kind.NUMBER: "number", Kind.SWITCH: "true or false", Kind.LIST: "list of texts"}
CREDENTIALS = ("room_id", "room_token", "api_key")


def field_docstrings(of: type) -> dict[str, str]:
    """What a class says of each of its fields."""
    tree = ast.parse(Path(inspect.getfile(of)).read_text("utf-8"))
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == of.__name__)
    found = {}
    for field, words in pairwise(body):
        match field, words:
            case ast.AnnAssign(target=ast.Name(id=id_)), ast.Expr(value=ast.Constant(value=str(text))):
                found[id_] = text
    return found


def blocks() -> dict[str, str]:
    """A table for each place in which settings stand."""
    groups: dict[str, list[Key]] = {"server": [], "worker": [], "capabilities": [], "timing": []}
    for key in KEYS.values():
        group, inside, _ = key.name.partition(".")
        groups[group if inside else "server" if key.name in ADDRESSES else "worker"].append(key)
    return {name: _table(keys) for name, keys in groups.items()} | {"others": _others()}


def _table(keys: list[Key]) -> str:
    meanings = field_docstrings(Config) | {f"timing.{name}": text for name, text in field_docstrings(Timing).items()}
    for group in (advertised.NUMBERS, advertised.TEXTS, advertised.LISTS):
        meanings |= {f"capabilities[{name!r}]": text for name, text in group.items()}
    rows = [("key", "variable, option", "type", "default", "meaning")]
    for key in keys:
        variables = ", ".join(code(each) for each in (*key.variables, key.option) if each)
        kind = f"{WORDS[key.kind]}, {key.unit}" if key.unit else WORDS[key.kind]
        name = key.name.partition(".")[2] or key.name
        notes = [f"In Python `{key.field}`."] if key.name in ADDRESSES else []
        rows.append((code(name), variables, kind, _default(key.default), " ".join([meanings[key.field], *notes])))
    return table(*rows)


def _default(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return code(str(value).lower())
        case tuple():
            return ", ".join(code(each) for each in value)
        case float() | int():
            return code(f"{value:.10g}")
    return code(str(value))


def _others() -> str:
    """The variables that are no setting of a worker."""
    return table(
        ("variable", "meaning"),
        (
            code(settings.ENVIRONMENT_VARIABLE),
            f"Which `[environments.NAME]` of the files counts; without it `{settings.DEFAULT_ENVIRONMENT}`.",
        ),
        (code(settings.SESSION_VARIABLE), "A session string for `worker-state watch` and `worker-state offer`."),
        (code(settings.DEVSERVER_PREFIX + "EXPOSE"), "`1` lets `worker-state serve --exposed` listen beyond loopback."),
    )
