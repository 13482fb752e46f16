"""Batches that are kept apart because their times are too far ahead: /api/v1/quarantine."""

from typing import Annotated

from pydantic import Field

from telemetryx.api.models.fields import Limit, Offset, Text
from telemetryx.api.route import Model, Nanoseconds

QuarantineId = Annotated[int, Field(ge=1, le=2**53)]


class QuarantineParams(Model):
    """Whose batches."""

    agent: Text | None = None
    """Only this agent's."""
    limit: Limit = 50
    """Rows in the answer."""
    after: QuarantineId | None = None
    """The page behind this one, of older batches: `next` of its answer. Read so, none is missed or comes twice when others come or go meanwhile."""
    before: QuarantineId | None = None
    """The page in front of this one: `previous` of its answer."""
    offset: Offset = 0
    """Rows to skip, in place of the two: batches that come or go meanwhile move those behind them."""


class QuarantinedParams(Model):
    """One batch."""

    id: QuarantineId
    """Its id, as the list says it."""


class ReleaseBody(Model):
    """How to let a batch in."""

    shift_ns: Annotated[int, Field(ge=-(2**62), le=2**62)] = 0
    """Added to every time in it: the negative of how far the clock was ahead. Its samples are then marked as uncertain."""


class Quarantined(Model):
    """A batch whose times are further ahead of the collector's clock than `[ingest] future_limit`."""

    id: int
    """Its id here."""
    agent: str
    """Whose."""
    epoch: str
    """The agent's numbering, hexadecimal."""
    seq: int
    """Its number in it."""
    received_ns: Nanoseconds
    """When it came."""
    first_ns: Nanoseconds
    """The earliest time in it."""
    last_ns: Nanoseconds
    """The latest time in it."""
    clock_offset_ns: int
    """What was added to its times: they were counted from a boot. 0 for others."""
    clock_uncertain: bool
    """Whether that is a guess."""
    rows: int
    """Samples, windows and events in it."""
    bytes: int
    """Bytes of its payload."""


class QuarantineAnswer(Model):
    """Batches that are kept apart, newest first."""

    quarantine: list[Quarantined]
    """The rows."""
    total: int
    """Rows that match, over all pages."""
    skipped: int
    """How many of them stand before these."""
    next: int | None
    """`after` of the page behind these; null: there is none."""
    previous: int | None
    """`before` of the page in front of these, likewise."""


class QuarantinedSeries(Model):
    """What such a batch holds of one series."""

    name: str
    """The metric."""
    labels: dict[str, str]
    """Its labels."""
    unit: str
    """Its unit (UCUM)."""
    samples: int
    """Samples in it."""
    windows: int
    """Windows in it."""
    first_ns: Nanoseconds
    """The earliest time."""
    last_ns: Nanoseconds
    """The latest time."""
    last: float | None
    """The value of the latest sample; null without one."""


class QuarantinedEvent(Model):
    """An event in such a batch."""

    time_ns: Nanoseconds
    """When."""
    source: str
    """Who says it."""
    body: str
    """What."""


class QuarantinedAnswer(Quarantined):
    """One batch with what is in it."""

    series: list[QuarantinedSeries]
    """Its series (at most 1,000)."""
    events: list[QuarantinedEvent]
    """Its events (at most 1,000)."""


class ReleasedAnswer(Model):
    """A batch was let in."""

    cursor: int
    """The number of its commit."""
    first_ns: Nanoseconds
    """The earliest time in it, as it is now."""
    last_ns: Nanoseconds
    """The latest time in it, as it is now."""
    stored: int
    """Samples, windows and events of it that are stored."""
    expired: int
    """Samples and windows that aren't, because such times are past every retention: they are counted as lost, as `expired`."""


class DroppedAnswer(Model):
    """A batch was deleted."""

    dropped: int
    """Its id."""
