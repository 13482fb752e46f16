"""A store in memory for the rules' tests: fast enough for thousands of histories, and made of the same pure functions.

What the real stores add (transactions, restarts, the outbox) is tested on them: tests/notify, test_on_stores.py.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from telemetryx.clock import ManualClock
from telemetryx.fleet import Agent, AgentState
from telemetryx.rules import RuleSet, RulesService, check_text
from telemetryx.store.alerts import (
    Alert,
    AlertQuery,
    AlertState,
    GroupRow,
    RuleRow,
    RulesCommit,
    merge,
    notable,
)
from telemetryx.store.interface import AgentPage
from telemetryx.types import BatchKey, Committed, Latest, SampleBlock, Series, WindowBlock

S = 1_000_000_000
T0 = 1_700_000_000 * S
"""A grid point of every interval the tests use."""


class MemoryStore:
    """Readings, alerts and rule state in dicts. `reads` counts what was asked for."""

    def __init__(self) -> None:
        """Begin empty."""
        self.catalogue: dict[int, Series] = {}
        self.batches: list[Committed] = []
        self.rows: dict[int, list[tuple[int, tuple[Any, ...], float]]] = {}
        self.window_rows: dict[int, list[tuple[int, ...]]] = {}
        self.consumers: dict[str, int] = {}
        self.rule_rows: dict[str, RuleRow] = {}
        self.groups: dict[tuple[str, str], bytes] = {}
        self.alerts: dict[tuple[str, str, int], Alert] = {}
        self.told: list[tuple[str, AlertState]] = []
        self.fleet: dict[str, Agent] = {}
        self.reads = 0
        self.ids = 0
        self.broken: Exception | None = None

    # --- filling it

    def series_id(self, agent: str, name: str, labels: Mapping[str, str]) -> int:
        """Number a series in the order of first sight, as the real store does."""
        for number, series in self.catalogue.items():
            if (series.agent, series.name, dict(series.labels)) == (agent, name, dict(labels)):
                return number
        number = len(self.catalogue) + 1
        self.catalogue[number] = Series(number, agent, name, dict(labels))
        return number

    def commit_samples(
        self,
        seq: int,
        rows: Iterable[tuple[str, Mapping[str, str], int, float]],
        agent: str = "gw1",
    ) -> Committed:
        """Commit a batch of (metric, labels, time, value)."""
        by_series: dict[int, list[tuple[int, float]]] = {}
        for name, labels, time, value in rows:
            by_series.setdefault(self.series_id(agent, name, labels), []).append((time, value))
        series = sorted(by_series)
        times: list[int] = []
        values: list[float] = []
        offsets = [0]
        for number in series:
            ordered = sorted(enumerate(by_series[number]), key=lambda item: (item[1][0], item[0]))
            for index, (time, value) in ordered:
                times.append(time)
                values.append(value)
                self.rows.setdefault(number, []).append((time, (agent, b"e", seq, index), value))
            offsets.append(len(times))
            self.rows[number].sort(key=lambda row: row[:2])
        block = SampleBlock(
            np.array(series, np.int64),
            np.array(offsets, np.int64),
            np.array(times, np.int64),
            np.array(values),
        )
        return self._append(BatchKey(agent, b"e", seq), block, None)

    def commit_windows(
        self,
        seq: int,
        name: str,
        labels: Mapping[str, str],
        rows: Sequence[tuple[Any, ...]],
        agent: str = "gw1",
    ) -> Committed:
        """Commit windows of one series: (start, length, count, sum, min, max, first_t, first, last_t, last)."""
        number = self.series_id(agent, name, labels)
        self.window_rows.setdefault(number, []).extend(rows)
        self.window_rows[number].sort()
        return self._append(BatchKey(agent, b"e", seq), SampleBlock.empty(), _window_block({number: rows}))

    def _append(self, key: BatchKey, samples: SampleBlock, windows: WindowBlock | None) -> Committed:
        batch = Committed(len(self.batches) + 1, key, 0, 0, 0, samples, windows)
        self.batches.append(batch)
        return batch

    # --- what the rules read

    async def cursor(self) -> int:
        """Return the newest commit's number."""
        return len(self.batches)

    async def read_after(self, cursor: int, limit: int = 256) -> list[Committed]:
        """Return commits after a cursor."""
        if self.broken is not None:
            raise self.broken
        return self.batches[cursor : cursor + limit]

    async def register_consumer(self, consumer: str, cursor: int) -> None:
        """Remember a consumer."""
        self.consumers.setdefault(consumer, cursor)

    async def series(
        self, matchers: Sequence[Any] = (), *, agent: str | None = None, limit: int = 1_000, after: int = 0
    ) -> list[Series]:
        """Return all series: the engine matches them again itself."""
        del matchers, agent
        every = sorted(self.catalogue.values(), key=lambda series: series.id)
        return [series for series in every if series.id > after][:limit]

    async def series_by_id(self, ids: Sequence[int]) -> dict[int, Series]:
        """Return series by their numbers."""
        return {number: self.catalogue[number] for number in ids}

    async def samples(
        self, series_ids: Sequence[int], start_ns: int, end_ns: int, *, limit: int = 5_000_000
    ) -> SampleBlock:
        """Return samples in (time, batch key, index) order."""
        del limit
        self.reads += 1
        found = {
            number: [row for row in self.rows.get(number, []) if start_ns <= row[0] < end_ns]
            for number in sorted(series_ids)
        }
        offsets = np.cumsum([0, *(len(rows) for rows in found.values())])
        flat = [row for rows in found.values() for row in rows]
        return SampleBlock(
            np.array(list(found), np.int64),
            offsets.astype(np.int64),
            np.array([row[0] for row in flat], np.int64),
            np.array([row[2] for row in flat], np.float64),
        )

    async def latest(self, series_ids: Sequence[int]) -> dict[int, Latest]:
        """Return the newest sample of each series."""
        found = {}
        for number in series_ids:
            times = [row[0] for row in self.rows.get(number, [])] + [
                row[8] for row in self.window_rows.get(number, [])
            ]
            if times:
                found[number] = Latest(number, max(times), 0.0)
        return found

    async def windows(self, series_ids: Sequence[int], start_ns: int, end_ns: int) -> WindowBlock:
        """Return windows that start in the range."""
        return _window_block(
            {
                number: [row for row in self.window_rows.get(number, []) if start_ns <= row[0] < end_ns]
                for number in sorted(series_ids)
            }
        )

    async def agents(self, query: Any) -> AgentPage:
        """Return the agents that were last seen before a time, by name."""
        every = sorted(
            (agent for agent in self.fleet.values() if agent.last_seen_ns < query.seen_before_ns),
            key=lambda agent: agent.name,
        )
        skipped = sum(query.after is not None and agent.name <= query.after for agent in every)
        return AgentPage(every[skipped : skipped + query.limit], len(every), {}, skipped)

    async def agent(self, name: str) -> Agent | None:
        """Return one agent."""
        return self.fleet.get(name)

    def seen(self, name: str, at_ns: int, **labels: str) -> None:
        """Let an agent be heard."""
        self.fleet[name] = Agent(
            name, AgentState.LIVE, "1", True, at_ns, 0, 0, 0, 0, 0.0, 0.0, 0, 0, 0, labels
        )

    # --- what the rules keep

    async def rules_cursor(self, consumer: str) -> int:
        """Return a consumer's cursor."""
        return self.consumers.get(consumer, 0)

    async def rules_known(self) -> list[RuleRow]:
        """Return remembered rules."""
        return list(self.rule_rows.values())

    async def rules_groups(self, rule: str) -> list[GroupRow]:
        """Return a rule's groups."""
        return [GroupRow(name, group, state) for (name, group), state in self.groups.items() if name == rule]

    async def rules_group_counts(self) -> dict[str, int]:
        """Count the groups of each rule."""
        return dict(Counter(rule for rule, _ in self.groups))

    async def rules_groups_of(self, keys: Sequence[tuple[str, str]]) -> list[GroupRow]:
        """Return the saved states of these groups."""
        return [GroupRow(*key, self.groups[key]) for key in dict.fromkeys(keys) if key in self.groups]

    async def rules_commit(self, commit: RulesCommit) -> list[Alert]:
        """Apply a step."""
        changed: list[Alert] = []
        for change in commit.changes:
            key = (change.rule, change.group, change.started_ns)
            stored = self.alerts.get(key)
            after = merge(stored, change)
            if after is stored:
                continue
            if after is None:
                gone = self.alerts.pop(key)
                changed.append(replace(gone, state=AlertState.RETRACTED))
                continue
            if stored is None:
                self.ids += 1
                after = replace(after, id=self.ids)
            self.alerts[key] = after
            changed.append(after)
            if notable(stored, after, change.kind):
                self.told.append((after.rule, after.state))
        for row in commit.groups:
            if row.state is not None:
                self.groups[row.rule, row.group] = row.state
        for name in commit.forget_rules:
            self.rule_rows.pop(name, None)
            self.groups = {key: state for key, state in self.groups.items() if key[0] != name}
        for rule in commit.rules:
            self.rule_rows[rule.name] = rule
        if commit.cursor is not None:
            self.consumers[commit.consumer] = commit.cursor
        return changed

    async def rules_alerts(self, query: AlertQuery) -> list[Alert]:
        """Return alerts, newest start first."""
        found = [
            alert
            for alert in self.alerts.values()
            if (not query.states or alert.state in query.states)
            and query.rule in {None, alert.rule}
            and query.group in {None, alert.group}
            and query.agent in {None, alert.labels.get("agent")}
            and (query.started_from_ns is None or alert.started_ns >= query.started_from_ns)
            and (query.before is None or (alert.started_ns, alert.id) < query.before)
        ]
        return sorted(found, key=lambda alert: (-alert.started_ns, -alert.id))[: query.limit]

    async def rules_forget(self, before_ns: int, limit: int) -> int:
        """Keep everything."""
        del before_ns, limit
        return 0

    def standing(self) -> list[tuple[Any, ...]]:
        """Return what stands, without how it came about: the alerts that P6 speaks of."""
        return sorted(
            (a.rule, a.group, a.started_ns, str(a.state), a.fired_ns, a.resolved_ns, a.value, a.summary)
            for a in self.alerts.values()
            if a.state is not AlertState.RETRACTED
        )


