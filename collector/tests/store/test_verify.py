"""`store verify` finds what was changed or deleted behind the store's back; runs on each store."""

from collections.abc import Callable

import numpy as np
import pytest

from reference_agent import SECOND, T0, decoded, defined, samples, window
from telemetryx.cli.store import _remedy
from telemetryx.clock import ManualClock
from telemetryx.errors import SchemaBroken, StoreDamaged
from telemetryx.store.interface import Retention
from telemetryx.store.tables import rebuild, verify
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.store import TableStore
from telemetryx.types import BatchKey, SketchBlock, Stored
from telemetryx.wire.payload import Payload

EPOCH = bytes(range(16))
DEFS = defined("temp", "power")
HOUR = 3_600 * SECOND


async def filled(store: TableStore, *, compact: bool = True) -> None:
    """An hour of one series, and a window with a sketch of another; one batch is left as shipped."""
    line = [(T0 + i * SECOND, 20.0 + i * 37 % 101 / 4) for i in range(3_600)]
    pane = window(2, T0, [1.0, 2.0, 3.0])
    u32 = np.array
    pane.sketch = SketchBlock(
        u32([2, 0], np.uint32),
        np.array([1, 5], np.int32),
        np.array([1, 2], np.uint64),
        np.array([0], np.uint64),
    )
    for seq, content in enumerate(
        (Payload(samples({1: line[:1_800]}), pane), Payload(samples({1: line[1_800:]})), None, None), 1
    ):
        late = samples({1: [(T0 + (seq + 5) * HOUR, float(seq))]})
        (outcome,) = await store.commit(
            [decoded(BatchKey("a", EPOCH, seq), Payload(late) if content is None else content, DEFS)]
        )
        assert isinstance(outcome, Stored)
        if seq == 2 and compact:
            while (report := await store.compact(everything=True)).more or report.batches:
                pass


async def test_a_store_that_nobody_touched_is_sound(store: TableStore) -> None:
    """With batches as shipped beside chunks, and after all are compacted; also a value that is no number, or infinite."""
    await filled(store)
    assert await store.verify() == []
    odd = [
        (T0 + 9 * HOUR + i * SECOND, value) for i, value in enumerate((np.nan, np.inf, -np.inf, 1.0, np.nan))
    ]
    await store.commit([decoded(BatchKey("a", EPOCH, 5), Payload(samples({2: odd})), DEFS)])
    assert await store.verify() == []
    while (report := await store.compact(everything=True)).more or report.batches:
        pass
    assert await store.verify() == []


async def test_steps_of_a_newer_collector_are_no_fault_while_all_known_tables_are_there(
    store: TableStore,
) -> None:
    """Another host was brought up to date first; where its step took what is known here, that is what is said."""
    await filled(store)
    steps = "schema_step" if store.shared else "_sqlite_migrations"
    columns = "(name)" if store.shared else "(migration_set, name, applied_at)"
    row = "('0099_future')" if store.shared else "('telemetryx', '0099_future', 'now')"
    await store.write(run(f"INSERT INTO {steps} {columns} VALUES {row}"))  # noqa: S608 - the test's own names
    await store.check_schema()
    assert await store.verify() == []
    await store.write(run("DROP TABLE silence"))
    with pytest.raises(
        SchemaBroken, match=r"newer collector \(schema step 0099_future.*upgrade the collector"
    ):
        await store.check_schema()


def flip(table: str, column: str, share: float) -> Callable[[Database], None]:
    """Change a byte of a blob."""

    def work(db: Database) -> None:
        row, blob = db.execute(
            f'SELECT id, "{column}" FROM "{table}" ORDER BY id LIMIT 1'  # noqa: S608 - the test's own names
        ).fetchone()
        data = bytearray(blob)
        data[int(share * len(data))] ^= 0xA5
        db.execute(
            f'UPDATE "{table}" SET "{column}" = ? WHERE id = ?',  # noqa: S608 - the test's own names
            (bytes(data), row),
        )

    return work


def run(statement: str) -> Callable[[Database], None]:
    """Run a statement."""

    def work(db: Database) -> None:
        db.execute(statement)

    return work


