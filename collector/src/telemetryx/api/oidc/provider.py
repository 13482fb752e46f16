"""The provider: what it says about itself, its keys, and what it gives for a code. Over TLS, with bounds on size and time.

    discovery ── once an hour        keys ── when one isn't known        code ── once: token, and where it must be, userinfo

What it says is asked anew after an hour; while it doesn't answer, what it said last is used on. Each attempt has one secret, which
the browser keeps; what goes out (state, nonce, the verifier of PKCE) is derived from it, so that nothing needs to be remembered
here, and any of several collectors can take the answer.
"""

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote_plus, urlencode, urlsplit

import aiohttp
import orjson
import structlog

from telemetryx.api.oidc.person import Mapped, arrival
from telemetryx.api.oidc.refused import SignInRefused
from telemetryx.api.oidc.token import Expected, Key, UnknownKey, verify
from telemetryx.store.accounts import Arrival

log = structlog.get_logger(__name__)

FRESH_S: Final = 3_600.0
"""So long what it says about itself is believed."""
AGAIN_S: Final = 10.0
"""One that didn't answer is left alone for so long."""
TIMEOUT_S: Final = 10.0
MAX_ANSWER: Final = 1 << 20
LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""Hosts that may be asked without TLS."""
MAX_AT_ONCE: Final = 16
"""Codes that are redeemed at once; who comes then tries again."""


@dataclass(frozen=True, slots=True)
class Config:
    """Who the provider is, and who we are there. `home` is the console's address."""

    name: str
    issuer: str
    client_id: str
    secret: str | None
    scopes: tuple[str, ...]
    mapped: Mapped
    home: str
    lifetime_ns: int

    @property
    def redirect(self) -> str:
        """Where the provider sends the browser back to; it must know this address."""
        return f"{self.home}/api/v1/oidc/callback"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to sign in, by the secret that the browser keeps."""

    secret: str

    @property
    def state(self) -> str:
        """What comes back with the browser."""
        return self._derived(b"state")

    @property
    def nonce(self) -> str:
        """What comes back in the ID token."""
        return self._derived(b"nonce")

    @property
    def verifier(self) -> str:
        """What only who began can show for the code (PKCE)."""
        return self._derived(b"verifier")

    @property
    def challenge(self) -> str:
        """What the provider is told of the verifier."""
        return _base64(hashlib.sha256(self.verifier.encode()).digest())

    def _derived(self, what: bytes) -> str:
        return _base64(hmac.new(self.secret.encode(), b"telemetryx oidc " + what, hashlib.sha256).digest())


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the provider says about itself."""

    authorization: str
    token: str
    keys: str
    userinfo: str | None
    end_session: str | None
    by_header: bool
    """Whether it takes our secret in a header, not in the form."""
    names_itself: bool
    """Whether it says in its answers who it is (RFC 9207)."""


