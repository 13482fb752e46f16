"""The JSON of this API: what each endpoint takes and answers. OpenAPI and docs/reference/http-api.md are made from it."""

from typing import Annotated, Any, Literal

from pydantic import Field

from telemetryx.api.route import Model, Nanoseconds, Step, Time

Limit = Annotated[int, Field(ge=1, le=1_000)]
Offset = Annotated[int, Field(ge=0, le=10_000_000)]
Text = Annotated[str, Field(max_length=1_000)]
Selector = Annotated[str, Field(max_length=4_000)]
Name = Annotated[str, Field(min_length=1, max_length=255)]
SeriesId = Annotated[int, Field(ge=1, le=2**53)]


# --- agents and devices


class AgentsParams(Model):
    """Which agents, in which order."""

    filter: Text = ""
    """Text that the name, the site or a label must contain."""
    state: Literal["live", "catching_up", "silent"] | None = None
    """Only agents in this state."""
    site: Text | None = None
    """Only agents that serve this site."""
    sort: Literal["name", "last_seen", "last_event", "backlog", "skew", "rate"] = "name"
    """The column to sort by."""
    order: Literal["asc", "desc"] = "asc"
    """The direction."""
    limit: Limit = 50
    """Rows in the answer."""
    offset: Offset = 0
    """Rows to skip."""


class Agent(Model):
    """One agent, as the collector last knew it."""

    name: str
    """The agent's name."""
    state: Literal["live", "catching_up", "silent"]
    """`live`: connected and up to date; `catching_up`: connected with a backlog; `silent`: not connected."""
    version: str
    """Version of its software."""
    connected: bool
    """Whether its session is open now."""
    last_seen_ns: Nanoseconds | None
    """When anything last came from it, by the collector's clock."""
    last_event_ns: Nanoseconds | None
    """The newest event time among its stored data."""
    backlog_bytes: int
    """Bytes in its spool, as it last said."""
    backlog_batches: int
    """Batches in its spool, as it last said."""
    oldest_ns: Nanoseconds | None
    """The oldest event time that waits there."""
    skew_ms: float | None
    """Its clock less the collector's."""
    clock_set: bool | None
    """Whether its host knows the time, as it last said; while it doesn't, `skew_ms` says nothing."""
    rate: float
    """Readings stored per second over the last minute."""
    series: int
    """Series it has."""
    quarantined: int
    """Batches of it that are kept apart because their times are far ahead (`GET /api/v1/quarantine`)."""
    labels: dict[str, str]
    """What it says about its host."""


class AgentCounts(Model):
    """How many agents are in each state, before filters."""

    live: int
    """Connected and up to date."""
    catching_up: int
    """Connected with a backlog."""
    silent: int
    """Not connected."""


class AgentsAnswer(Model):
    """A page of agents."""

    agents: list[Agent]
    """The rows."""
    total: int
    """Rows that match, over all pages."""
    counts: AgentCounts
    """All agents by state."""


class AgentParams(Model):
    """One agent."""

    name: Name
    """The agent's name."""


class Loss(Model):
    """What became of readings: those of one cause."""

    agent: str
    """Whose readings."""
    cause: str
    """Why."""
    count: int
    """How many."""
    first_ns: Nanoseconds | None
    """Their earliest event time, where it is known; of counts that came without a reading, their arrival."""
    last_ns: Nanoseconds | None
    """Their latest event time, likewise."""


class Device(Model):
    """Something that measures."""

    agent: str
    """The agent that serves it."""
    site: str
    """Where it is; empty when nothing says so."""
    device: str
    """Its name."""
    series: int
    """Series it has."""
    last_event_ns: Nanoseconds | None
    """The newest event time among its data."""


class AgentAnswer(Agent):
    """One agent with all that is known about it."""

    loss: list[Loss]
    """Its loss ledger."""
    balance: int
    """received + derived - rejected - deduplicated - reduced - shipped: 0 when its books balance."""
    status: dict[str, Any]
    """What it said about itself last, in its own words."""
    devices: list[Device]
    """Its devices (at most 1,000)."""


