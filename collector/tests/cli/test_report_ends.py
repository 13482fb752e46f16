"""What a report says of its two ends, worked out by hand: pauses that an end cuts, series that were there before, and sites that are silent.

Before, a series that was there but wasn't compacted yet counted from its first reading in the report on, so an outage at its beginning
wasn't one; a sensor that is read every ten minutes lost what lies before its first reading in the report; and a site of which nothing
was heard wasn't in it at all.
"""

import asyncio
import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from reference_agent import decoded, merged, samples, window
from telemetryx.api.times import parse_time
from telemetryx.cli import report
from telemetryx.store.postgres.engine import PostgresEngine
from telemetryx.store.postgres.store import PostgresStore
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables.store import TableStore
from telemetryx.types import BatchKey, Definition, Stored
from telemetryx.wire.payload import Payload

S = 1_000_000_000
MINUTE = 60 * S
HOUR = 60 * MINUTE
#: The day on which summer time ends in Europe: in UTC it has 24 hours as any other.
DAY = parse_time("2026-10-25", 0)
FORMULA = "=cmd|' /C calc'!A0"


def every(step: int, start: int, end: int, phase: int = 0) -> list[tuple[int, float]]:
    """Readings of 1.0 at a phase of each step, in [start, end)."""
    return [(at, 1.0) for at in range(start + phase, end, step)]


def fill(
    folder: Path,
    lines: Mapping[str, Sequence[tuple[int, float]]],
    *,
    compact: bool,
    engine: PostgresEngine | None = None,
) -> Path:
    """Store a series for each site, and windows of ten minutes with ten readings of the site `windows`; return the configuration."""
    definitions = [Definition(number, "temp", {"site": site}) for number, site in enumerate(lines, start=1)]
    windows = merged(
        [
            window(99, at, [1.0] * 10, 10 * MINUTE, MINUTE)
            for at in range(DAY - 2 * HOUR, DAY + 26 * HOUR, 10 * MINUTE)
        ]
    )
    definitions.append(Definition(99, "flow", {"site": "windows"}))
    payload = Payload(
        samples({number: list(rows) for number, rows in enumerate(lines.values(), start=1)}), windows
    )

    async def filled() -> None:
        store: TableStore = await (
            PostgresStore.open(engine) if engine else SqliteStore.open(folder / "telemetry.db")
        )
        (outcome,) = await store.commit([decoded(BatchKey("edge", b"e" * 16, 1), payload, definitions)])
        assert isinstance(outcome, Stored)
        while compact and ((done := await store.compact(everything=True)).more or done.batches):
            pass
        await store.close()

    folder.mkdir(exist_ok=True)
    asyncio.run(filled())
    where = ""
    if engine is not None:
        where = f'[store]\nurl = "{engine.url}"\n'
        where += f'password_file = "{engine.password_file}"\n' if engine.password_file else ""
    (folder / "collector.toml").write_text(f'[collector]\ndata_dir = "{folder}"\n{where}')
    return folder / "collector.toml"


