"""The certificate that a listening socket shows, as its files hold it now: renewed ones are shown without a restart.

    files ── look ──▶ fits? ──▶ the pair in force ──▶ each new handshake; links that are open stay as they are

A pair that can't be used (half copied, another's key) isn't taken: the one before goes on, and the log says why, once.
"""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger(__name__)

Stamp = tuple[tuple[int, int, int], ...]
LOOK_S: Final = 60.0
"""How often the files are looked at."""


class CertificateError(Exception):
    """The files hold no certificate that can be shown; the message says why."""


class Certificate:
    """A pair of files. Whoever shows it asks for `pair`, or subscribes."""

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        """Read it. Raises CertificateError."""
        self.cert_file, self.key_file = cert_file, key_file
        self._listeners: list[Callable[[], None]] = []
        self._seen: Stamp = ()
        self.version = 0
        self.pair = (b"", b"")
        """Key and chain, PEM."""
        self._take(self._stamp())

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call this when there is another pair."""
        self._listeners.append(listener)

    def look(self) -> bool:
        """Take what the files hold where they changed; True when it is another pair."""
        try:
            stamp = self._stamp()
            if stamp == self._seen:
                return False
            # Not again and again: what can't be used now is tried when it changes once more.
            self._seen = stamp
            self._take(stamp)
        except CertificateError as error:
            log.error("certificate_not_taken", reason=str(error), hint="the one before is shown on")  # noqa: TRY400 - a sentence is enough
            return False
        try:
            for listener in self._listeners:
                listener()
        except CertificateError as error:
            # They were written while they were read.
            self._seen = ()
            log.error("certificate_not_taken", reason=str(error), hint="it is tried again")  # noqa: TRY400 - a sentence is enough
            return False
        log.info("certificate_taken", file=str(self.cert_file))
        return True

    def load(self, context: ssl.SSLContext) -> None:
        """Have a context show it in its next handshakes. Raises CertificateError."""
        try:
            context.load_cert_chain(self.cert_file, self.key_file)
        except (OSError, ssl.SSLError) as error:
            raise CertificateError(f"{self.cert_file} can't be used with {self.key_file}: {error}") from error

    def _take(self, stamp: Stamp) -> None:
        # In a context of its own: one that is in use would be left with a certificate and no key.
        self.load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        try:
            pair = (self.key_file.read_bytes(), self.cert_file.read_bytes())
        except OSError as error:
            raise CertificateError(str(error)) from error
        self.pair, self._seen = pair, stamp
        self.version += 1

    def _stamp(self) -> Stamp:
        try:
            found = [path.stat() for path in (self.cert_file, self.key_file)]
        except OSError as error:
            raise CertificateError(f"{error.filename} can't be read: {error.strerror}") from error
        return tuple((one.st_ino, one.st_size, one.st_mtime_ns) for one in found)
