"""Plain rows: with `plain_rows` each raw sample is one row of table `sample`, whatever is sent again, switched or killed; on each store."""

import math
import re
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from reference_agent import SECOND, T0, decoded, defined, samples, window
from telemetryx.clock import ManualClock
from telemetryx.errors import StoreUnavailable
from telemetryx.store.interface import Retention
from telemetryx.store.postgres.store import PostgresStore
from telemetryx.store.tables import plain
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.store import TableStore
from telemetryx.types import BatchKey, Decoded, Duplicate, Stored
from telemetryx.wire.payload import Payload

EPOCH = bytes(range(16))
HOUR = 3600 * SECOND
FOREVER = 1 << 62
DEFS = defined("temp", "power", site="north")

Row = tuple[int, int, str, int]


def batch(
    seq: int, times: Sequence[int], number: int = 1, epoch: bytes = EPOCH, offset_ns: int = 0
) -> Decoded:
    """One series at these seconds; values tell seq and place, every third is no number, and flags are set."""
    values = [math.nan if i % 3 == 2 else seq + i / 1000 for i in range(len(times))]
    rows = {number: [(T0 + t * SECOND, value) for t, value in zip(times, values, strict=True)]}
    flags = {number: [i % 4 for i in range(len(times))]}
    key = BatchKey("a", epoch, seq)
    return decoded(key, Payload(samples(rows, flags)), DEFS, clock_offset_ns=offset_ns)


async def send(store: TableStore, *batches: Decoded) -> None:
    """Commit batches that are new."""
    outcomes = await store.commit(batches)
    assert all(isinstance(outcome, Stored) for outcome in outcomes), outcomes


async def rows(store: TableStore) -> list[Row]:
    """All plain rows, sorted; NaN as a text, as each engine has its own."""
    found = await store.read(
        lambda db: db.execute("SELECT series_id, time_ns, value, flags FROM sample").fetchall()
    )
    return sorted(
        (series, time, "nan" if value is None or math.isnan(value) else repr(value), flags)
        for series, time, value, flags in found
    )


async def stored(store: TableStore) -> list[Row]:
    """The same of what readers see of raw samples."""
    ids = [series.id for series in await store.series()]
    block = await store.samples(ids, -FOREVER, FOREVER)
    series = np.repeat(block.series, np.diff(block.offsets)).tolist()
    flags = [0] * len(block) if block.flags is None else block.flags.tolist()
    return sorted(zip(series, block.times.tolist(), map(repr, block.values.tolist()), flags, strict=True))


async def upkeep(store: TableStore) -> None:
    """Compact until there is nothing to do."""
    while (report := await store.compact(everything=True)).more or report.batches:
        pass


async def test_rows_are_what_readers_see(store: TableStore) -> None:
    """Values, NaN, flags, corrected times, equal times and late batches: a row each, before compaction and after it."""
    store.keep_plain_rows(True)
    await send(store, batch(1, range(10)), batch(3, [5, 5, 5, 7], 2), batch(4, range(20, 30), offset_ns=HOUR))
    await store.compact()
    assert len(await rows(store)) == 24
    assert await rows(store) == await stored(store)
    await upkeep(store)
    await send(store, batch(2, [3, 5, 5, 5]), batch(1, [5, 5], epoch=bytes(16)))
    await store.compact()
    assert await rows(store) == await stored(store)
    await upkeep(store)
    assert await rows(store) == await stored(store)
    assert (await store.usage()).batches == 0
    assert await store.verify() == []


async def test_nothing_is_written_unless_it_is_asked_for(store: TableStore) -> None:
    """Without the option the table stays empty, and compaction waits for nobody."""
    await send(store, batch(1, range(10)))
    await upkeep(store)
    assert (await rows(store), (await store.usage()).batches) == ([], 0)
    assert await store.verify() == []


async def test_a_batch_that_is_sent_again_gives_no_second_row(store: TableStore) -> None:
    """Before and after compaction, in the same group and in a later one."""
    store.keep_plain_rows(True)
    one = batch(1, range(10))
    assert isinstance((await store.commit([one, one]))[0], Stored)
    for _ in range(3):
        await store.compact(everything=True)
        assert await store.commit([one]) == [Duplicate()]
        assert await rows(store) == await stored(store)


async def test_windows_are_no_rows_and_hold_nothing_up(store: TableStore) -> None:
    """A batch of windows alone passes, and is compacted."""
    store.keep_plain_rows(True)
    for seq in (1, 2):
        content = Payload(windows=window(1, T0 + seq * 60 * SECOND, [1.0, 2.0]))
        await send(store, decoded(BatchKey("a", EPOCH, seq), content, DEFS))
    await upkeep(store)
    assert ((await store.usage()).batches, await rows(store)) == (0, [])


