"""Rules about the link: has an agent been heard from? They judge the connection log by the collector's own clock.

Readings that arrive late say nothing about when the link was up, so backfill never changes these alerts. After a start of
the collector, after a jump of its clock, and after a time in which the store took nothing, silence is counted anew: nobody can
be blamed for the time when nobody listened, or could note who was heard.
A running alert lives in the store, so it outlasts a restart and ends when the agent is heard again. An agent that was revoked is
silent for good, and nobody needs to be told of it: it has no such alert, and one that runs is closed.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final, Protocol

from telemetryx.clock import Clock
from telemetryx.fleet import Agent, AgentState
from telemetryx.rules import template
from telemetryx.rules.group import group_key
from telemetryx.rules.model import LinkRule
from telemetryx.store import selector
from telemetryx.store.alerts import (
    Alert,
    AlertChange,
    AlertQuery,
    AlertState,
    AlertStore,
    ChangeKind,
    RuleRow,
    RulesCommit,
)
from telemetryx.store.interface import AgentPage, AgentQuery
from telemetryx.types import Series

#: The wall clock may leave the monotonic one by this much between two looks before we call it a jump.
JUMP_NS: Final = 5_000_000_000
_PAGE: Final = 500
_CONSUMER: Final = "links"


class LinkStore(Protocol):
    """The part of the store that these rules use."""

    async def agents(self, query: AgentQuery) -> AgentPage:
        """Return one page of agents."""
        ...

    async def agent(self, name: str) -> Agent | None:
        """Return one agent."""
        ...


class Links:
    """Runs the link rules; one task calls look() every second or so."""

    def __init__(
        self,
        store: LinkStore,
        alerts: AlertStore,
        clock: Clock,
        rules: Iterable[LinkRule],
        *,
        receivers: Sequence[str] = (),
        publish: Callable[[Sequence[Alert]], None] = lambda _alerts: None,
        listening_since: Callable[[], int | None] = lambda: None,
    ) -> None:
        """Take the rules; silence is counted from now at the earliest, or from when others listen and note it, which is asked at each look."""
        self._store = store
        self._alerts = alerts
        self._clock = clock
        self._rules = [(rule, tuple(selector.parse(rule.agents))) for rule in rules if rule.enabled]
        self._receivers = tuple(receivers)
        self._publish = publish
        self._listening_since = listening_since
        self._told_ns = listening_since()
        self._since_ns = clock.now_ns() if self._told_ns is None else self._told_ns
        self._offset_ns = clock.now_ns() - clock.mono_ns()

    @property
    def rules(self) -> list[LinkRule]:
        """Return the rules at work."""
        return [rule for rule, _ in self._rules]

    async def start(self) -> None:
        """Note the rules in the store. A changed one keeps its alerts: they end when their agents are heard."""
        await self._alerts.rules_commit(
            RulesCommit(_CONSUMER, rules=[RuleRow(rule.name, rule.fingerprint) for rule in self.rules])
        )

    async def look(self) -> None:
        """Compare who is silent with which alerts run, and store the differences."""
        if not self._rules:
            return
        now = self._clock.now_ns()
        offset = now - self._clock.mono_ns()
        if abs(offset - self._offset_ns) > JUMP_NS:
            self._since_ns = now
        self._offset_ns = offset
        told = self._listening_since()
        if told is not None and told != self._told_ns:
            # Only what is new: a clock that was set back has times of before ahead of it.
            self._told_ns, self._since_ns = told, max(self._since_ns, min(told, now))
        quiet = await self._quiet(now, min(rule.after for rule in self.rules))
        for rule, matchers in self._rules:
            silent = {
                agent.name: agent
                for agent in quiet
                if now - max(agent.last_seen_ns, self._since_ns) >= rule.after
                and selector.matches(matchers, _as_series(agent))
            }
            await self._settle(rule, silent, now)

    async def _quiet(self, now: int, after: int) -> list[Agent]:
        """Return the agents that nothing came from for `after`. Paged by name: who reports meanwhile moves nobody."""
        found: list[Agent] = []
        query = AgentQuery(seen_before_ns=now - after + 1, limit=_PAGE)
        while True:
            page = await self._store.agents(query)
            found += page.agents
            if not page.more:
                return [
                    agent
                    for agent in found
                    if agent.last_seen_ns > 0 and agent.state is not AgentState.REVOKED
                ]
            query = replace(query, after=page.agents[-1].name)

    async def _settle(self, rule: LinkRule, silent: dict[str, Agent], now: int) -> None:
        running = await self._alerts.rules_alerts(
            AlertQuery(states=frozenset({AlertState.FIRING}), rule=rule.name, limit=100_000)
        )
        changes: list[AlertChange] = []
        told: set[str] = set()
        for alert in running:
            name = alert.labels.get("agent", "")
            agent = silent.get(name) or await self._store.agent(name)
            if agent is None or agent.state is AgentState.REVOKED:
                changes.append(AlertChange(ChangeKind.CLOSED, alert.rule, alert.group, alert.started_ns, now))
            elif agent.last_seen_ns > alert.started_ns:
                # Heard again; if it is silent once more, that is another alert.
                changes.append(_ends(alert, agent.last_seen_ns, now))
            else:
                told.add(name)  # also when it is spared because the collector itself has just started
        changes += [_fires(rule, agent, now) for name, agent in silent.items() if name not in told]
        if changes:
            self._publish(
                await self._alerts.rules_commit(
                    RulesCommit(_CONSUMER, changes=changes, receivers=self._receivers)
                )
            )


def _as_series(agent: Agent) -> Series:
    """Let a selector look at an agent as it looks at a series."""
    return Series(0, agent.name, "", {**agent.labels, "agent": agent.name})


def _fires(rule: LinkRule, agent: Agent, now: int) -> AlertChange:
    labels = {**agent.labels, "agent": agent.name, **rule.labels}
    after = rule.after / 1e9

    def text(source: str) -> str:
        return template.render(source, labels, after, after, rule.name, rule.severity)

    return AlertChange(
        kind=ChangeKind.STANDS,
        rule=rule.name,
        group=group_key({"agent": agent.name}),
        started_ns=agent.last_seen_ns,
        at_ns=now,
        state=AlertState.FIRING,
        severity=rule.severity,
        labels=labels,
        annotations={name: text(value) for name, value in rule.annotations.items()},
        summary=text(rule.summary) or f"{rule.name}: agent {agent.name}",
        value=after,
        threshold=after,
        fired_ns=now,
    )


def _ends(alert: Alert, seen_ns: int, now: int) -> AlertChange:
    return AlertChange(
        kind=ChangeKind.STANDS,
        rule=alert.rule,
        group=alert.group,
        started_ns=alert.started_ns,
        at_ns=now,
        state=AlertState.RESOLVED,
        severity=alert.severity,
        labels=alert.labels,
        annotations=alert.annotations,
        summary=alert.summary,
        value=alert.value,
        threshold=alert.threshold,
        fired_ns=alert.fired_ns,
        resolved_ns=max(seen_ns, alert.started_ns),
    )
