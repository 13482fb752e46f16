"""`telemetryx sql`: the store's tables on both engines, what is read for a statement, what is refused, and what ends it."""

import asyncio
import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from reference_agent import SECOND, T0, decoded, defined, events, samples, window
from telemetryx.cli import export, sql
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.output import Format
from telemetryx.cli.sql import statement, tables
from telemetryx.export.wanted import Wanted
from telemetryx.store.postgres.engine import PostgresEngine
from telemetryx.store.postgres.store import PostgresStore
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.store import TableStore
from telemetryx.types import BatchKey, Series, Stored
from telemetryx.wire.payload import Payload

MINUTE = 60 * SECOND
READINGS = 180
Ask = Callable[..., list[dict[str, Any]]]


async def fill(store: TableStore) -> None:
    """Three minutes of two series, half of it compacted; a window and two events a minute."""
    for minute in range(3):
        at = T0 + minute * MINUTE
        payload = Payload(
            samples(
                {
                    1: [(at + n * SECOND, float(minute * 60 + n)) for n in range(60)],
                    2: [(at + n * SECOND, -1.0) for n in range(60)],
                }
            ),
            window(3, at, [1.0, 2.0, 6.0]),
            events(
                (at, 17, "pump", f"bearing {minute} hot", {"zone": "x"}),
                (at + SECOND, 9, "plc", f"started {minute}", {}),
            ),
        )
        defs = defined("temp", "power", "flow", site="north", device="p7")
        (outcome,) = await store.commit([decoded(BatchKey("edge", b"e" * 16, minute + 1), payload, defs)])
        assert isinstance(outcome, Stored)
        if minute == 1:
            await store.compact(everything=True)
    await store.close()


