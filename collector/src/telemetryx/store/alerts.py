"""What rules and notifications keep in the store: alerts, the rules' state, and the outbox.

The rules write one `RulesCommit` a step; the store applies all of it, its cursor and the notifications it causes in one
transaction, so that a kill at any point neither loses an alert nor sends one twice from here. How a change meets the alert
that is already stored (`merge`) and whether somebody is told (`notable`) are pure functions, the same for every store.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, Protocol

#: An alert found this long after it began to fire is called late: its data had been held back.
LATE_NS: Final = 60_000_000_000


class AlertState(StrEnum):
    """Where an alert stands. `unknown` is a firing alert whose data has stopped; it is derived when read, never stored."""

    PENDING = "pending"
    FIRING = "firing"
    UNKNOWN = "unknown"
    RESOLVED = "resolved"
    RETRACTED = "retracted"
    CLOSED = "closed"


#: The states that still want somebody's attention.
OPEN: Final = frozenset({AlertState.PENDING, AlertState.FIRING, AlertState.UNKNOWN})


class ChangeKind(StrEnum):
    """What a step of the rules does to one alert."""

    STANDS = "stands"  # it stands as the change describes
    WITHDRAWN = (
        "withdrawn"  # the data, now complete, doesn't show it: retracted, or forgotten when it never fired
    )
    MOVED = "moved"  # withdrawn, and another alert of the same group covers its time: nobody is told
    CLOSED = "closed"  # its rule or its group is gone: it ends without a statement about the data


@dataclass(frozen=True, slots=True)
class AlertChange:
    """One alert as a step of the rules sees it. (rule, group, started_ns) is its identity."""

    kind: ChangeKind
    rule: str
    group: str
    started_ns: int
    at_ns: int
    state: AlertState = AlertState.PENDING
    severity: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    summary: str = ""
    value: float | None = None
    threshold: float | None = None
    fired_ns: int | None = None
    resolved_ns: int | None = None
    trace: str = ""
    """W3C traceparent, where what it came of is traced."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert as it is stored."""

    id: int
    rule: str
    group: str
    state: AlertState
    severity: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    summary: str
    value: float | None
    threshold: float | None
    started_ns: int
    fired_ns: int | None
    resolved_ns: int | None
    detected_ns: int
    changed_ns: int
    late: bool
    revision: int
    trace: str = ""
    """W3C traceparent of the first change of it that was traced."""

    @property
    def key(self) -> tuple[str, str, int]:
        """Return its identity."""
        return (self.rule, self.group, self.started_ns)


@dataclass(frozen=True, slots=True)
class GroupRow:
    """The saved state of one group of one rule. None as state forgets the group."""

    rule: str
    group: str
    state: bytes | None


@dataclass(frozen=True, slots=True)
class RuleRow:
    """What is remembered of a rule: the fingerprint of its meaning, and why it was switched off."""

    name: str
    fingerprint: str
    error: str | None = None
    note: str | None = None
    """What it leaves out, for people."""


