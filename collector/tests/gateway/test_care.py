"""Remote care over the wire: what agents are sent and asked, what is taken of what they say, and what isn't."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path

import pytest

from gateway.conftest import Core
from gateway.test_mqtt import site
from reference_agent import PATIENCE_S, T0, Link, ReferenceAgent, defined, samples
from telemetryx.care.links import MAX_ASKED, NOTHING
from telemetryx.care.service import Care, Push
from telemetryx.clock import SystemClock
from telemetryx.store.audit import Actor
from telemetryx.store.care import (
    MAX_ANSWER,
    MAX_PART,
    MAX_REASON,
    CareRefused,
    ConfigState,
    Kind,
    Phase,
    Request,
    RequestState,
    Target,
)
from telemetryx.store.postgres.engine import PostgresEngine
from telemetryx.store.postgres.store import PostgresStore
from telemetryx.store.tables.lease import Member
from telemetryx.wire._pb2 import link_pb2 as pb
from telemetryx.wire.payload import Payload

ANA = Actor("ana", "api")
MINUTE = 60 * 10**9
TEXT = "[fold]\nlateness = '3s'\n"
OTHER = "[fold]\nlateness = '4s'\n"
NONE = pb.ConfigState(phase=pb.CONFIG_NONE)


def digest(text: str) -> bytes:
    """The digest of a text."""
    return sha256(text.encode()).digest()


def state(version: int, text: str, phase: "pb.ConfigPhase.ValueType", reason: str = "") -> pb.ConfigState:
    """What an agent says of a configuration."""
    return pb.ConfigState(
        version=version, digest=digest(text), phase=phase, reason=reason, in_force=version, at_ns=7
    )


def agent(name: str = "pump", config: pb.ConfigState | None = NONE, **labels: str) -> ReferenceAgent:
    """An agent that takes configurations and requests."""
    return ReferenceAgent(name, config=config, requests=True, labels=labels)


@pytest.fixture
def care(core: Core) -> Care:
    """Remote care on the running core."""
    return Care(core.store, SystemClock(), core.links.changed)


async def until(met: Callable[[], Awaitable[bool]], seconds: float = PATIENCE_S) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(seconds):
        while not await met():
            await asyncio.sleep(0.01)


async def said(care: Care, name: str, phase: Phase) -> ConfigState:
    """Wait until it is known that an agent is in a phase, and return what it said."""
    found: list[ConfigState] = []

    async def met() -> bool:
        row = await care.state(name)
        if row is not None and row[0].said is not None and row[0].said.phase is phase:
            found.append(row[0].said)
        return bool(found)

    await until(met)
    return found[0]


async def request_in(care: Care, number: int, *states: RequestState) -> Request:
    """Wait until a request stands so, and return it."""

    async def met() -> bool:
        return (await care.request(number)).state in states

    await until(met)
    return await care.request(number)


async def asked(care: Care, link: Link, name: str = "pump", count: int = 1) -> tuple[Request, pb.Request]:
    """Ask for diagnostics, and wait until the agent hears of it."""
    made = await care.ask(name, Kind.DIAGNOSTICS, {}, MINUTE, ANA)
    heard = (await link.all_of("request", count))[-1]
    assert heard.WhichOneof("what") == "diagnostics"
    assert heard.id == made.mark
    return made, heard


async def test_what_is_wanted_is_sent_after_the_greeting_and_at_each_change(core: Core, care: Care) -> None:
    """Pushed before, pushed in the session, taken back: the agent hears each, once, and its answer is kept."""
    await care.push(Push(TEXT, Target(match='site="plant1"')), ANA)
    one = agent(site="plant1")
    async with one.session(core.gateway.port) as link:
        (first,) = await link.all_of("config", 1)
        assert one.received[0].WhichOneof("frame") == "config", "nothing else came before"
        assert (first.version, first.toml, first.digest) == (1, TEXT, digest(TEXT))
        await link.send(state(1, TEXT, pb.CONFIG_APPLIED))
        kept = await said(care, "pump", Phase.APPLIED)
        assert (kept.version, kept.in_force, kept.at_ns, kept.requests) == (1, 1, 7, True)
        await care.push(Push(OTHER, Target("pump")), ANA)
        assert (await link.all_of("config", 2))[1].version == 2
        await care.take_back(2, ANA)
        assert [config.version for config in await link.all_of("config", 3)] == [1, 2, 1]
        await care.take_back(1, ANA)
        last = (await link.all_of("config", 4))[3]
        assert (last.version, last.toml, last.digest) == (0, "", NOTHING)


async def test_an_agent_that_has_it_already_is_sent_nothing(core: Core, care: Care) -> None:
    """By its digest, whatever the version is called; one that failed is tried again when it is pushed again."""
    made, _ = await care.push(Push(TEXT, Target()), ANA)
    has = agent(config=state(made.version, TEXT, pb.CONFIG_APPLIED))
    failed = agent("valve", state(made.version, TEXT, pb.CONFIG_FAILED, "no sensor"))
    async with has.session(core.gateway.port) as link, failed.session(core.gateway.port) as other:
        await said(care, "pump", Phase.APPLIED)
        assert (await said(care, "valve", Phase.FAILED)).reason == "no sensor"
        again, _ = await care.push_again(made.version, "", ANA)
        assert [config.version for config in await other.all_of("config", 1)] == [again.version]
        # A change that is heard shows that nothing was sent before it.
        third, _ = await care.push(Push(OTHER, Target()), ANA)
        assert [config.version for config in await link.all_of("config", 1)] == [third.version]


async def test_an_older_agent_is_sent_nothing_and_shown_as_unsupported(core: Core, care: Care) -> None:
    """Its hello says nothing of configurations and requests: nothing is sent that it wouldn't know."""
    await care.push(Push(TEXT, Target()), ANA)
    old = ReferenceAgent("pump")
    async with old.session(core.gateway.port) as link:
        assert not (await said(care, "pump", Phase.UNSUPPORTED)).requests
        with pytest.raises(CareRefused, match="takes no requests"):
            await care.ask("pump", Kind.DIAGNOSTICS, {}, MINUTE, ANA)
        batch = old.cut(Payload(samples({1: [(T0, 1.0)]})), defined("temp"))
        await link.send(batch)
        await link.acked()
        assert {message.WhichOneof("frame") for message in old.received} <= {"ack", "credit"}
    row = await care.state("pump")
    assert row is not None
    assert row[0].phase(row[1]) is Phase.UNSUPPORTED


