"""What every store must keep of remote care: configurations and whom they reach, what agents said, requests and their answers."""

import asyncio
from pathlib import Path

import pytest

from store.conftest import Opener
from telemetryx.care.service import PATIENCE_NS, Care, Push
from telemetryx.clock import ManualClock
from telemetryx.store.audit import Actor, AuditQuery
from telemetryx.store.care import (
    KEPT_NS,
    MAX_WAITING,
    CareRefused,
    ConfigState,
    Kind,
    Phase,
    RequestState,
    Stage,
    Target,
)
from telemetryx.store.sqlite.engine import SqliteEngine
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.store.tables import copying, pushed, requests
from telemetryx.store.tables.store import TableStore

ANA = Actor("ana", "api", "192.0.2.9")
SECOND = 1_000_000_000


@pytest.fixture
def care(store: TableStore, clock: ManualClock) -> Care:
    """Remote care on the store."""
    return Care(store, clock)


async def arrives(store: TableStore, agent: str, *, phase: Phase = Phase.NONE, **labels: str) -> ConfigState:
    """Have an agent connect and say what it has."""
    session = await store.session_opened(agent, "p", "1.0", labels, 0.0)
    said = ConfigState(agent, session, phase=phase, requests=True)
    await store.write(lambda db: pushed.note(db, [said]))
    return said


async def says(store: TableStore, agent: str, version: int, phase: Phase, reason: str = "") -> None:
    """Have an agent say what became of a configuration."""

    def work(db: pushed.Database) -> None:
        (known,) = pushed.known(db, agent)
        config = pushed.find(db, version)
        assert known.said is not None
        assert config is not None
        pushed.note(
            db,
            [
                ConfigState(
                    agent,
                    known.said.session,
                    version,
                    config.digest,
                    phase,
                    reason,
                    version,
                    1,
                    requests=True,
                )
            ],
        )

    await store.write(work)


async def wanted(care: Care) -> dict[str, int]:
    """Return what each agent should have."""
    return {known.agent: 0 if config is None else config.version for known, config in await care.states()}


async def test_the_most_specific_counts_and_then_the_newest(store: TableStore, care: Care) -> None:
    """An agent's own, then that with more labels, then that of all; what is taken back uncovers the one below."""
    await arrives(store, "pump", site="plant1", os="linux")
    await arrives(store, "valve", site="plant1", os="bsd")
    await arrives(store, "fan", site="plant2", os="linux")
    everyone, _ = await care.push(Push("a = 1", Target()), ANA)
    assert await wanted(care) == dict.fromkeys(("fan", "pump", "valve"), everyone.version)
    two, _ = await care.push(Push("a = 2", Target(match='site="plant1", os=~"lin.*"')), ANA)
    one, reach = await care.push(Push("a = 3", Target(match='site="plant1"')), ANA)
    assert (reach.agents, reach.overruled) == (["valve"], ["pump"])
    own, reach = await care.push(Push("a = 4", Target("fan"), "why"), ANA)
    assert reach.replaced == [(everyone.version, 1)]
    assert await wanted(care) == {"fan": own.version, "pump": two.version, "valve": one.version}
    newer, _ = await care.push(Push("a = 5", Target(match='agent=~"fan|pump"')), ANA)
    assert (await wanted(care))["pump"] == two.version, "a label more is more specific"
    await care.take_back(two.version, ANA)
    assert (await wanted(care))["pump"] == newer.version, "of two with one label the newer"
    await care.take_back(own.version, ANA)
    await care.take_back(newer.version, ANA)
    assert await wanted(care) == {"fan": everyone.version, "pump": one.version, "valve": one.version}
    again, reach = await care.push_again(own.version, "", ANA)
    assert (again.target, again.note, again.digest) == (own.target, own.note, own.digest)
    assert again.version > newer.version
    assert await care.config(again.version) == (again, "a = 4")
    assert [one.version for one in await care.configs(2)] == [again.version, newer.version]
    assert [one.version for one in await care.configs(9, 3)] == [2, 1]


async def test_each_change_is_in_the_audit_log_and_moves_the_number_on(store: TableStore, care: Care) -> None:
    """Who, what it was before and after, and not the text; what changes nothing leaves no entry."""
    await arrives(store, "pump")
    numbers = [await store.read(pushed.change)]

    async def after() -> list[object]:
        numbers.append(await store.read(pushed.change))
        assert numbers[-1] > numbers[-2]
        (entry,) = await store.audited(AuditQuery(action="config", limit=1))
        return [entry.action, entry.target, entry.actor, entry.before, entry.after]

    await care.push(Push("marked = 1", Target(), "why"), ANA)
    action, target, actor, before, fields = await after()
    assert (action, target, actor, before) == ("config.push", "1", ANA, None)
    assert isinstance(fields, dict)
    assert (fields["for"], fields["note"], fields["state"]) == ("all agents", "why", "everywhere")
    await care.push(Push("marked = 2", Target()), ANA)
    action, target, _, before, _ = await after()
    assert (action, target) == ("config.push", "2")
    assert isinstance(before, dict)
    assert before["version"] == 1
    await care.take_back(2, ANA)
    action, target, _, before, fields = await after()
    assert isinstance(before, dict)
    assert isinstance(fields, dict)
    assert (action, before["state"], fields["state"]) == ("config.take_back", "everywhere", "taken_back")
    await care.push_again(2, "", ANA)
    assert (await after())[:2] == ["config.push_again", "3"]
    await care.ask("pump", Kind.LOG_LEVEL, {"level": "debug", "for_s": 60}, SECOND, ANA)
    await care.ask("pump", Kind.DIAGNOSTICS, {}, SECOND, ANA)
    asked = await store.audited(AuditQuery(action="agent"))
    assert [(one.action, one.target) for one in asked] == [
        ("agent.diagnostics", "pump"),
        ("agent.log_level", "pump"),
    ]
    everything = await store.audited(AuditQuery())
    assert len(everything) == 6
    assert "marked" not in str(everything)
    await care.take_back(2, ANA)
    assert len(await store.audited(AuditQuery())) == 6


