"""The commands: their help, their options and their exit codes, from the program itself."""

import re
from collections.abc import Iterator
from inspect import Parameter, cleandoc, signature
from typing import Any, Literal, get_args, get_origin

from typer.main import get_command

from docs.generator import code, table
from worker_state.cli.app import app
from worker_state.cli.output import ExitCode

CODES = {
    0: "A clean end.",
    ExitCode.FAILED: "Something failed: the start, a check, the server's answer, the output.",
    ExitCode.BAD_USAGE: "Bad usage or configuration; nothing was started.",
    ExitCode.LEFT_SOMETHING: "All went well, but an identity may be left on the server, as the log says.",
}


def blocks() -> dict[str, str]:
    """All commands, and what their exit codes mean."""
    rows = [(code(str(int(number))), meaning) for number, meaning in CODES.items()]
    assert len(rows) == len(ExitCode) + 1
    pages = [_command(name, command) for name, command in _commands("worker-state", get_command(app))]
    return {"codes": table(("code", "meaning"), *rows), "commands": "\n\n".join(pages)}


def _commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    for word, each in getattr(command, "commands", {}).items():
        if hasattr(each, "commands"):
            yield from _commands(f"{name} {word}", each)
        else:
            yield f"{name} {word}", each


def _command(name: str, command: Any) -> str:
    parameters = signature(command.callback).parameters
    rows = [_option(each, parameters[each.name]) for each in command.params if each.name in parameters]  # not --help
    options = [table(("option", "value", "default", "meaning"), *rows)] if rows else []
    return "\n\n".join([f"## `{name.removeprefix('worker-state ')}`", _prose(command.help), *options])


def _option(each: Any, parameter: Parameter) -> tuple[str, str, str, str]:
    annotation = get_args(parameter.annotation)[0]
    choices = get_args(annotation) if get_origin(annotation) is Literal else ()
    value = code("" if annotation is bool else each.metavar or "|".join(choices))
    default = each.default if isinstance(each.default, int | str) or each.default is None else f"{each.default:g}"
    shown = "required" if each.required else "" if annotation is bool or default is None else code(str(default))
    variables = [each.envvar] if each.envvar else re.findall(r"  \[([A-Z_]+)\]$", each.help)
    words = re.sub(r"  \[[A-Z_]+\]$", "", each.help)
    meaning = re.sub(r"(\w+://…)", r"`\1`", words) + "".join(f" Variable: `{name}`." for name in variables)
    if not each.opts[0].startswith("-"):
        return code(each.metavar.strip("[]")), "argument", shown, meaning
    return ", ".join(code(name) for name in sorted(each.opts, key=len, reverse=True)), value, shown, meaning


def _prose(text: str) -> str:
    """The help as Markdown: its examples as a block, and what is laid out by hand as it is."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", cleandoc(text or "").replace("\b", "").strip()):
        title, _, examples = paragraph.strip().partition("\n")
        if title in ("Example:", "Examples:"):
            lines = [line.strip() for line in examples.splitlines()]
            parts.append("```sh\n" + "\n".join(lines) + "\n```")
        else:
            parts.append(paragraph.strip())
    return "\n\n".join(parts)