async def test_a_probe_is_greeted_and_left_alone(core: Core, care: Care) -> None:
    """Whoever tries the way gets no configuration and says nothing about the agent."""
    await care.push(Push(TEXT, Target()), ANA)
    async with agent().session(core.gateway.port) as link:
        await link.all_of("config", 1)
        await said(care, "pump", Phase.NONE)
        probing = agent(config=state(9, TEXT, pb.CONFIG_FAILED))
        hello = probing.hello()
        hello.probe = True
        probing.hello = lambda *_: hello  # type: ignore[method-assign]
        async with probing.session(core.gateway.port):
            pass
        assert probing.received == []
        await link.send(state(1, TEXT, pb.CONFIG_APPLIED))
        await said(care, "pump", Phase.APPLIED)


async def test_a_bundle_arrives_in_parts_and_is_kept_as_it_was(core: Core, care: Care) -> None:
    """Some megabytes in parts of 64 KiB, each as it comes; the log level travels the same way."""
    one = agent()
    bundle = os.urandom(3 * (1 << 20) + 17)
    async with one.session(core.gateway.port) as link:
        made, heard = await asked(care, link)
        for at in range(0, len(bundle), MAX_PART):
            piece = bundle[at : at + MAX_PART]
            await link.send(
                pb.Answer(id=heard.id, offset=at, data=piece, done=at + len(piece) == len(bundle))
            )
        done = await request_in(care, made.id, RequestState.DONE)
        assert done.size == len(bundle)
        read = b""
        while (piece_at := await care.piece(made.id, len(read))) is not None:
            read += piece_at[1]
        assert read == bundle
        level = await care.ask("pump", Kind.LOG_LEVEL, {"level": "debug", "for_s": 90}, MINUTE, ANA)
        frame = (await link.all_of("request", 2))[1]
        assert (frame.log_level.filter, frame.log_level.for_s) == ("debug", 90)
        await link.send(pb.Answer(id=frame.id, done=True, error="no\0pe"))
        refused = await request_in(care, level.id, RequestState.FAILED)
        assert refused.reason == "no\ufffdpe"


