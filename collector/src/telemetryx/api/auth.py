"""Who may ask: tokens, browser sessions, roles, and the checks that keep other web sites out.

Without a token file and without accounts the API is open, on loopback only. There, a page on another site could still reach it
through the browser; so the Host header must be ours (DNS rebinding) and a WebSocket's or POST's Origin must be the Host (no
cross-site reads). A change that a browser asks for by its cookie also carries the session's CSRF token, which only our own
pages can know. What a request needs is the role of its route; a route without one lets nobody in.
"""

import asyncio
import contextlib
import hashlib
import hmac
import re
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from telemetryx.api import deadline
from telemetryx.api.caller import Caller
from telemetryx.api.errors import Forbidden, Handler, Unauthorized, Unavailable
from telemetryx.api.peer import Peers
from telemetryx.errors import StoreError, unread
from telemetryx.secret import exposed
from telemetryx.store.accounts import Accounts, ApiToken, Role, Session, digest, token_actor

COOKIE: Final = "telemetryx_session"
DEVICE: Final = "telemetryx_device"
CSRF: Final = "X-CSRF-Token"
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
CALLER: Final = web.RequestKey("caller", Caller)
STATIC: Final = "/{path}"
"""Where the console's files are: every path that no endpoint has."""
MIN_TOKEN_LENGTH: Final = 16
#: Of a cookie that we made; a longer one isn't ours.
MAX_COOKIE: Final = 200
OPEN: Final = Caller("anybody", Role.ADMIN, "open")
OPEN_S: Final = 2.0
"""How long the store is waited for that should say whether there are accounts: it is asked before everything else, also by who scrapes."""
KNOWN_S: Final = 0.2
"""The same where it has said so before, and for noting that a token is in use: nobody's query waits longer for that."""
_HASHED: Final = re.compile(r"sha256:([0-9a-fA-F]{64})")


class TokenFileError(Exception):
    """The token file can't be used; the message says why and what to do."""


def read_tokens(path: Path) -> tuple[bytes, ...]:
    """Read the digests of the tokens in a file: one a line, as it is or as `sha256:<hex>`; `#` starts a comment.

    A word before the token is the name of its owner, as in the agents' token file; here it means nothing.
    """
    try:
        mode = exposed(path.stat())
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TokenFileError(
            f"token file {path} can't be read: {unread(error)}; `telemetryx token new --out {path}` makes one"
        ) from error
    if mode is not None:
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


