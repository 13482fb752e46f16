"""Opened batches that readers keep: fetched once, within some bytes, and never shown when they are gone from the store."""

import numpy as np

from reference_agent import SECOND, T0, decoded, defined, samples
from telemetryx.store.tables import shipped
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.shipped import Key, Opened
from telemetryx.store.tables.store import TableStore
from telemetryx.types import BatchKey, Stored
from telemetryx.wire.payload import Payload

EACH = 100


async def fill(store: TableStore, batches: int) -> None:
    """Commit batches of twelve series' noise, one after the other in time."""
    chance = np.random.default_rng(3)
    for seq in range(1, batches + 1):
        rows = {
            n: [(T0 + (seq * EACH + i) * SECOND, v) for i, v in enumerate(chance.normal(size=EACH).tolist())]
            for n in range(1, 13)
        }
        names = defined(*(f"m{n:02}" for n in range(1, 13)))
        (outcome,) = await store.commit(
            [decoded(BatchKey("a", b"e" * 16, seq), Payload(samples(rows)), names)]
        )
        assert isinstance(outcome, Stored)


def keys(connection: Database) -> list[Key]:
    """Name every batch."""
    return [
        Key(*row)
        for row in connection.execute("SELECT id, epoch_id, seq, received_ns FROM batch ORDER BY id")
    ]


async def test_few_series_and_many_are_the_same_before_and_after_compaction(store: TableStore) -> None:
    """One by one, all at once, from memory, from chunks: the same bits, each sample once."""
    await fill(store, 12)
    ids = [row.id for row in await store.series()]
    span = (T0 + 150 * SECOND, T0 + 1_150 * SECOND)
    whole = await store.samples(ids, *span)
    for _ in range(2):
        for _ in range(2):
            for one in ids:
                alone = await store.samples([one], *span)
                assert alone.times.tolist() == whole.of(one)[0].tolist()
                assert alone.values.tobytes() == whole.of(one)[1].tobytes()
        while (report := await store.compact(everything=True)).more or report.batches:
            pass
        assert (await store.samples(ids, *span)).values.tobytes() == whole.values.tobytes()


async def test_a_batch_is_fetched_once_and_what_is_kept_stays_within_its_bytes(store: TableStore) -> None:
    """The oldest go; one that would push out all the others isn't kept at all."""
    await fill(store, 20)

    def work(connection: Database) -> None:
        wanted = keys(connection)
        one = next(opened.nbytes for _, opened in Opened().read(connection, wanted[:1]))
        kept = Opened(most=5 * one)
        read = dict(kept.read(connection, wanted))
        assert sorted(read) == wanted
        assert 4 <= len(kept) <= 5
        again = dict(kept.read(connection, wanted[-4:]))
        assert all(again[key] is read[key] for key in wanted[-4:])
        assert dict(kept.read(connection, wanted[:1]))[wanted[0]] is not read[wanted[0]]
        small = Opened(most=one)
        assert len(dict(small.read(connection, wanted))) == 20
        assert len(small) == 0

    await store.read(work)


async def test_a_number_that_was_given_anew_is_another_batch(store: TableStore) -> None:
    """After a database was put back a row's number may come again: what is kept under it isn't taken for it."""
    await fill(store, 1)

    def work(connection: Database) -> None:
        (key,) = keys(connection)
        kept = Opened(shipped.KEPT_BYTES)
        first = dict(kept.read(connection, [key]))[key]
        other = key._replace(received_ns=key.received_ns + 1)
        assert dict(kept.read(connection, [other]))[other] is not first

    await store.read(work)