async def test_a_request_waits_for_an_agent_that_is_away(core: Core, care: Care) -> None:
    """It is sent when the agent comes; a session that ends before its answer fails it."""
    one = agent()
    async with one.session(core.gateway.port):
        pass
    made = await care.ask("pump", Kind.DIAGNOSTICS, {}, MINUTE, ANA)
    async with one.session(core.gateway.port) as link:
        (heard,) = await link.all_of("request", 1)
        assert heard.id == made.mark
        await link.send(pb.Answer(id=heard.id, data=b"half"))
    failed = await request_in(care, made.id, RequestState.FAILED)
    assert "the link ended" in failed.reason
    assert await care.piece(made.id, 0) is None


@pytest.mark.parametrize(
    ("answers", "cause"),
    [
        ([pb.Answer(data=bytes(MAX_PART + 1))], "too_large"),
        ([pb.Answer(offset=1, data=b"x")], "out_of_order"),
        ([pb.Answer(data=b"xx"), pb.Answer(offset=1, data=b"x")], "out_of_order"),
    ],
)
async def test_an_answer_that_breaks_the_rules_fails_and_hurts_nobody(
    core: Core, care: Care, answers: list[pb.Answer], cause: str
) -> None:
    """The request says why, the frame is counted by its cause, the session goes on."""
    async with agent().session(core.gateway.port) as link:
        made, heard = await asked(care, link)
        for answer in answers:
            answer.id = heard.id
            await link.send(answer)
        failed = await request_in(care, made.id, RequestState.FAILED)
        assert failed.reason.startswith("its answer wasn't taken")
        assert core.links.refused[cause] == 1
        again, heard = await asked(care, link, count=2)
        await link.send(pb.Answer(id=heard.id, data=b"good", done=True))
        await request_in(care, again.id, RequestState.DONE)


async def test_an_answer_is_never_longer_than_16_mib(core: Core, care: Care) -> None:
    """The part that would exceed it ends it, and nothing of it is kept."""
    async with agent().session(core.gateway.port) as link:
        made, heard = await asked(care, link)
        part = bytes(MAX_PART)
        for at in range(0, MAX_ANSWER + 1, MAX_PART):
            await link.send(pb.Answer(id=heard.id, offset=at, data=part))
        failed = await request_in(care, made.id, RequestState.FAILED)
        assert "longer than 16,777,216 bytes" in failed.reason
        assert core.links.refused["too_large"] == 1
        assert await care.piece(made.id, 0) is None


async def test_an_agent_answers_only_what_it_was_asked(core: Core, care: Care) -> None:
    """Another agent's request, one that is made up, and its own a second time: counted and dropped."""
    eve = agent("eve")
    async with agent().session(core.gateway.port) as link, eve.session(core.gateway.port) as other:
        made, heard = await asked(care, link)
        await other.send(
            pb.Answer(id=heard.id, data=b"evil", done=True),
            pb.Answer(id=os.urandom(16), data=b"evil", done=True),
            pb.Answer(data=b"evil", done=True),
        )

        async def foreign() -> bool:
            return core.links.refused["foreign"] == 3

        await until(foreign)
        assert (await care.request(made.id)).state is RequestState.ASKED
        await link.send(
            pb.Answer(id=heard.id, data=b"good", done=True), pb.Answer(id=heard.id, data=b"more", done=True)
        )
        assert (await request_in(care, made.id, RequestState.DONE)).size == 4

        async def fourth() -> bool:
            return core.links.refused["foreign"] == 4

        await until(fourth)
        assert await care.piece(made.id, 0) == (0, b"good")


async def test_a_state_is_bounded_and_checked(core: Core, care: Care) -> None:
    """A long reason is cut, one that no database takes is mended; what can't be a state is counted and changes nothing."""
    async with agent().session(core.gateway.port) as link:
        await said(care, "pump", Phase.NONE)
        for wrong in (
            pb.ConfigState(phase=pb.CONFIG_UNSPECIFIED),
            pb.ConfigState(version=1 << 63, digest=bytes(32), phase=pb.CONFIG_APPLIED),
            pb.ConfigState(version=1, digest=bytes(31), phase=pb.CONFIG_APPLIED),
            pb.ConfigState(version=1, phase=pb.CONFIG_APPLIED),
            pb.ConfigState(phase=99),  # type: ignore[arg-type]
        ):
            await link.send(wrong)
        await link.send(state(1, TEXT, pb.CONFIG_FAILED, "\0<b>" + "x" * 100_000))
        kept = await said(care, "pump", Phase.FAILED)
        assert kept.reason == ("\ufffd<b>" + "x" * 100_000)[:MAX_REASON]
        assert core.links.refused["malformed"] == 5


