"""A traceparent is read as W3C says, and what isn't one is as good as none."""

import pytest

from telemetryx.traces import parse
from telemetryx.traces.context import trace_id

TEXT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_traceparent_comes_back_as_it_was() -> None:
    """Both ids are read, and written again."""
    context = parse(TEXT)
    assert context is not None
    assert str(context) == TEXT
    assert trace_id(TEXT) == "4bf92f3577b34da6a3ce929d0e0e4736"


def test_a_later_version_may_say_more() -> None:
    """What stands before means the same."""
    assert str(parse("01" + TEXT[2:] + "-more")) == TEXT


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "00",
        TEXT[:-1],
        TEXT + "-more",
        "ff" + TEXT[2:],
        TEXT.upper(),
        TEXT[:-1] + "0",
        TEXT.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
        TEXT.replace("00f067aa0ba902b7", "0" * 16),
        TEXT.replace("-", "_"),
        TEXT + "\n",
    ],
)
def test_what_is_malformed_or_not_sampled_is_none(bad: str) -> None:
    """Nothing of it is followed."""
    assert parse(bad) is None
    assert trace_id(bad) is None
