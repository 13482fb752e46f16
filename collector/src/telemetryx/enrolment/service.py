"""Who joins, renews, waits, is approved and revoked. Each step is noted; each refusal is noted and counted by its cause.

What a live session must hear (a key that isn't its agent's any more) is told to listeners: at once for what happens here,
within `WATCH_S` for what another process on the store did.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from telemetryx.clock import Clock
from telemetryx.enrolment import request, token
from telemetryx.enrolment.authority import SERVER_NAME, Authority
from telemetryx.enrolment.name import NAME_RULE, is_name
from telemetryx.errors import StoreError
from telemetryx.hot.interface import Limit
from telemetryx.network import network
from telemetryx.store.audit import Actor, Entry, Seldom
from telemetryx.store.enrolment import (
    Enrolled,
    EnrolledQuery,
    EnrolmentRefused,
    Issued,
    Joining,
    Life,
    State,
    Token,
)
from telemetryx.store.tables import audit
from telemetryx.store.tables import enrolment as table
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.rules import Lender

log = structlog.get_logger(__name__)

WATCH_S: Final = 1.0
OVERLAP_NS: Final = 60_000_000_000
"""Collectors' clocks differ, and a transaction takes its time: so far back is looked each time."""
QUIET_NS: Final = 60_000_000_000
"""The same refusal of the same network is entered in the audit log once in so long; each is logged and counted."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """How an agent meets the agents' door."""

    url: str = ""
    """The whole address where it is configured; else the host that the agent met us by, with this port."""
    port: int = 0
    tls: bool = True
    own: bool = True
    """Whether it shows a certificate of our own authority."""

    def told(self) -> dict[str, object]:
        """Write it for the agent."""
        name = SERVER_NAME if self.own else ""
        return {"url": self.url, "port": self.port, "tls": self.tls, "server_name": name}


@dataclass(frozen=True, slots=True)
class Policy:
    """What is configured."""

    lifetime_ns: int
    approve: bool = False
    """Whether an operator approves each agent."""
    url: str = ""
    """Where agents meet the people's door."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an agent is told: who it is, and its certificate, once it has one."""

    enrolled: Enrolled
    issued: Issued | None


Listener = Callable[[Enrolled], None]


