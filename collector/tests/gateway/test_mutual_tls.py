"""The agents' door with certificates: who comes in as whom, and who is cut off while inside."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from enrolment.conftest import DAY, OPERATOR, Host
from reference_agent import ReferenceAgent
from telemetryx.certificate import Certificate
from telemetryx.clock import ManualClock, SystemClock
from telemetryx.enrolment import own
from telemetryx.enrolment.authority import Authority, public_key_of
from telemetryx.enrolment.service import Enrolment, Policy
from telemetryx.gateway.entry import Admitted, Entry, Guest
from telemetryx.gateway.refusal import TurnedAway
from telemetryx.gateway.server import Config, Gateway
from telemetryx.gateway.tokens import Token, Tokens
from telemetryx.ingest.ingest import Ingest
from telemetryx.store.audit import AuditQuery
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.wire._pb2 import link_pb2_grpc as pb_grpc

SECRET = b"a-long-enough-secret"


@dataclass
class Door:
    """A running door and its enrolment."""

    gateway: Gateway
    enrolment: Enrolment

    async def host(self, name: str) -> tuple[Host, bytes]:
        """Have a host join; return it with its certificate."""
        text, _ = await self.enrolment.new_token(
            OPERATOR, site="plant1", agent="", replace=False, uses=1, lifetime_ns=DAY
        )
        host = Host(name)
        answer = await self.enrolment.join(text, name, host.csr(), replace=False, peer="")
        assert answer.issued is not None
        return host, answer.issued.pem.encode()

    def shown(self, host: Host, certificate: bytes) -> grpc.ChannelCredentials:
        """Show a certificate."""
        key = host.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return grpc.ssl_channel_credentials(self.enrolment.authority.pem.encode(), key, certificate)

    async def refusal(self, credentials: grpc.ChannelCredentials, name: str) -> grpc.aio.AioRpcError:
        """Return how a hello under a name is refused."""
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async with ReferenceAgent(name).session(self.gateway.port, credentials=credentials):
                pass
        return refused.value


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    """Open a door that wants certificates."""
    clock = SystemClock()
    store = await SqliteStore.open(tmp_path / "t.db")
    ingest = Ingest(store)
    authority = Authority.open(tmp_path / "ca", clock.now_ns())
    files = own.own(authority, tmp_path / "ca", own.names_of("127.0.0.1", []), clock.now_ns())
    enrolment = Enrolment(store, authority, clock, Policy(90 * DAY))
    config = Config(port=0, certificate=Certificate(files.cert_file, files.key_file), certificates=True)
    gateway = Gateway(store, ingest, config, enrolment=enrolment)
    running = asyncio.create_task(ingest.run())
    await gateway.start()
    yield Door(gateway, enrolment)
    await gateway.close(2)
    await ingest.close()
    await running
    await store.close()


async def test_an_agent_comes_in_as_itself_and_as_nobody_else(door: Door) -> None:
    """Its certificate opens the door for its own name; another's is refused and counted."""
    host, certificate = await door.host("pump")
    await door.host("valve")
    shown = door.shown(host, certificate)
    async with ReferenceAgent("pump").session(door.gateway.port, credentials=shown):
        assert door.gateway.sessions == 1
    for name in ("valve", "new"):
        refused = await door.refusal(shown, name)
        assert refused.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "an agent can write only as itself" in (refused.details() or "")
    assert door.gateway.refused == {"agent": 2}
    entries = await door.enrolment._store.audited(AuditQuery(action="agent"))
    said = [(one.actor.name, one.actor.via, one.action, one.target) for one in reversed(entries)]
    assert said == [(name, "agent", "agent.turn_away", name) for name in ("valve", "new")]
    assert entries[0].actor.peer == "127.0.0.1"
    assert (entries[0].after or {})["cause"] == "agent"
    assert "this certificate is of agent 'pump'" in (entries[0].after or {})["reason"]


async def test_a_certificate_of_another_authority_or_one_that_has_ended_opens_nothing(
    door: Door, tmp_path: Path
) -> None:
    """TLS refuses it: not even a hello is read."""
    host, _ = await door.host("pump")
    now = SystemClock().now_ns()
    key = public_key_of(x509.load_pem_x509_csr(host.csr().encode()))
    foreign = Authority.open(tmp_path / "other", now).agent("pump", key, now, DAY)
    ended = door.enrolment.authority.agent("pump", key, now - 2 * DAY, DAY)
    for issued in (foreign, ended):
        refused = await door.refusal(door.shown(host, issued.pem.encode()), "pump")
        assert refused.code() is grpc.StatusCode.UNAVAILABLE
    assert door.gateway.refused == {}
    assert door.gateway.sessions == 0
    # A client may have tried each more than once; none of it asked for a session.
    assert door.gateway.handshakes.begun >= 2
    assert door.gateway.handshakes.served == 0


