"""Who may ask: tokens, browser sessions, and the two checks that keep other web sites out.

Without a token file the API is open, which the configuration allows on loopback only. There, a page on another site could
still reach it through the browser; so the Host header must be ours (DNS rebinding) and a WebSocket's or POST's Origin must
be the Host (no cross-site reads). A session cookie holds its expiry and an HMAC under the token: it survives a restart,
needs no table, and dies with the token.
"""

import hashlib
import hmac
import re
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from telemetryx.api.errors import Forbidden, Handler, Unauthorized

COOKIE: Final = "telemetryx_session"
#: What anybody may see: probes carry no secrets, the console's files are public, and login is how to get in.
OPEN_PATHS: Final = frozenset({"/healthz", "/readyz", "/api/v1/login"})
MIN_TOKEN_LENGTH: Final = 16
NS: Final = 1_000_000_000
_HASHED: Final = re.compile(r"sha256:([0-9a-fA-F]{64})")


class TokenFileError(Exception):
    """The token file can't be used; the message says why and what to do."""


def read_tokens(path: Path) -> tuple[bytes, ...]:
    """Read the digests of the tokens in a file: one a line, as it is or as `sha256:<hex>`; `#` starts a comment.

    A word before the token is the name of its owner, as in the agents' token file; here it means nothing.
    """
    try:
        mode = path.stat().st_mode & 0o777
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TokenFileError(
            f"token file {path} can't be read: {error}; `telemetryx token new --out {path}` makes one"
        ) from error
    if mode & 0o077:
        raise TokenFileError(f"token file {path} can be read by others (mode {mode:o}): chmod 600 {path}")
    tokens = [line.split()[-1] for raw in lines if (line := raw.partition("#")[0].strip())]
    if not tokens:
        raise TokenFileError(
            f"token file {path} holds no token; `telemetryx token new --out {path}` writes one"
        )
    for number, token in enumerate(tokens, start=1):
        if len(token) < MIN_TOKEN_LENGTH:
            raise TokenFileError(
                f"token {number} in {path} has {len(token)} characters; at least {MIN_TOKEN_LENGTH} are needed, "
                "`telemetryx token new` makes good ones"
            )
    return tuple(_known(token) for token in tokens)


def _known(token: str) -> bytes:
    """Return the digest of a token of the file, which may hold the digest itself."""
    hashed = _HASHED.fullmatch(token)
    return bytes.fromhex(hashed[1]) if hashed else _digest(token)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


@dataclass(frozen=True, slots=True)
class Gate:
    """Decides for each request. `tokens` are digests; empty means open."""

    tokens: tuple[bytes, ...]
    hosts: frozenset[str]
    session_lifetime_ns: int
    secure: bool
    open_static: Collection[str] = field(default_factory=frozenset)

    def knows(self, token: str) -> bytes | None:
        """Return the digest of a valid token. Every comparison takes the same time."""
        given = _digest(token)
        found: bytes | None = None
        for known in self.tokens:
            if hmac.compare_digest(given, known):
                found = known
        return found

    def session(self, digest: bytes) -> str:
        """Make a cookie's value for a browser that has shown a token."""
        expires = str((time.time_ns() + self.session_lifetime_ns) // NS)
        return f"{expires}.{hmac.new(digest, expires.encode(), 'sha256').hexdigest()}"

    def admits(self, request: web.Request) -> bool:
        """Whether the request carries a valid token or session."""
        if not self.tokens:
            return True
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.knows(token.strip()):
            return True
        return self._session_holds(request.cookies.get(COOKIE, ""))

    def _session_holds(self, cookie: str) -> bool:
        expires, _, mark = cookie.partition(".")
        if not (expires.isascii() and expires.isdigit() and len(expires) < 16 and mark.isascii()):  # noqa: PLR2004
            return False
        genuine = any(
            hmac.compare_digest(hmac.new(digest, expires.encode(), "sha256").hexdigest(), mark)
            for digest in self.tokens
        )
        return genuine and int(expires) * NS > time.time_ns()

    def check_origin(self, request: web.Request) -> None:
        """Refuse what a page on another site makes a browser send."""
        host = _name(request.host)
        if self.hosts and host not in self.hosts:
            raise Forbidden(
                f"this server isn't called {host!r}",
                "ask it by its own address, or add the name to allowed_hosts in [api]",
            )
        origin = request.headers.get("Origin")
        sensitive = (
            request.method not in {"GET", "HEAD", "OPTIONS"}
            or "upgrade" in request.headers.get("Connection", "").lower()
        )
        if origin is not None and sensitive and urlsplit(origin).netloc != request.host:
            raise Forbidden(
                f"a page of {origin!r} may not use this API", "open the console on this server's own address"
            )


def _name(host: str) -> str:
    """Return the host without its port."""
    if host.startswith("["):
        return host.partition("]")[0].strip("[").lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


def middleware(gate: Gate) -> Middleware:
    """Guard every path but the open ones."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        gate.check_origin(request)
        path = request.path
        guarded = path.startswith("/api/") or path in {"/metrics", "/openapi.json"}
        if guarded and path not in OPEN_PATHS and not gate.admits(request):
            raise Unauthorized(
                "this needs a token",
                "send `Authorization: Bearer TOKEN` (a line of the collector's token_file), or log in on the console",
            )
        return await handler(request)

    return guard
