"""People's accounts as a store keeps them: who may do what, who is logged in, which tokens are valid, who guessed wrong lately.

Secrets come in and are kept as digests only: of a password what Argon2 makes of it (api/passwords.py), of everything random its
SHA-256. A reader of the store, or of a backup, can't log in with what it finds. Each change notes itself in the audit log, in
its own transaction. All of it is in the store, so several collector processes know the same people.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

from telemetryx.store.audit import Actor

NAME: Final = r"^[a-z0-9][a-z0-9._@\-]{0,63}$"
"""What an account's name looks like: no two that look alike, nothing that a log or a terminal reads as more than a name."""
_NAME: Final = re.compile(NAME)
TOKEN_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9 ._@\-]{0,63}$"  # noqa: S105 - a pattern
MAX_SESSIONS: Final = 50
"""Browsers that one account is logged in with; the oldest is logged out."""
MAX_DEVICES: Final = 20
"""Browsers that an account's logins are remembered from."""
MAX_TOKENS: Final = 1_000
LONGEST_TOKEN_NS: Final = 3_653 * 86_400 * 1_000_000_000
"""Ten years."""


class Role(IntEnum):
    """What somebody may do; each may do what those before it may. ANYONE needs no login."""

    ANYONE = 0
    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        """Return it as people write it."""
        return self.name.lower()


def role_of(word: str) -> Role:
    """Read a role of a person or token. Raises ValueError."""
    found = next((one for one in Role if one.word == word and one is not Role.ANYONE), None)
    if found is None:
        raise ValueError(f"{word!r} is no role: viewer, operator or admin")
    return found


def digest(text: str) -> bytes:
    """Return what is kept of a random secret. It is too long to guess, so a fast hash does."""
    return hashlib.sha256(text.encode()).digest()


def token_actor(name: str) -> str:
    """Return what a token is called where people's names stand: in the audit log, and as the maker of other tokens. No account is called so."""
    return f"token {name}"


def is_name(text: str) -> bool:
    """Tell whether an account may have this name."""
    return _NAME.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Account:
    """A person. `password` is what Argon2 made of it; empty for who signs in at a provider."""

    id: int
    name: str
    role: Role
    password: str
    created_ns: int
    login_ns: int | None = None
    """When they last logged in."""
    issuer: str | None = None
    """The provider that they sign in at (api/oidc); None for who has a password here."""
    sessions: int = 0
    """Browsers they are logged in with."""
    tokens: int = 0
    """Tokens that hold and that they made, themselves or with one of these."""


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token of a program; the token itself is known to who made it."""

    id: int
    name: str
    role: Role
    created_ns: int
    created_by: str
    expires_ns: int
    used_ns: int | None = None
    revoked_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that is logged in: as an account, or with a token of the store or of the token file."""

    digest: bytes
    expires_ns: int
    account: Account | None = None
    token: ApiToken | None = None
    mark: bytes | None = None
    """Which token of the token file, as its digest's digest: the session ends when the line goes."""
    seen_ns: int = 0


@dataclass(frozen=True, slots=True)
class NewSession:
    """What a login brings: the new id's digest, until when, from where, as whom."""

    digest: bytes
    expires_ns: int
    account: int | None = None
    token: int | None = None
    mark: bytes | None = None
    replaces: bytes | None = None
    """A session that the browser had: it ends."""
    device: bytes | None = None
    """A mark that the browser keeps, by which it is known when it comes again."""


@dataclass(frozen=True, slots=True)
class Guess:
    """A key under which wrong logins are counted, and what they cost there.

    After `free` of them the next one waits `step_ns`, then twice that, up to `most_ns`; after `forget_ns` of quiet all is forgotten.
    """

    key: str
    free: int
    step_ns: int
    most_ns: int
    forget_ns: int
    share: int | None = None
    """At most so many of those of one source (the first key of the attempt) count here."""

    def wait_ns(self, count: int, since_ns: int) -> int:
        """Say how long the next attempt must wait after so many wrong ones, the last of them so long ago."""
        if count < self.free or since_ns >= self.forget_ns:
            return 0
        # The exponent is bounded: 2**64 nanoseconds is longer than any `most_ns`.
        return max(0, min(self.most_ns, self.step_ns << min(count - self.free, 64)) - since_ns)


