"""Rules at work, as the rest of the collector sees them: one task to run, and what REST, WebSocket and console ask.

app.py loads the rules, makes this from the store and a clock, lets ingest call `committed` after each commit, runs `run()` as a
task, and hands `subscribe`d changes to the live stream. Notifications need no call: they lie in the outbox already.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog

from telemetryx.clock import Clock
from telemetryx.errors import LeaseLost, StoreError
from telemetryx.rules.duration import format_duration
from telemetryx.rules.engine import CONSUMER, MAX_GROUPS, Engine, RuleState
from telemetryx.rules.feed import Feed
from telemetryx.rules.group import Group
from telemetryx.rules.link import Links, LinkStore
from telemetryx.rules.load import AnyRule, RuleSet
from telemetryx.rules.model import LinkRule, MetricRule
from telemetryx.rules.source import RulesStore
from telemetryx.store.alerts import OPEN, Alert, AlertQuery, AlertState, AlertStore, RuleRow, RulesCommit
from telemetryx.traces import OFF, Tracer
from telemetryx.traces.context import trace_id
from telemetryx.types import Committed

#: Without a wake-up the store is asked this often: a lost one costs a delay and nothing else.
POLL_NS: Final = 2_000_000_000
#: How long ended alerts are kept, and how often what is older is deleted.
KEEP_NS: Final = 365 * 86_400_000_000_000
_FORGET_EVERY_NS: Final = 3_600_000_000_000
_WORST_PAUSE: Final = 30.0
#: Readings may be missing this much longer than a rule's window until a firing alert is shown as unknown.
UNKNOWN_NS: Final = 60_000_000_000
#: What a rule leaves out is written down at most this often.
NOTE_NS: Final = 5_000_000_000

log = structlog.get_logger("telemetryx.rules")
Listener = Callable[[Sequence[dict[str, Any]]], None]


class ServiceStore(RulesStore, LinkStore, Protocol):
    """The part of the store that rules read."""


@dataclass(frozen=True, slots=True)
class RuleStatus:
    """One rule and how it is doing. `state`: ok, failed or off; `definition`: its keys, spelled as in a rule file."""

    name: str
    kind: str
    file: str
    expression: str
    severity: str
    state: str
    error: str
    groups: int
    firing: int
    pending: int
    definition: Mapping[str, Any]


class RulesService:
    """Runs all rules and answers about them."""

    def __init__(
        self,
        store: ServiceStore,
        alerts: AlertStore,
        clock: Clock,
        rules: RuleSet,
        *,
        lateness_ns: int,
        link_interval_ns: int = 1_000_000_000,
        receivers: Sequence[str] = (),
        listening_since: Callable[[], int | None] = lambda: None,
    ) -> None:
        """Take everything it needs; `listening_since`: since when it is noted which agents are heard (leases.py). `lateness_ns`: how long raw data is kept. `receivers`: who is notified (notify/)."""
        self._store = store
        self._alerts = alerts
        self._clock = clock
        self._rules = rules
        self._lateness_ns = lateness_ns
        self._receivers = tuple(receivers)
        self._listening_since = listening_since
        self._tracer = OFF
        self._link_interval_ns = link_interval_ns
        self._wake = asyncio.Event()
        self._listeners: list[Listener] = []
        self._feed = Feed()
        self._notes: dict[str, str] = {}
        self._noted_ns = -NOTE_NS
        self.judging = False
        """Whether run() runs: several processes on one store may answer about rules, one judges."""
        self._renew()

    def _renew(self) -> None:
        """Know nothing of what the store has: before judging begins, and again when another process judged meanwhile."""
        metric = [rule for rule in self._rules.rules.values() if isinstance(rule, MetricRule)]
        link = [rule for rule in self._rules.rules.values() if isinstance(rule, LinkRule)]
        self._feed.distrust()
        self._engine = Engine(
            self._store,
            self._alerts,
            self._clock,
            metric,
            lateness_ns=self._lateness_ns,
            receivers=self._receivers,
            publish=self._publish,
            feed=self._feed,
        )
        self._engine.trace_with(self._tracer)
        self._links = Links(
            self._store,
            self._alerts,
            self._clock,
            link,
            receivers=self._receivers,
            publish=self._publish,
            listening_since=self._listening_since,
        )
        self._notes.clear()

    # --- for app.py

    def trace_with(self, tracer: Tracer) -> None:
        """Trace what is made of sampled batches; before run()."""
        self._tracer = tracer

    def committed(self, batch: Committed, after: int | None = None) -> None:
        """Take what was committed. Cheap; called on the event loop after each commit, in commit order (feed.py has `after`)."""
        self._feed.offer(batch, after)
        self._wake.set()

    def wake(self, *_what: object) -> None:
        """Say that something happened to a link. Cheap; called on the event loop."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Judge until `stop` is set. What goes wrong in the store is tried again; nothing is skipped meanwhile.

        It may run again after it was cancelled: it begins with what the store has by then.
        """
        ending = asyncio.create_task(self._wake_at(stop), name="rules-stop")
        self._renew()
        self.judging = True
        try:
            await self._run(stop)
        finally:
            self.judging = False
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)

    async def _run(self, stop: asyncio.Event) -> None:
        pause = 0.0
        started = ask = False
        next_link = next_forget = next_poll = 0
        while not stop.is_set():
            try:
                if not started:
                    await self.start()
                    started = True
                busy = await self.step(ask=ask)
                ask = False
                if self._clock.mono_ns() >= next_link:
                    next_link = self._clock.mono_ns() + self._link_interval_ns
                    await self._links.look()
                if self._clock.mono_ns() >= next_forget:
                    next_forget = self._clock.mono_ns() + _FORGET_EVERY_NS
                    await self._alerts.rules_forget(self._clock.now_ns() - KEEP_NS, 10_000)
                pause = 0.0
            except LeaseLost:
                raise
            except StoreError as error:
                pause = min(max(2 * pause, 0.25), _WORST_PAUSE)
                log.warning("rules_wait_for_store", error=str(error), retry_in_s=pause)
                await _within(pause, stop)
                continue
            # A stop that came during start() was cleared from the wake-up by step().
            if not busy and not stop.is_set() and not await _within(self._idle_s(next_link), self._wake):
                now = self._clock.mono_ns()
                if now >= next_poll:
                    next_poll = now + POLL_NS
                    ask = True
        if started:
            # Without it the next start judges the last second again.
            with contextlib.suppress(StoreError):
                await self._engine.save()

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    async def start(self) -> None:
        """Load what the store remembers; run() does it."""
        enabled = [rule.name for rule in self._rules.rules.values() if rule.enabled]
        await self._engine.start(enabled)
        await self._links.start()

    async def step(self, *, ask: bool = False) -> bool:
        """Judge the next commits and what the clock has made due; False when there is nothing more to do now.

        `ask` the store, too, for commits that nobody told of: one whose outcome was never known may be there.
        """
        self._wake.clear()
        if ask:
            self._feed.distrust()
        busy = await self._engine.step()
        await self._engine.due()
        await self._note()
        return busy

    async def _note(self) -> None:
        """Write down what rules leave out, now and then: who asks may ask another process."""
        now = self._clock.mono_ns()
        if now - self._noted_ns < NOTE_NS:
            return
        notes = {state.rule.name: _left_out(state) for state in self._engine.states}
        changed = [
            RuleRow(name, state.rule.fingerprint, state.error, notes[name])
            for state in self._engine.states
            if notes[name := state.rule.name] != self._notes.get(name, "")
        ]
        if changed:
            await self._alerts.rules_commit(RulesCommit(CONSUMER, rules=changed))
            self._notes, self._noted_ns = notes, now

    async def look(self) -> None:
        """Judge the links once; run() does it every interval."""
        await self._links.look()

    def _idle_s(self, next_link: int) -> float:
        waits = [POLL_NS, next_link - self._clock.mono_ns()]
        due = self._engine.next_due()
        if due is not None:
            waits.append(due - self._clock.now_ns())
        return max(min(waits), 1_000_000) / 1e9

    # --- for api/

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call a function on the event loop with alerts that changed (as `alerts` shows them); returns how to stop it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def _publish(self, alerts: Sequence[Alert]) -> None:
        shown = [self.show(alert, self._data_ns(alert)) for alert in alerts]
        for listener in tuple(self._listeners):
            try:
                listener(shown)
            except Exception:
                log.exception("alert_listener_failed")  # its trouble is its own

    async def alerts(
        self,
        state: str = "open",
        *,
        agent: str | None = None,
        rule: str | None = None,
        before: tuple[int, int] | None = None,
        limit: int = 1_000,
    ) -> list[dict[str, Any]]:
        """Return alerts, newest start first. `state`: open, all, or one of the states; firing includes unknown.

        `before`: start and id of the last of the page before this one. Of `unknown` a page may have fewer than the limit, also
        when there are more.
        """
        states: frozenset[AlertState]
        if state == "all":
            states = frozenset()
        elif state == "open":
            states = OPEN
        elif state in {AlertState.FIRING, AlertState.UNKNOWN}:
            states = frozenset({AlertState.FIRING})
        else:
            states = frozenset({AlertState(state)})
        found = await self._alerts.rules_alerts(
            AlertQuery(states=states, agent=agent, rule=rule, before=before, limit=limit)
        )
        shown = await self.shown(found)
        return [one for one in shown if state != AlertState.UNKNOWN or one["state"] == AlertState.UNKNOWN]

    async def shown(self, alerts: Sequence[Alert]) -> list[dict[str, Any]]:
        """Return alerts as the API shows them, whichever process judges."""
        rows = await self._alerts.rules_groups_of([(alert.rule, alert.group) for alert in alerts])
        reached: dict[tuple[str, str], int] = {}
        for row in rows:
            with contextlib.suppress(ValueError):  # of a version that this one doesn't know
                reached[row.rule, row.group] = Group.unpack(row.state or b"").reached_ns
        return [self.show(alert, reached.get((alert.rule, alert.group))) for alert in alerts]

    def show(self, alert: Alert, data_ns: int | None) -> dict[str, Any]:
        """Return an alert as the API shows it; `data_ns`: its group's newest reading."""
        state = alert.state
        if state is AlertState.FIRING and data_ns is not None and self._stopped(alert, data_ns):
            state = AlertState.UNKNOWN
        return {
            "id": alert.id,
            "rule": alert.rule,
            "state": str(state),
            "severity": alert.severity,
            "labels": dict(alert.labels),
            "annotations": dict(alert.annotations),
            "value": alert.value,
            "threshold": alert.threshold,
            "summary": alert.summary,
            "started_ns": alert.started_ns,
            "fired_ns": alert.fired_ns,
            "resolved_ns": alert.resolved_ns,
            "detected_ns": alert.detected_ns,
            "changed_ns": alert.changed_ns,
            "data_ns": data_ns,
            "late": alert.late,
            "revision": alert.revision,
            "trace_id": trace_id(alert.trace),
        }

    def _data_ns(self, alert: Alert) -> int | None:
        for state in self._engine.states:
            if state.rule.name == alert.rule:
                group = state.groups.get(alert.group)
                return None if group is None else group.reached_ns
        return None

    def _stopped(self, alert: Alert, data_ns: int) -> bool:
        rule = self._rules.rules.get(alert.rule)
        window = rule.window if isinstance(rule, MetricRule) else 0
        return self._clock.now_ns() - data_ns > window + UNKNOWN_NS

    async def rules(self) -> list[RuleStatus]:
        """Return every rule with how it is doing."""
        standing = await self._alerts.rules_alerts(AlertQuery(states=OPEN, limit=100_000))
        counts = Counter((alert.rule, alert.state) for alert in standing)
        known = {row.name: row for row in await self._alerts.rules_known()}
        groups = await self._alerts.rules_group_counts()
        return [
            RuleStatus(
                name=rule.name,
                kind=rule.kind,
                file=self._rules.origins.get(rule.name, ""),
                expression=explain(rule),
                severity=rule.severity,
                state=_state(rule, known.get(rule.name)),
                error=_trouble(rule, known.get(rule.name)),
                groups=groups.get(rule.name, 0) if rule.enabled else 0,
                firing=counts[rule.name, AlertState.FIRING],
                pending=counts[rule.name, AlertState.PENDING],
                definition=rule.model_dump(mode="json", by_alias=True, exclude_none=True),
            )
            for rule in self._rules.rules.values()
        ]

    @property
    def cursor(self) -> int:
        """Return the number of the last commit that was judged, for /metrics."""
        return self._engine.cursor