class DevicesParams(Model):
    """Which devices."""

    agent: Text | None = None
    """Only this agent's."""
    site: Text | None = None
    """Only this site's."""
    filter: Text = ""
    """Text that the name or the site must contain."""
    limit: Limit = 50
    """Rows in the answer."""
    offset: Offset = 0
    """Rows to skip."""


class DevicesAnswer(Model):
    """A page of devices."""

    devices: list[Device]
    """The rows."""
    total: int
    """Rows that match, over all pages."""


# --- series and samples


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
    offset: Offset = 0
    """Rows to skip."""


class Latest(Model):
    """The newest sample, by event time."""

    time_ns: Nanoseconds
    """When it was measured."""
    value: float | None
    """What was measured; null for NaN and infinities."""


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
    """Points a series at most, for `auto` and `raw`."""


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
    """One a time; null where there is no data: a gap stays a gap."""
    min: list[float | None]
    """Smallest sample of each step; empty for `raw`."""
    max: list[float | None]
    """Largest sample of each step; empty for `raw`."""


class RangeAnswer(Model):
    """Lines of a chart."""

    start_ns: Nanoseconds
    """Begin of the range."""
    end_ns: Nanoseconds
    """End of the range."""
    step_ns: int
    """Width of a step; 0 for `raw`."""
    level: Literal["raw", "1m", "1h"]
    """What it was computed from: samples, or rollups."""
    series: list[RangeSeries]
    """The lines."""
    truncated: bool
    """Whether something was left out; `warnings` says what."""
    warnings: list[str]
    """What was left out or changed, in words."""


# --- events, alerts, rules


class EventsParams(Model):
    """Which events, newest first."""

    source: Text | None = None
    """Only from this source."""
    severity: Literal["trace", "debug", "info", "warn", "error", "fatal"] | None = None
    """This severity and above."""
    q: Text | None = None
    """Words that the body must contain."""
    agent: Text | None = None
    """Only this agent's."""
    start: Time | None = None
    """From this time on."""
    end: Time | None = None
    """Before this time."""
    limit: Limit = 100
    """Rows in the answer."""
    before: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None
    """Continue a listing: `next` of the answer before."""


class Event(Model):
    """One structured record."""

    id: int
    """Its number in this collector."""
    agent: str
    """The agent it came from."""
    time_ns: Nanoseconds
    """When it happened."""
    severity: str
    """trace, debug, info, warn, error or fatal."""
    severity_number: int
    """The severity as OpenTelemetry counts it, 1 to 24."""
    source: str
    """What reported it."""
    body: str
    """Its text."""
    attributes: dict[str, Any]
    """Further fields."""


class EventsAnswer(Model):
    """A page of events, newest first."""

    events: list[Event]
    """The rows."""
    next: int | None
    """Give it as `before` for the next page; null on the last."""


class AlertsParams(Model):
    """Which alerts."""

    state: Literal["open", "firing", "pending", "unknown", "resolved", "retracted", "closed", "all"] = "open"
    """`open` is pending, firing and unknown."""
    agent: Text | None = None
    """Only about this agent."""
    rule: Text | None = None
    """Only of this rule."""
    limit: Limit = 100
    """Rows in the answer."""


class Alert(Model):
    """One alert: a rule that holds, or held, for one group of series."""

    id: int
    """Its number in this collector."""
    rule: str
    """The rule's name."""
    state: str
    """pending, firing, unknown, resolved, retracted or closed."""
    severity: str
    """As the rule says."""
    labels: dict[str, str]
    """What it is about."""
    annotations: dict[str, str]
    """What the rule says for people, filled in."""
    value: float | None
    """The value that decided."""
    threshold: float | None
    """What it was compared with."""
    summary: str
    """A sentence."""
    started_ns: Nanoseconds | None
    """Since when the condition holds, in event time."""
    fired_ns: Nanoseconds | None
    """When it had held long enough, in event time."""
    resolved_ns: Nanoseconds | None
    """When it held no more, in event time."""
    detected_ns: Nanoseconds | None
    """When the collector found out."""
    changed_ns: Nanoseconds
    """When it last changed, by the collector's clock."""
    data_ns: Nanoseconds | None
    """Up to when its data has been judged."""
    late: bool
    """Whether it was found in late data."""
    revision: int
    """Grows with each change."""


class AlertsAnswer(Model):
    """Alerts, newest first."""

    alerts: list[Alert]
    """The rows."""
    truncated: bool
    """Whether more alerts match."""