@dataclass(slots=True)
class _Memory:
    """What the gate remembers: whether there are accounts. Once there are, there always are (the last admin stays)."""

    accounts: bool | None = None
    looking: asyncio.Task[None] | None = None
    """A look whether it is still so; one for all who ask meanwhile."""
    behind: set[asyncio.Task[None]] = field(default_factory=set)
    """What goes on after who began it has gone on."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Decides for each request. `tokens` are digests of the token file's."""

    tokens: tuple[bytes, ...]
    hosts: frozenset[str]
    session_lifetime_ns: int
    secure: bool
    closed: bool = False
    """Whether an account or a token is needed even while there is none."""
    peers: Peers = field(default_factory=Peers)
    """From where requests come."""
    _memory: _Memory = field(default_factory=_Memory)

    def cookie(self, name: str) -> str:
        """Name a cookie. With TLS browsers see to it that no other host and no plain page has set it."""
        return f"__Host-{name}" if self.secure else name

    def knows(self, token: str) -> bytes | None:
        """Return the digest of a token of the file. Every comparison takes the same time."""
        given = _digest(token)
        found: bytes | None = None
        for known in self.tokens:
            if hmac.compare_digest(given, known):
                found = known
        return found

    def marked(self, mark: bytes) -> bool:
        """Whether a session's token is still in the file."""
        return any(hmac.compare_digest(hashlib.sha256(one).digest(), mark) for one in self.tokens)

    async def identify(self, request: web.Request, accounts: Accounts) -> Caller:
        """Find out who asks: by a token, by a session, or because the API is open; nobody when by none of them."""
        peer = self.peers.of(request)
        cookie, device = self._sent(request, COOKIE), self._sent(request, DEVICE)
        nobody = Caller(peer=peer, device=digest(device) if device else None)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and (token := token.strip()):
            if self.knows(token):
                return replace(nobody, name="token file", role=Role.ADMIN, via="token")
            if (found := await accounts.token(digest(token))) is not None:
                await self._seen(accounts, None, found.id)
                return replace(nobody, name=_name_of(found), role=found.role, via="token", token=found.id)
        if cookie and (session := await accounts.session(digest(cookie))) is not None:
            caller = self._in_session(session, replace(nobody, csrf=csrf_of(cookie)))
            if caller is not None:
                await self._seen(accounts, session.digest, None)
                return caller
        return replace(OPEN, peer=peer) if await self.open(accounts) else nobody

    def _sent(self, request: web.Request, name: str) -> str:
        value = request.cookies.get(self.cookie(name), "")
        return value if len(value) <= MAX_COOKIE else ""

    def _in_session(self, session: Session, nobody: Caller) -> Caller | None:
        who = replace(nobody, via="session", session=session.digest)
        if session.account is not None:
            return replace(
                who, name=session.account.name, role=session.account.role, account=session.account.id
            )
        if session.token is not None:
            return replace(who, name=_name_of(session.token), role=session.token.role, token=session.token.id)
        if session.mark is not None and self.marked(session.mark):
            return replace(who, name="token file", role=Role.ADMIN)
        return None

    async def open(self, accounts: Accounts) -> bool:
        """Whether anybody may do anything: on loopback, with neither accounts nor a token file."""
        if self.closed or self.tokens or self._memory.accounts:
            return False
        memory = self._memory
        if memory.looking is None or memory.looking.done():
            memory.looking = self._begin(self._look(accounts))
        known = memory.accounts is not None
        try:
            async with asyncio.timeout(KNOWN_S if known else OPEN_S):
                await asyncio.shield(memory.looking)
        except (StoreError, TimeoutError):
            # With a store that can't be read an open API goes on; one of which that isn't known stays shut.
            if not known:
                raise
        return not self._memory.accounts

    async def _look(self, accounts: Accounts) -> None:
        async with asyncio.timeout(OPEN_S):
            self._memory.accounts = await accounts.any()

    async def _seen(self, accounts: Accounts, session: bytes | None, token: int | None) -> None:
        """Note that it is in use; a store that can't be written, or takes long, is no reason to turn anybody away."""
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(KNOWN_S):
                await asyncio.shield(self._begin(accounts.seen(session, token)))

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Begin what isn't given up when nobody waits for it any more."""
        task = asyncio.create_task(work)
        self._memory.behind.add(task)

        def ended(done: asyncio.Task[None]) -> None:
            self._memory.behind.discard(done)
            # Looked at, so that a failure that nobody waited for isn't reported as forgotten.
            _ = done.cancelled() or done.exception()

        task.add_done_callback(ended)
        return task

    async def holds(self, caller: Caller, request: web.Request, accounts: Accounts) -> bool:
        """Whether who asked may still do so, for what lasts: a session that ended, a token that was revoked."""
        now = await self.identify(request, accounts)
        return now.role >= min(caller.role, Role.VIEWER) and now.role is not Role.ANYONE

    def check_origin(self, request: web.Request) -> None:
        """Refuse what a page on another site makes a browser send."""
        host = _name(request.host)
        if self.hosts and host not in self.hosts:
            raise Forbidden(
                f"this server isn't called {host!r}",
                "ask it by its own address, or add the name to allowed_hosts in [api]",
            )
        origin = request.headers.get("Origin")
        sensitive = request.method not in SAFE or "upgrade" in request.headers.get("Connection", "").lower()
        if origin is not None and sensitive and urlsplit(origin).netloc != request.host:
            raise Forbidden(
                f"a page of {origin!r} may not use this API", "open the console on this server's own address"
            )

    @staticmethod
    def check_csrf(request: web.Request, caller: Caller) -> None:
        """Refuse a change by a browser's cookie that doesn't come from a page of ours."""
        if caller.via != "session" or request.method in SAFE:
            return
        sent = request.headers.get(CSRF, "").encode("utf-8", "replace")
        if not hmac.compare_digest(sent, caller.csrf.encode()):
            raise Forbidden(
                f"a change by a browser's session needs its {CSRF}" + (", and this isn't it" if sent else ""),
                f"send `csrf` of GET /api/v1/me as {CSRF}; programs use a token",
            )


