"""The collector's own certificate authority: made at the first start, kept in `data_dir/ca`, its key readable by nobody else.

    ca.key, ca.pem           the authority: ECDSA P-256, thirty years
    server.key, server.pem   what the collector shows (own.py)

It signs two kinds of certificate: for agents, to show to the agents' door, and for the collector. Neither can do the other's
work (extended key usage), and neither can sign. The authority and the collector's certificate are valid from 1970 on: a host
whose clock was never set can connect, and so learns the time.
"""

import contextlib
import fcntl
import hashlib
import ipaddress
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from telemetryx.errors import TelemetryXError
from telemetryx.secret import exposed
from telemetryx.store.enrolment import Issued

SERVER_NAME: Final = "collector.telemetryx.internal"
"""A name that every certificate of a collector has: agents check this one, so the collector's address may change."""
AGENT_URI: Final = "urn:telemetryx:agent:"
BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
YEARS: Final = timedelta(days=30 * 365)
MAX_COMMON_NAME: Final = 64
NS: Final = 1_000_000_000

PrivateKey = ec.EllipticCurvePrivateKey


class AuthorityError(TelemetryXError):
    """The authority can't be used; the message says why and what to do."""


class Authority:
    """Signs certificates. `open` finds it or makes it."""

    def __init__(self, key: PrivateKey, certificate: x509.Certificate) -> None:
        """Sign with this key, in the name of this certificate."""
        self._key = key
        self._certificate = certificate
        der = certificate.public_bytes(serialization.Encoding.DER)
        self.fingerprint = hashlib.sha256(der).digest()
        self.pem = certificate.public_bytes(serialization.Encoding.PEM).decode()

    @classmethod
    def open(cls, folder: Path, now_ns: int) -> "Authority":
        """Read the authority of a folder; make one where there is none. Raises AuthorityError."""
        try:
            with locked(folder):
                paths = folder / "ca.key", folder / "ca.pem"
                if not paths[1].exists():
                    # Also where only the key is there (a start that was cut short): with the same key agents go on to trust it.
                    _make(*paths, moment(now_ns))
                return cls(*_read(*paths))
        except OSError as error:
            raise AuthorityError(
                f"the authority in {folder} can't be used: {error}; let the collector's user read and write there, "
                "or set dir in [enroll]"
            ) from error

    def secret(self, label: bytes) -> bytes:
        """Return a key for another purpose, the same in every process that has this authority."""
        raw = self._key.private_numbers().private_value.to_bytes(32, "big")
        return hashlib.sha256(b"telemetryx-" + label + b"\0" + raw).digest()

    def sign(self, text: bytes) -> bytes:
        """Sign a text: ECDSA with SHA-256, DER. It begins with a label of its purpose, so that it can't be a certificate's."""
        return self._key.sign(text, ec.ECDSA(hashes.SHA256()))

    def agent(self, name: str, public_key: bytes, now_ns: int, lifetime_ns: int) -> Issued:
        """Sign an agent's certificate."""
        now, lifetime = moment(now_ns), timedelta(seconds=max(1, lifetime_ns // NS))
        # Collectors' clocks differ a little; of a short life this is a small part.
        begin = now - min(lifetime / 100, timedelta(hours=1))
        key = serialization.load_der_public_key(public_key)
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise AuthorityError("the key on record isn't an elliptic curve's: enroll the agent again")
        certificate = (
            self._builder(name[:MAX_COMMON_NAME], key, begin, now + lifetime)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(AGENT_URI + name)]),
                critical=False,
            )
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        expires_ns = round((now + lifetime).timestamp()) * NS
        return Issued(pem(certificate), f"{certificate.serial_number:x}", now_ns, expires_ns)

    def server(self, names: Sequence[str], now_ns: int, lifetime: timedelta) -> tuple[str, str]:
        """Sign a certificate for the collector itself; return it with the authority's, and its new key, both PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._builder(SERVER_NAME, key.public_key(), BEGINNING, moment(now_ns) + lifetime)
            .add_extension(
                x509.SubjectAlternativeName([general_name(name) for name in (SERVER_NAME, *names)]),
                critical=False,
            )
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        return pem(certificate) + self.pem, _private(key)

    def signed(self, certificate: x509.Certificate) -> bool:
        """Tell whether a certificate is of this authority."""
        try:
            certificate.verify_directly_issued_by(self._certificate)
        except Exception:  # noqa: BLE001 - whatever is wrong with it, it isn't ours
            return False
        return True

    def _builder(
        self, common_name: str, key: ec.EllipticCurvePublicKey, begin: datetime, end: datetime
    ) -> x509.CertificateBuilder:
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
            .issuer_name(self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(identifier, critical=False)
        )


def agent_of(certificate: x509.Certificate) -> str | None:
    """Return the name in an agent's certificate."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return next((uri.removeprefix(AGENT_URI) for uri in uris if uri.startswith(AGENT_URI)), None)


def public_key_of(holder: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    """Return a key as it is kept on record."""
    return holder.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def general_name(name: str) -> x509.GeneralName:
    """Write a name or an address into a certificate."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def pem(certificate: x509.Certificate) -> str:
    """Write a certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def moment(ns: int) -> datetime:
    """Return a time as certificates have it."""
    return datetime.fromtimestamp(ns // NS, UTC)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder, and let one process at a time look and write there: workers start together."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write(path: Path, text: str, mode: int) -> None:
    """Write a file, whole or not at all."""
    made = path.with_name(f".{path.name}.new")
    made.unlink(missing_ok=True)
    with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    made.replace(path)


def _private(key: PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _make(key_file: Path, cert_file: Path, now: datetime) -> None:
    key = _key(key_file) if key_file.exists() else ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "TelemetryX collector authority")])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(BEGINNING)
        .not_valid_after(now + YEARS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    if not key_file.exists():
        write(key_file, _private(key), 0o600)
    write(cert_file, pem(certificate), 0o644)


def _key(path: Path) -> PrivateKey:
    try:
        mode = exposed(path.stat())
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except FileNotFoundError as error:
        raise AuthorityError(
            f"{path} is missing: restore it from a backup. Without it no agent can be enrolled or renewed; "
            f"to begin anew and enroll every agent again, remove {path.parent}"
        ) from error
    except (ValueError, TypeError) as error:
        raise AuthorityError(
            f"{path} isn't a private key in PEM: {error}; restore it from a backup"
        ) from error
    if mode is not None:
        raise AuthorityError(f"{path} can be read by others (mode {mode:o}): chmod 600 {path}")
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise AuthorityError(f"{path} holds a key of another kind than ECDSA: restore it from a backup")
    return key


def _read(key_file: Path, cert_file: Path) -> tuple[PrivateKey, x509.Certificate]:
    key = _key(key_file)
    try:
        certificate = x509.load_pem_x509_certificate(cert_file.read_bytes())
    except ValueError as error:
        raise AuthorityError(
            f"{cert_file} isn't a certificate in PEM: {error}; restore it from a backup"
        ) from error
    if key.public_key() != certificate.public_key():
        raise AuthorityError(f"{key_file} isn't the key of {cert_file}: restore both from one backup")
    return key, certificate