class Rule(Model):
    """One rule as loaded."""

    name: str
    """Its name."""
    kind: str
    """`metric`: judges samples; `link`: judges the connection log."""
    file: str
    """Where it comes from."""
    expression: str
    """What it judges, in a sentence."""
    severity: str
    """Severity of its alerts."""
    state: str
    """ok, failed or off."""
    error: str
    """Why it failed, or what it leaves out; empty otherwise."""
    groups: int
    """Groups of series that it judges."""
    firing: int
    """Its firing alerts."""
    pending: int
    """Its pending alerts."""
    definition: dict[str, Any]
    """Its keys, spelled as in a rule file."""


class RulesAnswer(Model):
    """The loaded rules."""

    rules: list[Rule]
    """The rules."""


# --- batches that are kept apart

QuarantineId = Annotated[int, Field(ge=1, le=2**53)]


class QuarantineParams(Model):
    """Whose batches."""

    agent: Text | None = None
    """Only this agent's."""
    limit: Limit = 50
    """Rows in the answer."""
    offset: Offset = 0
    """Rows to skip."""


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
    """The earliest time in it, as stored."""
    last_ns: Nanoseconds
    """The latest time in it, as stored."""


class DroppedAnswer(Model):
    """A batch was deleted."""

    dropped: int
    """Its id."""


# --- the collector itself


class LossParams(Model):
    """Whose losses."""

    agent: Text | None = None
    """Only this agent's."""


class LossAnswer(Model):
    """The loss ledger."""

    loss: list[Loss]
    """One row an agent and cause."""
    balance: dict[str, int]
    """By agent, received + derived - rejected - deduplicated - reduced - shipped: 0 when its books balance."""


class ModelRow(Model):
    """One version of a model."""

    name: str
    """The model."""
    version: int
    """Its version."""
    state: str
    """Where it stands."""
    created_ns: Nanoseconds | None
    """When it was trained."""
    checksum: str
    """SHA-256 of the ONNX file."""
    card: dict[str, Any]
    """What is known about it."""


class ModelsAnswer(Model):
    """The model registry."""

    models: list[ModelRow]
    """All versions."""


class Part(Model):
    """One part of the collector."""

    name: str
    """Which."""
    ready: bool
    """Whether it works."""
    reason: str
    """Why not; empty when it works."""


class StatusAnswer(Model):
    """How the collector is."""

    version: str
    """Version of its software."""
    started_ns: Nanoseconds
    """When it started."""
    now_ns: Nanoseconds
    """Its clock."""
    ready: bool
    """Whether all parts work."""
    parts: list[Part]
    """The parts."""
    cursor: int
    """Number of the newest commit."""
    totals: dict[str, float]
    """Its own metrics, summed over labels."""


class LoginBody(Model):
    """What a browser shows to get a session."""

    token: Annotated[str, Field(min_length=1, max_length=1_000)]
    """A token from the collector's token_file."""


class LoginAnswer(Model):
    """The session is in the cookie."""

    ok: bool
    """Always true; anything else is an error."""
    needed: bool
    """Whether this collector asks for tokens at all."""


class HealthAnswer(Model):
    """The process answers."""

    ok: bool
    """Always true."""


class ReadyAnswer(Model):
    """Whether the collector can do its work."""

    ready: bool
    """Whether all parts work."""
    parts: list[Part]
    """Each part, with the reason where it doesn't."""


# --- the live stream (WebSocket); documented, not in OpenAPI


class Subscribe(Model):
    """What a client wants to hear."""

    series: Annotated[tuple[SeriesId, ...], Field(max_length=1_000)] = ()
    """Series by id."""
    match: Selector | None = None
    """Selector; series that appear later and match are included."""
    agents: bool = False
    """Changes of agents."""
    alerts: bool = False
    """Changes of alerts."""
    events: bool = False
    """New events."""


class LiveRequest(Model):
    """The client's message; a later one replaces the subscription."""

    subscribe: Subscribe
    """What to send."""
    cursor: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    """Resume after this commit; null begins with what comes next."""
    max_hz: Annotated[float, Field(ge=0.1, le=4)] = 1.0
    """Messages of samples a second at most."""
