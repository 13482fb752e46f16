"""Judges every committed batch: which groups does it touch, what do they say now, what is stored of that.

    feed, else read_after(cursor) ─▶ spans per (rule, group) ─▶ judge (window · machine) ─▶ changes ─▶ one transaction
                                                                                   (alerts, state, outbox, cursor)

The cursor moves in the transaction that holds what its batches caused, or up to a second later where they caused nothing,
so a kill anywhere repeats work and changes no result: judging is a function of the stored readings, and of no clock but the one that says which time is over.
A rule that fails is switched off with its error where people see it; the others go on.
"""

import asyncio
import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import structlog

from telemetryx.clock import Clock
from telemetryx.errors import CursorGone, SchemaBroken, StoreUnavailable
from telemetryx.rules import judge
from telemetryx.rules.change import changes, known_from
from telemetryx.rules.feed import Feed
from telemetryx.rules.group import Checkpoint, Group, Member, group_key, group_labels
from telemetryx.rules.judge import Verdict, first_point, horizon
from telemetryx.rules.machine import INACTIVE
from telemetryx.rules.model import MetricRule
from telemetryx.rules.source import Live, RulesStore
from telemetryx.rules.span import Span, extents, together, waits
from telemetryx.rules.tail import Tail
from telemetryx.rules.traced import Traces
from telemetryx.sets import distinct
from telemetryx.store import selector
from telemetryx.store.alerts import (
    OPEN,
    Alert,
    AlertChange,
    AlertQuery,
    AlertStore,
    ChangeKind,
    GroupRow,
    RuleRow,
    RulesCommit,
)
from telemetryx.traces import OFF, Tracer, parse
from telemetryx.types import Committed, Matcher, Series

CONSUMER: Final = "rules"
#: Commits that one step takes on.
BATCHES: Final = 64
#: Groups of one transaction.
COMMIT_GROUPS: Final = 500
#: Groups that are judged in one read.
READ_GROUPS: Final = 250
#: Groups of one rule. Series beyond it aren't judged, and the rule says so.
MAX_GROUPS: Final = 20_000
#: Readings stamped later than this from now are wrong (agents refuse them too); they move no group's time forward.
FUTURE_NS: Final = 300_000_000_000
#: Readings stay in memory this much longer than the longest window and interval.
KEEP_NS: Final = 30_000_000_000
#: A cursor that moved and caused nothing is written down this often: a transaction a commit would only slow ingest.
SAVE_NS: Final = 1_000_000_000
_PAGE: Final = 5_000

log = structlog.get_logger("telemetryx.rules")


@dataclass(slots=True)
class RuleState:
    """One rule at work."""

    rule: MetricRule
    lateness_ns: int
    matchers: tuple[Matcher, ...]
    groups: dict[str, Group] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    error: str | None = None
    left_out: int = 0
    too_late: int = 0
    judged_ns: int = 0


@dataclass(slots=True)
class Proposal:
    """What one group's judgement would store."""

    state: RuleState
    key: str
    group: Group
    changes: list[AlertChange]


