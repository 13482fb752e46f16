"""What may take hours may do so in one statement too: the store's own limit follows `--timeout`."""

from collections.abc import Callable
from pathlib import Path

import pytest

from telemetryx.cli import report, sql
from telemetryx.cli.output import Format
from telemetryx.cli.store import Place
from telemetryx.store.sqlite.engine import SqliteEngine


class Opened(Exception):  # noqa: N818 - it ends a command where the test has seen enough
    """The store would be read now."""


def of_report(timeout: str) -> None:
    """Ask for a report."""
    question = report.Question(None, "1h", None, None, None, 5, force=False, timeout=timeout)
    report.run(None, question, as_json=True)


def of_sql(timeout: str) -> None:
    """Run a statement."""
    sql.run(None, sql.Question("SELECT 1 FROM samples", timeout=timeout), Format.JSON)


@pytest.mark.parametrize(("timeout", "seconds"), [("3h", 10_800.0), ("30m", 3_600.0)])
@pytest.mark.parametrize(("command", "asked"), [(report, of_report), (sql, of_sql)])
def test_a_statement_may_take_as_long_as_the_command(
    monkeypatch: pytest.MonkeyPatch,
    command: object,
    asked: Callable[[str], None],
    timeout: str,
    seconds: float,
) -> None:
    """Of report and sql."""
    seen: list[Place] = []

    def opened(place: Place, **_: object) -> None:
        seen.append(place)
        raise Opened

    monkeypatch.setattr(command, "store_place", lambda _: Place(SqliteEngine(Path("x")), "x", "path"))
    monkeypatch.setattr(command, "opened", opened)
    with pytest.raises(Opened):
        asked(timeout)
    engine = seen[0].engine
    assert isinstance(engine, SqliteEngine)
    assert engine.read_s == seconds