def _window_block(rows: Mapping[int, Sequence[tuple[Any, ...]]]) -> WindowBlock:
    flat = [(number, *row) for number, mine in rows.items() for row in mine]
    columns: list[Any] = list(zip(*flat, strict=True)) if flat else [()] * 11
    kinds = [
        "int64",
        "int64",
        "int64",
        "uint64",
        "float64",
        "float64",
        "float64",
        "int64",
        "float64",
        "int64",
        "float64",
    ]
    return WindowBlock(*(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)))


class Bench:
    """One store, one clock, and a service that can be started again at any time."""

    def __init__(self, rules: str, now_ns: int = T0 + 100 * 86_400 * S) -> None:
        """Take rules as YAML text; the clock stands far after the readings unless told otherwise."""
        found, problems = check_text(rules, "test.yaml")
        assert problems == []
        self.rules = RuleSet({rule.name: rule for rule in found}, {})
        self.store = MemoryStore()
        self.clock = ManualClock(now_ns)
        self.seen: list[dict[str, Any]] = []
        self.listening_since: Callable[[], int | None] = lambda: None
        self.service = self.restart()

    def restart(self, rules: str | None = None) -> RulesService:
        """Begin again from what is stored, as after a kill."""
        if rules is not None:
            found, problems = check_text(rules, "test.yaml")
            assert problems == []
            self.rules = RuleSet({rule.name: rule for rule in found}, {})
        self.service = RulesService(
            self.store,
            self.store,
            self.clock,
            self.rules,
            lateness_ns=30 * 86_400 * S,
            listening_since=lambda: self.listening_since(),  # noqa: PLW0108 - a test puts another there
        )
        self.service.subscribe(self.seen.extend)
        self.started = False
        return self.service

    async def settle(self) -> None:
        """Judge everything that can be judged now."""
        if not self.started:
            await self.service.start()
            self.started = True
        while await self.service.step():
            pass


@pytest.fixture
def bench() -> type[Bench]:
    """Return the class: each test makes its own."""
    return Bench


@pytest.fixture
def memory() -> MemoryStore:
    """Return an empty store in memory."""
    return MemoryStore()
