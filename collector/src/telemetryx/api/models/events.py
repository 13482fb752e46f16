"""Events: /api/v1/events."""

from typing import Annotated, Any, Literal

from pydantic import Field

from telemetryx.api.models.fields import Limit, Text
from telemetryx.api.route import Model, Nanoseconds, Time


class EventsParams(Model):
    """Which events, newest first."""

    source: Text | None = None
    """Only from this source."""
    severity: Literal["trace", "debug", "info", "warn", "error", "fatal"] | None = None
    """This severity and above."""
    q: Text | None = None
    """Words that the body must contain; a text without a letter or a digit is refused."""
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
