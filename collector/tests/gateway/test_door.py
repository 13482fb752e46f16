"""Who may enter: tokens, TLS off loopback, limits; and the ranges that acknowledgements are written from."""

import asyncio
import hashlib
import subprocess
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conftest import Core
from reference_agent import PATIENCE_S, ReferenceAgent, defined, samples
from telemetryx.certificate import Certificate
from telemetryx.errors import GatewayRefused, StoreUnavailable
from telemetryx.gateway import tokens
from telemetryx.gateway.held import RangeSet
from telemetryx.gateway.server import Config
from telemetryx.store.audit import AuditQuery
from telemetryx.types import Holding
from telemetryx.wire.payload import Payload

SECRET = "a-long-enough-secret"


def token_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    """Write a token file."""
    path = folder / "tokens"
    path.write_text(text)
    path.chmod(mode)
    return path


@given(st.lists(st.integers(1, 40)), st.integers(0, 10))
def test_ranges_hold_what_was_inserted(seqs: list[int], upto: int) -> None:
    """Any order of seqs gives the shortest ranges; about() names the ranges of what is asked for and no other."""
    held = RangeSet(Holding(bytes(16), upto))
    for seq in seqs:
        held.insert(seq)
    have = set(seqs) | set(range(1, upto + 1))
    assert all((seq in held) == (seq in have) for seq in range(50))
    told = held.about(seqs)
    said = set(range(1, told.upto + 1)) | {
        seq for first, last in told.ranges for seq in range(first, last + 1)
    }
    assert set(seqs) <= said <= have
    assert told.upto + 1 not in have


def shown(folder: Path) -> Certificate:
    """A certificate for localhost."""
    cert, key = folder / "c.pem", folder / "k.pem"
    subprocess.run(
        [  # noqa: S607
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    return Certificate(cert, key)


def test_off_loopback_the_door_needs_tls_and_tokens(tmp_path: Path) -> None:
    """An address that others can reach without a certificate or tokens is refused, naming the keys to set."""
    with pytest.raises(GatewayRefused, match="tls_cert_file and tls_key_file and token_file"):
        Config(host="::").check()
    with pytest.raises(GatewayRefused, match="token_file"):
        Config(host="192.0.2.1", certificate=shown(tmp_path)).check()
    Config(host="::1").check()
    Config(host="localhost").check()


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        (SECRET, 0o644, "chmod 600"),
        ("# nothing\n", 0o600, "no token"),
        ("short", 0o600, "at least 16"),
        ("a b c", 0o600, "3 words"),
    ],
)
def test_a_bad_token_file_is_refused(tmp_path: Path, text: str, mode: int, says: str) -> None:
    """Each message names the file and what to do."""
    with pytest.raises(GatewayRefused, match=says):
        tokens.read(token_file(tmp_path, text, mode))


def test_tokens_may_be_hashed_and_belong_to_an_agent(tmp_path: Path) -> None:
    """The file may hold digests, and a token may open the door for one agent alone."""
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    known = tokens.read(token_file(tmp_path, f"shared-token-of-all  # for everybody\npump sha256:{digest}\n"))
    assert known.admits_as(f"Bearer {SECRET}", "pump")
    assert not known.admits_as(f"Bearer {SECRET}", "other")
    assert known.admits_as("bearer shared-token-of-all", "other")
    assert not known.admits("Basic shared-token-of-all")
    assert not known.admits("")


async def test_a_token_is_needed_when_there_are_tokens(tmp_path: Path) -> None:
    """Without one: UNAUTHENTICATED. Another agent's: PERMISSION_DENIED. The right one works."""
    path = token_file(tmp_path, f"agent-1 {SECRET}\n")
    core = await Core.start(tmp_path / "t.db", Config(port=0, token_file=path))
    try:
        asked = {"token": 0, "agent": 0}
        for name, token, code, cause in (
            ("agent-1", None, "UNAUTHENTICATED", "token"),
            ("agent-1", "x" * 20, "UNAUTHENTICATED", "token"),
            ("agent-2", SECRET, "PERMISSION_DENIED", "agent"),
        ):
            stranger = ReferenceAgent(name)
            with pytest.raises((grpc.aio.AioRpcError, AssertionError), match=code):
                async with stranger.session(core.gateway.port, token=token):
                    pass
            # Now and then more than once: a refusal before the hello may cross it.
            asked[cause] += stranger.asked
        async with ReferenceAgent().session(core.gateway.port, token=SECRET):
            pass
        assert core.gateway.refused == asked
        entries = await core.store.audited(AuditQuery(action="agent.turn_away"))
        # Of two without a good token from one address it isn't known that they are two.
        causes = [(one.actor.name, (one.after or {})["cause"]) for one in reversed(entries)]
        assert causes == [("unknown", "token"), ("agent-2", "agent")]
    finally:
        await core.stop()


async def test_tls_works_with_files(tmp_path: Path) -> None:
    """With certificate and key the door speaks TLS, and batches are acknowledged through it."""
    certificate = shown(tmp_path)
    core = await Core.start(tmp_path / "t.db", Config(port=0, certificate=certificate))
    try:
        agent = ReferenceAgent()
        credentials = grpc.ssl_channel_credentials(certificate.cert_file.read_bytes())
        async with agent.session(core.gateway.port, credentials=credentials) as link:
            await link.send(agent.cut(Payload(samples({1: [(1, 1.0)]})), defined("x")))
            await link.acked()
    finally:
        await core.stop()


async def test_a_full_house_says_when_to_come_back(tmp_path: Path) -> None:
    """Beyond max_sessions: UNAVAILABLE with RetryInfo, so that no client gives up data."""
    core = await Core.start(tmp_path / "t.db", Config(port=0, max_sessions=1))
    try:
        async with ReferenceAgent().session(core.gateway.port):
            with pytest.raises((grpc.aio.AioRpcError, AssertionError), match="UNAVAILABLE") as refused:
                async with ReferenceAgent("b").session(core.gateway.port):
                    pass
            if isinstance(refused.value, grpc.aio.AioRpcError):
                details = dict(refused.value.trailing_metadata())["grpc-status-details-bin"]
                assert b"RetryInfo" in details
    finally:
        await core.stop()


async def test_a_store_that_cannot_log_a_session_is_not_ready_until_it_can(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who can't be let in sends no batch that would show it: readiness tells the reason, and is green again by itself."""

    async def full(*_: object) -> int:
        raise StoreUnavailable("the disk is full", "full")

    with monkeypatch.context() as patched:
        patched.setattr(core.store, "session_opened", full)
        with pytest.raises((grpc.aio.AioRpcError, AssertionError), match="UNAVAILABLE"):
            async with ReferenceAgent().session(core.gateway.port):
                pass
        assert (core.ingest.health().ready, core.ingest.health().reason) == (False, "the disk is full")
    async with ReferenceAgent().session(core.gateway.port), asyncio.timeout(PATIENCE_S):
        # The agent has its welcome a moment before the gateway goes on.
        while not core.ingest.health().ready:
            await asyncio.sleep(0)


async def test_a_taken_port_is_named(tmp_path: Path) -> None:
    """A second gateway on the same port says which address it can't open."""
    core = await Core.start(tmp_path / "t.db")
    try:
        with pytest.raises(GatewayRefused, match=str(core.gateway.port)):
            await Core.start(tmp_path / "u.db", Config(port=core.gateway.port))
    finally:
        await core.stop()
