"""What is decoded and not yet committed stays small in memory, whatever a batch holds."""

import asyncio
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from reference_agent import SECOND, T0, samples
from telemetryx.clock import SystemClock
from telemetryx.errors import WireError
from telemetryx.ingest import ingest as module
from telemetryx.ingest.ingest import Ingest
from telemetryx.ingest.size import size_of
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables.cardinality import SeriesLimits
from telemetryx.types import BatchKey, Decoded, Definition
from telemetryx.wire import definitions, frame, limits
from telemetryx.wire._pb2 import link_pb2 as pb
from telemetryx.wire.payload import Payload

EPOCH = bytes(16)
MANY = 20_000


def named(first: int, count: int) -> list[Definition]:
    """So many definitions, as agents have them."""
    return [
        Definition(number, "m", {"site": "plant1", "device": f"pump{number}", "n": str(number)})
        for number in range(first, first + count)
    ]


def many_definitions(seq: int, count: int = MANY) -> pb.Batch:
    """A batch of series that nobody knows yet, a reading each."""
    numbers = range(seq * count, (seq + 1) * count)
    content = Payload(samples({number: [(T0, 1.0)] for number in numbers}))
    defined = definitions.encode(named(numbers.start, count))
    return frame.encode_batch(BatchKey("a", EPOCH, seq), content, defined=defined)


def many_samples(seq: int) -> pb.Batch:
    """A batch of readings of one series."""
    content = Payload(samples({1: [(T0 + at * SECOND, float(at)) for at in range(MANY)]}))
    return frame.encode_batch(BatchKey("a", EPOCH, seq), content)


@pytest.mark.parametrize("make", [many_definitions, many_samples])
def test_what_a_decoded_batch_takes_is_known_before_there_are_many(make: Callable[[int], pb.Batch]) -> None:
    """Within a factor of two of what Python itself counts."""
    sent = make(1)
    frame.batch("a", sent)
    tracemalloc.start()
    try:
        held: Decoded = frame.batch("a", sent)
        took, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert took / 2 < size_of(held) < took * 2


def test_a_group_ends_where_its_definitions_fill_it() -> None:
    """Sixty-four batches of ten thousand new series each were 300 MB, three groups of them at once."""
    loop = asyncio.new_event_loop()
    try:
        waiting = [
            module._Waiting("a", many_definitions(seq, 10_000), 1, loop.create_future(), 0.0)
            for seq in range(1, 9)
        ]
        group = module._decode(waiting)
    finally:
        loop.close()
    assert 1 <= len(group.batches) <= 2
    assert group.waiting == waiting[: len(group.batches)]


async def test_refused_series_are_counted_as_ever_in_groups_of_that_size(tmp_path: Path) -> None:
    """Each reading once, and the first ones are stored."""
    store = await SqliteStore.open(tmp_path / "a.db", clock=SystemClock())
    try:
        store.limit_series(SeriesLimits(per_agent=5))
        ingest = Ingest(store)
        running = asyncio.create_task(ingest.run())
        waiting = [await ingest.enqueue("a", many_definitions(seq, 4_000)) for seq in range(1, 7)]
        await asyncio.gather(*waiting)
        assert ingest.counters.over_limit == 6 * 4_000 - 5
        (refused,) = [row for row in await store.loss("a") if row.cause == "refused_series_limit"]
        assert refused.count == 6 * 4_000 - 5
        await ingest.close()
        await running
    finally:
        await store.close()


def test_more_definitions_than_any_agent_sends_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile one could put more than a million of them, half a kilobyte each here, into its 16 MiB."""
    assert limits.MAX_DEFINITIONS == 250_000
    monkeypatch.setattr(definitions, "MAX_DEFINITIONS", 10)
    assert len(definitions.decode(definitions.encode(named(1, 10)))) == 10
    with pytest.raises(WireError, match="a container of 11 items"):
        definitions.decode(definitions.encode(named(1, 11)))


def test_texts_that_come_again_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of labels and sites; what is read is the same, however many there are."""
    monkeypatch.setattr(definitions, "_SHARED", 4)
    given = named(1, 50)
    found = definitions.decode(definitions.encode(given))
    assert [(one.number, one.name, dict(one.labels)) for one in found] == [
        (one.number, one.name, dict(sorted(one.labels.items()))) for one in given
    ]
    assert found[0].labels["device"] is not found[1].labels["device"]
    assert found[0].name is found[49].name
