"""Every command of both programs with its options, as the programs themselves say; docs/reference/commands.md is made of it.

`python -m tests.harness.commands` prints the page.
"""

import re
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import typer

from telemetryx.cli.commands import app
from tests.harness.processes import PATIENCE
from tests.harness.stack import AGENT

_HEAD = """\
# The commands

What `telemetryx --help` and `telemetryx-agent --help` say, command by command (`just docs` writes this page; a test keeps it fresh).
"""
#: A line of clap's list of commands, and the options at the beginning of a line of its list of options.
_COMMAND = re.compile(r"^  ([a-z][a-z-]*)  ", re.MULTILINE)
_OPTION = re.compile(r"^ +(?:(-\w), )? *(--[a-z][a-z-]*)", re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """One command: how it is called, its options, what its --help prints."""

    path: str
    options: frozenset[str]
    help: str
    commands: dict[str, "Command"] = field(default_factory=dict)
    hidden: bool = False


@cache
def telemetryx() -> Command:
    """Read the collector's program."""
    return _declared("telemetryx", typer.main.get_command(app))


@cache
def agent() -> Command:
    """Read the agent's program from its help."""
    return _printed(("telemetryx-agent",))


def page() -> str:
    """Write docs/reference/commands.md."""
    parts = [_HEAD]
    for program in (telemetryx(), agent()):
        parts += [f"## {program.path}\n", f"```\n{program.help}\n```\n"]
        for command in _leaves(program):
            parts += [f"### {command.path}\n", f"```\n{command.help}\n```\n"]
    return "\n".join(parts)


def _leaves(command: Command) -> list[Command]:
    found = []
    for inner in command.commands.values():
        if inner.hidden:
            continue
        # A group that also does something by itself has options of its own.
        if not inner.commands or inner.options - {"--help", "-h", "--version"}:
            found.append(inner)
        found += _leaves(inner)
    return found


def _declared(path: str, declared: Any, parent: Any = None) -> Command:
    context = declared.make_context(
        path.rpartition(" ")[2],
        [],
        parent=parent,
        resilient_parsing=True,
        terminal_width=100,
        max_content_width=100,
    )
    options = [*declared.params, declared.get_help_option(context)]
    return Command(
        path,
        frozenset(name for option in options if option for name in option.opts if name.startswith("-")),
        declared.get_help(context).strip(),
        {
            name: _declared(f"{path} {name}", inner, context)
            for name, inner in getattr(declared, "commands", {}).items()
        },
        hidden=declared.hidden,
    )


def _printed(path: tuple[str, ...]) -> Command:
    done = subprocess.run(
        [AGENT, *path[1:], "--help"], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    text = done.stdout.strip()
    listed, _, options = text.partition("\nOptions:\n")
    _, _, listed = listed.partition("\nCommands:\n")
    names = [name for name in _COMMAND.findall(listed) if name != "help"]
    return Command(
        " ".join(path),
        frozenset(name for names in _OPTION.findall(options) for name in names if name),
        text,
        {name: _printed((*path, name)) for name in names},
    )


if __name__ == "__main__":
    sys.stdout.write(page())
