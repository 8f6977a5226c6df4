"""The log's events, from the calls that log them: `log.warning("…", …, extra=event("name", field=…))`."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import worker_state
from docs.generator import code, table

PACKAGE = Path(worker_state.__file__).parent
WORKER, COMMANDS, SERVER = "worker", "run", "server"
LEVELS = ("debug", "info", "warning", "error")


@dataclass
class Event:
    """One event: all levels, fields and sentences that calls give it."""

    name: str
    levels: dict[str, None] = field(default_factory=dict)
    fields: dict[str, None] = field(default_factory=dict)
    sentences: dict[str, None] = field(default_factory=dict)


@cache
def events(part: str) -> dict[str, Event]:
    """The events of the library, of the commands alone, or of the development server, by name."""
    found: dict[str, Event] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        path = file.relative_to(PACKAGE).as_posix()
        where = SERVER if path.startswith("devserver/") else WORKER
        for scope in _functions(ast.parse(file.read_text("utf-8"))):
            for kind, call, event in _calls(scope):
                if part == (COMMANDS if kind == "About" else where):
                    _add(found, scope, kind, call, event)
    return dict(sorted(found.items()))


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _calls(scope: ast.AST) -> Iterator[tuple[str, ast.Call, ast.Call]]:
    """Each call that logs, with its event; of the commands each `About("name", …)`."""
    assigned: dict[str, ast.expr] = {}
    for node in _in_order(scope):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                assigned[name] = value
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=level)) if level != "isEnabledFor":
                (extra,) = (keyword.value for keyword in node.keywords if keyword.arg == "extra")
                event = assigned[extra.id] if isinstance(extra, ast.Name) else extra
                assert isinstance(event, ast.Call), ast.unparse(node)
                yield level, node, event
            case ast.Call(func=ast.Name(id="About") | ast.Attribute(attr="About"), args=[ast.Constant(value=str()), _]):
                yield "About", node, node


def _in_order(scope: ast.AST) -> Iterator[ast.AST]:
    """As they stand in the source, without the functions inside."""
    for node in ast.iter_child_nodes(scope):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            yield from _in_order(node)


def _add(found: dict[str, Event], scope: ast.AST, kind: str, call: ast.Call, event: ast.Call) -> None:
    name = ast.literal_eval(event.args[0])
    entry = found.setdefault(name, Event(name))
    if kind == "About":
        names = event.args[1].keys if isinstance(event.args[1], ast.Dict) else []
        entry.fields |= {ast.literal_eval(each): None for each in names if isinstance(each, ast.Constant)}
        return
    entry.fields |= {keyword.arg: None for keyword in event.keywords if keyword.arg}
    words = call.args
    if kind == "log":
        level, *words = words
        entry.levels |= {each.lower(): None for each in _constants(scope, level, ast.Attribute)}
    else:
        entry.levels |= {"error" if kind == "exception" else kind: None}
    entry.sentences |= dict.fromkeys(_constants(scope, words[0], ast.Constant))


def _constants(scope: ast.AST, value: ast.expr, kind: type[ast.expr], depth: int = 3) -> Iterator[str]:
    """The texts (or the levels) that an expression may be, followed through the names of this function."""
    match value:
        case ast.Constant(value=str(text)) if kind is ast.Constant:
            yield text
        case ast.Attribute(value=ast.Name(id="logging"), attr=level) if kind is ast.Attribute:
            yield level
        case ast.IfExp(body=body, orelse=orelse):
            yield from _constants(scope, body, kind, depth)
            yield from _constants(scope, orelse, kind, depth)
        case ast.Name(id=name) if depth:
            for node in ast.walk(scope):
                match node:
                    case ast.Assign(targets=[ast.Name(id=id_)], value=assigned) if id_ == name:
                        yield from _constants(scope, assigned, kind, depth - 1)


def blocks() -> dict[str, str]:
    """A table for the library, and one for the development server."""
    return {part: _table(events(part)) for part in (WORKER, SERVER)}


def _table(found: dict[str, Event]) -> str:
    rows = [("event", "level", "fields", "sentence")]
    for event in found.values():
        levels = sorted(event.levels, key=LEVELS.index, reverse=True)
        sentences = "; or: ".join(re.sub(r"(%[.\d]*[sdfg])+", "…", sentence) for sentence in event.sentences)
        rows.append((code(event.name), ", ".join(levels), ", ".join(map(code, event.fields)), sentences))
    return table(*rows)
