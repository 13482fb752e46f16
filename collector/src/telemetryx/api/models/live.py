"""The live stream (WebSocket): documented in docs/reference/http-api.md, not in OpenAPI."""

from typing import Annotated

from pydantic import Field

from telemetryx.api.models.fields import Selector, SeriesId
from telemetryx.api.route import Model


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
    """Messages of samples a second at most: 0.1 to 4, anything else is refused."""
