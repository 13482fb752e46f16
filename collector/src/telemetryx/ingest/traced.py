"""Spans of what ingest does with batches whose trace is sampled. Of all others these functions find nothing to do."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from telemetryx.traces import Span, Tracer, parse
from telemetryx.types import Decoded


def decoding(tracer: Tracer, batches: Sequence[Decoded], begun_ns: int) -> None:
    """Note that these were decoded together, from then until now."""
    if not tracer.on:
        return
    for batch in batches:
        parent = parse(batch.trace)
        if parent is not None:
            span = tracer.begin(parent, "decode", start_ns=begun_ns)
            tracer.end(span, attributes={"telemetryx.samples": len(batch.samples)})


@contextmanager
def committing(tracer: Tracer, batches: Sequence[Decoded]) -> Iterator[None]:
    """Trace a commit. It is stored with the batch: what comes of the batch belongs to it."""
    spans: list[Span] = []
    if tracer.on:
        for batch in batches:
            parent = parse(batch.trace)
            span = None if parent is None else tracer.begin(parent, "commit")
            if span is not None:
                batch.trace = str(span.context)
                spans.append(span)
    try:
        yield
    except Exception as error:
        for span in spans:
            tracer.end(span, failed=str(error))
        raise
    for span in spans:
        tracer.end(span, attributes={"telemetryx.commit.batches": len(batches)})
