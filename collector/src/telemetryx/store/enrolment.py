"""Agents that joined with a token: what is kept of them, of the tokens, and how a request to join is refused.

An agent's name belongs to one key. A token lets a host bring a key and take a name that nobody has; only a token that was
made for a name may replace the key that has it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from telemetryx.errors import TelemetryXError

MAX_STANDING: Final = 10_000
"""Tokens that may be usable at one time."""


class State(StrEnum):
    """Where an enrolled agent stands."""

    PENDING = "pending"
    """It brought a key, and waits until somebody approves it."""
    ACTIVE = "active"
    REVOKED = "revoked"
    """It may never come in again, with whatever certificate; only a token made for its name brings the name back, if it ever came in."""


class EnrolmentRefused(TelemetryXError):  # noqa: N818 - named after what happened
    """A request about enrolment that isn't granted. `cause` is a word for metrics, `hint` what to do.

    `wait_s` is in how many seconds it may be, where that is all that is wrong with it.
    """

    def __init__(self, cause: str, message: str, hint: str, *, wait_s: float = 0.0) -> None:
        """Keep word and hint beside the sentence."""
        super().__init__(message)
        self.cause = cause
        self.hint = hint
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Token:
    """A token, without its secret."""

    id: int
    site: str
    agent: str
    """The only agent that may use it; "" is any."""
    may_replace: bool
    uses: int
    used: int
    author: str
    created_ns: int
    expires_ns: int
    revoked_ns: int | None = None

    def state(self, now_ns: int) -> str:
        """Say whether it can still be used: `open`, `used`, `expired` or `revoked`."""
        if self.revoked_ns is not None:
            return "revoked"
        if self.used >= self.uses:
            return "used"
        return "expired" if self.expires_ns <= now_ns else "open"


@dataclass(frozen=True, slots=True)
class Enrolled:
    """An agent with its key."""

    agent: str
    state: State
    public_key: bytes
    """SubjectPublicKeyInfo, DER."""
    site: str
    token_id: int
    peer: str
    asked_ns: int
    changed_ns: int
    expires_ns: int | None = None
    """When its newest certificate ends; None before the first."""
    issued_ns: int | None = None
    """When that was issued: its last renewal."""
    serial: str | None = None
    """Its serial number, hexadecimal."""

    @property
    def never_in(self) -> bool:
        """Whether it was shut out before anybody let it in: then the name isn't its."""
        return self.state is State.REVOKED and self.issued_ns is None

    def shut_out(self) -> tuple[str, str]:
        """Say that it never comes in again as it is, and the way out."""
        if self.never_in:
            what, options, then = "was rejected: this host was not let in", "", "asks again"
        else:
            what, options, then = "was revoked", f" --agent {self.agent} --replace", "brings it back"
        hint = (
            f"if that was a mistake: on the collector, `telemetryx enroll token{options}` makes a token, and on the host "
            f"`telemetryx-agent enroll URL --token … --replace` {then}; what it has taken in stays in its spool"
        )
        return f"agent {self.agent!r} {what}", hint


@dataclass(frozen=True, slots=True)
class Life:
    """From when until when an agent's newest certificate lasts, in nanoseconds since the epoch."""

    agent: str
    issued_ns: int
    expires_ns: int

    @property
    def due_ns(self) -> int:
        """When the agent is to renew it: at two thirds of its life."""
        return self.issued_ns + (self.expires_ns - self.issued_ns) * 2 // 3

    def overdue(self, now_ns: int) -> str:
        """Say that it has ended, or that half of the time for renewing it is over; empty while neither is so."""
        if now_ns >= self.expires_ns:
            return "expired"
        return "renewal overdue" if 2 * now_ns > self.due_ns + self.expires_ns else ""


@dataclass(frozen=True, slots=True)
class EnrolledQuery:
    """Which enrolled agents, by name."""

    limit: int
    state: str | None = None
    after: str | None = None
    """Only those whose name comes after this one."""
    filter: str = ""
    """Part of the name."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate."""

    pem: str
    serial: str
    issued_ns: int
    expires_ns: int


@dataclass(frozen=True, slots=True)
class Joining:
    """A checked request to join: the secret's digest, and whose key it is. `csr` names the request: it is taken once."""

    digest: bytes
    agent: str
    public_key: bytes
    csr: bytes
    replace: bool
    peer: str


Issue = Callable[[str, bytes], Issued]
"""Signs a certificate for (agent, public key)."""