def csrf_of(cookie: str) -> str:
    """Return what pages of a session send along with a change; who has it doesn't know the session's id."""
    return hmac.new(cookie.encode(), b"telemetryx csrf", "sha256").hexdigest()


def _name_of(token: ApiToken) -> str:
    return token_actor(token.name)


def _name(host: str) -> str:
    """Return the host without its port."""
    if host.startswith("["):
        return host.partition("]")[0].strip("[").lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


class Roles:
    """What each route needs, by method and path."""

    def __init__(self) -> None:
        """Begin with none."""
        self._roles: dict[tuple[str, str], Role] = {}

    def declare(self, role: Role, *routes: web.AbstractRoute) -> None:
        """Say what routes need."""
        for route in routes:
            if route.resource is not None:
                self._roles[route.method, route.resource.canonical] = role

    def declared(self, route: web.AbstractRoute) -> Role | None:
        """Return what a route needs; None when nobody has said."""
        return None if route.resource is None else self._roles.get((route.method, route.resource.canonical))

    def needed(self, request: web.Request) -> Role:
        """Return what a request needs. A route of which nobody has said lets admins in only."""
        role = (
            self.declared(request.match_info.route)
            if request.match_info.http_exception is None
            else Role.ANYONE
        )
        if role is None:
            return Role.ADMIN
        # There is nothing at these paths: what there could be isn't told to everybody.
        hidden = request.path.startswith(("/api/", "/prometheus/")) or request.path in {
            "/metrics",
            "/openapi.json",
        }
        nothing = request.match_info.http_exception is not None or _is_static(request)
        return Role.VIEWER if hidden and nothing else role


def _is_static(request: web.Request) -> bool:
    resource = request.match_info.route.resource
    return resource is not None and resource.canonical == STATIC


def middleware(gate: Gate, accounts: Accounts, roles: Roles) -> Middleware:
    """Guard every route by the role that it needs. A store that doesn't say who asks is waited for until the request's end."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        gate.check_origin(request)
        needed = roles.needed(request)
        if needed is Role.ANYONE and not request.path.startswith("/api/"):
            return await handler(request)
        try:
            async with deadline.until(request):
                caller = await gate.identify(request, accounts)
        except StoreError as error:
            raise Unavailable(str(error), "try again in a moment", retry_after=1) from error
        except TimeoutError as error:
            raise Unavailable(
                "the store doesn't answer, so it isn't known who asks", "try again in a moment", retry_after=1
            ) from error
        if caller.role < needed:
            if caller.role is Role.ANYONE and "Authorization" in request.headers:
                raise Unauthorized(
                    "this token isn't known here: it was revoked, has expired, or is another collector's",
                    "`telemetryx token create` makes one; it is sent as `Authorization: Bearer TOKEN`",
                )
            if caller.role is Role.ANYONE:
                raise Unauthorized(
                    "this needs a login",
                    "log in on the console, or send `Authorization: Bearer TOKEN` (`telemetryx token create` makes one)",
                )
            raise Forbidden(
                f"this needs the role {needed.word}; {caller.name} is {caller.role.word}",
                "ask an admin for it",
            )
        if needed is not Role.ANYONE:
            gate.check_csrf(request, caller)
        request[CALLER] = caller
        return await handler(request)

    return guard