async def test_what_an_older_session_says_last_does_not_count(store: TableStore, care: Care) -> None:
    """Of two collectors the one with the older session may write later."""
    before = await arrives(store, "pump")
    made, _ = await care.push(Push("a = 1", Target()), ANA)
    after = await arrives(store, "pump")
    await says(store, "pump", made.version, Phase.APPLIED)
    late = ConfigState("pump", before.session, phase=Phase.FAILED, reason="late")
    await store.write(lambda db: pushed.note(db, [late]))
    (known,) = await store.read(lambda db: pushed.known(db, "pump"))
    assert known.said is not None
    assert (known.said.session, known.said.phase) == (after.session, Phase.APPLIED)
    assert known.phase(made) is Phase.APPLIED
    assert (await care.counts())["applied"] == 1


async def test_a_canary_goes_on_when_all_of_its_first_agents_have_applied_it(
    store: TableStore, care: Care
) -> None:
    """And not before; the rest then gets it, and the log says who decided."""
    for name in ("a", "b", "c", "d"):
        await arrives(store, name)
    await arrives(store, "old", phase=Phase.UNSUPPORTED)
    made, reach = await care.push(Push("a = 1", Target(), canary="50%"), ANA)
    assert (reach.first, reach.unsupported) == (["a", "b"], ["old"])
    assert (made.stage, made.canary) == (Stage.CANARY, frozenset({"a", "b"}))
    await care.upkeep()
    assert await wanted(care) == {"a": 1, "b": 1, "c": 0, "d": 0, "old": 0}
    await says(store, "a", 1, Phase.APPLIED)
    await says(store, "b", 1, Phase.TRIAL)
    await care.upkeep()
    assert (await wanted(care))["c"] == 0
    await says(store, "b", 1, Phase.APPLIED)
    await care.upkeep()
    assert (await wanted(care))["d"] == 1
    (entry,) = await store.audited(AuditQuery(action="config.rolled_out"))
    assert entry.actor.name == "collector"


async def test_a_canary_that_fails_at_one_of_its_first_agents_stops(store: TableStore, care: Care) -> None:
    """However many others applied it; the reason is kept, and those that weren't first never get it."""
    for name in ("a", "b", "c"):
        await arrives(store, name)
    made, _ = await care.push(Push("a = 1", Target(), canary="2"), ANA)
    await says(store, "a", 1, Phase.APPLIED)
    await says(store, "b", 1, Phase.FAILED, "no route to <b>sensors</b>")
    await care.upkeep()
    found, _ = await care.config(made.version)
    assert found.stage is Stage.STOPPED
    assert found.reason == "it failed at agent b: no route to <b>sensors</b>"
    assert (await wanted(care))["c"] == 0
    (entry,) = await store.audited(AuditQuery(action="config.canary_stopped"))
    assert entry.target == "1"
    await says(store, "b", 1, Phase.APPLIED)
    await care.upkeep()
    assert (await wanted(care))["c"] == 0, "a decision stands"


async def test_a_canary_needs_agents_that_can_prove_it(store: TableStore, care: Care) -> None:
    """One of agents that were never heard would wait for ever; connected ones go before others."""
    with pytest.raises(CareRefused, match="none can go first"):
        await care.push(Push("a = 1", Target("later"), canary="1"), ANA)
    gone = await arrives(store, "a")
    await store.session_closed(gone.session, "gone")
    await arrives(store, "b")
    _, reach = await care.push(Push("a = 1", Target(), canary="1"), ANA)
    assert (reach.first, reach.offline) == (["b"], 1)
    for wrong in ("0", "-1", "101%", "some", "1.5"):
        with pytest.raises(CareRefused, match="go first"):
            await care.push(Push("a = 1", Target(), canary=wrong), ANA)