class Provider:
    """A provider of sign-ins."""

    def __init__(
        self,
        config: Config,
        session: aiohttp.ClientSession,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Ask with this session, which knows whom to trust; nothing is asked before it is needed."""
        self.config = config
        self._session = session
        self._monotonic = monotonic
        self._metadata: Metadata | None = None
        self._look_again = 0.0
        self._looking = asyncio.Lock()
        self._keys: Sequence[Key] | None = None
        self._free = MAX_AT_ONCE

    @property
    def name(self) -> str:
        """What people call it."""
        return self.config.name

    @property
    def issuer(self) -> str:
        """What it calls itself."""
        return self.config.issuer

    @property
    def lifetime_ns(self) -> int:
        """How long who signed in there stays logged in here."""
        return self.config.lifetime_ns

    @staticmethod
    def state(secret: str) -> str:
        """Return what comes back with the browser that keeps this secret."""
        return Attempt(secret).state

    async def address(self, secret: str) -> str:
        """Return where the browser goes to sign in. Raises SignInRefused."""
        metadata, attempt = await self.metadata(), Attempt(secret)
        asked = {
            "response_type": "code",
            "client_id": self.config.client_id,
            "redirect_uri": self.config.redirect,
            "scope": " ".join(self.config.scopes),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        return _with(metadata.authorization, asked)

    async def leave(self) -> str | None:
        """Return where the browser goes to sign out there too; None where the provider has no such page."""
        try:
            metadata = await self.metadata()
        except SignInRefused:
            return None
        if metadata.end_session is None:
            return None
        home = {"client_id": self.config.client_id, "post_logout_redirect_uri": f"{self.config.home}/"}
        return _with(metadata.end_session, home)

    async def redeem(self, code: str, secret: str, issuer: str | None) -> Arrival:
        """Exchange a code for who somebody is; `issuer` is who sent it, where that is said. Raises SignInRefused."""
        if self._free == 0:
            raise SignInRefused("wait", f"{MAX_AT_ONCE} sign-ins are under way")
        self._free -= 1
        try:
            return await self._redeem(code, Attempt(secret), issuer)
        finally:
            self._free += 1

    async def _redeem(self, code: str, attempt: Attempt, issuer: str | None) -> Arrival:
        metadata, config = await self.metadata(), self.config
        if (issuer is not None or metadata.names_itself) and issuer != config.issuer:
            raise SignInRefused("token", f"the answer is of another provider: {str(issuer)[:100]!r}")
        answer = await self._exchange(metadata, code, attempt)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise SignInRefused("token", "the provider gave no ID token: is `openid` among the scopes?")
        claims = await self._verified(
            metadata, token, Expected(config.issuer, config.client_id, attempt.nonce)
        )
        missing = config.mapped.user_claim not in claims or config.mapped.lacks_role(claims)
        if missing and metadata.userinfo is not None and isinstance(answer.get("access_token"), str):
            more = await self._ask(
                "GET", metadata.userinfo, headers={"Authorization": f"Bearer {answer['access_token']}"}
            )
            if more.get("sub") != claims["sub"]:
                raise SignInRefused("token", "the provider's userinfo is about somebody else")
            claims = {**more, **claims}
        return arrival(config.issuer, claims, config.mapped)

    async def _exchange(self, metadata: Metadata, code: str, attempt: Attempt) -> dict[str, Any]:
        config = self.config
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": config.redirect,
            "code_verifier": attempt.verifier,
        }
        headers = {}
        if config.secret is not None and metadata.by_header:
            pair = f"{quote_plus(config.client_id)}:{quote_plus(config.secret)}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form["client_id"] = config.client_id
            if config.secret is not None:
                form["client_secret"] = config.secret
        return await self._ask("POST", metadata.token, data=form, headers=headers)

    async def _verified(self, metadata: Metadata, token: str, expected: Expected) -> dict[str, Any]:
        """Check a token with the keys that are known, and with newer ones when it needs them: providers change theirs."""
        if self._keys is not None:
            try:
                return verify(token, self._keys, expected)
            except UnknownKey:
                pass
        self._keys = await self._published(metadata)
        try:
            return verify(token, self._keys, expected)
        except UnknownKey:
            raise SignInRefused("token", "the ID token is signed with none of the provider's keys") from None

    async def _published(self, metadata: Metadata) -> Sequence[Key]:
        keys = (await self._ask("GET", metadata.keys)).get("keys")
        if not isinstance(keys, list):
            raise SignInRefused("unreachable", "the provider publishes no keys")
        return [key for key in keys if isinstance(key, dict)]

    async def metadata(self) -> Metadata:
        """Return what the provider says about itself. Raises SignInRefused."""
        async with self._looking:
            if self._monotonic() >= self._look_again:
                self._look_again = self._monotonic() + AGAIN_S
                try:
                    address = f"{self.config.issuer.rstrip('/')}/.well-known/openid-configuration"
                    self._metadata = _read(await self._ask("GET", address), self.config.issuer)
                except SignInRefused as error:
                    log.warning("oidc.no_discovery", issuer=self.config.issuer, reason=str(error))
                    if self._metadata is None:
                        raise
                else:
                    self._look_again = self._monotonic() + FRESH_S
                    # A key that the provider has taken back counts an hour longer at most.
                    self._keys = None
            if self._metadata is None:
                raise SignInRefused("unreachable", "the provider didn't answer a moment ago")
            return self._metadata

    async def _ask(self, method: str, address: str, **how: Any) -> dict[str, Any]:  # noqa: ANN401 - aiohttp's arguments
        """Ask for a JSON object. No redirect is followed: a secret goes where it was meant to, or nowhere."""
        where = urlsplit(address).netloc
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                self._session.request(method, address, allow_redirects=False, **how) as answer,
            ):
                body = b""
                async for piece in answer.content.iter_chunked(1 << 16):
                    body += piece
                    if len(body) > MAX_ANSWER:
                        raise SignInRefused(
                            "unreachable", f"{where} answers with more than {MAX_ANSWER} bytes"
                        )
                status = answer.status
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise SignInRefused(
                "unreachable", f"{where} can't be asked: {str(error) or 'it takes too long'}"
            ) from error
        try:
            said = orjson.loads(body)
        except orjson.JSONDecodeError:
            said = None
        if status == 200 and isinstance(said, dict):  # noqa: PLR2004 - OK
            return said
        named = said.get("error") if isinstance(said, dict) else None
        why = f"{where} answers {status}" + (f", {str(named)[:100]!r}" if named is not None else "")
        # A code that was used, or isn't ours, is the browser's doing; all else is between us and the provider.
        raise SignInRefused("refused" if named == "invalid_grant" else "unreachable", why)


def _read(said: Mapping[str, Any], issuer: str) -> Metadata:
    if said.get("issuer") != issuer:
        raise SignInRefused(
            "unreachable",
            f"the provider calls itself {str(said.get('issuer'))[:200]!r}: write exactly that as issuer in [api.oidc]",
        )

    def address(name: str) -> str | None:
        found = said.get(name)
        if not isinstance(found, str):
            return None
        parts = urlsplit(found)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOCAL):
            raise SignInRefused("unreachable", f"the provider's {name} isn't https")
        return found

    def needed(name: str) -> str:
        found = address(name)
        if found is None:
            raise SignInRefused("unreachable", f"the provider names no {name}")
        return found

    ways = said.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    return Metadata(
        authorization=needed("authorization_endpoint"),
        token=needed("token_endpoint"),
        keys=needed("jwks_uri"),
        userinfo=address("userinfo_endpoint"),
        end_session=address("end_session_endpoint"),
        by_header=not isinstance(ways, list) or "client_secret_basic" in ways,
        names_itself=said.get("authorization_response_iss_parameter_supported") is True,
    )


def _with(address: str, parameters: Mapping[str, str]) -> str:
    return f"{address}{'&' if urlsplit(address).query else '?'}{urlencode(parameters)}"


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
