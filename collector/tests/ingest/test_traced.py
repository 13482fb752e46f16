"""A sampled batch is traced through ingest, and its commit remembers the trace."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reference_agent import T0, defined, samples
from telemetryx.clock import SystemClock
from telemetryx.ingest.ingest import Ingest
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.traces import OFF, Context, Tracer
from telemetryx.types import BatchKey, Committed, Stored
from telemetryx.wire import definitions, frame
from telemetryx.wire._pb2 import link_pb2 as pb
from telemetryx.wire.payload import Payload

FRAME = Context(b"\x07" * 16, b"\x08" * 8)


def batch(seq: int, trace: str) -> pb.Batch:
    """Make a batch, traced or not."""
    content = Payload(samples({1: [(T0 + seq, float(seq))]}))
    made = frame.encode_batch(
        BatchKey("a", bytes(16), seq), content, defined=definitions.encode(defined("x"))
    )
    made.trace = trace
    return made


@pytest.fixture(name="store")
async def _store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "t.db")
    yield opened
    await opened.close()


async def ingested(store: SqliteStore, tracer: Tracer, *traces: str) -> list[Committed]:
    """Ingest a batch for each; return what subscribers were told."""
    told: list[Committed] = []
    ingest = Ingest(store, tracer=tracer)
    ingest.subscribe(told.append)
    running = asyncio.create_task(ingest.run())
    for seq, trace in enumerate(traces, 1):
        assert isinstance(await ingest.submit("a", batch(seq, trace)), Stored)
    await ingest.close()
    await running
    return told


async def test_decoding_and_the_commit_are_spans_of_the_frames_trace(store: SqliteStore) -> None:
    """What comes of the commit belongs to it, also for who reads it from the store later."""
    tracer = Tracer(SystemClock())
    told = await ingested(store, tracer, "", str(FRAME), "nonsense")
    decode, commit = tracer.take(9)
    assert (decode.name, commit.name) == ("decode", "commit")
    assert (decode.context.trace, decode.parent) == (FRAME.trace, FRAME.span)
    assert (commit.context.trace, commit.parent) == (FRAME.trace, FRAME.span)
    assert told[1].trace == str(commit.context)
    assert [one.trace for one in await store.read_after(0, 9)] == ["", str(commit.context), ""]


async def test_a_collector_that_traces_nothing_hands_on_what_the_frame_says(store: SqliteStore) -> None:
    """Its alerts are found under the sender's trace all the same."""
    told = await ingested(store, OFF, str(FRAME))
    assert told[0].trace == str(FRAME)


async def test_a_batch_that_is_sent_again_with_another_context_is_the_same_batch(store: SqliteStore) -> None:
    """The dedup ledger knows names and checksums, and no traces."""
    ingest = Ingest(store)
    running = asyncio.create_task(ingest.run())
    first = await ingest.submit("a", batch(1, str(FRAME)))
    again = await ingest.submit("a", batch(1, str(Context(FRAME.trace, b"\x01" * 8))))
    assert (type(first).__name__, type(again).__name__) == ("Stored", "Duplicate")
    await ingest.close()
    await running
