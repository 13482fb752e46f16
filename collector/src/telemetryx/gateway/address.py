"""A broker's address as the configuration writes it: `mqtts://broker.site:8883`, or `mqtt://` on loopback alone."""

import ipaddress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

PORTS: Final = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker is, and whether TLS leads there."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        """Write host and port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def loopback(host: str) -> bool:
    """Tell whether a host is this machine, for certain."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def address(url: str) -> Address:
    """Read a broker's URL, or raise ValueError with what to write instead."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is not a broker's address: {error}") from error
    if (
        parts.scheme not in PORTS
        or not parts.hostname
        or parts.path not in {"", "/"}
        or parts.query
        or parts.fragment
    ):
        raise ValueError(f'{url!r} is not a broker\'s address; write e.g. "mqtts://broker.example:8883"')
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            "the broker's address holds a user: set user and password_file instead, a URL is shown in logs"
        )
    tls = parts.scheme == "mqtts"
    if not tls and not loopback(parts.hostname):
        raise ValueError(
            f"{url!r} leaves this machine without TLS: write mqtts://, or reach the broker on 127.0.0.1"
        )
    return Address(parts.hostname, port or PORTS[parts.scheme], tls)
