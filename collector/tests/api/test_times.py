"""Times and durations as people write them."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryx.api.times import (
    FARTHEST_NS,
    LONGEST_NS,
    NS,
    TimeError,
    format_duration,
    format_time,
    parse_duration,
    parse_time,
)

NOW = 1_772_000_000_123_456_789


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("now", NOW),
        ("-15m", NOW - 900 * NS),
        ("now-1h30m", NOW - 5_400 * NS),
        ("0", 0),
        ("1772000000", 1_772_000_000 * NS),
        ("1772000000.123456789", NOW),
        ("-1.5", -1_500_000_000),
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-02", 86_400 * NS),
        (" 2026-02-25 ", 1_771_977_600 * NS),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T01:00:00 01:00", 0),
        ("1969-12-31T23:59:59.999999999Z", -1),
        ("2026-02-25t06:13:20.123456789z", NOW),
    ],
)
def test_every_form_of_a_time_is_read_to_the_nanosecond(text: str, nanoseconds: int) -> None:
    """No float comes between."""
    assert parse_time(text, NOW) == nanoseconds


@pytest.mark.parametrize("offset", ["+25:00", "+24:00", "-12:60", "+99:99"])
def test_an_offset_that_is_none_is_refused_with_the_forms_that_are(offset: str) -> None:
    """In our words, not in those of the library that reads it."""
    with pytest.raises(TimeError, match="write RFC 3339 with an offset"):
        parse_time(f"2026-01-01T00:00:00{offset}", NOW)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-13-01T00:00:00Z",
        "2026-13-01",
        "2026-02-30",
        "2026-2-3",
        "26-02-03",
        "2026-02",
        "-100000d",
        "now-36526d",
        "2026-01-01T00:00:00",
        "1e9",
        "١٢٣",
        "99999999999",
        "15m",
        "--15m",
        "2026-01-01T24:61:00Z",
        "9999-12-31T00:00:00Z",
        "-999999w",
        "nan",
        "inf",
        "0x10",
        "1_000",
        "now" * 50,
    ],
)
def test_what_is_no_time_is_refused_with_the_forms_that_are(text: str) -> None:
    """The message helps; a long text isn't echoed whole."""
    with pytest.raises(TimeError) as caught:
        parse_time(text, NOW)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "text", ["", "10", "0s", "-5s", "s", "5 m", "1h ", "1y", "9999999w", "36526d", "100000d", "1.5.5s", "٥s"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    """A bare number has no unit to guess."""
    with pytest.raises(TimeError):
        parse_duration(text)


@given(st.integers(1, LONGEST_NS))
def test_a_duration_survives_being_written_and_read(nanoseconds: int) -> None:
    """format_duration loses nothing."""
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@given(st.integers(-FARTHEST_NS, FARTHEST_NS))
def test_a_time_survives_being_written_and_read(nanoseconds: int) -> None:
    """format_time loses nothing."""
    assert parse_time(format_time(nanoseconds), 0) == nanoseconds


@given(st.text(max_size=40))
def test_no_text_raises_anything_else(text: str) -> None:
    """Whatever a sender writes, the answer is a sentence."""
    for parse in (lambda: parse_time(text, NOW), lambda: parse_duration(text)):
        with contextlib.suppress(TimeError):
            assert -FARTHEST_NS <= parse() <= FARTHEST_NS
