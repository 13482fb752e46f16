"""Agents and devices: /api/v1/agents, /devices and the losses that an agent's page shows."""

from typing import Any, Literal

from telemetryx.api.models.care import ConfigState
from telemetryx.api.models.fields import Limit, Name, Offset, Place, Text
from telemetryx.api.route import Model, Nanoseconds


class AgentsParams(Model):
    """Which agents, in which order."""

    filter: Text = ""
    """Text that the name, the site or a label must contain."""
    state: Literal["live", "catching_up", "silent", "revoked"] | None = None
    """Only agents in this state."""
    site: Text | None = None
    """Only agents that serve this site."""
    sort: Literal["name", "last_seen", "last_event", "backlog", "skew", "rate"] = "name"
    """The column to sort by."""
    order: Literal["asc", "desc"] = "asc"
    """The direction."""
    limit: Limit = 50
    """Rows in the answer."""
    after: Place | None = None
    """The page behind this one: `next` of its answer. Read so, no agent is missed or comes twice, whatever others do meanwhile; in another order than that of names one that itself changes places may be."""
    before: Place | None = None
    """The page in front of this one: `previous` of its answer."""
    offset: Offset = 0
    """Rows to skip, in place of the two: agents that come, go or change places meanwhile move others."""


class Agent(Model):
    """One agent, as the collector last knew it."""

    name: str
    """The agent's name."""
    state: Literal["live", "catching_up", "silent", "revoked"]
    """`live`: connected and up to date; `catching_up`: connected with a backlog; `silent`: not connected; `revoked`: not connected, and shut out for good."""
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
    revoked: int
    """Not connected, and shut out for good."""


class AgentsAnswer(Model):
    """A page of agents."""

    agents: list[Agent]
    """The rows."""
    total: int
    """Rows that match, over all pages."""
    skipped: int
    """How many of them stand before these."""
    next: str | None
    """`after` of the page behind these, for the same `sort`; null: there is none."""
    previous: str | None
    """`before` of the page in front of these, likewise."""
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
    devices_total: int
    """How many devices it has."""
    config: ConfigState | None
    """How far it is with the configuration that it should have; null where the collector takes no care of agents."""


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
    after: Place | None = None
    """The page behind this one: `next` of its answer. Read so, no device is missed or comes twice when others appear meanwhile."""
    before: Place | None = None
    """The page in front of this one: `previous` of its answer."""
    offset: Offset = 0
    """Rows to skip, in place of the two: devices that appear meanwhile move those behind them."""


class DevicesAnswer(Model):
    """A page of devices."""

    devices: list[Device]
    """The rows."""
    total: int
    """Rows that match, over all pages."""
    skipped: int
    """How many of them stand before these."""
    next: str | None
    """`after` of the page behind these; null: there is none."""
    previous: str | None
    """`before` of the page in front of these, likewise."""
