"""What a collector refuses is told in the words of the command line, and times are read alike by every command."""

import re
from pathlib import Path

import pytest

import telemetryx
from telemetryx.cli import span
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.words import told


@pytest.mark.parametrize(
    ("path", "theirs", "ours"),
    [
        ("/silences", "field 'duration': '2' is not a duration", "--for: '2' is not a duration"),
        ("/silences", "give `duration` or `ends`: an open end", "give --for or --until: an open end"),
        ("/silences/9", "GET /api/v1/silences lists them", "`telemetryx silence ls` lists them"),
        ("/silences", "`match`: a label name is expected", "MATCH: a label name is expected"),
        (
            "/alerts/7/acknowledge",
            "GET /api/v1/alerts?state=all lists them",
            "`telemetryx alerts --state all` lists them",
        ),
        ("/alerts/7/acknowledge", "parameter 'id': too large", "ID: too large"),
        ("/quarantine/7", "GET /api/v1/quarantine lists them", "`telemetryx quarantine ls` lists them"),
        ("/query_range", "start is not before end", "--since is not before --until"),
        ("/query_range", "use a wider step or step=auto", "use a wider step or --step auto"),
        ("/query_range", "agg=raw has no `step`", "--agg raw has no --step"),
        ("/query_range", "parameter 'max_points': too large", "--points: too large"),
        ("/export/events", "events have no `match`", "events have no --match"),
        ("/events", "parameter 'q': too long", "the text: too long"),
        ("/agents", "parameter 'sort': it must be 'name'", "--sort: it must be 'name'"),
        ("/series", "parameter 'match': 'x' at column 3", "the selector: 'x' at column 3"),
        ("/configs", "field 'toml': it is longer", "the configuration: it is longer"),
        ("/series", "`telemetryx store verify` finds it", "`telemetryx store verify` finds it"),
    ],
)
def test_parameters_are_options_and_endpoints_are_commands(path: str, theirs: str, ours: str) -> None:
    """Whoever typed a command knows nothing of fields and paths; what is neither stays as it is."""
    assert told(path, theirs) == ours


def test_every_list_that_a_refusal_points_to_has_a_command() -> None:
    """A new hint with a path gets its command in words.py, or this fails."""
    source = Path(telemetryx.__file__).parent
    hints = {
        hint
        for path in source.rglob("*.py")
        for hint in re.findall(r'"(GET /api/v1/[^"]* lists? [^"]*)"', path.read_text())
    }
    assert len(hints) > 7
    assert [hint for hint in hints if "/api/" in told("/x", hint)] == []


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        (None, None),
        ("15m", "-15m"),
        (" 1h30m ", "-1h30m"),
        ("now", "now"),
        ("now-15m", "now-15m"),
        ("2026-03-01", "2026-03-01"),
        ("2026-03-01T10:00:00Z", "2026-03-01T10:00:00Z"),
        ("1772323200", "1772323200"),
        ("-1.5", "-1.5"),
    ],
)
def test_a_span_counts_back_from_now(text: str | None, asked: str | None) -> None:
    """And a time is one."""
    assert span.point(text, "--since") == asked


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-7d", "--since -7d: a span counts back from now and has no sign"),
        ("+7d", "no sign"),
        ("100000d", "--since: '100000d' is not a usable duration: the longest is 36525d"),
        ("0s", "longer than 0"),
        ("7y", "number and a unit"),
        ("yesterday", "a span before now like 15m"),
        ("2026-3-1", "is not a time"),
        ("", "is not a time"),
    ],
)
def test_what_is_no_span_and_no_time_is_refused_by_its_option(text: str, words: str) -> None:
    """As wrong use, before anything is asked or read."""
    with pytest.raises(CliError, match=words) as caught:
        span.point(text, "--since")
    assert caught.value.code == Exit.USAGE
