"""An alert belongs to the trace of the batch that led to it, and a run of the rules to that of the first."""

import numpy as np

from telemetryx.clock import SystemClock
from telemetryx.rules.traced import Traces
from telemetryx.store.alerts import AlertChange, ChangeKind
from telemetryx.traces import OFF, Context, Tracer, parse
from telemetryx.types import BatchKey, Committed, SampleBlock

ONE = Context(b"\x01" * 16, b"\x01" * 8)
TWO = Context(b"\x02" * 16, b"\x02" * 8)


def committed(trace: Context | None) -> Committed:
    """Make a commit of no readings."""
    none = np.zeros(0, np.int64)
    samples = SampleBlock(none, none, np.zeros(0), None)
    return Committed(
        1, BatchKey("a", b"e" * 16, 1), 0, 0, 0, samples, trace="" if trace is None else str(trace)
    )


def change(group: str, kind: ChangeKind = ChangeKind.STANDS) -> AlertChange:
    """Make a change of an alert."""
    return AlertChange(kind, "hot", group, 1, 2)


def test_a_run_is_one_span_with_links_and_each_alert_is_in_its_own_trace() -> None:
    """Two traced batches and one without: the run is in the first's trace, the alerts in theirs."""
    tracer = Tracer(SystemClock())
    traces = Traces(tracer)
    traces.begin([committed(None), committed(ONE), committed(TWO)])
    traces.touched("hot", "p1", ONE, 10)
    traces.touched("hot", "p2", TWO, 10)
    said, spans = traces.changes([change("p1"), change("p2"), change("p3"), change("p1", ChangeKind.CLOSED)])
    traces.stored(spans)
    traces.end()
    p1, p2, run = tracer.take(9)
    assert (run.name, run.context.trace, run.parent, list(run.links)) == ("rules", ONE.trace, ONE.span, [TWO])
    assert (p1.context.trace, p1.parent, list(p1.links)) == (ONE.trace, run.context.span, [])
    assert (p2.context.trace, p2.parent, list(p2.links)) == (TWO.trace, TWO.span, [run.context])
    assert [one.trace for one in said] == [str(p1.context), str(p2.context), "", ""]


def test_an_alert_that_the_clock_finds_later_is_in_the_trace_of_its_readings() -> None:
    """Until the group was judged beyond them: then it came of something else."""
    traces = Traces(OFF)
    traces.begin([committed(ONE)])
    traces.touched("hot", "p1", ONE, 10)
    traces.end()
    (said,), _ = traces.changes([change("p1")])
    assert parse(said.trace) == ONE
    traces.judged("hot", "p1", 10)
    assert traces.changes([change("p1")])[0][0].trace
    traces.judged("hot", "p1", 11)
    assert not traces.changes([change("p1")])[0][0].trace
