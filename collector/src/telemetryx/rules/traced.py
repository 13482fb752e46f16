"""Which traces led to which alert: the rules' part of a batch's way.

A run judges many commits: it is one span in the trace of the first that is sampled, and links to the others. An alert belongs to
the trace of the last sampled batch that had readings of its group; it may be found later, by the clock alone, so that is remembered
until the group has been judged beyond those readings. Nothing here has a say in what is judged.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from telemetryx.store.alerts import AlertChange, ChangeKind
from telemetryx.traces import Context, Span, Tracer, parse
from telemetryx.types import Committed

#: Groups whose last trace is remembered; who samples more learns of the newest.
MAX_GROUPS: Final = 10_000
#: Traces of one run that are followed.
MAX_TRACES: Final = 32


class Traces:
    """The traces of one engine."""

    def __init__(self, tracer: Tracer) -> None:
        """Remember nothing yet."""
        self._tracer = tracer
        self._last: dict[tuple[str, str], tuple[Context, int]] = {}
        self._run: Span | None = None

    def begin(self, batches: Sequence[Committed]) -> None:
        """Begin a run over these commits."""
        contexts = [context for batch in batches if batch.trace and (context := parse(batch.trace))]
        self._run = None
        if contexts:
            first, *others = contexts[:MAX_TRACES]
            self._run = self._tracer.begin(first, "rules", links=others)
            if self._run is not None:
                self._run.attributes["telemetryx.commits"] = len(batches)

    def end(self) -> None:
        """End the run."""
        self._tracer.end(self._run)
        self._run = None

    def touched(self, rule: str, group: str, context: Context, last_ns: int) -> None:
        """Remember that a batch of this trace has readings of a group, up to a time."""
        self._last.pop((rule, group), None)
        while len(self._last) >= MAX_GROUPS:
            del self._last[next(iter(self._last))]
        self._last[rule, group] = context, last_ns

    def changes(self, changes: Sequence[AlertChange]) -> tuple[list[AlertChange], list[Span]]:
        """Say of each change which trace it is a part of, and begin its span."""
        if not self._last:
            return list(changes), []
        said: list[AlertChange] = []
        spans: list[Span] = []
        for change in changes:
            known = self._last.get((change.rule, change.group))
            if known is None or change.kind is not ChangeKind.STANDS:
                said.append(change)
                continue
            context, _ = known
            run = self._run
            here = run is not None and run.context.trace == context.trace
            parent = run.context if run is not None and here else context
            links = () if run is None or here else (run.context,)
            span = self._tracer.begin(parent, "alert", links=links)
            if span is not None:
                span.attributes |= {"telemetryx.rule": change.rule, "telemetryx.state": str(change.state)}
                spans.append(span)
            said.append(replace(change, trace=str(context if span is None else span.context)))
        return said, spans

    def stored(self, spans: Sequence[Span]) -> None:
        """End the spans of changes that are stored."""
        for span in spans:
            self._tracer.end(span)

    def judged(self, rule: str, group: str, upto_ns: int) -> None:
        """Forget what led to a group's judgement up to here: what comes later came of something else."""
        known = self._last.get((rule, group))
        if known is not None and known[1] < upto_ns:
            del self._last[rule, group]