async def test_compaction_waits_for_the_rows(store: TableStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch without rows stays as shipped, so that none is ever left out."""
    store.keep_plain_rows(True)
    await store.compact()
    await send(store, batch(1, range(10)))

    async def nothing() -> tuple[int, bool]:
        return 0, False

    with monkeypatch.context() as patched:
        patched.setattr(store._rows, "step", nothing)
        assert (await store.compact(everything=True)).batches == 0
    assert (await store.compact(everything=True)).batches == 1


async def test_what_was_stored_before_is_filled_in(
    store: TableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks and batches of before the option get their rows, in pieces; what comes meanwhile gets each row once."""
    monkeypatch.setattr(plain, "FIRST", 3)
    monkeypatch.setattr(plain, "FEWEST", 3)
    monkeypatch.setattr(plain, "MOST", 3)
    monkeypatch.setattr(plain, "ROUND", 7)
    await send(store, batch(1, range(20)), batch(2, range(20, 30), 2))
    await upkeep(store)
    await send(store, batch(3, range(30, 40)))
    store._rows = plain.PlainRows(store.read, store.write, store._numbers)
    store.keep_plain_rows(True)
    await store.compact(everything=True)
    await send(store, batch(4, range(40, 50)))
    seen = set()
    while (report := await store.compact(everything=True)).more or report.batches:
        seen.add(len(await rows(store)))
        assert await store.verify() == []
    assert len(seen) >= 3, "it came in pieces"
    assert len(await rows(store)) == 50
    assert await rows(store) == await stored(store)


async def test_the_option_may_be_switched_off_and_on(store: TableStore) -> None:
    """Rows of before stay, nothing waits meanwhile, and what came without rows gets them later."""
    for seq in range(1, 13):
        store.keep_plain_rows(seq % 3 != 0)
        await send(store, batch(seq, range(seq * 7, seq * 7 + 10)))
        await store.compact(everything=seq % 2 == 0)
        assert await store.verify() == []
    store.keep_plain_rows(False)
    await store.compact()
    await send(store, batch(13, range(100, 110)))
    await upkeep(store)
    assert (await store.usage()).batches == 0
    assert len(await rows(store)) < len(await stored(store))
    assert await store.verify() == []
    store.keep_plain_rows(True)
    await upkeep(store)
    assert await rows(store) == await stored(store)
    assert await store.verify() == []


class Breaking:
    """Lets so many writes through, then none, as a disk that fills up does: what was begun is undone."""

    def __init__(self, store: TableStore, left: int) -> None:
        self.store, self.left = store, left

    async def write(self, work: object) -> object:
        """Write, or fail at the end of the transaction."""

        def broken(db: Database) -> object:
            result = work(db)  # type: ignore[operator]
            if self.left < 0:
                raise StoreUnavailable("the disk is full", "full")
            return result

        self.left -= 1
        return await self.store.write(broken)


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("after", [1, 2, 4, 9])
async def test_a_round_that_is_cut_off_goes_on_where_it_was(
    store: TableStore, monkeypatch: pytest.MonkeyPatch, after: int, *, wanted: bool
) -> None:
    """Whichever transaction fails, in the middle of a batch or of a chunk, no row is missing afterwards and none is double."""
    for name in ("FIRST", "FEWEST", "MOST"):
        monkeypatch.setattr(plain, name, 3)
    await send(store, batch(1, range(20)))
    await upkeep(store)
    await send(store, batch(2, range(20, 30), 2), batch(3, range(30, 40)))
    breaking = Breaking(store, after)
    store._rows = plain.PlainRows(store.read, breaking.write, store._numbers)
    store.keep_plain_rows(True)
    with pytest.raises(StoreUnavailable):
        await upkeep(store)
    assert 0 <= len(await rows(store)) < 40
    assert await store.verify() == []
    breaking.left = 1000
    store.keep_plain_rows(wanted)
    await upkeep(store)
    assert await store.verify() == []
    store.keep_plain_rows(True)
    await upkeep(store)
    assert await rows(store) == await stored(store)


async def test_rows_go_with_their_samples(store: TableStore) -> None:
    """Retention takes rows that are past, one by one, in every series; what was late too; and `verify` agrees at each step."""
    store.keep_plain_rows(True)
    first = T0 // HOUR * HOUR
    hours = [(first - T0) // SECOND + h * 3600 for h in range(10)]
    await send(store, batch(1, hours), batch(2, hours, 2))
    await upkeep(store)
    kept = Retention(raw_ns=3 * HOUR, windows_ns=3 * HOUR)
    await store.apply_retention(kept, first + 9 * HOUR)
    assert [row[1] for row in await rows(store)] == [first + h * HOUR for h in range(6, 10)] * 2
    assert await store.verify() == []
    await send(store, batch(3, hours[:2]))
    await upkeep(store)
    assert len(await rows(store)) == 10, "a late one is a row like any other, until the next retention"
    assert await store.verify() == []
    await store.apply_retention(kept, first + 20 * HOUR)
    assert await rows(store) == []
    assert await store.verify() == []


async def test_retention_takes_many_rows_in_pieces(
    store: TableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More rows than one transaction deletes, many of them of one time."""
    monkeypatch.setattr("telemetryx.store.tables.retention.ROWS", 7)
    store.keep_plain_rows(True)
    await send(store, batch(1, [0] * 30 + list(range(1, 20))), batch(2, range(40), 2))
    await upkeep(store)
    await store.apply_retention(Retention(raw_ns=HOUR, windows_ns=HOUR), T0 + 5 * HOUR)
    assert await rows(store) == []


async def test_verify_tells_rows_that_are_missing_or_double(store: TableStore) -> None:
    """Somebody else's DELETE or INSERT shows, by series; before and after compaction."""
    store.keep_plain_rows(True)
    await send(store, batch(1, range(10)), batch(2, range(10), 2))
    await store.compact()
    one = np.array([1]), np.array([T0]), np.array([1.0]), np.array([0], np.uint8)
    for _ in range(2):
        assert await store.verify() == []
        await store.write(
            lambda db: db.execute("DELETE FROM sample WHERE series_id = 1 AND time_ns < ?", (T0 + SECOND,))
        )
        assert await store.verify() == ["series 1 has 9 plain rows of 10 samples that should have one"]
        await store.write(lambda db: db.put_samples(*one))
        await upkeep(store)


async def test_a_chunk_that_cannot_be_read_leaves_the_others_their_rows(store: TableStore) -> None:
    """Its samples have none, which `verify` says as it says what is wrong with the chunk."""
    await send(store, batch(1, range(10)), batch(2, range(10), 2))
    await upkeep(store)
    await store.write(lambda db: db.execute("UPDATE chunk SET times = ? WHERE series_id = 2", (b"\x01junk",)))
    store.keep_plain_rows(True)
    await upkeep(store)
    assert {row[0] for row in await rows(store)} == {1}
    (problem,) = await store.verify()
    assert "can't be decoded" in problem


def test_a_transaction_takes_as_many_rows_as_fit_into_its_time() -> None:
    """Slow ones shrink the next, by half at most; quick ones double it at most; a small rest says nothing."""
    pace = plain.Pace()
    pace.rows = 4_000
    pace.took(4_000, 10 * plain.PIECE_S)
    assert pace.rows == 2_000
    pace.took(2_000, plain.PIECE_S)
    assert pace.rows == 2_000
    pace.took(5, plain.PIECE_S / 2)
    assert pace.rows == 2_000
    pace.took(2_000, plain.PIECE_S / 100)
    assert pace.rows == 4_000
    for _ in range(100):
        pace.took(pace.rows, 1.0)
    assert pace.rows == plain.FEWEST
    for _ in range(100):
        pace.took(pace.rows, 1e-9)
    assert pace.rows == plain.MOST


async def test_what_is_kept_nowhere_is_no_row(store: TableStore) -> None:
    """What is older than every retention when it comes is expired, and no row of it is written."""
    store.keep_plain_rows(True)
    kept = Retention(raw_ns=HOUR, windows_ns=HOUR, rollup_1m_ns=2 * HOUR, rollup_1h_ns=2 * HOUR)
    await store.apply_retention(kept, T0 + 10 * HOUR)
    await send(store, batch(1, [0, 1, 36_000]))
    await upkeep(store)
    assert [row[1] for row in await rows(store)] == [T0 + 36_000 * SECOND]


async def test_the_queries_of_the_how_to_run(store: TableStore, clock: ManualClock) -> None:
    """What docs/how-to/plain-rows.md shows gives the means of each device by minute, on the engine that it is for."""
    page = (Path(__file__).parents[3] / "docs/how-to/plain-rows.md").read_text("utf-8")
    for_postgres, for_sqlite = re.findall(r"^```sql\n(SELECT device.*?)^```", page, re.MULTILINE | re.DOTALL)
    now = time.time_ns() // (60 * SECOND) * 60 * SECOND
    clock.advance(now - clock.now_ns())
    rows = [(now - 120 * SECOND, 1.0), (now - 90 * SECOND, 2.0), (now - 30 * SECOND, 5.0)]
    store.keep_plain_rows(True)
    await send(
        store,
        decoded(BatchKey("a", EPOCH, 1), Payload(samples({1: rows})), defined("temperature", device="p7")),
    )
    await store.compact()
    asked = (for_postgres if isinstance(store, PostgresStore) else for_sqlite).strip().rstrip(";")
    found = await store.read(lambda db: db.execute(asked).fetchall())
    assert [(row[0], row[2]) for row in found] == [("p7", 1.5), ("p7", 5.0)]
