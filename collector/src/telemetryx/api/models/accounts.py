"""People: logging in and out, accounts, tokens of programs, and the audit log."""

from typing import Annotated, Any, Literal

from pydantic import Field

from telemetryx.api.models.fields import Limit, Text
from telemetryx.api.route import Model, Nanoseconds, Span, Time
from telemetryx.store.accounts import NAME, TOKEN_NAME

RoleWord = Literal["viewer", "operator", "admin"]
Secret = Annotated[str, Field(min_length=1, max_length=1_000)]
AccountName = Annotated[str, Field(pattern=NAME)]


class LoginBody(Model):
    """What a browser shows to get a session: a user with a password, or a token."""

    user: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    """The account's name."""
    password: Secret | None = None
    """Its password."""
    token: Secret | None = None
    """A token, in place of both."""


class LoginAnswer(Model):
    """The session is in the cookie."""

    ok: bool
    """Always true; anything else is an error."""
    needed: bool
    """Whether this collector asks for a login at all."""
    csrf: str = ""
    """What to send as `X-CSRF-Token` along with changes in this session."""


class FirstBody(Model):
    """The first account, an admin."""

    code: Secret
    """`code` of the link that the collector printed."""
    name: Annotated[str, Field(min_length=1, max_length=64)]
    """The account's name."""
    password: Secret
    """Its password."""


class MeAnswer(Model):
    """Who asks."""

    name: str
    """The account's name, or which token."""
    role: RoleWord
    """What they may do."""
    via: Literal["open", "token", "session"]
    """How that is known; `open`: this collector has no accounts, and anybody on its machine may do anything."""
    account: bool
    """Whether it is a person with an account."""
    issuer: str | None
    """The provider that they signed in at; null for who has a password here."""
    csrf: str
    """What to send as `X-CSRF-Token` along with changes in this session."""


class LogoutBody(Model):
    """Which sessions end."""

    everywhere: bool = False
    """All of the account's, in every browser."""


class LogoutAnswer(Model):
    """The session has ended."""

    ok: bool
    """Always true."""
    url: str | None
    """Where a browser goes to sign out at the provider too; null for who didn't sign in at one, or where it has no such page."""


class WaysAnswer(Model):
    """How people get in."""

    provider: str | None
    """The name of the provider where people can sign in: `/api/v1/oidc/login` leads there; null when there is none."""


class PasswordBody(Model):
    """Another password."""

    old: Secret
    """The one until now."""
    new: Secret
    """The one from now on."""


class User(Model):
    """An account."""

    name: str
    """Its name."""
    role: RoleWord
    """What it may do."""
    created_ns: Nanoseconds
    """Since when it is there."""
    login_ns: Nanoseconds | None
    """When it last logged in."""
    issuer: str | None
    """The provider that they sign in at, which says their role; null for who has a password here."""
    sessions: int
    """Browsers that it is logged in with."""
    tokens: int
    """Tokens that hold and that it made, itself or with one of these."""


class UsersAnswer(Model):
    """All accounts, by name."""

    users: list[User]
    """The accounts."""


class UserParams(Model):
    """Which account."""

    name: AccountName
    """Its name."""


class UserRemoveParams(UserParams):
    """Which account goes, and what with it."""

    revoke_tokens: bool = False
    """Whether the tokens that it made, itself or with one of these, are revoked too."""


class UserBody(Model):
    """A new account."""

    name: AccountName
    """Its name: small letters, digits and `. _ - @`."""
    role: RoleWord
    """What it may do: look (viewer), answer alerts and settle what waits (operator), everything (admin)."""
    password: Secret
    """Its password."""


class UserChangeBody(Model):
    """What changes; the rest stays."""

    role: RoleWord | None = None
    """What it may do from now on."""
    password: Secret | None = None
    """Its password from now on; its sessions end."""


class Token(Model):
    """A token of a program; the token itself is shown once, when it is made."""

    id: int
    """Its number."""
    name: str
    """What it is for."""
    role: RoleWord
    """What it may do."""
    created_ns: Nanoseconds
    """When it was made."""
    created_by: str
    """By whom."""
    expires_ns: Nanoseconds
    """Until when it holds."""
    used_ns: Nanoseconds | None
    """When it was last used, to a minute."""
    revoked_ns: Nanoseconds | None
    """When it was revoked."""


class RemovedAnswer(Model):
    """It is gone."""

    name: str
    """Whose it was."""
    tokens: list[Token]
    """The tokens that held and that it made, as they are now: with `revoke_tokens` revoked, else still good."""


class TokensAnswer(Model):
    """All tokens, newest first."""

    tokens: list[Token]
    """The tokens."""


class TokenParams(Model):
    """Which token."""

    id: Annotated[int, Field(ge=1, le=2**53)]
    """Its number."""


class TokenBody(Model):
    """A new token."""

    name: Annotated[str, Field(pattern=TOKEN_NAME)]
    """What it is for."""
    role: RoleWord = "viewer"
    """What it may do."""
    expires: Span
    """How long it holds, at most ten years."""


class TokenMadeAnswer(Token):
    """A new token."""

    token: str
    """The token: it is shown only here."""


class AuditParams(Model):
    """Which entries."""

    actor: Text | None = None
    """Only by this person or token."""
    action: Text | None = None
    """Only this action (`user.add`), or all of a noun (`user`)."""
    target: Text | None = None
    """Only about this thing."""
    start: Time | None = None
    """From then on."""
    end: Time | None = None
    """Before then."""
    before: Annotated[int, Field(ge=1, le=2**53)] | None = None
    """Only entries with a smaller id: the next page."""
    limit: Limit = 100
    """Entries at most."""


class AuditEntry(Model):
    """One change."""

    id: int
    """Its number."""
    at_ns: Nanoseconds
    """When."""
    actor: str
    """Who."""
    via: str
    """By which door: api, console, cli, agent, collector."""
    peer: str
    """From where."""
    action: str
    """What was done."""
    target: str
    """To what."""
    before: dict[str, Any] | None
    """What it was before; null when there was nothing."""
    after: dict[str, Any] | None
    """What it is since."""


class AuditAnswer(Model):
    """The audit log, newest first."""

    audit: list[AuditEntry]
    """The entries."""
    next: int | None
    """Give it as `before` for the next page; null on the last."""
