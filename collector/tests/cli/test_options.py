"""What every command's options have in common, over the whole tree of commands."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints

import pytest
import typer
from typer.testing import CliRunner

from telemetryx.cli import options, output
from telemetryx.cli.commands import app
from telemetryx.cli.errors import CliError, Exit

ENVIRONMENT = {"COLUMNS": "200", "NO_COLOR": "1", "USER": "ana"}


def declared(tree: typer.Typer, *path: str) -> Iterator[tuple[tuple[str, ...], Callable[..., Any]]]:
    """Walk the commands as they are declared."""
    for command in tree.registered_commands:
        assert command.callback is not None
        yield (*path, command.name or command.callback.__name__), command.callback
    for group in tree.registered_groups:
        assert group.typer_instance is not None
        yield from declared(group.typer_instance, *path, str(group.name))


def arguments(callback: Callable[..., Any]) -> Iterator[tuple[str, Any, Any]]:
    """Give each parameter's name, type and declaration."""
    for name, hint in get_type_hints(callback, include_extras=True).items():
        if name not in inspect.signature(callback).parameters or not hasattr(hint, "__metadata__"):
            continue
        yield name, hint.__origin__, hint.__metadata__[0]


COMMANDS = sorted(declared(app), key=lambda one: one[0])
PATHS = [
    pytest.param(words, callback, name, id=" ".join((*words, name)))
    for words, callback in COMMANDS
    for name, kind, told in arguments(callback)
    if "Path" in str(kind) or told.parser in {options.filled, options.given}
]


@pytest.mark.parametrize(("words", "callback", "name"), PATHS)
def test_an_empty_path_is_refused_and_not_taken_for_the_folder_that_one_is_in(
    words: tuple[str, ...], callback: Callable[..., Any], name: str
) -> None:
    """As a shell's variable is that was never set: `convert FILE "$OUT"` wrote into the current folder."""
    given = list(words)
    for other, _, told in arguments(callback):
        if isinstance(told, typer.models.OptionInfo):
            if other == name:
                # In an annotation the option's first word stands where a default would.
                given += [told.default, ""]
        elif other == name:
            given.append("")
        else:
            given.append("1")
    said = CliRunner().invoke(app, given, env=ENVIRONMENT)
    assert said.exit_code == 2, said.output
    assert "it is empty: name a file or a folder" in said.output


def test_there_are_many_paths() -> None:
    """Or the walk finds nothing any more."""
    assert len(PATHS) > 40


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        (["alrts"], "Did you mean 'alerts'?"),
        (["agents", "confg"], "Did you mean 'config'?"),
        (["alerts", "--lmit", "3"], "--limit"),
        (["alerts", "--format", "xml"], "'table', 'csv', 'json', 'ndjson'"),
        (["alerts", "--limit", "many"], "integer"),
        (["convert", "x"], "-h"),
        (["fetch"], "-h"),
    ],
)
def test_wrong_words_are_answered_with_what_there_is(typed: list[str], hint: str) -> None:
    """In plain text, with exit code 2: no frames of a terminal, no traceback."""
    said = CliRunner().invoke(app, typed, env=ENVIRONMENT)
    assert said.exit_code == 2
    assert hint in said.output
    assert said.output.isascii()
    assert "Traceback" not in said.output


@pytest.mark.parametrize(
    ("text", "wait"),
    [("30s", 30), ("2m", 120), ("1h30m", 5_400), ("45", 45), ("500ms", 1), ("24h", 86_400)],
)
def test_a_wait_is_a_span_or_a_number_of_seconds(text: str, wait: int) -> None:
    """The number alone is what was released."""
    assert options.seconds(text) == wait


@pytest.mark.parametrize("text", ["", "0", "0s", "25h", "-5", "5x", "1e3", 5_000 * "1"])
def test_a_wait_that_can_not_be_meant_is_refused(text: str) -> None:
    """In a sentence that says what is taken."""
    with pytest.raises(typer.BadParameter, match=r"duration|from 1s to 24h|too long"):
        options.seconds(text)


def test_every_timeout_takes_spans() -> None:
    """As every other length of time does."""
    for words, callback in COMMANDS:
        for name, _, told in arguments(callback):
            if name in {"timeout", "wait"}:
                assert told.metavar == "SPAN", words


def test_json_and_another_format_are_refused_together() -> None:
    """One would be passed over in silence. JSON twice is no contradiction, and the table is what nobody asked for."""
    for how in (output.Format.CSV, output.Format.NDJSON):
        with pytest.raises(CliError, match="two ways to print") as refused:
            options.shown_as(how, as_json=True)
        assert refused.value.code == Exit.USAGE
        assert options.shown_as(how, as_json=False) is how
    for how in (output.Format.TABLE, output.Format.JSON):
        assert options.shown_as(how, as_json=True) is output.Format.JSON