async def _within(seconds: float, event: asyncio.Event) -> bool:
    """Wait for an event; False when the time was over before."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


def _state(rule: AnyRule, known: RuleRow | None) -> str:
    if not rule.enabled:
        return "off"
    return "failed" if known is not None and known.error else "ok"


def _trouble(rule: AnyRule, known: RuleRow | None) -> str:
    """Say what is wrong with a rule, or what it leaves out."""
    if known is None or not rule.enabled:
        return ""
    if known.error:
        return f"switched off until the next start: {known.error}"
    return known.note or ""


def _left_out(running: RuleState) -> str:
    if running.left_out:
        return f"{running.left_out} series are not judged: {MAX_GROUPS:,} groups are the most; narrow `select` or use `group_by`"
    if running.too_late:
        return f"readings came {running.too_late} times later than the rule's lateness; raise `lateness`"
    return ""


def explain(rule: AnyRule) -> str:
    """Say a rule in one sentence, for `rules check`."""
    if isinstance(rule, LinkRule):
        return f"{rule.name}: an agent is silent for {format_duration(rule.after)}"
    held = f" for {format_duration(rule.for_)}" if rule.for_ else ""
    ends = f", until {rule.recover_when}" if rule.recover_when else ""
    return f"{rule.name}: {rule.agg} of {rule.select} over {format_duration(rule.window)} {rule.when}{held}{ends}"
