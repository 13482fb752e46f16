"""The collector's authority: what it keeps, what it signs, and what it refuses to work with."""

import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from enrolment.conftest import DAY, NOW, Host
from telemetryx.enrolment import own
from telemetryx.enrolment.authority import (
    SERVER_NAME,
    Authority,
    AuthorityError,
    agent_of,
    public_key_of,
)


def key_of(host: Host) -> bytes:
    """Return a host's public key as it is kept."""
    return public_key_of(x509.load_pem_x509_csr(host.csr().encode()))


def test_it_is_made_once_and_its_key_is_its_owners_alone(tmp_path: Path) -> None:
    """A second start finds the same authority; a key that others can read is refused with the remedy."""
    first = Authority.open(tmp_path / "ca", NOW)
    assert (tmp_path / "ca/ca.key").stat().st_mode & 0o777 == 0o600
    assert Authority.open(tmp_path / "ca", NOW + DAY).fingerprint == first.fingerprint
    (tmp_path / "ca/ca.key").chmod(0o644)
    with pytest.raises(AuthorityError, match="chmod 600"):
        Authority.open(tmp_path / "ca", NOW)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives the file to root")
def test_roots_group_may_read_the_key_and_nobody_may_write_it(tmp_path: Path) -> None:
    """So Kubernetes hands a secret to a process that isn't root."""
    made = Authority.open(tmp_path / "ca", NOW)
    (tmp_path / "ca/ca.key").chmod(0o440)
    assert Authority.open(tmp_path / "ca", NOW).fingerprint == made.fingerprint
    (tmp_path / "ca/ca.key").chmod(0o460)
    with pytest.raises(AuthorityError, match="chmod 600"):
        Authority.open(tmp_path / "ca", NOW)


def test_a_lost_or_foreign_key_is_named_and_nothing_is_made_anew(tmp_path: Path) -> None:
    """Without its key the agents that it signed for can't be renewed: a person must restore it."""
    Authority.open(tmp_path / "ca", NOW)
    Authority.open(tmp_path / "other", NOW)
    key = tmp_path / "ca/ca.key"
    (tmp_path / "other/ca.key").rename(key)
    with pytest.raises(AuthorityError, match="isn't the key of"):
        Authority.open(tmp_path / "ca", NOW)
    key.unlink()
    with pytest.raises(AuthorityError, match="restore it from a backup"):
        Authority.open(tmp_path / "ca", NOW)


def test_an_agents_certificate_says_its_name_and_can_do_nothing_else(tmp_path: Path) -> None:
    """It is for clients alone, no authority, and valid for as long as was asked."""
    authority, host = Authority.open(tmp_path / "ca", NOW), Host("pump")
    issued = authority.agent("pump", key_of(host), NOW, 90 * DAY)
    certificate = x509.load_pem_x509_certificate(issued.pem.encode())
    assert authority.signed(certificate)
    assert (agent_of(certificate), public_key_of(certificate)) == ("pump", key_of(host))
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate.not_valid_after_utc == datetime.fromtimestamp((NOW + 90 * DAY) / 1e9, UTC)
    assert not Authority.open(tmp_path / "other", NOW).signed(certificate)


def test_the_collectors_own_certificate_is_good_for_a_host_whose_clock_was_never_set(tmp_path: Path) -> None:
    """It has the one name that agents check, all others that it is met by, and is valid from 1970 on."""
    authority = Authority.open(tmp_path / "ca", NOW)
    names = own.names_of("192.0.2.7", ["collector.example"])
    files = own.own(authority, tmp_path / "ca", names, NOW)
    assert files.key_file.stat().st_mode & 0o777 == 0o600
    certificate = x509.load_pem_x509_certificate(files.cert_file.read_bytes())
    held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {SERVER_NAME, "localhost", "collector.example"} <= set(held.get_values_for_type(x509.DNSName))
    assert "192.0.2.7" in {str(one) for one in held.get_values_for_type(x509.IPAddress)}
    assert certificate.not_valid_before_utc == datetime(1970, 1, 1, tzinfo=UTC)


def test_the_collectors_own_certificate_is_made_anew_for_a_new_name_or_at_two_thirds_of_its_life(
    tmp_path: Path,
) -> None:
    """Otherwise each start shows the same."""
    authority = Authority.open(tmp_path / "ca", NOW)

    def made(names: list[str], now_ns: int) -> bytes:
        return own.own(authority, tmp_path / "ca", names, now_ns).cert_file.read_bytes()

    first = made(["a"], NOW)
    assert made(["a"], NOW + 500 * DAY) == first
    second = made(["a", "b"], NOW)
    assert second != first
    assert made(["b"], NOW) == second
    assert made(["a", "b"], NOW + 600 * DAY) != second


def test_without_netlink_as_in_the_services_sandbox_addresses_are_found_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RestrictAddressFamilies of the unit refuses the socket that `if_nameindex` asks through."""
    everywhere = own.names_of("0.0.0.0", [])  # noqa: S104 - a name to look at

    def refused() -> list[tuple[int, str]]:
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "if_nameindex", refused)
    assert own.names_of("0.0.0.0", []) == everywhere  # noqa: S104 - a name to look at
    assert "127.0.0.1" in everywhere[5:], "an interface's own, beside the one that is always there"


def test_the_machines_own_addresses_are_named_where_the_socket_has_all() -> None:
    """A wildcard address is met by the host's name."""
    assert socket.gethostname() in own.names_of("0.0.0.0", [])  # noqa: S104 - a name to look at
    assert own.met_as("::") == socket.gethostname()
    assert own.met_as("::1") == "[::1]"
