"""The certificate that the collector itself shows where no tls_cert_file is set: signed by its own authority, for all its names.

It is made anew when two thirds of its life are over, also while the collector runs, and at a start also when a name is missing;
agents check the one name that all have.
"""

import contextlib
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from cryptography import x509

from telemetryx.enrolment.authority import Authority, AuthorityError, general_name, locked, moment, write

LIFE: Final = timedelta(days=820)
"""What browsers accept at most of an authority that somebody installed."""
MAX_NAMES: Final = 100
_SIOCGIFADDR: Final = 0x8915


@dataclass(frozen=True, slots=True)
class Own:
    """Where certificate and key are."""

    cert_file: Path
    key_file: Path


def files(folder: Path) -> Own:
    """Name the files of a folder."""
    return Own(folder / "server.pem", folder / "server.key")


def own(authority: Authority, folder: Path, names: Iterable[str], now_ns: int) -> Own:
    """Return the collector's certificate, made anew where it must be. Raises AuthorityError."""
    wanted = list(dict.fromkeys(name for name in names if name))[:MAX_NAMES]
    made = files(folder)
    try:
        with locked(folder):
            if not _good(made, authority, wanted, now_ns):
                certificate, key = authority.server(wanted, now_ns, LIFE)
                # The key first: with an old certificate the pair would not fit, and be made anew at the next start.
                write(made.key_file, key, 0o600)
                write(made.cert_file, certificate, 0o644)
    except (OSError, ValueError) as error:
        raise AuthorityError(
            f"the collector's own certificate in {folder} can't be made: {error}; check `names` in [enroll], "
            "or set tls_cert_file and tls_key_file"
        ) from error
    return made


def due(folder: Path, now_ns: int) -> bool:
    """Tell whether two thirds of the certificate's life are over, or the clock was wrong when it was made."""
    try:
        certificate = x509.load_pem_x509_certificate(files(folder).cert_file.read_bytes())
    except (OSError, ValueError):
        return True
    return not LIFE / 3 < certificate.not_valid_after_utc - moment(now_ns) <= LIFE


def _good(made: Own, authority: Authority, names: list[str], now_ns: int) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(made.cert_file.read_bytes())
        held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        made.key_file.stat()
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    lasts = certificate.not_valid_after_utc - moment(now_ns)
    if not authority.signed(certificate) or not LIFE / 3 < lasts <= LIFE:
        return False
    return {general_name(name) for name in names} <= set(held)


def names_of(host: str, others: Iterable[str]) -> list[str]:
    """Return the names by which a socket on this address is met: its own, or for all addresses those of this machine."""
    found = ["localhost", "127.0.0.1", "::1", *others]
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_unspecified:
            return [*found, *_machine()]
    return [*found, host]


def met_as(host: str) -> str:
    """Return a socket's host as others write it into an address: for all addresses, this machine's name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return socket.gethostname()
    return f"[{host}]" if address.version == 6 else host  # noqa: PLR2004 - the version


def _machine() -> list[str]:
    """Name this machine: its host name, and its interfaces' addresses."""
    name = socket.gethostname()
    found = [name, socket.getfqdn()] if name.isascii() else []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for interface in _interfaces():
            with contextlib.suppress(OSError):
                asked = struct.pack("256s", interface[:15].encode())
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, asked)
                found.append(socket.inet_ntoa(answer[20:24]))
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/if_inet6").read_text(encoding="ascii").splitlines():
            address = ipaddress.IPv6Address(int(line.split()[0], 16))
            if not address.is_link_local:
                found.append(str(address))
    return found


def _interfaces() -> list[str]:
    """Name this machine's interfaces. From the kernel's files: the service's sandbox has no netlink, which `if_nameindex` asks."""
    try:
        return sorted(path.name for path in Path("/sys/class/net").iterdir())
    except OSError:
        with contextlib.suppress(OSError):
            return [name for _, name in socket.if_nameindex()]
        return []