@pytest.fixture(params=["sqlite", "postgres"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A collector's configuration with a store of either engine."""
    path, where = tmp_path / "collector.toml", ""
    if request.param == "postgres":
        engine: PostgresEngine = request.getfixturevalue("database")

        async def in_database() -> None:
            await fill(await PostgresStore.open(engine))

        asyncio.run(in_database())
        where = f'[store]\nurl = "{engine.url}"\n'
        where += f'password_file = "{engine.password_file}"\n' if engine.password_file else ""
    else:

        async def in_file() -> None:
            await fill(await SqliteStore.open(tmp_path / "telemetry.db"))

        asyncio.run(in_file())
    path.write_text(f'[collector]\ndata_dir = "{tmp_path}"\n{where}')
    return path


@pytest.fixture
def ask(config: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Ask about everything that is stored."""

    def asked(text: str, **more: Any) -> list[dict[str, Any]]:
        given = {"since": "2000-01-01", **more}
        sql.run(config, sql.Question(text, **given), Format.JSON)
        return list(json.loads(capsys.readouterr().out))

    return asked


def test_every_kind_of_data_is_a_table(ask: Ask) -> None:
    """Samples, windows, rollups, events and series, each with all of its rows."""
    assert [row["name"] for row in ask("SHOW TABLES")] == [
        "events",
        "rollups",
        "samples",
        "series",
        "windows",
    ]
    counted = {
        name: ask(f"SELECT count(*) AS n FROM {name}")[0]["n"]  # noqa: S608 - our own names
        for name in ("samples", "windows", "events", "series")
    }
    assert counted == {"samples": 2 * READINGS, "windows": 3, "events": 6, "series": 3}
    (row,) = ask("SELECT * FROM samples WHERE name = 'temp' AND value = 61")
    assert row["time"] == "2023-11-14T22:14:21.000000000Z"
    assert (row["agent"], row["site"], row["device"], row["flags"]) == ("edge", "north", "p7", 0)
    assert json.loads(row["labels"]) == {"device": "p7", "site": "north"}


def test_spans_are_whole_seconds_where_they_are(ask: Ask) -> None:
    """As exports write them: a minute is 60, not 60.00000000000001; in lists and structs too."""
    rows = ask("SELECT DISTINCT step, length FROM rollups ORDER BY step")
    assert [row["length"] for row in rows] == [3_600.0, 60.0]
    (row,) = ask("SELECT array_agg(DISTINCT length) AS spans FROM rollups WHERE step = '1m'")
    assert row["spans"] == [60.0]


def test_rollups_have_minutes_and_hours_whatever_is_compacted(ask: Ask) -> None:
    """Each step by itself accounts for every reading; a column tells them apart."""
    rows = ask(
        "SELECT step, count(*) AS buckets, sum(count) AS readings, min(min) AS low, max(max) AS high "
        "FROM rollups WHERE name = 'temp' GROUP BY step ORDER BY step"
    )
    # T0 lies 20 seconds into a minute.
    assert rows == [
        {"step": "1h", "buckets": 1, "readings": READINGS, "low": 0.0, "high": 179.0},
        {"step": "1m", "buckets": 4, "readings": READINGS, "low": 0.0, "high": 179.0},
    ]
    (first,) = ask("SELECT * FROM rollups WHERE step = '1m' AND name = 'temp' ORDER BY start LIMIT 1")
    assert first["start"] == "2023-11-14T22:13:00.000000000Z"
    assert (first["length"], first["count"], first["sum"], first["first"], first["last"]) == (
        60.0, 40, sum(range(40)), 0.0, 39.0,
    )  # fmt: skip
    flow = ask("SELECT count, sum FROM rollups WHERE name = 'flow' AND step = '1h'")
    assert flow == [{"count": 9, "sum": 27.0}]


def test_events_are_a_table_with_their_attributes(ask: Ask) -> None:
    """Newest first; attributes are JSON."""
    rows = ask("SELECT * FROM events WHERE source = 'pump'")
    assert [row["body"] for row in rows] == ["bearing 2 hot", "bearing 1 hot", "bearing 0 hot"]
    assert (rows[0]["agent"], rows[0]["severity"]) == ("edge", 17)
    assert json.loads(rows[0]["attributes"]) == {"zone": "x"}
    assert ask("SELECT count(*) AS n FROM events WHERE severity > 9 OR body LIKE 'started%'") == [{"n": 6}]


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("severity >= 17", 3),
        ("severity > 17", 0),
        ("9 < severity", 3),
        ("agent = 'edge' AND source = 'plc'", 3),
        ("agent = 'nobody'", 0),
        ("time >= '2023-11-14T22:14:20Z'", 4),
        ("time > '2023-11-14T22:14:20Z'", 3),
        ("time < '2023-11-14T22:14:20Z'", 2),
        ("time <= '2023-11-14T22:14:20Z' AND source = 'pump'", 2),
        ("time = '2023-11-14T22:14:20Z'", 1),
        ("time BETWEEN '2023-11-14T22:14:00Z' AND '2023-11-14T22:14:21Z'", 2),
        ("source = 'pump' OR source = 'plc'", 6),
        ("NOT source = 'pump'", 3),
        ("source IN ('pump', 'x') AND severity = 17", 3),
    ],
)
def test_conditions_on_events_leave_the_rows_that_meet_them(ask: Ask, condition: str, found: int) -> None:
    """Whether the store applies them or Polars."""
    assert ask(f"SELECT count(*) AS n FROM events WHERE {condition}") == [{"n": found}]  # noqa: S608


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("name = 'temp' AND time >= '2023-11-14T22:14:20Z'", 120),
        ("time < '2023-11-14T22:13:21Z'", 2),
        ("'2023-11-14T22:13:21Z' >= time", 4),
        ("name LIKE 'te%' AND value < 3", 3),
        ("name IN ('temp', 'flow')", 180),
        ("name <> 'temp'", 180),
        ("name = 'temp' OR value < 0", 360),
        ("name = 'temp' AND name = 'power'", 0),
        ("value > (SELECT avg(value) FROM samples WHERE name = 'temp') AND device = 'p7'", 90),
        ("time > '2040-01-01'", 0),
    ],
)
def test_conditions_on_samples_leave_the_rows_that_meet_them(ask: Ask, condition: str, found: int) -> None:
    """On times, on what series have in common, on values, and on several of them."""
    assert ask(f"SELECT count(*) AS n FROM samples WHERE {condition}") == [{"n": found}]  # noqa: S608


def test_tables_are_joined_and_crossed(ask: Ask) -> None:
    """A table that is read for its height alone has its rows too."""
    assert ask("SELECT count(*) AS n FROM samples CROSS JOIN events") == [{"n": 6 * 2 * READINGS}]
    joined = "SELECT e.source, count(*) AS n FROM events e JOIN samples s ON e.time = s.time WHERE s.name = 'temp' GROUP BY e.source"
    assert sorted(row["n"] for row in ask(joined)) == [3, 3]
    assert ask("SELECT s.unit FROM samples s CROSS JOIN windows w LIMIT 1") == [{"unit": ""}]
    both = "WITH hot AS (SELECT series, max(value) AS peak FROM samples GROUP BY series) SELECT name, peak FROM hot JOIN series USING (series) ORDER BY peak"
    assert [row["name"] for row in ask(both)] == ["power", "temp"]


def test_the_range_and_the_selector_of_the_options_hold_for_all_tables(ask: Ask) -> None:
    """Series' tables by --match too."""
    narrow = {"since": "2023-11-14T22:14:20Z", "until": "2023-11-14T22:15:20Z"}
    assert ask("SELECT count(*) AS n FROM samples", match="temp", **narrow) == [{"n": 60}]
    assert ask("SELECT count(*) AS n FROM events", **narrow) == [{"n": 2}]
    assert ask("SELECT count(*) AS n FROM rollups WHERE step = '1m'", match="temp", **narrow) == [{"n": 1}]
    assert ask("SELECT name FROM series", match="temp") == [{"name": "temp"}]


def test_only_what_a_statement_asks_for_is_read(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables that it doesn't name, times and series that its conditions leave out, and steps that it doesn't want."""
    reads: list[tuple[str, str, int, int, int]] = []
    real = tables.pieces_of

    def noted(database: Database, wanted: Wanted, series: Sequence[Series], *more: Any, **held: Any) -> Any:
        reads.append((wanted.kind, wanted.level, wanted.start_ns, wanted.end_ns, len(series)))
        return real(database, wanted, series, *more, **held)

    monkeypatch.setattr(tables, "pieces_of", noted)
    ask("SELECT * FROM events")
    ask("SELECT * FROM series")
    assert reads == []
    ask(
        "SELECT avg(value) FROM samples WHERE name = 'temp' AND time >= '2023-11-14T22:14:20Z' AND time < '2023-11-14T22:15:20Z'"
    )
    assert reads == [("samples", "1m", T0 + MINUTE, T0 + 2 * MINUTE, 1)]
    reads.clear()
    ask("SELECT count(*) FROM rollups WHERE step = '1h' AND name LIKE 't%'")
    assert [(kind, level, series) for kind, level, _, _, series in reads] == [("rollups", "1h", 1)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("DROP TABLE samples", "DROP begins no query"),
        ("delete from samples where name = 'x'", "DELETE begins no query"),
        ("TRUNCATE TABLE samples", "TRUNCATE begins no query"),
        ("CREATE TABLE x AS SELECT 1", "CREATE begins no query"),
        ("INSERT INTO samples VALUES (1)", "INSERT begins no query"),
        ("/* hi */ -- ho\n DROP TABLE samples", "DROP begins no query"),
        ("WITH x AS (SELECT 1) DELETE FROM samples", "begins no query"),
        ("EXPLAIN DROP TABLE samples", "DROP begins no query"),
        ("'SELECT'", "begins no query"),
        ("", "is empty"),
        (" ; ", "is empty"),
        ("SELECT 1; SELECT 2", "more than one statement"),
        ("SHOW COLUMNS FROM samples", "SHOW knows TABLES alone"),
        ("SELECT * FROM read_csv('/etc/passwd')", "read_csv reads a file"),
        ("SELECT * FROM READ_PARQUET ('x')", "read_parquet reads a file"),
        ("SELECT * FROM \"read_json\"/* */('x')", "read_json reads a file"),
        ("WITH a AS (SELECT * FROM read_ipc('x')) SELECT * FROM a", "read_ipc reads a file"),
    ],
)
def test_what_is_no_query_of_the_store_is_refused(text: str, words: str) -> None:
    """Before anything is read, with the exit code of wrong use: it would look done, or read what isn't ours."""
    with pytest.raises(CliError, match=words) as caught:
        sql.run(None, sql.Question(text), Format.JSON)
    assert caught.value.code == Exit.USAGE
    assert caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1;",
        "(SELECT 1)",
        "with drop_ as (select 1) select * from drop_",
        "EXPLAIN SELECT name FROM samples",
        "show tables;",
        "SELECT body FROM events WHERE body = 'read_csv(x); DROP TABLE samples -- '",
        "SELECT read_csv FROM events",
        'WITH "delete" AS (SELECT 1) SELECT * FROM "delete"',
    ],
)
def test_queries_pass(text: str) -> None:
    """Whatever words stand in their texts and names."""
    statement.check(text)


def test_a_plan_is_shown(ask: Ask) -> None:
    """EXPLAIN reads nothing."""
    assert any(
        "samples" in row["Logical Plan"]
        for row in ask("EXPLAIN SELECT name FROM samples WHERE name = 'temp'")
    )


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("SELECT nothing FROM samples", "nothing", "events has time, agent, source"),
        ("SELECT * FROM nothing", "nothing", "rollups has series, step, start"),
        ("SELECT 1 FROM samples WHERE time < now()", "Datetime", "--since 2h counts from now"),
        ("SELEC", "SELEC begins no query", "SELECT"),
    ],
)
def test_what_cannot_be_run_is_said_with_what_there_is(ask: Ask, text: str, words: str, hint: str) -> None:
    """In one line, and what to write instead."""
    with pytest.raises(CliError) as caught:
        ask(text)
    assert words in caught.value.message
    assert "\n" not in caught.value.message
    assert hint in caught.value.hint