class Engine:
    """Runs the metric rules. One task calls it; it owns no task itself."""

    def __init__(
        self,
        store: RulesStore,
        alerts: AlertStore,
        clock: Clock,
        rules: Iterable[MetricRule],
        *,
        lateness_ns: int,
        receivers: Sequence[str] = (),
        publish: Callable[[Sequence[Alert]], None] = lambda _alerts: None,
        feed: Feed | None = None,
    ) -> None:
        """Take the rules; `lateness_ns` is for those that name none (how long raw data is kept)."""
        self._store = store
        self._feed = Feed() if feed is None else feed
        self._alerts = alerts
        self._clock = clock
        self._receivers = tuple(receivers)
        self._publish = publish
        self._rules = [
            RuleState(
                rule,
                lateness_ns if rule.lateness is None else rule.lateness,
                tuple(selector.parse(rule.select)),
            )
            for rule in rules
            if rule.enabled
        ]
        self._cursor = 0
        self._saved = 0
        self._saved_at_ns = -SAVE_NS
        self._seen = np.zeros(0, np.bool_)
        self._wanted: dict[int, list[tuple[RuleState, str]]] = {}
        self._due: list[tuple[int, int, str]] = []
        self._tail = Tail()
        self._live = Live(self._tail, store)
        self._traces = Traces(OFF)
        self._keep_ns = KEEP_NS + max((one.rule.window + one.rule.interval for one in self._rules), default=0)
        self.future = 0

    def trace_with(self, tracer: Tracer) -> None:
        """Trace what is made of sampled batches."""
        self._traces = Traces(tracer)

    @property
    def states(self) -> Sequence[RuleState]:
        """Return the rules at work, for those who show them."""
        return self._rules

    @property
    def cursor(self) -> int:
        """Return the number of the last commit that was judged."""
        return self._cursor

    async def start(self, names: Iterable[str]) -> None:
        """Meet what the store remembers: rules that are gone or mean something else end their alerts (`names`: all rules)."""
        await self._store.register_consumer(CONSUMER, await self._store.cursor())
        self._cursor = self._saved = await self._alerts.rules_cursor(CONSUMER)
        remembered = {row.name: row for row in await self._alerts.rules_known()}
        known = set(names)
        for name in remembered:
            if name not in known:
                await self._forget(name)
        for state in self._rules:
            name = state.rule.name
            row = remembered.get(name)
            if row is not None and row.fingerprint != state.rule.fingerprint:
                await self._forget(name)
            await self._alerts.rules_commit(
                RulesCommit(CONSUMER, rules=[RuleRow(name, state.rule.fingerprint)])
            )
            await self._load(state)
        await self._learn()

    async def _learn(self) -> None:
        """Begin the memory of recent readings anew: what is stored already isn't in it."""
        self._tail.restart(self._cursor)
        ids = list(self._wanted)
        for at in range(0, len(ids), _PAGE):
            newest = await self._store.latest(ids[at : at + _PAGE])
            self._tail.learn({series: latest.time_ns for series, latest in newest.items()})

    async def _forget(self, name: str) -> None:
        """Close a rule's open alerts and drop its memory."""
        now = self._clock.now_ns()
        while True:
            still = await self._alerts.rules_alerts(AlertQuery(states=OPEN, rule=name, limit=COMMIT_GROUPS))
            closed = [
                AlertChange(ChangeKind.CLOSED, alert.rule, alert.group, alert.started_ns, now)
                for alert in still
            ]
            self._publish(
                await self._alerts.rules_commit(
                    RulesCommit(
                        CONSUMER,
                        changes=closed,
                        forget_rules=[name] if len(still) < COMMIT_GROUPS else [],
                        receivers=self._receivers,
                    )
                )
            )
            if len(still) < COMMIT_GROUPS:
                return

    async def _load(self, state: RuleState) -> None:
        """Read the series that a rule is about, and the memory of its groups."""
        after = 0
        while page := await self._store.series(state.matchers, limit=_PAGE, after=after):
            for series in page:
                if selector.matches(state.matchers, series):
                    self._join(state, series)
            after = page[-1].id
        for row in await self._alerts.rules_groups(state.rule.name):
            if row.state is None or row.group not in state.members:
                continue
            try:
                group = Group.unpack(row.state)
            except ValueError as error:
                log.warning("rule_state_unreadable", rule=state.rule.name, group=row.group, error=str(error))
                continue
            state.groups[row.group] = group
            self._arm(state, row.group, group)

    def _join(self, state: RuleState, series: Series) -> None:
        labels = group_labels(series, state.rule.group_by)
        key = group_key(labels)
        member = state.members.get(key)
        if member is None:
            if len(state.members) >= MAX_GROUPS:
                state.left_out += 1
                return
            member = state.members[key] = Member(labels)
        if member.add(series):
            self._wanted.setdefault(series.id, []).append((state, key))
            self._tail.want(series.id)

    def _arm(self, state: RuleState, key: str, group: Group) -> None:
        if group.due_ns:
            heapq.heappush(self._due, (group.due_ns, self._rules.index(state), key))

    # --- what a step does

    async def step(self) -> bool:
        """Judge the next commits; False when there are none."""
        try:
            batches = self._feed.after(self._cursor, BATCHES)
            if batches is None:
                batches = await self._store.read_after(self._cursor, BATCHES)
        except CursorGone as gone:
            # Their groups are judged onwards from their saved states all the same, with their next readings.
            log.warning("rules_cursor_gone", cursor=self._cursor, oldest=gone.oldest)
            self._cursor = gone.oldest
            await self._learn()
            return True
        if not batches:
            await self.save(SAVE_NS)
            return False
        await self._meet_series(batches)
        now = self._clock.mono_ns()
        self._tail.evict(now - self._keep_ns)
        for batch in batches:
            self._tail.add(batch, now)
        self._traces.begin(batches)
        try:
            spans = await self._spans(batches)
            await self._judge(spans, batches[-1].cursor)
        finally:
            self._traces.end()
        return True

    async def save(self, after_ns: int = 0) -> None:
        """Write the cursor down when it moved and the last time is so long ago."""
        now = self._clock.mono_ns()
        if self._cursor == self._saved or now - self._saved_at_ns < after_ns:
            return
        await self._alerts.rules_commit(RulesCommit(CONSUMER, cursor=self._cursor, receivers=self._receivers))
        self._saved, self._saved_at_ns = self._cursor, now

    async def due(self) -> None:
        """Judge the groups whose last readings lie before a point that the clock has passed."""
        now = self._clock.now_ns()
        spans: dict[tuple[int, str], list[Span]] = {}
        while self._due and self._due[0][0] <= now:
            due, index, key = heapq.heappop(self._due)
            group = self._rules[index].groups.get(key)
            if group is not None and group.due_ns == due:
                spans[index, key] = []
        if spans:
            await self._judge(spans, None)

    def next_due(self) -> int | None:
        """Return when due() will have something to do, in wall time."""
        return self._due[0][0] if self._due else None

    async def _meet_series(self, batches: Sequence[Committed]) -> None:
        """Look up series that are seen for the first time, and let them join the groups they belong to."""
        blocks = [batch.samples.series for batch in batches]
        blocks += [batch.windows.series for batch in batches if batch.windows is not None]
        ids = distinct(np.concatenate(blocks))
        if len(ids) == 0:
            return
        if int(ids[-1]) >= len(self._seen):
            self._seen = np.append(self._seen, np.zeros(int(ids[-1]) + 1_024 - len(self._seen), np.bool_))
        new = ids[~self._seen[ids]].tolist()
        if not new:
            return
        # A new series comes with its definition, as a rule; a commit that was read from the store has none.
        told = {series.id: series for batch in batches for series in batch.defined}
        if not told.keys() >= set(new):
            told |= await self._store.series_by_id([number for number in new if number not in told])
        for series in (told[number] for number in new if number in told):
            for state in self._rules:
                if selector.matches(state.matchers, series):
                    self._join(state, series)
            self._seen[series.id] = True

    async def _spans(self, batches: Sequence[Committed]) -> dict[tuple[int, str], list[Span]]:
        """Find the groups that these commits touch, and the times of what is new there."""
        now = self._clock.now_ns()
        now_limit = now + FUTURE_NS
        number = {id(state): index for index, state in enumerate(self._rules)}
        found: dict[tuple[int, str], list[Span]] = {}
        for count, batch in enumerate(batches):
            if count % 16 == 15:  # noqa: PLR2004
                await asyncio.sleep(0)
            context = parse(batch.trace)
            for series, first, last, longest in extents(batch, self._tail.wanted):
                wanted = self._wanted[series]
                if last > now_limit:
                    self.future += 1
                    if first > now_limit:
                        continue
                    last = now_limit  # noqa: PLW2901 - what lies beyond moves nothing
                for state, key in wanted:
                    if context is not None:
                        self._traces.touched(state.rule.name, key, context, last)
                    if state.error is None and not waits(state.groups.get(key), first, last, longest, now):
                        found.setdefault((number[id(state)], key), []).append(Span(first, last, longest))
        return found

    async def _judge(self, spans: Mapping[tuple[int, str], list[Span]], cursor: int | None) -> None:
        """Judge these groups, live ones first, and store it all; the cursor moves with the last of it."""
        by_rule: dict[int, dict[str, list[Span]]] = {}
        for (index, key), found in spans.items():
            by_rule.setdefault(index, {})[key] = found
        late: list[tuple[RuleState, str, Span]] = []
        for index, groups in by_rule.items():
            state = self._rules[index]
            if state.error is not None:
                continue
            try:
                proposals, behind = await self._forward(state, groups)
            except (StoreUnavailable, SchemaBroken):
                raise  # no rule's doing: all of it is done again
            except Exception as error:  # noqa: BLE001 - whatever a rule does wrong must not stop the others
                await self._fail(state, error)
                continue
            await self._commit(proposals, None)
            late += [(state, key, span) for key, span in behind]
        pending: list[Proposal] = []
        for state, key, span in late:
            if state.error is not None:
                continue
            # A group may have several late spans: each is judged on what the one before it left.
            if any(proposal.state is state and proposal.key == key for proposal in pending):
                await self._commit(pending, None)
                pending = []
            try:
                pending.append(await self._backward(state, key, span))
            except (StoreUnavailable, SchemaBroken):
                raise  # no rule's doing: all of it is done again
            except Exception as error:  # noqa: BLE001
                await self._fail(state, error)
            if len(pending) >= COMMIT_GROUPS:
                await self._commit(pending, None)
                pending = []
        await self._commit(pending, cursor)

    async def _forward(
        self, state: RuleState, groups: Mapping[str, list[Span]]
    ) -> tuple[list[Proposal], list[tuple[str, Span]]]:
        """Judge what lies after each group's newest point; return what lies before it, or too far after it, for later."""
        rule, now = state.rule, self._clock.now_ns()
        ready: list[tuple[str, Group, int]] = []
        behind: list[tuple[str, Span]] = []
        waiting: list[Proposal] = []
        for count, (key, found) in enumerate(groups.items()):
            if count % 256 == 255:  # noqa: PLR2004
                await asyncio.sleep(0)  # acknowledgements and clients go on between two pieces
            spans = together(found, rule.window + 16 * rule.interval)
            group = state.groups.get(key)
            if group is None:
                if not spans:
                    continue
                begin = first_point(rule, spans[0].first_ns) - 1
                group = Group((Checkpoint(begin, INACTIVE),), born=True, reached_ns=spans[-1].last_ns)
            reached = max([group.reached_ns, *(span.last_ns for span in spans)])
            upto, due = horizon(rule, reached, now)
            longest = max([group.longest_ns, *(span.longest_ns for span in spans)])
            after = replace(group, reached_ns=reached, due_ns=due, longest_ns=longest)
            head = group.head.at_ns
            old = [span for span in spans if first_point(rule, span.first_ns) <= head]
            behind += [(key, span) for span in old]
            if upto <= head or any(span.last_ns > head for span in old):
                # Nothing new to judge here, or the rerun goes through to the newest point anyway.
                if (
                    (after.due_ns, after.longest_ns) != (group.due_ns, group.longest_ns)
                    or key not in state.groups
                    or old
                ):
                    waiting.append(Proposal(state, key, after, []))
            elif upto - head > _near(rule):
                behind.append((key, Span(head + 1, max(reached, head + 1), longest)))
                waiting.append(Proposal(state, key, after, []))
            else:
                ready.append((key, after, upto))
        proposals = waiting
        for part in _neighbours(ready, _near(rule)):
            verdicts = await judge.extend(
                self._live,
                rule,
                [group for _, group, _ in part],
                [state.members[key].series for key, _, _ in part],
                [upto for _, _, upto in part],
                state.lateness_ns,
            )
            for (key, _, _), verdict in zip(part, verdicts, strict=True):
                proposals.append(self._proposal(state, key, verdict, ()))
            await asyncio.sleep(0)  # acknowledgements and clients go on between two pieces
        state.judged_ns = now
        return proposals, behind

    async def _backward(self, state: RuleState, key: str, span: Span) -> Proposal:
        """Judge late readings at their own time."""
        rule, group = state.rule, state.groups[key]
        if not group.born and first_point(rule, span.first_ns) <= group.checkpoints[0].at_ns:
            state.too_late += 1
        upto, _ = horizon(rule, group.reached_ns, self._clock.now_ns())
        verdict = await judge.rerun(
            self._store,
            rule,
            group,
            state.members[key].series,
            (span.first_ns, span.last_ns),
            upto,
            state.lateness_ns,
        )
        known = await self._alerts.rules_alerts(
            AlertQuery(rule=rule.name, group=key, started_from_ns=known_from(verdict), limit=100_000)
        )
        return self._proposal(state, key, verdict, known)

    def _proposal(self, state: RuleState, key: str, verdict: Verdict, known: Sequence[Alert]) -> Proposal:
        labels = state.members[key].labels
        found = changes(state.rule, key, labels, verdict, known, self._clock.now_ns())
        return Proposal(state, key, verdict.group, found)

    async def _commit(self, proposals: Sequence[Proposal], cursor: int | None) -> None:
        """Store proposals, at most so many at once, then believe them; the cursor moves with the last."""
        parts = [proposals[at : at + COMMIT_GROUPS] for at in range(0, len(proposals), COMMIT_GROUPS)]
        for index, part in enumerate(parts):
            found, traced = self._traces.changes([change for one in part for change in one.changes])
            changed = await self._alerts.rules_commit(
                RulesCommit(
                    CONSUMER,
                    cursor=cursor if index == len(parts) - 1 else None,
                    groups=[GroupRow(one.state.rule.name, one.key, one.group.pack()) for one in part],
                    changes=found,
                    receivers=self._receivers,
                )
            )
            self._traces.stored(traced)
            for one in part:
                self._traces.judged(
                    one.state.rule.name, one.key, one.group.head.at_ns - one.state.rule.window
                )
                before = one.state.groups.get(one.key)
                one.state.groups[one.key] = one.group
                if before is None or before.due_ns != one.group.due_ns:
                    self._arm(one.state, one.key, one.group)
            if changed:
                self._publish(changed)
        if cursor is not None:
            self._cursor = cursor
            if parts:
                self._saved, self._saved_at_ns = cursor, self._clock.mono_ns()
            else:
                await self.save(SAVE_NS)

    async def _fail(self, state: RuleState, error: Exception) -> None:
        """Switch a rule off, visibly, until the next start; its groups go on from their saved states then."""
        state.error = f"{type(error).__name__}: {error}"[:500]
        log.error("rule_switched_off", rule=state.rule.name, error=state.error, exc_info=error)
        await self._alerts.rules_commit(
            RulesCommit(CONSUMER, rules=[RuleRow(state.rule.name, state.rule.fingerprint, state.error)])
        )


def _neighbours(ready: list[tuple[str, Group, int]], near_ns: int) -> Iterable[list[tuple[str, Group, int]]]:
    """Split groups so that those judged in one read lie close in time."""
    part: list[tuple[str, Group, int]] = []
    for one in sorted(ready, key=lambda item: item[1].head.at_ns):
        if part and (one[1].head.at_ns - part[0][1].head.at_ns > near_ns or len(part) >= READ_GROUPS):
            yield part
            part = []
        part.append(one)
    if part:
        yield part


def _near(rule: MetricRule) -> int:
    """Return how far a group may lag to be judged together with others."""
    return max(512 * rule.interval or 600_000_000_000, 4 * rule.window)
