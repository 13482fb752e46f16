"""Who asks the store for readings that its retention has deleted is told so, as over REST: an answer without them looks whole."""

import asyncio
from pathlib import Path

import pytest

from reference_agent import decoded, defined, samples
from telemetryx.api.times import parse_time
from telemetryx.cli import export, sql
from telemetryx.cli.output import Format
from telemetryx.store.interface import Retention
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.types import BatchKey, Stored
from telemetryx.wire.payload import Payload

S = 1_000_000_000
DAY = 86_400 * S
BEGIN = parse_time("2026-03-01", 0)
GONE = (
    "raw readings from before 2026-03-03T00:00:00Z are deleted, and aren't in it: rollups reach further back"
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Four days of a reading an hour, of which raw data is kept for two."""
    rows = [(BEGIN + hour * 3_600 * S, 1.0) for hour in range(4 * 24)]

    async def fill() -> None:
        store = await SqliteStore.open(tmp_path / "telemetry.db")
        batch = decoded(BatchKey("edge", b"e" * 16, 1), Payload(samples({1: rows})), defined("temp"))
        (outcome,) = await store.commit([batch])
        assert isinstance(outcome, Stored)
        while (done := await store.compact(everything=True)).more or done.batches:
            pass
        kept = Retention(raw_ns=2 * DAY, windows_ns=2 * DAY, rollup_1m_ns=730 * DAY, rollup_1h_ns=730 * DAY)
        await store.apply_retention(kept, BEGIN + 4 * DAY)
        await store.close()

    asyncio.run(fill())
    path = tmp_path / "collector.toml"
    path.write_text(f'[collector]\ndata_dir = "{tmp_path}"\n')
    return path


@pytest.mark.parametrize(
    ("kind", "since", "times"),
    [
        ("samples", "2026-03-01", 1),
        ("windows", "2026-03-02", 1),
        ("samples", "2026-03-03", 0),
        ("rollups", "2026-03-01", 0),
    ],
)
def test_an_export_says_what_its_retention_took(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, since: str, times: int
) -> None:
    """Beside the count of rows, on stderr."""
    to = str(tmp_path / "out.csv")
    export.run(config, export.Question(kind, to, None, None, None, since, "2026-03-05", None, force=False))
    assert capsys.readouterr().err.count(GONE) == times


@pytest.mark.parametrize(
    ("statement", "times"),
    [
        ("SELECT count(*) FROM samples", 1),
        ("SELECT count(*) FROM samples WHERE time >= '2026-03-03'", 0),
        ("SELECT sum(count) FROM rollups WHERE step = '1h'", 0),
        ("SELECT name FROM series", 0),
    ],
)
def test_a_statement_says_it_when_it_reaches_there(
    config: Path, capsys: pytest.CaptureFixture[str], statement: str, times: int
) -> None:
    """Not when it asks for later times, or for what is kept longer."""
    sql.run(config, sql.Question(statement, since="2026-03-01", until="2026-03-05"), Format.CSV)
    assert capsys.readouterr().err.count(GONE) == times