def test_an_answer_with_too_many_rows_is_refused(ask: Ask) -> None:
    """With what to do: a cut one would look whole."""
    with pytest.raises(CliError, match="more than 1,000 rows") as caught:
        ask("SELECT s.time FROM samples s CROSS JOIN events e", rows=1_000)
    assert "LIMIT" in caught.value.hint
    assert len(ask("SELECT s.time FROM samples s CROSS JOIN events e LIMIT 1000", rows=1_000)) == 1_000


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (("--timeout", "1ms"), "takes longer than 1ms"),
        (("--memory", "256", "--timeout", "10m"), "takes more than 256.0 MiB of memory"),
    ],
)
def test_a_statement_over_its_limits_ends_with_a_sentence(
    config: Path, limit: tuple[str, str], words: str
) -> None:
    """And the process with it, though threads still work on it; programs get it as JSON."""
    product = "SELECT a.value * b.value + c.value AS v, a.labels FROM samples a CROSS JOIN samples b CROSS JOIN samples c ORDER BY v"
    command = [sys.executable, "-m", "telemetryx", "sql", product, "--config", str(config), "--json"]
    done = subprocess.run(
        [*command, "--since", "2000-01-01", *limit],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(sql.__file__).parents[3])},
    )
    assert done.returncode == Exit.USAGE, done.stderr
    said = json.loads(done.stderr)["error"]
    assert words in said["message"]
    assert limit[0] in said["hint"]


