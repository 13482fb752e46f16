"""Text from the field stays text in the collector's log and in what commands warn of."""

import io

import pytest
import structlog

from telemetryx.cli import logs

NASTY = "a\x1b[2J\x1b]0;title\x07\r\u202e"
FORGED = "2026-03-01T10:00:00Z [info     ] all is well"


def test_a_traceback_acts_on_no_terminal_and_forges_no_line() -> None:
    """What an exception quotes may hold escapes and line ends; each line of it is indented, those of the log aren't."""
    error = ValueError(f"malformed {NASTY}\n{FORGED}")
    out = io.StringIO()
    logs.traceback(out, (type(error), error, None))
    lines = out.getvalue().strip("\n").split("\n")
    assert all(line.startswith("  ") for line in lines)
    assert f"  {FORGED}" in lines
    assert not set(out.getvalue()) & set("\x1b\x07\r\u202e")
    assert "ValueError: malformed a\\x1b[2J" in out.getvalue()


def test_what_a_command_warns_of_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Also where it has neither blanks nor quotes, which is all that structlog looks for."""
    before = structlog.get_config()
    try:
        logs.quiet()
        structlog.get_logger().warning("odd_agent", agent="a\x1b[2J")
    finally:
        structlog.configure(**before)
    said = capsys.readouterr().err
    assert "odd_agent" in said
    assert "a\\x1b[2J" in said
    assert "\x1b" not in said