@dataclass(frozen=True, slots=True)
class Arrival:
    """Somebody whom a provider vouches for: who they are there, for good, and what it calls them and lets them do now."""

    issuer: str
    subject: str
    name: str
    role: Role


class AccountRefused(Exception):  # noqa: N818 - a refusal is named after its cause
    """What was asked can't be done to this account or token; the message is for whoever asked. `missing`: there is no such one."""

    def __init__(self, message: str, *, missing: bool = False) -> None:
        """Keep the sentence."""
        super().__init__(message)
        self.missing = missing


class Accounts(Protocol):
    """What every store can do with accounts. Methods that change something take who does it, for the audit log."""

    async def any(self) -> bool:
        """Tell whether there is an account."""
        ...

    async def all(self) -> list[Account]:
        """Return all accounts, by name."""
        ...

    async def account(self, name: str) -> Account | None:
        """Return one."""
        ...

    async def add(self, name: str, role: Role, password: str, by: Actor) -> Account:
        """Make one. Raises AccountRefused when the name is taken or is none."""
        ...

    async def arrive(self, who: Arrival, by: Actor) -> Account:
        """Return the account of somebody whom a provider vouches for, with the role that it says; make it at first.

        Raises AccountRefused when another account has the name.
        """
        ...

    async def change_role(self, name: str, role: Role, by: Actor) -> Account:
        """Give somebody another role. Raises AccountRefused when it is the last admin's, or nobody's."""
        ...

    async def change_password(self, name: str, password: str, by: Actor) -> None:
        """Set a password; all the account's sessions end and no browser of it is known any more."""
        ...

    async def rehash(self, account: int, before: str, password: str) -> None:
        """Keep the same password in a newer form; nothing when it was changed meanwhile."""
        ...

    async def remove(self, name: str, by: Actor, *, revoke_tokens: bool = False) -> list[ApiToken]:
        """Delete somebody, with sessions, and with the tokens that they made if wanted; return those that held.

        Raises AccountRefused when it is the last admin, or nobody.
        """
        ...

    async def offer_first(self, link: bytes, expires_ns: int) -> bool:
        """Let who has this make the first account, once; False when there is one already."""
        ...

    async def redeem_first(self, link: bytes, name: str, password: str, peer: str) -> Account | None:
        """Make the first account, an admin; None when the link isn't valid (any more)."""
        ...

    async def open_session(self, new: NewSession, by: Actor) -> None:
        """Log a browser in."""
        ...

    async def session(self, digest: bytes) -> Session | None:
        """Return a session that holds."""
        ...

    async def seen(self, session: bytes | None, token: int | None) -> None:
        """Note that a session or a token was used."""
        ...

    async def close_session(self, digest: bytes, by: Actor) -> bool:
        """Log a browser out; False when it wasn't in."""
        ...

    async def close_sessions(self, account: int, by: Actor) -> int:
        """Log an account out everywhere; return of how many browsers."""
        ...

    async def add_token(self, name: str, token: bytes, role: Role, expires_ns: int, by: Actor) -> ApiToken:
        """Enter a token by its digest. Raises AccountRefused when the name is taken or is none."""
        ...

    async def tokens(self) -> list[ApiToken]:
        """Return all tokens, newest first, ended ones too."""
        ...

    async def token(self, digest: bytes) -> ApiToken | None:
        """Return a token that holds."""
        ...

    async def revoke_token(self, number: int, by: Actor) -> ApiToken:
        """End a token. Raises AccountRefused when there is none."""
        ...

    async def knows_device(self, device: bytes, name: str) -> bool:
        """Tell whether a browser with this mark has logged in to this account before."""
        ...

    async def attempt(self, guesses: Sequence[Guess]) -> int:
        """Count an attempt under these keys, and return 0; or count nothing and return how long to wait, in nanoseconds."""
        ...

    async def succeeded(self, guesses: Sequence[Guess]) -> None:
        """Take an attempt back: it was right, and its source starts anew."""
        ...

    async def not_tried(self, guesses: Sequence[Guess]) -> None:
        """Take an attempt back: it came to nothing, right or wrong."""
        ...