ODD = [1.0, -0.5, float("nan"), float("inf"), float("-inf"), 1e-7, 1e22]
WORDS = ["1", "-0.5", "NaN", "+Inf", "-Inf", "1e-07", "1e+22"]
PARTED = T0 + 123_456_789


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A store with values that JSON has no numbers for, a nanosecond apart."""

    async def in_file() -> None:
        store = await SqliteStore.open(tmp_path / "telemetry.db")
        payload = Payload(samples({1: [(PARTED + n, value) for n, value in enumerate(ODD)]}))
        (outcome,) = await store.commit([decoded(BatchKey("edge", b"e" * 16, 1), payload, defined("temp"))])
        assert isinstance(outcome, Stored)
        await store.close()

    asyncio.run(in_file())
    path = tmp_path / "collector.toml"
    path.write_text(f'[collector]\ndata_dir = "{tmp_path}"\n')
    return path


def test_an_answer_for_programs_is_written_as_exports_are(
    odd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Times to the nanosecond, numbers digit by digit, words for what JSON has no number for; in lists and structs too."""

    def asked(text: str, how: Format) -> str:
        sql.run(odd, sql.Question(text, since="2000-01-01"), how)
        return capsys.readouterr().out

    def refused(word: str) -> None:
        raise AssertionError(f"{word} isn't JSON")

    text = "SELECT time, value FROM samples ORDER BY time"
    times = [f"2023-11-14T22:13:20.{123_456_789 + n}Z" for n in range(len(ODD))]
    wanted = [
        {"time": time, "value": word if word[-1] in "Nf" else value}
        for time, word, value in zip(times, WORDS, ODD, strict=True)
    ]
    lines = asked(text, Format.NDJSON).splitlines()
    assert [json.loads(line, parse_constant=refused) for line in lines] == wanted
    assert json.loads(asked(text, Format.JSON), parse_constant=refused) == wanted
    exported = odd.parent / "samples.csv"
    export.run(
        odd,
        export.Question("samples", str(exported), None, None, None, "2000-01-01", None, None, force=False),
    )
    capsys.readouterr()
    with exported.open(newline="") as file:
        rows = [[row["time"], row["value"]] for row in csv.DictReader(file)]
    assert rows == [[time, word] for time, word in zip(times, WORDS, strict=True)]
    assert list(csv.reader(asked(text, Format.CSV).splitlines())) == [["time", "value"], *rows]
    one = f"SELECT value FROM samples WHERE time = '{times[1]}'"  # noqa: S608 - our own time
    assert json.loads(asked(one, Format.JSON)) == [{"value": -0.5}]
    nested = asked("SELECT ARRAY_AGG(value) AS v, ARRAY_AGG(time) AS t FROM samples", Format.JSON)
    (row,) = json.loads(nested, parse_constant=refused)
    assert (row["v"][2:5], row["t"]) == (["NaN", "+Inf", "-Inf"], times)
    spans = "SELECT max(time) - min(time) AS span, CAST(NULL AS DOUBLE) AS none FROM samples"
    assert json.loads(asked(spans, Format.JSON)) == [{"span": 6e-9, "none": None}]
    assert asked(spans, Format.CSV) == "span,none\n6e-09,\n"
