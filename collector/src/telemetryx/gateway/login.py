"""Who the collector is to a site's broker, and what the broker shows of it."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from telemetryx.errors import GatewayRefused
from telemetryx.gateway.address import Address


@dataclass(frozen=True, slots=True)
class Login:
    """Who we are to the broker."""

    client_id: str
    user: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def password(self) -> str | None:
        """Read the password, anew for each connection: it may have been changed."""
        if self.password_file is None:
            return None
        return self.password_file.read_text(encoding="utf-8").strip()

    def tls(self) -> ssl.SSLContext:
        """Make the TLS context, from the files as they are now."""
        context = ssl.create_default_context(cafile=self.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.cert_file is not None:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context

    def check(self, address: Address) -> None:
        """Raise GatewayRefused when a file can't be used, before anything is started."""
        try:
            self.password()
            if address.tls:
                self.tls()
        except (OSError, UnicodeDecodeError) as error:
            raise GatewayRefused(
                f"a file of [gateway.mqtt] can't be used: {error}; check password_file, ca_file, cert_file and key_file"
            ) from error


@dataclass(frozen=True, slots=True)
class Retained:
    """What the broker shows for us: `online` while we are there, `offline` when we aren't (also as our will)."""

    topic: str
    online: bytes = b"online"
    offline: bytes = b"offline"