async def test_so_many_answers_are_under_way_and_the_others_wait(core: Core, care: Care) -> None:
    """Of one process; each that ends makes room for the next."""
    one, two, three = agent("a"), agent("b"), agent("c")
    port = core.gateway.port
    async with one.session(port) as first, two.session(port) as second, three.session(port) as third:
        for name in ("a", "b", "c"):
            for _ in range(8):
                await care.ask(name, Kind.DIAGNOSTICS, {}, MINUTE, ANA)
        links = (first, second, third)
        known = (one, two, three)

        def heard() -> list[pb.Request]:
            return [m.request for each in known for m in each.received if m.WhichOneof("frame") == "request"]

        async def full() -> bool:
            return len(heard()) >= MAX_ASKED

        await until(full)
        states = [row.state for row in await care.requests(None, 100)]
        assert states.count(RequestState.ASKED) == MAX_ASKED
        assert states.count(RequestState.WAITING) == 24 - MAX_ASKED
        answered: set[bytes] = set()

        async def all_done() -> bool:
            for each, link in zip(known, links, strict=True):
                for message in list(each.received):
                    if message.WhichOneof("frame") == "request" and message.request.id not in answered:
                        answered.add(message.request.id)
                        await link.send(pb.Answer(id=message.request.id, done=True))
            return all(row.state is RequestState.DONE for row in await care.requests(None, 100))

        await until(all_done)


async def test_the_same_over_a_sites_broker(tmp_path: Path) -> None:
    """Configuration, state, request and answer in envelopes."""
    async with site(tmp_path / "t.db") as there:
        care = Care(there.core.store, SystemClock(), there.core.links.changed)
        made, _ = await care.push(Push(TEXT, Target()), ANA)
        pump = there.agent()
        pump.agent.config, pump.agent.requests = NONE, True
        await pump.open()
        frame = await pump.hear()
        assert (frame.config.version, frame.config.toml) == (made.version, TEXT)
        await pump.say(pb.FromAgent(config_state=state(made.version, TEXT, pb.CONFIG_APPLIED)))
        await said(care, "pump", Phase.APPLIED)
        asked_for = await care.ask("pump", Kind.DIAGNOSTICS, {}, MINUTE, ANA)
        frame = await pump.hear()
        assert frame.request.id == asked_for.mark
        await pump.say(pb.FromAgent(answer=pb.Answer(id=frame.request.id, data=b"bundle", done=True)))
        await request_in(care, asked_for.id, RequestState.DONE)
        assert await care.piece(asked_for.id, 0) == (0, b"bundle")


async def test_what_one_collector_pushes_and_asks_reaches_a_session_on_another(
    database: PostgresEngine, tmp_path: Path
) -> None:
    """On one PostgreSQL; the other collector isn't told, it looks. Its answer is to be had at the first."""
    store = await PostgresStore.open(database, member=Member("first"))
    care = Care(store, SystemClock())
    other = await PostgresStore.open(database, member=Member("second"))
    core = await Core.start(tmp_path / "unused.db", store=other)
    try:
        async with agent().session(core.gateway.port) as link:
            await said(care, "pump", Phase.NONE)
            made, reach = await care.push(Push(TEXT, Target()), ANA)
            assert reach.offline == 0
            (config,) = await link.all_of("config", 1)
            assert config.version == made.version
            await link.send(state(made.version, TEXT, pb.CONFIG_FAILED, "why"))
            assert (await said(care, "pump", Phase.FAILED)).reason == "why"
            asked_for = await care.ask("pump", Kind.DIAGNOSTICS, {}, MINUTE, ANA)
            (heard,) = await link.all_of("request", 1)
            await link.send(pb.Answer(id=heard.id, data=b"bundle", done=True))
            await request_in(care, asked_for.id, RequestState.DONE)
            assert await care.piece(asked_for.id, 0) == (0, b"bundle")
            await care.take_back(made.version, ANA)
            assert [one.version for one in await link.all_of("config", 2)] == [made.version, 0]
    finally:
        await core.stop()
        await store.close()
