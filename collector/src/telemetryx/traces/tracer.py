"""Makes spans of sampled traces and keeps them until somebody exports them.

One that is off makes and keeps nothing: what a batch's frame says of its trace is handed on as it came. Nothing here waits: what
has no room is dropped and counted.
"""

import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from telemetryx.clock import Clock
from telemetryx.traces.context import Context

#: Spans that wait for the exporter.
ROOM: Final = 4_096
#: Spans that one span may link to.
MAX_LINKS: Final = 32


class Kind(IntEnum):
    """What a span is to the one it belongs to; the numbers are OpenTelemetry's."""

    INTERNAL = 1
    CLIENT = 3
    CONSUMER = 5


@dataclass(slots=True)
class Span:
    """How long something took, and of which trace it was a part."""

    context: Context
    parent: bytes
    name: str
    kind: Kind
    start_ns: int
    end_ns: int = 0
    failed: str = ""
    attributes: dict[str, int | str] = field(default_factory=dict)
    links: Sequence[Context] = ()


class Tracer:
    """The spans of one process."""

    def __init__(self, clock: Clock | None, room: int = ROOM) -> None:
        """Take times from this clock; without one it is off."""
        self._clock = clock
        self._room = room
        self._waiting: deque[Span] = deque()
        self.exported = 0
        self.dropped = 0

    @property
    def on(self) -> bool:
        """Whether spans are kept."""
        return self._clock is not None

    def now_ns(self) -> int:
        """Return the time; 0 when it is off."""
        return 0 if self._clock is None else self._clock.now_ns()

    def begin(
        self,
        parent: Context,
        name: str,
        *,
        kind: Kind = Kind.INTERNAL,
        start_ns: int | None = None,
        links: Sequence[Context] = (),
    ) -> Span | None:
        """Begin a span within another; None when it is off."""
        if self._clock is None:
            return None
        start_ns = self._clock.now_ns() if start_ns is None else start_ns
        context = Context(parent.trace, secrets.token_bytes(8))
        return Span(context, parent.span, name, kind, start_ns, links=tuple(links[:MAX_LINKS]))

    def end(
        self, span: Span | None, *, failed: str = "", attributes: Mapping[str, int | str] | None = None
    ) -> None:
        """End a span that begin() gave."""
        if span is None or self._clock is None:
            return
        span.end_ns = max(self._clock.now_ns(), span.start_ns)
        span.failed = failed
        if attributes:
            span.attributes.update(attributes)
        if len(self._waiting) >= self._room:
            self.dropped += 1
            return
        self._waiting.append(span)

    @property
    def waiting(self) -> int:
        """Count the spans that wait."""
        return len(self._waiting)

    def take(self, most: int) -> list[Span]:
        """Take out the oldest that wait."""
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]


OFF: Final = Tracer(None)