@dataclass(frozen=True, slots=True)
class RulesCommit:
    """One step of the rules, applied in one transaction. A cursor of None stays where it is."""

    consumer: str
    cursor: int | None = None
    groups: Sequence[GroupRow] = ()
    changes: Sequence[AlertChange] = ()
    rules: Sequence[RuleRow] = ()
    forget_rules: Sequence[str] = ()
    receivers: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class AlertQuery:
    """Which alerts are wanted, newest start first. Empty states: all."""

    states: frozenset[AlertState] = frozenset()
    rule: str | None = None
    group: str | None = None
    agent: str | None = None
    started_from_ns: int | None = None
    ids: Sequence[int] = ()
    before: tuple[int, int] | None = None
    """Start and id of the alert behind which they begin: the last of the page before."""
    limit: int = 1_000


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one receiver: the alerts as they stood when it was put together, the same at each attempt."""

    id: int
    receiver: str
    key: str
    alerts: Sequence[Alert]
    omitted: int
    attempts: int
    created_ns: int
    next_ns: int


@dataclass(frozen=True, slots=True)
class OutboxUsage:
    """How notifications are doing, for `/metrics` and the status page."""

    waiting: int
    deliveries: int
    dropped: int
    oldest_ns: int | None
    last_error: str | None


class AlertStore(Protocol):
    """The part of the store that rules and notify use."""

    async def rules_cursor(self, consumer: str) -> int:
        """Return the number of the last commit that this consumer has worked through; 0 at first."""
        ...

    async def rules_known(self) -> list[RuleRow]:
        """Return what is remembered of each rule."""
        ...

    async def rules_groups(self, rule: str) -> list[GroupRow]:
        """Return the saved state of every group of a rule."""
        ...

    async def rules_group_counts(self) -> dict[str, int]:
        """Count the groups of each rule."""
        ...

    async def rules_groups_of(self, keys: Sequence[tuple[str, str]]) -> list[GroupRow]:
        """Return the saved states of these (rule, group)."""
        ...

    async def rules_commit(self, commit: RulesCommit) -> list[Alert]:
        """Apply one step; return the alerts that it changed, as they now stand (a forgotten one as withdrawn)."""
        ...

    async def rules_alerts(self, query: AlertQuery) -> list[Alert]:
        """Return alerts, newest start first."""
        ...

    async def rules_forget(self, before_ns: int, limit: int) -> int:
        """Delete alerts that ended before a time, at most `limit`; return how many went."""
        ...

    async def outbox_claim(self, receiver: str, now_ns: int, limit: int) -> Delivery | None:
        """Return the message that is due next for a receiver, first putting one together from what waits."""
        ...

    async def outbox_next(self, receiver: str) -> int | None:
        """Return when something will be due for this receiver; None when nothing waits."""
        ...

    async def outbox_done(self, delivery: int) -> None:
        """Forget a message that has arrived."""
        ...

    async def outbox_retry(self, delivery: int, next_ns: int, error: str) -> None:
        """Note a failed attempt and when the next one is due."""
        ...

    async def outbox_drop(self, delivery: int, error: str) -> None:
        """Give a message up, and count its alerts as dropped."""
        ...

    async def outbox_usage(self, receiver: str) -> OutboxUsage:
        """Return what waits and what was dropped."""
        ...


#: Notifications wait this long for company; late ones longer, so that a backlog's alerts make one digest.
GROUP_WAIT_NS: Final = 1_000_000_000
LATE_WAIT_NS: Final = 30_000_000_000
#: Alert changes that may wait for one receiver. Beyond it the oldest are dropped and counted.
MAX_WAITING: Final = 10_000


def merge(stored: Alert | None, change: AlertChange) -> Alert | None:
    """Return the alert after a change: `stored` itself when nothing changes, None when it isn't kept.

    An alert keeps the moment it was first seen firing, also when it is retracted and stands again later. A closed one stays
    closed: no data brings it back.
    """
    if change.kind is not ChangeKind.STANDS:
        return _ended(stored, change)
    if stored is None or (stored.fired_ns is None and change.fired_ns is not None):
        detected = change.at_ns
    else:
        detected = stored.detected_ns
    after = Alert(
        id=stored.id if stored else 0,
        rule=change.rule,
        group=change.group,
        state=change.state,
        severity=change.severity,
        labels=dict(change.labels),
        annotations=dict(change.annotations),
        summary=change.summary,
        value=change.value,
        threshold=change.threshold,
        started_ns=change.started_ns,
        fired_ns=change.fired_ns,
        resolved_ns=change.resolved_ns,
        detected_ns=detected,
        changed_ns=stored.changed_ns if stored else change.at_ns,
        late=change.fired_ns is not None and detected - change.fired_ns > LATE_NS,
        revision=stored.revision if stored else 0,
        trace=stored.trace if stored else "",
    )
    if after == stored:
        return stored
    # A trace alone is no change: what stands must not depend on it.
    return replace(
        after, changed_ns=change.at_ns, revision=after.revision + 1, trace=after.trace or change.trace
    )


def _ended(stored: Alert | None, change: AlertChange) -> Alert | None:
    """Apply what takes an alert away: what never fired leaves no trace, the rest is kept with its reason."""
    if stored is None or stored.fired_ns is None:
        return None
    state = AlertState.CLOSED if change.kind is ChangeKind.CLOSED else AlertState.RETRACTED
    if stored.state is state or (state is AlertState.CLOSED and stored.state not in OPEN):
        return stored
    return replace(stored, state=state, changed_ns=change.at_ns, revision=stored.revision + 1)


def notable(stored: Alert | None, after: Alert, kind: ChangeKind) -> bool:
    """Decide whether people are told: when an alert begins to fire, ends, or turns out not to have been."""
    if kind is ChangeKind.MOVED or after.state is AlertState.PENDING:
        return False
    return stored is None or stored.state is not after.state


def ready_ns(alert: Alert) -> int:
    """Return when a change may be sent: soon, or later when it belongs to a backlog, whose alerts make one digest."""
    return alert.changed_ns + (LATE_WAIT_NS if alert.late else GROUP_WAIT_NS)
