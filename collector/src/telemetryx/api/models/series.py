"""Series and samples: /api/v1/series, /latest, /query_range and /aggregate."""

from typing import Annotated, Literal

from pydantic import Field

from telemetryx.api.models.fields import Limit, Offset, Selector, SeriesId, Text
from telemetryx.api.route import Model, Nanoseconds, Step, Time
from telemetryx.api.special import Word


class SeriesParams(Model):
    """Which series."""

    match: Selector | None = None
    """Selector, like `temperature{site="plant1",device=~"pump.*"}`."""
    agent: Text | None = None
    """Only this agent's."""
    site: Text | None = None
    """Only with this `site` label."""
    device: Text | None = None
    """Only with this `device` label."""
    limit: Limit = 100
    """Rows in the answer."""
    after: SeriesId | None = None
    """The page behind this one: `next` of its answer. Read so, no series is missed or comes twice when others come or end meanwhile."""
    before: SeriesId | None = None
    """The page in front of this one: `previous` of its answer."""
    offset: Offset = 0
    """Rows to skip, in place of the two: series that end meanwhile move those behind them."""


class Latest(Model):
    """The newest sample, by event time."""

    time_ns: Nanoseconds
    """When it was measured."""
    value: float | None
    """What was measured; null for NaN and infinities, for which JSON has no numbers."""
    special: Word | None
    """Which of these it is, where `value` is null."""


class SeriesRow(Model):
    """One series."""

    id: int
    """Its number in this collector."""
    agent: str
    """The agent it comes from."""
    name: str
    """The metric."""
    labels: dict[str, str]
    """Its labels."""
    unit: str
    """The unit the source named; empty when it named none."""
    latest: Latest | None
    """Its newest sample."""


class SeriesAnswer(Model):
    """A page of series."""

    series: list[SeriesRow]
    """The rows."""
    total: int
    """Rows that match, over all pages."""
    skipped: int
    """How many of them stand before these."""
    next: int | None
    """`after` of the page behind these; null: there is none."""
    previous: int | None
    """`before` of the page in front of these, likewise."""


class LatestParams(Model):
    """Whose newest samples."""

    match: Selector | None = None
    """Selector; without one, all series."""
    agent: Text | None = None
    """Only this agent's."""
    limit: Limit = 100
    """Rows in the answer."""


class LatestAnswer(Model):
    """Newest samples."""

    series: list[SeriesRow]
    """The rows."""
    truncated: bool
    """Whether more series matched."""


class RangeParams(Model):
    """What to draw."""

    match: Selector | None = None
    """Selector; or name series by id."""
    series: tuple[SeriesId, ...] = ()
    """Series by id; may be repeated."""
    start: Time | None = None
    """Begin (inclusive); an hour before the end when left out."""
    end: Time | None = None
    """End (exclusive); now when left out."""
    step: Step = "auto"
    """Width of a point; `auto` chooses one that gives at most max_points."""
    agg: Literal["avg", "min", "max", "sum", "count", "last", "raw"] = "avg"
    """How the samples of a step become one point; `raw` returns samples as they are, without steps."""
    max_points: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000
    """Points a series at most, for `auto` and `raw`; series share what one answer may hold."""


class RangeSeries(Model):
    """One line of a chart."""

    id: int
    """The series' number."""
    agent: str
    """The agent it comes from."""
    name: str
    """The metric."""
    labels: dict[str, str]
    """Its labels."""
    unit: str
    """Its unit."""
    times_ns: list[Nanoseconds]
    """The beginning of each step, or each sample's time for `raw`."""
    values: list[float | None]
    """One a time; null where there is no data: a gap stays a gap. Null too for NaN and infinities, which `special` names."""
    min: list[float | None]
    """Smallest sample of each step; empty for `raw`."""
    max: list[float | None]
    """Largest sample of each step; empty for `raw`."""
    special: dict[Literal["values", "min", "max"], dict[str, Word]]
    """What JSON has no numbers for: of each column that has some, their places, from 0, and what they are."""


class RangeAnswer(Model):
    """Lines of a chart."""

    start_ns: Nanoseconds
    """Begin of what was read: whole steps may begin before `start`."""
    end_ns: Nanoseconds
    """End of what was read: whole steps may end after `end`."""
    step_ns: int
    """Width of a step, which is whole minutes where raw readings are deleted; 0 for `raw`."""
    level: Literal["raw", "1m", "1h"]
    """What it was computed from: samples, or rollups."""
    series: list[RangeSeries]
    """The lines."""
    truncated: bool
    """Whether something was left out; `warnings` says what."""
    warnings: list[str]
    """What was left out or changed, in words."""


class AggregateParams(Model):
    """Which series become one."""

    match: Selector
    """The series."""
    by: tuple[Text, ...] = ()
    """Labels: one result for each combination of their values; may be repeated, up to 16 labels. `agent` is the agent's name."""
    agg: Literal["avg", "min", "max", "sum", "count", "quantile"] = "avg"
    """Of all readings of a group's series together."""
    q: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    """Which quantile, with `agg=quantile` alone: 0.99 when left out."""
    start: Time | None = None
    """Begin (inclusive); an hour before the end when left out."""
    end: Time | None = None
    """End (exclusive); now when left out."""
    step: Step | None = None
    """Width of a point, or `auto`, which chooses one that gives at most max_points; the whole time is one point when left out."""
    max_points: Annotated[int, Field(ge=1, le=1_000_000)] = 300
    """Points a group at most, for `auto`."""


class AggregateGroup(Model):
    """One group of series."""

    labels: dict[str, str]
    """What its series have in common: the labels of `by`."""
    series: int
    """How many series it has."""
    times_ns: list[Nanoseconds]
    """The beginning of each step."""
    values: list[float | None]
    """One a step; null where there is no data, and for NaN and infinities, which `special` names."""
    special: dict[Literal["values"], dict[str, Word]]
    """What JSON has no numbers for: their places, from 0, and what they are; empty where there are none."""


class AggregateLevel(Model):
    """A part of the time, and what was read of it."""

    level: Literal["raw", "1m", "1h"]
    """Readings and windows, or rollups."""
    start_ns: Nanoseconds
    """Begin of the part."""
    end_ns: Nanoseconds
    """Its end (exclusive)."""


class AggregateAnswer(Model):
    """Groups of series, each as one."""

    start_ns: Nanoseconds
    """Begin of what is in it: `start`, or that of its step, or of its minute where raw readings are deleted."""
    end_ns: Nanoseconds
    """End of what is in it: `end`, likewise."""
    step_ns: int
    """Width of a step, which is whole minutes where raw readings are deleted; 0 for the whole time at once."""
    level: Literal["raw", "1m", "1h"]
    """What it was computed from: samples, or rollups; of several levels the coarsest."""
    levels: list[AggregateLevel]
    """Which level each part of the time was read from, ascending by time."""
    groups: list[AggregateGroup]
    """The groups, ascending by their labels' values."""
    method: Literal["exact", "sketch"]
    """Whether a quantile is exact, or within 1 % from merged sketches (of windows, of rollups, or of more than a million readings)."""
    warnings: list[str]
    """What isn't in it, or was changed, in words."""
