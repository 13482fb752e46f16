"""Alerts and the rules that make them: /api/v1/alerts and /rules."""

from typing import Annotated, Any, Literal

from pydantic import Field

from telemetryx.api.models.fields import Limit, Name, Text
from telemetryx.api.route import Model, Nanoseconds, Span, Time


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


class Acknowledgement(Model):
    """Who has taken an alert on."""

    author: str
    """The person, as they say."""
    comment: str
    """What they say about it."""
    at_ns: Nanoseconds
    """When."""


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
    trace_id: str | None = None
    """The trace of the reading that led to it, in hexadecimal; null where none was sampled."""
    acknowledged: Acknowledgement | None
    """Who has taken it on; null when nobody said so."""
    silenced_by: list[int]
    """The silences that keep notifications about it back now."""


class AlertsAnswer(Model):
    """Alerts, newest first."""

    alerts: list[Alert]
    """The rows."""
    truncated: bool
    """Whether more alerts match."""


class AlertParams(Model):
    """Which alert."""

    id: Annotated[int, Field(ge=1, le=2**53)]
    """Its id."""


class AcknowledgeBody(Model):
    """Who takes it on."""

    author: Name | None = None
    """The person; who is logged in speaks for themselves."""
    comment: Text = ""
    """What others should know."""


class AcknowledgedAnswer(Model):
    """It is noted."""

    id: int
    """The alert's id."""
    acknowledged: Acknowledgement | None
    """What stands now."""
    before: Acknowledgement | None
    """What stood before; null when nobody had taken it on."""


class SilencesParams(Model):
    """Which silences."""

    state: Literal["standing", "ended"] = "standing"
    """`standing`: those that hold now or are to come."""
    limit: Limit = 100
    """Rows in the answer."""


class SilenceParams(Model):
    """Which silence."""

    id: Annotated[int, Field(ge=1, le=2**53)]
    """Its id."""


class SilenceBody(Model):
    """What to keep quiet about, and for how long."""

    match: Annotated[str, Field(min_length=1, max_length=4_000)]
    """Selector: the rule as the name (or as `alertname`), then labels of the alert and `severity`, e.g. `hot{site="north"}` or `{agent=~"gw.*"}`."""
    duration: Span | None = None
    """How long, from its start."""
    ends: Time | None = None
    """Until when; give this or `duration`."""
    starts: Time | None = None
    """From when on; now when left out."""
    author: Name | None = None
    """Who says so; who is logged in speaks for themselves."""
    comment: Text = ""
    """Why."""


class Silence(Model):
    """Notifications about some alerts are kept back for a while; the alerts themselves stay as they are."""

    id: int
    """Its number."""
    match: str
    """Selector of alerts."""
    starts_ns: Nanoseconds
    """From when on."""
    ends_ns: Nanoseconds
    """Until when. What it held back is told then, as it stands; what began and ended inside is not."""
    author: str
    """Who says so."""
    comment: str
    """Why."""
    created_ns: Nanoseconds
    """When it was made."""
    state: Literal["active", "pending", "ended"]
    """Whether it holds now."""


class AddedSilence(Silence):
    """A silence that was made."""

    alerts: int
    """Open alerts that meet it now; 0 may be a mistyped rule or label."""


class EndedSilence(Silence):
    """A silence that holds no longer."""

    ended_before: bool
    """Whether it had ended before it was asked to: then nothing changed."""


class SilencesAnswer(Model):
    """Silences, those that end first at the top; ended ones newest first."""

    silences: list[Silence]
    """The rows."""
    truncated: bool
    """Whether more silences match."""


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
