"""Who an agent is at the door: its certificate, or where those aren't wanted a token; and what a live session is checked against.

A certificate was checked by TLS (it is our authority's, in time, and the agent has its key). Here it counts whose it is: the
name must be the one that it was issued for, and the key the one on record. So an agent can write only as itself, a revoked one
not at all, and of a host and its rebuilt twin only the newer.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from cryptography import x509

from telemetryx.enrolment.authority import agent_of, public_key_of
from telemetryx.enrolment.service import Enrolment
from telemetryx.gateway.refusal import TurnedAway
from telemetryx.gateway.tokens import Tokens
from telemetryx.store.enrolment import Enrolled, State


@dataclass(frozen=True, slots=True)
class Admitted:
    """Who came in: the labels that we know of it ourselves, and the key of its certificate."""

    labels: Mapping[str, str] = field(default_factory=dict)
    key: bytes | None = None


Admits = Callable[[str], Awaitable[Admitted]]
"""Says by which right somebody is the agent of a name, or raises TurnedAway."""


class Guest:
    """One who is at the door or inside: what has changed since it was admitted is asked again, or cuts its session."""

    def __init__(self) -> None:
        """Come to the door."""
        self._key: bytes | None = None
        self._stale = False
        self._cut: Callable[[TurnedAway], None] | None = None

    async def admitted(self, agent: str, admits: Admits) -> Mapping[str, str]:
        """Ask until nothing changed meanwhile; return the labels. Raises TurnedAway."""
        while True:
            self._stale = False
            found = await admits(agent)
            self._key = found.key
            if not self._stale:
                return found.labels

    def stays(self, cut: Callable[[TurnedAway], None]) -> None:
        """Have a session, which can be cut; what changed since it was admitted cuts it at once."""
        self._cut = cut
        if self._stale:
            cut(TurnedAway("revoked", "the agent's enrolment changed while it connected", 1_000))

    def recheck(self, judge: Callable[[bytes | None], TurnedAway | None]) -> None:
        """Cut the session when it may not stay."""
        if self._cut is None:
            self._stale = True
        elif (why := judge(self._key)) is not None:
            self._cut(why)


@dataclass(frozen=True, slots=True)
class Entry:
    """Decides who may be whom. Without an enrolment only tokens count."""

    tokens: Tokens
    enrolment: Enrolment | None = None
    certificates: bool = False
    """Whether enrolled agents must show their certificate."""

    async def by_certificate(self, pem: bytes, agent: str) -> Admitted:
        """Admit the agent that a certificate was issued for."""
        certificate = x509.load_pem_x509_certificate(pem)
        name, key = agent_of(certificate), public_key_of(certificate)
        if name != agent:
            raise TurnedAway(
                "agent",
                f"this certificate is of agent {name!r}, not of {agent!r}: an agent can write only as itself",
            )
        found = await self._find(agent)
        if (why := standing(found, key)) is not None:
            raise why
        return Admitted({"site": found.site} if found is not None and found.site else {}, key)

    async def by_token(self, authorization: str, agent: str) -> Admitted:
        """Admit whoever has a token for a name; that of an enrolled agent isn't to be had by a token."""
        if not self.tokens.admits_as(authorization, agent):
            raise TurnedAway("agent", f"this token isn't for agent {agent!r}")
        found = await self._find(agent)
        if found is not None and found.state is State.REVOKED:
            raise _revoked(found)
        if found is not None and self.certificates:
            raise TurnedAway(
                "certificate",
                f"agent {agent!r} is enrolled: it comes in with its certificate, and no token takes its name",
            )
        return Admitted()

    async def by_signature(self, signer: str, key: bytes | None, agent: str) -> Admitted:
        """Admit an agent whose frames a site's broker carries: each is signed with the host's key on record, or (None) a token of its name."""
        if agent != signer:
            raise TurnedAway("agent", f"frames of agent {signer!r} can't say that they are of {agent!r}")
        found = await self._find(agent)
        if key is not None:
            if (why := standing(found, key)) is not None:
                raise why
            if found is not None and found.state is State.PENDING:
                raise TurnedAway(
                    "pending",
                    f"agent {agent!r} waits until somebody approves it: `telemetryx agents approve {agent}`",
                )
            return Admitted({"site": found.site} if found is not None and found.site else {}, key)
        if found is not None and found.state is State.REVOKED:
            raise _revoked(found)
        if found is not None and self.certificates:
            raise TurnedAway(
                "certificate",
                f"agent {agent!r} is enrolled: its frames are signed with the host's key, and no token takes its name; "
                "remove token_file from the agent's [uplink]",
            )
        return Admitted()

    async def _find(self, agent: str) -> Enrolled | None:
        return None if self.enrolment is None else await self.enrolment.find(agent)


def standing(found: Enrolled | None, key: bytes | None) -> TurnedAway | None:
    """Say why a key may not be this agent any more; None: it may. A session by token has no key."""
    if found is None:
        return TurnedAway("revoked", "this collector doesn't know the agent: it must be enrolled again")
    if found.state is State.REVOKED:
        return _revoked(found)
    if key is not None and key != found.public_key:
        return TurnedAway(
            "revoked", f"another host has taken the place of agent {found.agent!r}: this one was revoked"
        )
    return None


def _revoked(found: Enrolled) -> TurnedAway:
    return TurnedAway(
        "revoked",
        f"agent {found.agent!r} was rejected: this host was not let in, and may ask again with another token"
        if found.never_in
        else f"agent {found.agent!r} was revoked: it must be enrolled again, with a token made for its name",
    )