class Enrolment:
    """The agents that joined, in the store, and the authority that signs for them."""

    def __init__(self, store: Lender, authority: Authority, clock: Clock, policy: Policy) -> None:
        """Sign in the name of this authority."""
        self._store = store
        self._clock = clock
        self._secret = authority.secret(b"challenge")
        self._listeners: list[Listener] = []
        self.authority = authority
        self.policy = policy
        self.gateway = Gateway()
        """Set once the agents' door is open."""
        self.renewals: Limit | None = None
        """How often an agent may renew; by name, since it has proven its key by then. Set by the people's door, as is:"""
        self.unproven: Limit | None = None
        """How often somebody may ask for a renewal without the key; by network. What comes beyond takes nothing from agents there."""
        self._noted = Seldom(QUIET_NS)
        self.granted: dict[str, int] = {}
        self.refused: dict[str, int] = {}

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Tell this of each agent whose state or key changed. Returns the way out."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # --- what agents ask

    async def join(self, text: str, agent: str, csr: str, *, replace: bool, peer: str) -> Answer:
        """Let a host in by its token, or have it wait. Raises EnrolmentRefused."""
        actor = Actor(agent, "agent", peer)
        async with self._judged("join", actor):
            _name(agent)
            asked = request.read(csr, agent)
            digest = token.digest(text, self.authority.fingerprint)
            joining = Joining(digest, agent, asked.public_key, asked.digest, replace, peer)
            now = self._clock.now_ns()

            def work(db: Database) -> tuple[Enrolled, Issued | None]:
                before = table.find(db, agent)
                found, issued = table.join(db, joining, now, self._issue, approved=not self.policy.approve)
                audit.note(db, now, Entry(actor, "enrolment.join", agent, _shown(before), _shown(found)))
                return found, issued

            found, issued = await self._store.write(work)
        self._count("joined" if issued else "waiting")
        log.info("enrolment.joined", agent=agent, peer=peer, state=found.state.value, site=found.site)
        self._tell(found)
        return Answer(found, issued)

    def challenge(self) -> str:
        """Make what an agent signs to renew."""
        return request.challenge(self._secret, self._clock.now_ns())

    async def renew(self, agent: str, challenge: str, signature: str, peer: str) -> Answer:
        """Give the holder of an agent's key a new certificate, whatever became of the one before. Raises EnrolmentRefused."""
        actor = Actor(agent, "agent", peer)
        async with self._judged("renew", actor):
            now = self._clock.now_ns()
            try:
                digest, until_ns = request.answered(challenge, self._secret, now)
                known = await self._proven(agent, challenge, signature)
            except EnrolmentRefused as error:
                await self._within(self.unproven, network(peer), str(error), error.hint)
                raise
            # Who waits for approval asks often, and nothing is signed or noted for it.
            if known.state is not State.PENDING:
                message = f"agent {agent!r} renewed its certificate again and again"
                hint = "its clock may be ahead: `telemetryx-agent doctor` on the host says so"
                await self._within(self.renewals, agent, message, hint)

            def work(db: Database) -> tuple[Enrolled, Issued | None]:
                before = table.find(db, agent)
                found, issued = table.renew(db, agent, digest, until_ns, now, self._issue)
                if issued is not None:
                    audit.note(db, now, Entry(actor, "enrolment.renew", agent, _shown(before), _shown(found)))
                return found, issued

            found, issued = await self._store.write(work)
        if issued is not None:
            self._count("renewed")
            log.info("enrolment.renewed", agent=agent, peer=peer, serial=issued.serial)
        return Answer(found, issued)

    # --- what operators do

    async def new_token(
        self,
        actor: Actor,
        *,
        site: str,
        agent: str,
        replace: bool,
        uses: int,
        lifetime_ns: int,
        author: str = "",
    ) -> tuple[str, Token]:
        """Make a token; return its text, which nobody can read again, and what is kept of it.

        `author` is in whose name a program asks: the audit log has who asked.
        """
        if agent:
            _name(agent)
        if replace and not (agent and uses == 1):
            raise EnrolmentRefused(
                "token",
                "a token that may take an agent's place is for that agent, and can be used once",
                "give --agent NAME, and no --uses",
            )
        text, digest = token.new(self.authority.fingerprint)
        now = self._clock.now_ns()
        made = Token(0, site, agent, replace, uses, 0, author or actor.name, now, now + lifetime_ns)

        def work(db: Database) -> Token:
            row = table.add_token(db, digest, made)
            audit.note(db, now, Entry(actor, "enrolment.token_add", str(row.id), None, _token_shown(row)))
            return row

        return text, await self._store.write(work)

    def line(self, text: str, row: Token) -> str:
        """Write what a person pastes on the host."""
        named = f" --name {row.agent}" if row.agent else ""
        taken = " --replace" if row.may_replace else ""
        return f"telemetryx-agent enroll {self.policy.url} --token {text}{named}{taken}"

    async def tokens(self, limit: int, before: int | None = None) -> list[Token]:
        """Return tokens, newest first."""
        return await self._store.read(lambda db: table.tokens(db, limit, before))

    async def revoke_token(self, number: int, actor: Actor) -> Token | None:
        """Let nobody use it any more."""
        now = self._clock.now_ns()

        def work(db: Database) -> Token | None:
            before, found = table.find_token(db, number), table.revoke_token(db, number, now)
            if before is not None and found is not None and before.revoked_ns is None:
                shown = _token_shown(before), _token_shown(found)
                audit.note(db, now, Entry(actor, "enrolment.token_revoke", str(number), *shown))
            return found

        return await self._store.write(work)

    async def agents(self, wanted: EnrolledQuery) -> list[Enrolled]:
        """Return enrolled agents by name."""
        return await self._store.read(lambda db: table.enrolled(db, wanted))

    async def find(self, agent: str) -> Enrolled | None:
        """Return one."""
        return await self._store.read(lambda db: table.find(db, agent))

    async def counts(self) -> dict[str, int]:
        """Count enrolled agents by state."""
        return await self._store.read(table.counts)

    async def shut_out(self) -> frozenset[str]:
        """Name the agents that were revoked or rejected."""
        return await self._store.read(table.shut_out)

    async def certificates(self, limit: int) -> list[Life]:
        """Return from when until when certificates last of agents that may come in, by name."""
        return await self._store.read(lambda db: table.certificates(db, limit))

    async def approve(self, agent: str, actor: Actor) -> Enrolled | None:
        """Let in one that waits; it fetches its certificate by itself."""
        return await self._decide("approve", agent, actor, table.approve)

    async def reject(self, agent: str, actor: Actor) -> Enrolled | None:
        """Shut one that waits out for good. Raises EnrolmentRefused when it doesn't wait."""
        return await self._decide("reject", agent, actor, table.reject)

    async def revoke(self, agent: str, actor: Actor) -> Enrolled | None:
        """Shut one out for good, and cut its live session."""
        return await self._decide("revoke", agent, actor, table.revoke)

    async def watch(self, stop: asyncio.Event) -> None:
        """Tell listeners what other processes on the store changed, also while this one couldn't read it."""
        known: dict[str, int] = {}
        seen = self._clock.now_ns()
        while not stop.is_set():
            now, since = self._clock.now_ns(), seen - OVERLAP_NS
            try:
                found = await self._store.read(lambda db, since=since: table.changed_since(db, since))  # type: ignore[misc]
            except StoreError as error:
                log.debug("enrolment.waits_for_store", error=str(error))
                await asyncio.sleep(WATCH_S)
                continue
            seen = now
            for one in found:
                if known.get(one.agent) != one.changed_ns:
                    self._tell(one)
            known = {one.agent: one.changed_ns for one in found}
            await asyncio.sleep(WATCH_S)

    # --- inside

    async def _proven(self, agent: str, challenge: str, signature: str) -> Enrolled:
        known = await self.find(agent)
        if known is None or not request.proven(known.public_key, agent, challenge, signature):
            # The same words: who has no key of ours learns no names.
            raise EnrolmentRefused(
                "signature",
                f"this isn't the key of agent {agent!r}",
                "enroll the host again: on the collector, `telemetryx enroll token --agent NAME --replace`",
            )
        return known

    async def _within(self, limit: Limit | None, key: str, message: str, hint: str) -> None:
        """Refuse what comes too often."""
        wait_s = 0.0 if limit is None else await limit.wait_s(key)
        if wait_s:
            raise EnrolmentRefused("too_often", message, hint, wait_s=wait_s)

    async def _decide(
        self, action: str, agent: str, actor: Actor, change: Callable[[Database, str, int], Enrolled | None]
    ) -> Enrolled | None:
        now = self._clock.now_ns()

        def work(db: Database) -> Enrolled | None:
            before, found = table.find(db, agent), change(db, agent, now)
            if found is not None and found != before:
                audit.note(db, now, Entry(actor, f"enrolment.{action}", agent, _shown(before), _shown(found)))
            return found

        found = await self._store.write(work)
        if found is not None:
            log.info("enrolment.decided", action=action, agent=agent, state=found.state.value, by=actor.name)
            self._tell(found)
        return found

    def _issue(self, agent: str, public_key: bytes) -> Issued:
        return self.authority.agent(agent, public_key, self._clock.now_ns(), self.policy.lifetime_ns)

    def _tell(self, one: Enrolled) -> None:
        for listener in self._listeners:
            listener(one)

    def _count(self, outcome: str) -> None:
        self.granted[outcome] = self.granted.get(outcome, 0) + 1

    @contextlib.asynccontextmanager
    async def _judged(self, action: str, actor: Actor) -> AsyncIterator[None]:
        """Note what isn't granted."""
        try:
            yield
        except EnrolmentRefused as error:
            self.refused[error.cause] = self.refused.get(error.cause, 0) + 1
            now = self._clock.now_ns()
            first = self._noted.first(now, error.cause, network(actor.peer))
            # What comes too often would fill the log as well.
            say = log.warning if first or not error.wait_s else log.debug
            say(
                "enrolment.refused",
                action=action,
                cause=error.cause,
                agent=actor.name,
                peer=actor.peer,
                reason=str(error),
            )
            if first:
                what = {"cause": error.cause, "reason": str(error)}
                entry = Entry(actor, f"enrolment.{action}_refused", actor.name, None, what)
                await self._store.write(lambda db: audit.note(db, now, entry))
            raise


def _shown(one: Enrolled | None) -> dict[str, object] | None:
    """Write an agent for the audit log."""
    if one is None:
        return None
    return {
        "state": one.state.value,
        "site": one.site,
        "fingerprint": hashlib.sha256(one.public_key).hexdigest(),
        "token_id": one.token_id,
        "expires_ns": one.expires_ns,
    }


def _token_shown(one: Token) -> dict[str, object]:
    """Write a token for the audit log."""
    return {
        "site": one.site,
        "agent": one.agent,
        "may_replace": one.may_replace,
        "uses": one.uses,
        "used": one.used,
        "author": one.author,
        "expires_ns": one.expires_ns,
        "revoked_ns": one.revoked_ns,
    }


def _name(agent: str) -> None:
    if not is_name(agent):
        raise EnrolmentRefused(
            "name",
            f"{agent[:80]!r} is no agent's name: {NAME_RULE}",
            "give the agent another name with --name",
        )
