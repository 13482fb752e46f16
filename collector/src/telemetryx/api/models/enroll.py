"""Agents that join with a token: /api/v1/enroll."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from telemetryx.api.models.fields import Limit, Name, Text
from telemetryx.api.route import Model, Nanoseconds, Span
from telemetryx.enrolment.name import LONGEST, PATTERN

MAX_USES = 10_000
Short = Annotated[str, Field(max_length=200)]


def _line(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("it is one line of text that can be seen, without spaces at its ends")
    return text


AgentName = Annotated[str, Field(pattern=PATTERN, max_length=LONGEST)]
Site = Annotated[str, AfterValidator(_line), Field(max_length=200)]


class EnrollBody(Model):
    """A host that wants to join."""

    token: Annotated[str, Field(max_length=200)]
    """The enrolment token, whole."""
    agent: Annotated[str, Field(max_length=200)]
    """The name that the agent will have."""
    csr: Annotated[str, Field(max_length=4_096)]
    """A request for a certificate (PKCS #10, PEM), for a P-256 key and this name."""
    replace: bool = False
    """Whether it is the rebuilt host of an agent of this name, and takes its place."""


class RenewBody(Model):
    """An agent that wants its next certificate, or its first after it was approved."""

    agent: Annotated[str, Field(max_length=200)]
    """Its name."""
    challenge: Annotated[str, Field(max_length=200)]
    """From GET /api/v1/enroll/challenge; each is taken once."""
    signature: Annotated[str, Field(max_length=200)]
    """ECDSA with SHA-256 over `telemetryx-renew-1`, the name and the challenge, with line feeds between; DER in Base64."""


class Door(Model):
    """How the agents' door is met."""

    url: str
    """Its whole address; empty: the host that answers this, with `port`."""
    port: int
    """Its port."""
    tls: bool
    """Whether it speaks TLS."""
    server_name: str
    """The name in its certificate that counts; empty: the host's."""


class EnrollAnswer(Model):
    """What an agent needs to connect."""

    agent: str
    """Its name."""
    site: str
    """Where it is, as the token said."""
    state: Literal["pending", "active"]
    """`pending`: it has to wait until somebody approves it, and then to renew."""
    certificate: str | None
    """Its certificate, PEM; null while it waits."""
    expires_ns: Nanoseconds | None
    """Until when that is valid."""
    authority: str
    """The collector's own authority, PEM."""
    gateway: Door
    """How the agents' door is met."""


class ChallengeAnswer(Model):
    """What is to be signed."""

    challenge: str
    """Good for five minutes, once."""


class NewEnrollTokenBody(Model):
    """A token to make."""

    site: Site = ""
    """The site of those who join with it: a label of the agent."""
    agent: AgentName | None = None
    """The only agent that may use it."""
    replace: bool = False
    """Whether it may take the place of an agent of that name: its rebuilt host."""
    uses: Annotated[int, Field(ge=1, le=MAX_USES)] = 1
    """How many hosts may join with it."""
    expires: Annotated[Span, Field(gt=0, le=366 * 86_400 * 10**9)] = 86_400 * 10**9
    """For how long."""
    author: Short = ""
    """Who makes it."""


class EnrollTokenAnswer(Model):
    """A token, without its secret."""

    id: int
    """Its number here."""
    site: str
    """The site of those who join with it."""
    agent: str
    """The only agent that may use it; empty: any."""
    replace: bool
    """Whether it may take that agent's place."""
    uses: int
    """How many hosts may join with it."""
    used: int
    """How many did."""
    author: str
    """Who made it."""
    created_ns: Nanoseconds
    """When."""
    expires_ns: Nanoseconds
    """Until when it can be used."""
    state: Literal["open", "used", "expired", "revoked"]
    """Whether it can be used."""


class NewEnrollTokenAnswer(EnrollTokenAnswer):
    """A new token: the only answer that shows it."""

    token: str
    """The token."""
    url: str
    """Where agents join."""
    command: str
    """The line to paste on the host."""


class EnrollTokensQuery(Model):
    """Which tokens."""

    before: Annotated[int, Field(ge=1, le=2**53)] | None = None
    """Only tokens with a smaller id: the next page."""
    limit: Limit = 100
    """Rows in the answer."""


class EnrollTokensAnswer(Model):
    """Tokens, newest first."""

    tokens: list[EnrollTokenAnswer]
    """One row each."""
    truncated: bool
    """Whether there are more."""
    next: int | None
    """Give it as `before` for the next page; null on the last."""


class EnrollTokenParams(Model):
    """One token."""

    id: Annotated[int, Field(ge=1, le=2**53)]
    """Its number."""


class EnrolledQuery(Model):
    """Which agents."""

    state: Literal["pending", "active", "revoked"] | None = None
    """Only those."""
    filter: Text = ""
    """Part of the name."""
    after: Name | None = None
    """Only agents whose names come after this one: the next page."""
    limit: Limit = 1_000
    """Rows in the answer."""


class EnrolledAgent(Model):
    """An agent that joined."""

    agent: str
    """Its name."""
    state: Literal["pending", "active", "revoked"]
    """`pending` waits for approval; `revoked` never comes in again."""
    site: str
    """Its site."""
    token: int
    """The token that it joined with."""
    peer: str
    """The address that it joined from."""
    asked_ns: Nanoseconds
    """When."""
    changed_ns: Nanoseconds
    """When its state last changed."""
    expires_ns: Nanoseconds | None
    """Until when its newest certificate is valid; null before the first."""
    renewed_ns: Nanoseconds | None
    """When that was issued: it joined, or renewed, then."""
    serial: str | None
    """The serial number of that, hexadecimal."""
    key: str
    """SHA-256 of its public key, hexadecimal."""


class EnrolledAnswer(Model):
    """Enrolled agents by name."""

    agents: list[EnrolledAgent]
    """One row each."""
    truncated: bool
    """Whether more agents match."""
    next: str | None
    """Give it as `after` for the next page; null on the last."""


class EnrolledParams(Model):
    """One agent."""

    name: Name
    """Its name."""


class ApprovalAnswer(EnrolledAgent):
    """The agent, as it stands now."""
