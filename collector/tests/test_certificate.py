"""Certificates that change while the doors are open: new handshakes get the new one, open links stay, and a bad pair changes nothing."""

import asyncio
import socket
import ssl
from pathlib import Path

import grpc
import pytest
from aiohttp import ClientSession, TCPConnector
from cryptography import x509

from reference_agent import ReferenceAgent, defined, samples
from telemetryx import doors
from telemetryx.app import Addresses, started
from telemetryx.certificate import Certificate, CertificateError
from telemetryx.clock import ManualClock
from telemetryx.config import Settings, load
from telemetryx.enrolment import own
from telemetryx.enrolment.authority import Authority
from telemetryx.wire.payload import Payload

DAY = 86_400_000_000_000
#: 2026-03-01T10:00:00Z
T0 = 1_772_359_200_000_000_000
TOKEN = "a-token-that-is-long-enough"
WANTED = ["localhost", "127.0.0.1"]


def made(folder: Path, now_ns: int = T0) -> tuple[Authority, own.Own]:
    """Make an authority and a certificate of it."""
    authority = Authority.open(folder, now_ns)
    return authority, own.own(authority, folder, WANTED, now_ns)


def test_the_collectors_certificate_is_due_at_two_thirds_of_its_life(tmp_path: Path) -> None:
    """Not before; at once when it is gone, or was made by a clock that was far off."""
    made(tmp_path)
    third = own.LIFE.days // 3 * DAY
    assert not own.due(tmp_path, T0)
    assert not own.due(tmp_path, T0 + 2 * third - DAY)
    assert own.due(tmp_path, T0 + 2 * third + DAY)
    assert own.due(tmp_path, T0 + 10 * third)
    assert own.due(tmp_path, 0)
    (tmp_path / "server.pem").unlink()
    assert own.due(tmp_path, T0)


def test_a_pair_that_cannot_be_used_is_not_taken(tmp_path: Path) -> None:
    """Half copied, of two kinds, gone, not readable as PEM: what is in force stays, and a good one is taken again."""
    authority, files = made(tmp_path)
    shown = Certificate(files.cert_file, files.key_file)
    told: list[int] = []
    shown.subscribe(lambda: told.append(shown.version))
    before = shown.pair
    assert not shown.look()
    cert, key = authority.server(WANTED, T0, own.LIFE)
    whole = files.cert_file.read_bytes()
    for harm in (
        lambda: files.key_file.write_text(key),
        lambda: files.cert_file.write_text("-----BEGIN CERTIFICATE-----\n"),
        files.cert_file.unlink,
        lambda: files.cert_file.write_bytes(whole[: len(whole) // 3]),
    ):
        harm()
        assert not shown.look()
        assert shown.pair == before
    assert told == []
    files.cert_file.write_text(cert)
    assert shown.look()
    assert told == [2]
    assert shown.pair == (key.encode(), cert.encode())
    assert not shown.look()
    files.key_file.unlink()
    with pytest.raises(CertificateError, match="can't be read"):
        Certificate(files.cert_file, files.key_file)


async def serial(port: int, authority: Path, alpn: list[str]) -> int:
    """Shake hands as somebody new, and return the certificate's number."""
    context = ssl.create_default_context(cafile=authority)
    context.set_alpn_protocols(alpn)

    def shake() -> bytes:
        with (
            socket.create_connection(("127.0.0.1", port), 30) as link,
            context.wrap_socket(link, server_hostname="127.0.0.1") as secure,
        ):
            found = secure.getpeercert(binary_form=True)
            assert found is not None
            return found

    return x509.load_der_x509_certificate(await asyncio.to_thread(shake)).serial_number


def settings(folder: Path) -> Settings:
    """Both doors with the collector's own certificate; agents with tokens, so that any client may come."""
    tokens = folder / "agents.tokens"
    tokens.write_text(f"edge {TOKEN}\n")
    tokens.chmod(0o600)
    path = folder / "c.toml"
    path.write_text(
        f'[collector]\ndata_dir = "{folder / "data"}"\n[api]\nlisten = "127.0.0.1:0"\ntls = "own"\n'
        f'[gateway]\nlisten = "127.0.0.1:0"\ntls = "own"\ntoken_file = "{tokens}"\n'
    )
    return load(path)


async def test_both_doors_show_a_renewed_certificate_and_open_links_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After two thirds of its life, by the running collector itself; an agent's session and a browser's connection go on."""
    doings: list[doors.Certificates] = []
    look = doors.Certificates.look

    async def kept(one: doors.Certificates) -> bool:
        doings.append(one)
        return await look(one)

    monkeypatch.setattr(doors.Certificates, "look", kept)
    clock = ManualClock(T0)
    ca = tmp_path / "data/ca/ca.pem"
    async with started(settings(tmp_path), clock) as addresses, browser(ca) as people:
        while not doings:
            await asyncio.sleep(0.01)
        first = await serial(addresses.http, ca, ["http/1.1"])
        assert await serial(addresses.grpc, ca, ["h2"]) == first
        credentials = grpc.ssl_channel_credentials(ca.read_bytes())
        agent = ReferenceAgent("edge")
        async with agent.session(addresses.grpc, token=TOKEN, credentials=credentials) as link:
            await fetched(people, addresses)
            clock.advance(600 * DAY)
            await look(doings[0])
            second = await serial(addresses.http, ca, ["http/1.1"])
            assert second != first
            assert await serial(addresses.grpc, ca, ["h2"]) == second
            await fetched(people, addresses)
            await link.send(agent.cut(Payload(samples({1: [(T0, 1.0)]})), defined("x")))
            await link.acked()
        await look(doings[0])
        assert await serial(addresses.grpc, ca, ["h2"]) == second


def browser(ca: Path) -> ClientSession:
    """A client that keeps its one connection."""
    return ClientSession(connector=TCPConnector(ssl=ssl.create_default_context(cafile=ca), limit=1))


async def fetched(people: ClientSession, addresses: Addresses) -> None:
    """Ask over it."""
    async with people.get(f"https://127.0.0.1:{addresses.http}/api/v1/login") as answer:
        assert answer.status == 200
