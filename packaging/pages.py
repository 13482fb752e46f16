#!/usr/bin/env python3
"""Writes the collector's man pages and shell completions, made of the command line's own declaration.

    packaging/pages.py TO

Man pages go to TO/man, one for `telemetryx` and one for each of its commands; completions to TO/completions. The agent's are written by
`telemetryx-agent pages TO`. The completions ask the program itself: they can't be older than it.
"""

import sys
from pathlib import Path
from typing import Any

import typer
from typer.completion import get_completion_script

import telemetryx
from telemetryx.cli.commands import app

NAME = "telemetryx"


def main(to: Path) -> None:
    """Write all pages."""
    man, completions = to / "man", to / "completions"
    man.mkdir(parents=True, exist_ok=True)
    completions.mkdir(parents=True, exist_ok=True)
    _write(man, NAME, typer.main.get_command(app), None)
    for shell, file in (
        ("bash", f"{NAME}.bash"),
        ("zsh", f"_{NAME}"),
        ("fish", f"{NAME}.fish"),
    ):
        script = get_completion_script(
            prog_name=NAME, complete_var="_TELEMETRYX_COMPLETE", shell=shell
        )
        # zsh loads the file at the first Tab and takes it for the function itself: it has to answer that one too.
        call = '_telemetryx_completion "$@"\n' if shell == "zsh" else ""
        (completions / file).write_text(f"{script.strip()}\n{call}", "utf-8")


def _write(folder: Path, path: str, command: Any, parent: Any) -> None:
    context = command.make_context(
        path.rpartition(" ")[2], [], parent=parent, resilient_parsing=True
    )
    inner = {
        name: one
        for name, one in getattr(command, "commands", {}).items()
        if not one.hidden
    }
    (folder / f"{path.replace(' ', '-')}.1").write_text(
        _page(path, command, context, inner), "utf-8"
    )
    for name, one in inner.items():
        _write(folder, f"{path} {name}", one, context)


def _page(path: str, command: Any, context: Any, inner: dict[str, Any]) -> str:
    page = path.replace(" ", "-")
    what = command.get_short_help_str(limit=500).strip() or path
    synopsis = " ".join(command.collect_usage_pieces(context))
    lines = [
        f'.TH "{_roff(page)}" "1" "" "telemetryx {telemetryx.__version__}" "TelemetryX"',
        ".SH NAME",
        f"{_roff(page)} \\- {_roff(what)}",
        ".SH SYNOPSIS",
        f"\\fB{_roff(path)}\\fR {_roff(synopsis)}",
        *([".SH DESCRIPTION", *_paragraphs(command.help)] if command.help else []),
    ]
    records = [
        parameter.get_help_record(context) for parameter in command.get_params(context)
    ]
    options = [record for record in records if record]
    if options:
        lines.append(".SH OPTIONS")
        for left, right in options:
            lines += [".TP", f"\\fB{_roff(left)}\\fR", _roff(" ".join(right.split()))]
    if inner:
        lines.append(".SH COMMANDS")
        for name, one in inner.items():
            lines += [
                ".TP",
                f"\\fB{_roff(page)}\\-{_roff(name)}\\fR(1)",
                _roff(one.get_short_help_str(limit=500)),
            ]
    if command.epilog:
        lines += [".SH NOTES", *_paragraphs(command.epilog)]
    if path != NAME:
        lines += [
            ".SH SEE ALSO",
            f"\\fB{_roff(path.rpartition(' ')[0].replace(' ', '-'))}\\fR(1)",
        ]
    return "\n".join(lines) + "\n"


def _paragraphs(text: str) -> list[str]:
    """Set running text as paragraphs, and leave what is indented or marked (`\\b`) in its lines."""
    lines = []
    for paragraph in text.split("\n\n"):
        kept = paragraph.removeprefix("\b\n")
        if kept != paragraph or paragraph.startswith("  "):
            lines += [".nf", *(_roff(line) for line in kept.splitlines()), ".fi"]
        else:
            lines += [".PP", _roff(" ".join(paragraph.split()))]
    return lines


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return "\\&" + escaped if escaped.startswith((".", "\\(aq")) else escaped


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        raise SystemExit(2)
    main(Path(sys.argv[1]))