async def test_a_request_is_claimed_once_answered_in_pieces_and_forgotten(
    store: TableStore, care: Care, clock: ManualClock
) -> None:
    """Of two collectors one asks; the answer is given back as it came, and goes with its row after a day."""
    await arrives(store, "pump")
    made = await care.ask("pump", Kind.DIAGNOSTICS, {}, 600 * SECOND, ANA)
    assert (made.state, len(made.mark), made.author) == (RequestState.WAITING, 16, "ana")
    now = clock.now_ns()
    claims = await asyncio.gather(
        *(store.write(lambda db: requests.claim(db, [made.id], now)) for _ in range(3))
    )
    assert sorted(claims) == [[], [], [made.id]]
    pieces = [bytes([number]) * 1_000 for number in range(requests.PIECE + 3)]
    for number, data in enumerate(pieces):
        at = number * 1_000
        assert await store.write(lambda db, at=at, data=data: requests.add_piece(db, made.id, at, data, now))  # type: ignore[misc]
    assert await store.write(lambda db: requests.finish(db, made.id, RequestState.DONE, "", now))
    assert not await store.write(lambda db: requests.add_piece(db, made.id, 99_999, b"late", now))
    done = await care.request(made.id)
    assert (done.state, done.size) == (RequestState.DONE, 1_000 * len(pieces))
    read, after = b"", 0
    while (piece := await care.piece(made.id, after)) is not None:
        assert piece[0] == len(read)
        read += piece[1]
        after = len(read)
    assert read == b"".join(pieces)
    assert await store.verify() == []
    clock.advance(KEPT_NS)
    await care.upkeep()
    assert await care.piece(made.id, 0) is None
    with pytest.raises(CareRefused):
        await care.request(made.id)


async def test_a_request_that_nobody_answers_ends(
    store: TableStore, care: Care, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lapses when its agent doesn't come, fails when it stays silent, and of a half answer nothing is kept."""
    await arrives(store, "pump")
    lapsed = await care.ask("pump", Kind.LOG_LEVEL, {"level": "debug", "for_s": 60}, SECOND, ANA)
    asked = await care.ask("pump", Kind.DIAGNOSTICS, {}, 600 * SECOND, ANA)
    now = clock.now_ns()
    await store.write(lambda db: requests.claim(db, [asked.id], now))
    await store.write(lambda db: requests.add_piece(db, asked.id, 0, b"half", now))
    clock.advance(2 * SECOND)
    await care.upkeep()
    assert (await care.request(lapsed.id)).state is RequestState.LAPSED
    assert (await care.request(asked.id)).state is RequestState.ASKED
    clock.advance(PATIENCE_NS)
    await care.upkeep()
    failed = await care.request(asked.id)
    assert (failed.state, failed.reason, failed.size) == (
        RequestState.FAILED,
        "the agent didn't answer in time",
        0,
    )
    assert await care.piece(asked.id, 0) is None
    for _ in range(MAX_WAITING):
        await care.ask("pump", Kind.DIAGNOSTICS, {}, 600 * SECOND, ANA)
    with pytest.raises(CareRefused, match="at most 8"):
        await care.ask("pump", Kind.DIAGNOSTICS, {}, SECOND, ANA)
    monkeypatch.setattr(requests, "MAX_OPEN", MAX_WAITING)
    await arrives(store, "valve")
    with pytest.raises(CareRefused, match="requests to agents have no answer yet"):
        await care.ask("valve", Kind.DIAGNOSTICS, {}, SECOND, ANA)
    with pytest.raises(CareRefused, match="no agent is called"):
        await care.ask("nobody", Kind.DIAGNOSTICS, {}, SECOND, ANA)


async def test_all_of_it_is_copied_and_verified(
    open_store: Opener, clock: ManualClock, tmp_path: Path
) -> None:
    """Into a file: the same configurations, states, requests and answers; a text that was changed is found."""
    store = await open_store()
    care = Care(store, clock)
    await arrives(store, "pump", site="plant1")
    made, _ = await care.push(Push('a = "ä"', Target(match='site="plant1"'), "note", "1"), ANA)
    await says(store, "pump", made.version, Phase.FAILED, "why")
    asked = await care.ask("pump", Kind.DIAGNOSTICS, {}, SECOND, ANA)
    now = clock.now_ns()
    await store.write(lambda db: requests.claim(db, [asked.id], now))
    await store.write(lambda db: requests.add_piece(db, asked.id, 0, b"\0bundle", now))
    await store.write(lambda db: requests.finish(db, asked.id, RequestState.DONE, "", now))
    path = tmp_path / "copy.db"
    copy = await SqliteStore.open(path, clock=clock)
    await store.read(lambda db: copying.copy(db, SqliteEngine(path).open_writer(), lambda *_: None))
    there = Care(copy, clock)
    assert await there.config(made.version) == await care.config(made.version)
    assert await there.states() == await care.states()
    assert await there.request(asked.id) == await care.request(asked.id)
    assert await there.piece(asked.id, 0) == (0, b"\0bundle")
    assert (await there.push(Push("a = 2", Target()), ANA))[0].version == made.version + 1
    assert await copy.verify() == []
    await copy.write(lambda db: db.execute("UPDATE agent_config SET toml = 'a = 2' WHERE id = 1"))
    await copy.write(lambda db: db.execute("DELETE FROM agent_answer"))
    found = await copy.verify()
    assert [one.partition(":")[0] for one in found] == ["agent configuration 1", f"request {asked.id}"]
    await copy.close()
