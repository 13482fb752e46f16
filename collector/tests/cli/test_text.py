"""Text from the field stays text on a terminal."""

import io
import json
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from telemetryx.cli import output
from telemetryx.cli.text import printable
from telemetryx.store.selector import parse
from telemetryx.types import Matcher

NASTY = "a\x1b[31mred\x1b]0;title\x07\r\n\x9b2J\u202etxt\u2066[bold]x[/bold]:warning:\x00\u200b\ud800"


@given(st.text())
def test_no_control_character_reaches_the_terminal(text: str) -> None:
    """Whatever a device is called, the screen can't be moved, coloured or reordered by it."""
    shown = printable(text)
    assert all(character.isprintable() or character.isspace() for character in shown)
    assert not set(shown) & set("\x1b\x9b\r\n\t\x85\u2028\u2029")
    shown.encode("utf-8")


def test_ordinary_text_is_left_as_it_is() -> None:
    """Umlauts, emoji and CJK are no danger."""
    assert printable("Pumpe ä 泵 ✓ °C") == "Pumpe ä 泵 ✓ °C"


def test_a_table_shows_markup_and_escapes_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Rich obeys neither [bold] nor :warning: from a label."""
    output.table([{"name": NASTY}], ["name"])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "[bold]x[/bold]:warning:" in printed
    assert "\\x1b[31mred" in printed


@given(
    st.text(min_size=1, max_size=12), st.dictionaries(st.text(min_size=1, max_size=6), st.text(max_size=6))
)
@example("=1+1", {'la"bel\n': 'a\\n"b', "a b": "<script>"})
@example("temp", {"site": "plant 1"})
def test_a_series_is_shown_as_the_selector_that_finds_it(name: str, labels: dict[str, str]) -> None:
    """To be pasted into the next command, whatever it is called."""
    shown = output.series(name, labels)
    wanted = [
        Matcher("__name__", "=", name),
        *(Matcher(*pair) for pair in sorted((k, "=", v) for k, v in labels.items())),
    ]
    assert parse(shown) == wanted


def test_json_keeps_the_exact_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs get what was stored, on one line, with escapes."""
    sink = io.StringIO()
    monkeypatch.setattr(sys, "stdout", sink)
    output.write_ndjson([{"name": NASTY}])
    assert "\x1b" not in sink.getvalue()
    assert json.loads(sink.getvalue()) == {"name": NASTY}


@pytest.mark.parametrize(
    ("values", "drawn"),
    [
        ([], ""),
        ([1.0, 1.0], "▄▄"),
        ([0.0, 1.0, None, 7.0], "▁▂ █"),
        ([None, float("nan")], "  "),
        ([-5.0, float("inf"), 5.0], "▁ █"),
    ],
)
def test_a_sparkline_leaves_gaps_open(values: list[float | None], drawn: str) -> None:
    """A gap is a space, never a bar."""
    assert output.sparkline(values) == drawn


def test_a_long_line_keeps_its_peaks() -> None:
    """Each piece shows its largest value: a spike of one sample stays visible."""
    values: list[float | None] = [0.0] * 1_000
    values[500] = 9.0
    drawn = output.sparkline(values, 20)
    assert len(drawn) == 20
    assert drawn.count("█") == 1
