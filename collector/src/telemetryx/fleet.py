"""What the store tells of its agents: how each is, what it lost, what of it was set apart, and when it was connected.

Floor 0, beside types.py, which has what agents send and how it is asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class AgentState(StrEnum):
    """How an agent looks from here: `silent` isn't an error, a site may be offline for days."""

    LIVE = "live"
    CATCHING_UP = "catching_up"
    SILENT = "silent"
    REVOKED = "revoked"
    """Not connected, and its key opens nothing any more."""


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """What an agent says about itself, every few seconds; only the newest is kept."""

    backlog_bytes: int
    backlog_batches: int
    oldest_ns: int
    skew_ms: float
    rate: float
    json: str = ""


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent with its state, as the fleet page shows it."""

    name: str
    state: AgentState
    version: str
    connected: bool
    last_seen_ns: int
    last_event_ns: int
    backlog_bytes: int
    backlog_batches: int
    oldest_ns: int
    skew_ms: float
    rate: float
    series: int
    stored: int
    quarantined: int
    labels: Mapping[str, str]
    status_json: str = ""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A batch that is kept apart: its times are further ahead of the collector's clock than is allowed."""

    id: int
    agent: str
    epoch: bytes
    seq: int
    received_ns: int
    t0_ns: int
    t1_ns: int
    clock_offset_ns: int
    clock_uncertain: bool
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class QuarantinedSeries:
    """What a quarantined batch holds of one series; `last` is the value of its latest sample, None without one."""

    name: str
    labels: Mapping[str, str]
    unit: str
    samples: int
    windows: int
    first_ns: int
    last_ns: int
    last: float | None


@dataclass(frozen=True, slots=True)
class QuarantinedBatch:
    """A quarantined batch with what is in it; events are (time, source, body)."""

    about: Quarantined
    series: list[QuarantinedSeries]
    events: list[tuple[int, str, str]]


@dataclass(frozen=True, slots=True)
class Device:
    """A thing that measured: the distinct (agent, site, device) of the series."""

    agent: str
    site: str
    device: str
    series: int
    last_event_ns: int


@dataclass(frozen=True, slots=True)
class LossRow:
    """How many readings of one agent met one cause, and the event times that they lie between; 0: unknown.

    Counts that came without a reading have no event time: theirs is when they came.
    """

    agent: str
    cause: str
    count: int
    first_ns: int
    last_ns: int


def balance(rows: Sequence[LossRow]) -> dict[str, int]:
    """Return received + derived - rejected - deduplicated - reduced - shipped by agent: 0 when its books balance."""
    out: dict[str, int] = {}
    for row in rows:
        out[row.agent] = out.get(row.agent, 0) + _SIDE.get(row.cause.partition("_")[0], 0) * row.count
    return out


_SIDE = {"received": 1, "derived": 1, "rejected": -1, "deduplicated": -1, "reduced": -1, "shipped": -1}


@dataclass(frozen=True, slots=True)
class Gap:
    """Seqs that an agent dropped, as its loss frames told: they will never be stored."""

    agent: str
    epoch: bytes
    first_seq: int
    last_seq: int
    cause: str
    count: int
    t0_ns: int
    t1_ns: int


@dataclass(frozen=True, slots=True)
class Connection:
    """One line of the connection log: an agent's session. `closed_ns` 0 while it is open.

    Rules about the link (agent silent) judge this log and nothing else; `last_seen_ns` is the collector's own clock.
    """

    id: int
    agent: str
    peer: str
    opened_ns: int
    closed_ns: int
    last_seen_ns: int
    reason: str
