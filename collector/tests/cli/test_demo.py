"""Which agent `telemetryx demo` runs: the one that is named, whoever names it. The demo itself is run in tests/journeys."""

from pathlib import Path

import pytest

from telemetryx.cli import demo
from telemetryx.cli.commands import app
from telemetryx.cli.errors import CliError


def refused(tmp_path: Path, *more: str) -> str:
    """Start a demo whose agent isn't there; return which one it looked for."""
    with pytest.raises(CliError, match="is no agent program") as caught:
        app(["demo", "--folder", str(tmp_path / "demo"), *more], standalone_mode=False)
    return str(caught.value).partition(" is no agent program")[0]


def test_the_agent_is_the_options_else_the_variables_else_the_one_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the tests of the whole; an empty variable names none."""
    option, variable, found = (tmp_path / name for name in ("option", "variable", "found"))
    monkeypatch.setattr(demo, "default_agent", lambda: found)
    monkeypatch.setenv("TELEMETRYX_AGENT", str(variable))
    assert refused(tmp_path, "--agent", str(option)) == str(option)
    assert refused(tmp_path) == str(variable)
    monkeypatch.setenv("TELEMETRYX_AGENT", "")
    assert refused(tmp_path) == str(found)
    monkeypatch.delenv("TELEMETRYX_AGENT")
    assert refused(tmp_path) == str(found)
