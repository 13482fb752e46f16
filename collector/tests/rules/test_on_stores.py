"""P6 on the real stores: batches through the ledger, compaction in between, and a kill after any step."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from telemetryx.clock import ManualClock
from telemetryx.rules import RuleSet, RulesService, check_text
from telemetryx.store.alerts import AlertChange, AlertQuery, AlertState, ChangeKind, RulesCommit
from telemetryx.store.postgres.store import PostgresStore
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables.rules import StoredRules
from telemetryx.store.tables.store import TableStore
from telemetryx.types import BatchKey, Decoded, Definition, SampleBlock, Series, Stored
from telemetryx.wire import frame, payload

S = 1_000_000_000
T0 = 1_700_000_000 * S
EPOCH = bytes(16)
TEXT = """
rules:
  - {name: hot, select: "m{device=~'.+'}", agg: avg, window: 30s, when: "> 1", for: 20s, recover_when: "< 0.6"}
  - {name: site, select: m, agg: max, window: 20s, when: "> 2", group_by: [agent]}
  - {name: each, select: m, agg: last, window: 10s, interval: reading, when: "> 1.5"}
"""
DEFINITIONS = [Definition(number, "m", {"device": f"d{number}"}) for number in range(3)]


def batch(seq: int, rows: Iterable[tuple[int, int, float]]) -> Decoded:
    """Make a batch of (series number, ms after T0, value)."""
    by_series: dict[int, list[tuple[int, float]]] = {}
    for number, ms, value in rows:
        by_series.setdefault(number, []).append((T0 + ms * 1_000_000, value))
    ordered = {number: sorted(by_series[number], key=lambda row: row[0]) for number in sorted(by_series)}
    flat = [row for mine in ordered.values() for row in mine]
    block = SampleBlock(
        np.array(list(ordered), np.int64),
        np.cumsum([0, *map(len, ordered.values())]).astype(np.int64),
        np.array([row[0] for row in flat], np.int64),
        np.array([row[1] for row in flat], np.float64),
    )
    data = payload.encode(payload.Payload(samples=block))
    first, last = payload.Payload(samples=block).time_range()
    return Decoded(
        BatchKey("gw1", EPOCH, seq),
        frame.checksum(data),
        data,
        block,
        definitions=DEFINITIONS,
        t0_ns=first,
        t1_ns=last,
    )


Opener = Callable[[ManualClock], Awaitable[TableStore]]


class Collector:
    """Store, clock and rules; restart() forgets all but the store."""

    def __init__(self, opener: Opener) -> None:
        """Take what opens the store."""
        self.opener = opener
        self.clock = ManualClock(T0 + 86_400 * S)
        found, problems = check_text(TEXT, "test")
        assert problems == []
        self.rules = RuleSet({rule.name: rule for rule in found}, {})
        self.store: TableStore
        self.service: RulesService
        self.newest = 0

    async def open(self) -> "Collector":
        """Open the store and start the rules."""
        self.store = await self.opener(self.clock)
        self.kept = StoredRules(self.store)
        await self.begin()
        return self

    async def begin(self) -> None:
        """Start the rules from what is stored."""
        self.service = RulesService(
            self.store, self.kept, self.clock, self.rules, lateness_ns=30 * 86_400 * S
        )
        await self.service.start()

    async def add(self, decoded: Decoded) -> None:
        """Commit one batch and tell the rules, but for one in five, as if its outcome had never become known."""
        (outcome,) = await self.store.commit([decoded])
        assert isinstance(outcome, Stored)
        assert outcome.committed is not None
        self.newest = outcome.cursor
        if outcome.cursor % 5:
            self.service.committed(outcome.committed)

    async def judge(self) -> None:
        """Judge all: what was told, then what is there besides.

        PostgreSQL shows readers a commit once no older transaction of the server runs; one of its own upkeep may.
        """
        while await self.service.step():
            pass
        async with asyncio.timeout(60):
            while await self.service.step(ask=True) or self.service.cursor < self.newest:
                await asyncio.sleep(0)

    async def standing(self) -> list[tuple[Any, ...]]:
        """Return what stands."""
        found = await self.kept.rules_alerts(AlertQuery())
        return sorted(
            (a.rule, a.group, a.started_ns, str(a.state), a.fired_ns, a.resolved_ns, a.value)
            for a in found
            if a.state is not AlertState.RETRACTED
        )


@pytest.fixture(params=["sqlite", "postgres"])
async def collectors(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    """Return a maker of collectors; they are closed at the end."""
    made: list[Collector] = []

    async def file(clock: ManualClock) -> TableStore:
        return await SqliteStore.open(tmp_path / f"{len(made)}.db", clock=clock)

    async def database(clock: ManualClock) -> TableStore:
        return await PostgresStore.open(request.getfixturevalue("new_database")(), clock=clock)

    async def make() -> Collector:
        made.append(await Collector(file if request.param == "sqlite" else database).open())
        return made[-1]

    yield make
    for one in made:
        await one.store.close()


async def test_a_new_series_is_judged_by_its_definition_without_asking_the_store(
    collectors: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch that brings a series says what it is; only what was read from the store must be looked up."""
    collector: Collector = await collectors()
    asked: list[int] = []
    look = collector.store.series_by_id

    async def noted(ids: Sequence[int]) -> dict[int, Series]:
        asked.extend(ids)
        return await look(ids)

    monkeypatch.setattr(collector.store, "series_by_id", noted)
    (outcome,) = await collector.store.commit([batch(1, [(0, 0, 3.0)])])
    assert isinstance(outcome, Stored)
    assert outcome.committed is not None
    collector.service.committed(outcome.committed, 0)
    while await collector.service.step():
        pass
    alerts = await collector.kept.rules_alerts(AlertQuery(rule="each"))
    assert [dict(alert.labels)["device"] for alert in alerts] == ["d0"]
    assert asked == []