def told(config: Path, capsys: pytest.CaptureFixture[str], since: int, until: int) -> dict[str, Any]:
    """Return the report as JSON."""
    asked = report.Question(None, str(since // S), str(until // S), None, None, 50, force=False)
    report.run(config, asked, as_json=True)
    return dict(json.loads(capsys.readouterr().out))


LINES = {
    "slow": every(10 * MINUTE, DAY - 2 * HOUR, DAY + 26 * HOUR, 5 * MINUTE),
    "torn": [
        row
        for row in every(MINUTE, DAY - 2 * HOUR, DAY + 26 * HOUR, 30 * S)
        if not DAY + 6 * HOUR <= row[0] < DAY + 7 * HOUR
    ],
    "new": every(MINUTE, DAY + 12 * HOUR, DAY + 26 * HOUR),
    "gone": every(MINUTE, DAY - HOUR, DAY + 3 * HOUR),
}


@pytest.fixture(params=["as shipped", "compacted", "postgres"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A day and two hours on both sides of it."""
    engine = request.getfixturevalue("database") if request.param == "postgres" else None
    return fill(tmp_path / "store", LINES, compact=request.param == "compacted", engine=engine)


def sites(found: Mapping[str, Any]) -> dict[str, tuple[int, float | None, float | None]]:
    """Return readings, completeness and availability by site."""
    return {
        row["site"]: (row["readings"], row["completeness"], row["availability"]) for row in found["sites"]
    }


def test_a_whole_day_loses_its_outage_and_nothing_else(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`torn` is down for the hour alone: half a minute at the beginning is the pause after a reading of the day before."""
    found = sites(told(config, capsys, DAY, DAY + 24 * HOUR))
    assert found["slow"] == (144, 1.0, 1.0)
    assert found["torn"] == (1_380, pytest.approx(23 / 24), pytest.approx(23 / 24))
    assert found["new"] == (720, 1.0, 1.0)
    assert found["windows"] == (1_440, 1.0, 1.0)
    assert found["gone"] == (180, pytest.approx(3 / 24), pytest.approx(3 / 24))


def test_an_outage_at_the_beginning_is_one(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From 6:30 to 7:00:30 of two hours; readings are missing from 6:30 to 7:00."""
    found = told(config, capsys, DAY + 6 * HOUR + 30 * MINUTE, DAY + 8 * HOUR + 30 * MINUTE)
    assert sites(found)["torn"] == (90, 0.75, pytest.approx((120 - 30.5) / 120))
    (torn,) = [row for row in found["series"] if row["site"] == "torn"]
    assert torn["longest_pause_s"] == 30.5 * 60


def test_an_hour_of_a_slow_sensor_is_whole(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its six readings stand five minutes after each ten; the one before the hour speaks for its beginning."""
    assert sites(told(config, capsys, DAY + 10 * HOUR, DAY + 11 * HOUR))["slow"] == (6, 1.0, 1.0)


def test_a_site_of_which_nothing_was_heard_was_down(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has a row for the whole and one a period, and a sentence says what isn't told of it; one that came later has none."""
    found = told(config, capsys, DAY + 9 * HOUR, DAY + 11 * HOUR)
    assert sites(found)["gone"] == (0, None, 0.0)
    assert "new" not in sites(found)
    periods = [row for row in found["periods"] if row["site"] == "gone"]
    assert [(row["readings"], row["availability"]) for row in periods] == [(0, 0.0), (0, 0.0)]
    assert [row["start_ns"] for row in periods] == [DAY + 9 * HOUR, DAY + 10 * HOUR]
    assert found["left_out"][0].startswith("1 series were there before and had no reading in this time")


def test_a_pause_at_the_end_is_as_long_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of two intervals it is none, though the end cuts it; of four it is an outage from the first on."""
    end = DAY + HOUR
    whole = [*every(MINUTE, DAY - HOUR, end - MINUTE, 30 * S), (end + 30 * S, 1.0)]
    torn = [*every(MINUTE, DAY - HOUR, end - MINUTE, 30 * S), (end + 3 * MINUTE, 1.0)]
    config = fill(tmp_path / "store", {"whole": whole, "torn": torn}, compact=False)
    found = sites(told(config, capsys, DAY, end))
    assert found["whole"][2] == 1.0
    assert found["torn"][2] == pytest.approx((60 - 0.5) / 60)


def test_bounds_are_half_open_and_days_of_a_clock_change_have_24_hours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reading at the begin counts, one at the end is the next report's; periods are those of UTC."""
    until = DAY + 72 * HOUR
    rows = [(DAY, 1.0), (DAY + HOUR, 1.0), (DAY + 24 * HOUR, 1.0), (until - 1, 1.0), (until, 1.0)]
    config = fill(tmp_path / "store", {"a": rows}, compact=False)
    found = told(config, capsys, DAY, until)
    periods = [row for row in found["periods"] if row["site"] == "a"]
    assert [row["readings"] for row in periods] == [2, 1, 1]
    assert [row["end_ns"] - row["start_ns"] for row in periods] == [24 * HOUR] * 3
    assert sites(found)["a"][0] == 4


def test_readings_since_1970_count_from_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A clock that was never set begins at 0, which is a time as any other."""
    config = fill(tmp_path / "store", {"unset": every(MINUTE, 0, HOUR)}, compact=False)
    found = told(config, capsys, -HOUR, HOUR)
    (site,) = [row for row in found["sites"] if row["site"] == "unset"]
    assert (site["readings"], site["completeness"], site["availability"]) == (60, 1.0, 1.0)


def test_no_name_is_a_formula_in_the_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """People open them in spreadsheets; JSON has the name as it is."""
    config = fill(tmp_path / "store", {FORMULA: every(MINUTE, DAY, DAY + HOUR)}, compact=False)
    folder = tmp_path / "tables"
    asked = report.Question(None, str(DAY // S), str((DAY + HOUR) // S), None, folder, 50, force=False)
    report.run(config, asked, as_json=False)
    capsys.readouterr()
    names = set()
    for path in folder.iterdir():
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                names |= {row.get("site", "")}
                assert not any((cell or "").startswith(("=", "+", "-", "@")) for cell in row.values()), row
    assert f"'{FORMULA}" in names
    assert FORMULA in sites(told(config, capsys, DAY, DAY + HOUR))