async def test_handshakes_that_came_to_nothing_are_the_difference_of_two_counts(
    door: Door, tmp_path: Path
) -> None:
    """Who comes in counts once in both, however often it asks for a session; strangers count in one."""
    host, certificate = await door.host("pump")
    shakes = door.gateway.handshakes
    channel = grpc.aio.secure_channel(
        f"localhost:{door.gateway.port}",
        door.shown(host, certificate),
        options=[("grpc.use_local_subchannel_pool", 1)],
    )
    async with channel:
        for _ in range(2):
            call = pb_grpc.LinkStub(channel).Session()
            await call.done_writing()
            await call.code()
    assert (shakes.begun, shakes.served) == (1, 1)
    key = public_key_of(x509.load_pem_x509_csr(host.csr().encode()))
    now = SystemClock().now_ns()
    foreign = Authority.open(tmp_path / "other", now).agent("pump", key, now, DAY)
    await door.refusal(door.shown(host, foreign.pem.encode()), "pump")
    assert shakes.begun > shakes.served == 1


async def test_revoking_an_agent_ends_its_live_session_and_lets_no_other_begin(door: Door) -> None:
    """The session hears why, with the word for it; sessions of others go on."""
    (host, certificate), (other, others) = await door.host("pump"), await door.host("valve")
    shown, port = door.shown(host, certificate), door.gateway.port
    async with ReferenceAgent("valve").session(port, credentials=door.shown(other, others)):
        async with ReferenceAgent("pump").session(port, credentials=shown) as session:
            await door.enrolment.revoke("pump", OPERATOR)
            await session.until(lambda: session.ended is not None)
            assert session.ended is not None
            assert "was revoked" in (session.ended.details() or "")
            assert ("telemetryx-cause", "revoked") in list(session.ended.trailing_metadata() or ())
        assert door.gateway.sessions == 1
    for _ in range(3):
        refused = await door.refusal(shown, "pump")
        assert "was revoked" in (refused.details() or "")
    # It comes again and again, for years: that is one entry an hour.
    (entry,) = await door.enrolment._store.audited(AuditQuery(action="agent.turn_away"))
    assert (entry.target, (entry.after or {})["cause"]) == ("pump", "revoked")


async def test_no_token_takes_an_enrolled_name_where_certificates_count(tmp_path: Path) -> None:
    """Beside enrolled agents those with tokens keep to their own names; a revoked one has no way in at all."""
    clock = ManualClock()
    store = await SqliteStore.open(tmp_path / "t.db", clock=clock)
    enrolment = Enrolment(store, Authority.open(tmp_path / "ca", clock.now_ns()), clock, Policy(DAY))
    tokens = Tokens((Token(hashlib.sha256(SECRET).digest(), None, SECRET),))
    entry, bearer = Entry(tokens, enrolment, certificates=True), f"Bearer {SECRET.decode()}"
    text, _ = await enrolment.new_token(OPERATOR, site="", agent="", replace=False, uses=1, lifetime_ns=DAY)
    await enrolment.join(text, "pump", Host("pump").csr(), replace=False, peer="")
    assert await entry.by_token(bearer, "meter") == Admitted()
    with pytest.raises(TurnedAway, match="no token takes its name"):
        await entry.by_token(bearer, "pump")
    assert await replace(entry, certificates=False).by_token(bearer, "pump") == Admitted()
    await enrolment.revoke("pump", OPERATOR)
    for asked in (
        replace(entry, certificates=False).by_token(bearer, "pump"),
        entry.by_signature("pump", None, "pump"),
    ):
        with pytest.raises(TurnedAway, match="was revoked"):
            await asked
    with pytest.raises(TurnedAway, match="can't say that they are of"):
        await entry.by_signature("meter", None, "pump")
    await store.close()


async def test_what_changes_while_an_agent_enters_is_asked_again() -> None:
    """A revocation between the look at the table and the session's begin isn't missed."""
    guest, asked = Guest(), 0
    why = TurnedAway("revoked", "gone")

    async def admits(agent: str) -> Admitted:
        nonlocal asked
        del agent
        asked += 1
        if asked == 1:
            guest.recheck(lambda _key: why)
        return Admitted(key=b"k")

    await guest.admitted("a", admits)
    assert asked == 2
    cut: list[TurnedAway] = []
    guest.recheck(lambda _key: why)
    guest.stays(cut.append)
    assert len(cut) == 1
    guest.recheck(lambda key: why if key == b"other" else None)
    guest.recheck(lambda key: why if key == b"k" else None)
    assert cut[1:] == [why]