async def test_pages_of_alerts_leave_none_out_and_have_none_twice(collectors: Any) -> None:
    """Several began at one moment: the id tells which of them were on the page before."""
    collector: Collector = await collectors()
    changes = [
        AlertChange(ChangeKind.STANDS, "each", f"g{n}", n // 3, n // 3, AlertState.FIRING, "warning", {})
        for n in range(20)
    ]
    made = await collector.kept.rules_commit(RulesCommit("rules", changes=changes))
    seen: list[int] = []
    before: tuple[int, int] | None = None
    while page := await collector.kept.rules_alerts(AlertQuery(before=before, limit=4)):
        seen += [alert.id for alert in page]
        before = page[-1].started_ns, page[-1].id
    newest_first = sorted(made, key=lambda alert: (-alert.started_ns, -alert.id))
    assert seen == [alert.id for alert in newest_first]


def history(seed: int) -> list[Decoded]:
    """Make some minutes of three series, with gaps and equal times, cut into batches."""
    choose = random.Random(seed)
    level = [0.3, 0.3, 0.3]
    batches: list[Decoded] = []
    for seq in range(1, 16):
        rows: list[tuple[int, int, float]] = []
        for step in range(choose.randint(1, 6)):
            for number in range(3):
                if choose.random() < 0.2:
                    level[number] = choose.choice([0.1, 0.3, 0.7, 1.1, 1.7, 2.3])
                if choose.random() < 0.8:
                    rows.append(
                        (number, seq * 20_000 + step * 3_000 + choose.choice([0, 0, 7, 900]), level[number])
                    )
        if rows:
            batches.append(batch(seq, rows))
    return batches


@pytest.mark.parametrize("seed", range(6))
async def test_any_order_with_compaction_and_kills_gives_the_on_time_alerts(
    collectors: Any, seed: int
) -> None:
    """Shuffled, compacted and restarted in between: bit-equal to on time."""
    batches = history(seed)
    on_time = await collectors()
    for one in batches:
        await on_time.add(one)
        await on_time.judge()
    expected = await on_time.standing()
    assert len(expected) > 3
    choose = random.Random(seed)
    mixed = batches[:]
    choose.shuffle(mixed)
    other = await collectors()
    for one in mixed:
        await other.add(one)
        what = choose.random()
        if what < 0.6:
            await other.judge()
        if what < 0.3:
            await other.begin()
        if 0.2 < what < 0.4:
            await other.store.compact()
    await other.judge()
    assert await other.standing() == expected


async def test_a_kill_between_any_two_transactions_repeats_work_and_changes_nothing(
    collectors: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The n-th commit of the rules never happens, the process is gone; the next one goes on from what is stored."""
    batches = history(7)
    whole = await collectors()
    for one in batches:
        await whole.add(one)
        await whole.judge()
    expected = await whole.standing()
    broken = await collectors()
    real = StoredRules.rules_commit
    budget = 0

    async def dying(self: StoredRules, commit: Any) -> Any:
        nonlocal budget
        budget -= 1
        if budget < 0:
            raise KeyboardInterrupt
        return await real(self, commit)

    deaths = 0
    for index, one in enumerate(batches[::-1]):
        await broken.add(one)
        budget = index % 4
        with monkeypatch.context() as patch:
            patch.setattr(StoredRules, "rules_commit", dying)
            try:
                await broken.judge()
            except KeyboardInterrupt:
                deaths += 1
        await broken.begin()
    await broken.judge()
    assert deaths > 5
    assert await broken.standing() == expected


async def test_the_cursor_lets_compaction_go_on_and_survives_a_restart(collectors: Any) -> None:
    """What is judged may be compacted; what isn't stays readable."""
    at = await collectors()
    for one in history(1)[:6]:
        await at.add(one)
    before = await at.kept.rules_cursor("rules")
    await at.judge()
    assert before == 0
    assert await at.kept.rules_cursor("rules") == await at.store.cursor() == at.service.cursor
    await at.begin()
    assert at.service.cursor == await at.store.cursor()


async def test_link_rules_read_the_stores_own_connection_log(collectors: Any) -> None:
    """An agent that connects and goes away is silent two minutes later, and heard when it comes back."""
    at = await collectors()
    found, problems = check_text("rules: [{name: silent, kind: link, after: 2m}]", "test")
    assert problems == []
    at.rules = RuleSet({rule.name: rule for rule in found}, {})
    await at.begin()
    session = await at.store.session_opened("gw1", "127.0.0.1", "1", {"site": "plant1"}, 0.0)
    await at.store.session_closed(session, "gone")
    at.clock.advance(121 * S)
    await at.service.look()
    (alert,) = await at.service.alerts("firing", agent="gw1")
    assert alert["labels"] == {"agent": "gw1", "site": "plant1"}
    at.clock.advance(3_600 * S)
    await at.store.session_opened("gw1", "127.0.0.1", "1", {}, 0.0)
    await at.service.look()
    (alert,) = await at.service.alerts("all")
    assert (alert["state"], alert["resolved_ns"]) == ("resolved", at.clock.now_ns())