DAMAGE = {
    **{
        f"values at {share}": (flip("chunk", "values", share), "chunk") for share in (0.1, 0.3, 0.5, 0.7, 0.9)
    },
    **{
        f"chunk's {name}": (run(f"UPDATE chunk SET {name} = {name} + 1"), name)  # noqa: S608 - one of these
        for name in ("min", "max", "sum", "first", "last")
    },
    "chunk gone": (run("DELETE FROM chunk"), "its rollups show something else"),
    "sketch": (run("UPDATE \"window\" SET sketch = CAST('0' AS BLOB)"), "sketch"),
    "sketch's end": (flip("window", "sketch", 0.9), "sketch"),
    "window": (run('UPDATE "window" SET first = max + 1'), "outside"),
    "window's sum": (run('UPDATE "window" SET sum = sum + 1'), "its rollups show something else"),
    "rollup": (run("UPDATE rollup_1m SET count = count + 1"), "its rollups show something else"),
    "rollup's sum": (run("UPDATE rollup_1m SET sum = sum + 0.001"), "its rollups show something else"),
    "rollup's order": (run("UPDATE rollup_1h SET min = max + 1"), "contradict"),
    **{
        f"{table}'s {name}": (run(f"UPDATE {table} SET {name} = {name} + 1"), said)  # noqa: S608 - one of these
        for table, said in (
            ("rollup_1m", "its rollups show something else"),
            (
                "rollup_1h",
                "rollup_1h: series 1 has an hour that shows something else than its minutes, first at",
            ),
        )
        for name in ("first_ms", "last_ms", "first", "last")
    },
    **{
        f"{table}'s {name}": (
            run(f"UPDATE {table} SET {name} = {name} + 1"),  # noqa: S608 - one of these
            "doesn't hold what its row says",
        )
        for table, name in (("rollup_1m", "min"), ("rollup_1h", "min"), ("rollup_1h", "count"))
    },
    "minute's sketch gone": (
        run("UPDATE rollup_1m SET sketch = NULL WHERE series_id = 1"),
        "its rollups show something else",
    ),
    "hour's sketch gone": (
        run("UPDATE rollup_1h SET sketch = NULL WHERE series_id = 1"),
        "rollup_1h: series 1 has an hour that shows something else than its minutes, first at",
    ),
    "hour gone": (
        run("DELETE FROM rollup_1h WHERE series_id = 1"),
        "rollup_1h: series 1 lacks an hour whose minutes are there, first at",
    ),
    "hour's minutes gone": (
        run("DELETE FROM rollup_1m WHERE t0_ns >= (SELECT min(t0_ns) FROM rollup_1h) + 3600000000000"),
        "rollup_1h: series 1 has an hour without minutes at",
    ),
    "rollup gone": (
        run("DELETE FROM rollup_1m WHERE t0_ns > (SELECT min(t0_ns) FROM rollup_1m)"),
        "its rollups show something else",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
async def test_what_was_changed_or_deleted_is_found(store: TableStore, kind: str) -> None:
    """Bytes, figures and rows."""
    await filled(store)
    work, said = DAMAGE[kind]
    if store.shared and kind == "sketch":
        work = run("UPDATE \"window\" SET sketch = '\\x00ff'")
    await store.write(work)
    problems = await store.verify()
    assert any(said in problem for problem in problems), problems
    if kind.startswith(("rollup", "minute", "hour")) and "without" not in said:
        assert any("`telemetryx store rebuild`" in problem for problem in problems)


REBUILT = [
    kind
    for kind in DAMAGE
    if kind.startswith(("rollup", "minute's", "hour")) and kind != "hour's minutes gone"
]


@pytest.mark.parametrize("kind", REBUILT)
async def test_rollups_that_were_changed_are_computed_anew(store: TableStore, kind: str) -> None:
    """`store rebuild` has it done by the store's upkeep, from raw data."""
    await filled(store)
    before = await everything(store)
    await store.write(DAMAGE[kind][0])
    assert await store.verify()
    faults = await store.read(rebuild.plan)
    done = await store.write(lambda db: rebuild.rebuild(db, faults))
    assert (done.marked > 0, done.hours) == (True, 0)
    while (report := await store.compact()).more or report.rollups:
        pass
    assert await everything(store) == before
    assert await store.verify() == []


def bend(table: str) -> Callable[[Database], None]:
    """Change a byte of the first sketch of a table of rollups."""

    def work(db: Database) -> None:
        first = f"FROM {table} WHERE sketch IS NOT NULL ORDER BY series_id, t0_ns LIMIT 1"
        series, time, sketch = db.execute(f"SELECT series_id, t0_ns, sketch {first}").fetchone()
        data = bytearray(sketch)
        data[len(data) // 2] ^= 0xA5
        db.execute(
            f"UPDATE {table} SET sketch = ? WHERE series_id = ? AND t0_ns = ?",  # noqa: S608 - one of two
            (bytes(data), series, time),
        )

    return work


async def aged(store: TableStore, clock: ManualClock) -> None:
    """Let raw data be gone."""
    while (report := await store.compact(everything=True)).more or report.batches:
        pass
    day = 24 * HOUR
    clock.advance(3 * day)
    await store.apply_retention(Retention(day, day, 900 * day, 900 * day), clock.now_ns())


@pytest.mark.parametrize("table", ["rollup_1m", "rollup_1h"])
@pytest.mark.parametrize("gone", [False, True], ids=["raw data there", "raw data gone"])
async def test_a_damaged_sketch_is_told_once_with_what_helps(
    store: TableStore, clock: ManualClock, table: str, *, gone: bool
) -> None:
    """A rebuild where there is something to compute it from, else a backup alone; and nothing more once it waits to be computed anew."""
    await filled(store)
    if gone:
        await aged(store, clock)
    await store.write(bend(table))
    (problem,) = await store.verify()
    assert problem.startswith(f"{table}: the sketch of series 1 at")
    lost = gone and table == "rollup_1m"
    assert ("a backup alone has it" if lost else "`telemetryx store rebuild`") in problem
    assert ("store rebuild" in _remedy([problem])) is not lost
    faults = await store.read(rebuild.plan)
    await store.write(lambda db: rebuild.rebuild(db, faults))
    for _ in range(2):
        assert await store.verify() == ([problem] if lost else [])
        while (report := await store.compact()).more or report.rollups:
            pass


async def test_figures_that_wait_to_be_computed_anew_are_no_problem(store: TableStore) -> None:
    """Rows that contradict themselves, of minutes and hours."""
    await filled(store)
    for table in ("rollup_1m", "rollup_1h"):
        await store.write(run(f"UPDATE {table} SET min = max + 1"))  # noqa: S608 - one of two
    assert any("contradict" in problem for problem in await store.verify())
    faults = await store.read(rebuild.plan)
    await store.write(lambda db: rebuild.rebuild(db, faults))
    assert await store.verify() == []


async def test_hours_that_did_not_know_when_their_first_reading_was_are_sound_with_late_ones(
    store: TableStore, clock: ManualClock
) -> None:
    """They span their unit, and keep their first and last readings; the minutes that late readings made know better."""
    await filled(store)
    await aged(store, clock)
    for table, unit in (("rollup_1m", 60_000), ("rollup_1h", 3_600_000)):
        await store.write(run(f"UPDATE {table} SET first_ms = 0, last_ms = {unit - 1}"))  # noqa: S608 - the test's own
    assert await store.verify() == []
    late = samples({1: [(T0 // HOUR * HOUR + 90 * SECOND, 7.5), (T0 + 6 * HOUR + 30 * 60 * SECOND, 3.5)]})
    (outcome,) = await store.commit([decoded(BatchKey("a", EPOCH, 5), Payload(late), DEFS)])
    assert isinstance(outcome, Stored)
    while (report := await store.compact(everything=True)).more or report.batches or report.rollups:
        pass
    assert await store.verify() == []
    await store.write(run("UPDATE rollup_1h SET count = count + 1"))
    assert any("shows something else than its minutes" in problem for problem in await store.verify())


async def everything(store: TableStore) -> list[tuple[object, ...]]:
    """All rollups."""
    return await store.read(
        lambda db: [
            tuple(row)
            for table in ("rollup_1m", "rollup_1h")
            for row in db.execute(f"SELECT * FROM {table} ORDER BY series_id, t0_ns").fetchall()  # noqa: S608
        ]
    )


@pytest.mark.parametrize(
    "change",
    ["DELETE FROM rollup_1h", "UPDATE rollup_1h SET sketch = NULL", "UPDATE rollup_1h SET last_ms = 0"],
)
async def test_hours_whose_raw_data_is_gone_are_compared_with_their_minutes_and_computed_from_them(
    store: TableStore, clock: ManualClock, change: str
) -> None:
    """Byte for byte; but an hour with more readings than its minutes is left, for some of those are gone then."""
    await filled(store)
    while (report := await store.compact(everything=True)).more or report.batches:
        pass
    day = 24 * HOUR
    clock.advance(3 * day)
    await store.apply_retention(Retention(day, day, 900 * day, 900 * day), clock.now_ns())
    before = await everything(store)
    assert await store.verify() == []
    await store.write(run(change))
    assert any("rollup_1h: series 1" in problem for problem in await store.verify())
    faults = await store.read(rebuild.plan)
    done = await store.write(lambda db: rebuild.rebuild(db, faults))
    assert (done.marked, done.hours > 0) == (0, True)
    assert await everything(store) == before
    assert await store.verify() == []
    await store.write(
        run(
            "DELETE FROM rollup_1m WHERE series_id = 1 AND t0_ns = (SELECT max(t0_ns) - 60000000000 FROM rollup_1m WHERE count > 9)"
        )
    )
    assert len(await store.verify()) == 1
    hurt = await everything(store)
    faults = await store.read(rebuild.plan)
    assert (await store.write(lambda db: rebuild.rebuild(db, faults))).hours == 0
    assert await everything(store) == hurt


async def test_hours_of_minutes_that_are_past_their_retention_are_sound(store: TableStore) -> None:
    """Whole or cut at the limit; hours that are past theirs needn't be there."""
    await filled(store)
    while (report := await store.compact(everything=True)).more or report.batches:
        pass
    day = 24 * HOUR
    for minutes, hours in ((day - HOUR // 2, 900 * day), (day - 5 * HOUR, day - 7 * HOUR)):
        await store.apply_retention(Retention(day, day, minutes, hours), T0 // HOUR * HOUR + day + HOUR // 4)
        assert await store.verify() == []


async def test_a_batch_that_is_gone_is_found_where_batches_are_numbered_without_gaps(
    store: TableStore,
) -> None:
    """In SQLite's file; a database's numbers have gaps."""
    await filled(store)
    await store.write(run("DELETE FROM batch WHERE id = (SELECT max(id) FROM batch)"))
    assert await store.verify() == ([] if store.shared else ["1 of the batches 3 to 4 are missing"])


async def test_many_of_one_kind_are_counted_and_not_all_named(
    store: TableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its ledger, or after a disk went bad, each row of a store is at fault."""
    monkeypatch.setattr(verify, "MOST", 2)
    for seq in range(1, 6):
        late = samples({1: [(T0 + seq * HOUR, float(seq))]})
        await store.commit([decoded(BatchKey("a", EPOCH, seq), Payload(late), DEFS)])
    await store.write(run("DELETE FROM ledger"))
    problems = await store.verify()
    assert [problem.endswith("isn't in the ledger") for problem in problems] == [True, True, False]
    assert problems[2] == "(and 3 more of batches)"


@pytest.mark.parametrize("column", ["times", "values"])
@pytest.mark.parametrize("bytes_", [b"", b"\x01", b"\x01junk", b"\x00abc", bytes(9)])
async def test_a_query_of_a_damaged_chunk_says_which_and_what_to_do(
    store: TableStore, column: str, bytes_: bytes
) -> None:
    """Of its samples, at a time in the past, over all of it: never a fault of ours without a name, never values of something else."""
    at = [(T0 + i * SECOND + i % 3, float(i)) for i in range(1_000)]
    await store.commit([decoded(BatchKey("a", EPOCH, 1), Payload(samples({1: at, 2: at})), DEFS)])
    while (report := await store.compact(everything=True)).more or report.batches:
        pass
    if column == "times" and not bytes_:
        return  # that is what evenly spaced times are
    change = f'UPDATE chunk SET "{column}" = ? WHERE series_id = 1'  # noqa: S608 - one of two
    await store.write(lambda db: db.execute(change, (bytes_,)))
    span = (T0, T0 + 500 * SECOND)
    for ask in (
        store.samples([1, 2], *span),
        store.newest([1, 2], *span),
        store.points([1, 2], *span, rather_raw=True),
        store.range([1, 2], *span, 7 * SECOND),
    ):
        with pytest.raises(StoreDamaged, match=r"series 1 .*`telemetryx store verify`"):
            await ask
    assert len(await store.samples([2], T0, T0 + 2_000 * SECOND)) == 1_000


async def test_flags_that_cannot_be_read_are_named(store: TableStore) -> None:
    """By `verify`, which goes on to the other chunks, and by a query."""
    await filled(store)
    await store.write(lambda db: db.execute("UPDATE chunk SET flags = ? WHERE series_id = 1", (b"junk",)))
    problems = await store.verify()
    assert any("can't be decoded" in problem for problem in problems)
    with pytest.raises(StoreDamaged, match="series 1"):
        await store.samples([1], T0, T0 + HOUR)
