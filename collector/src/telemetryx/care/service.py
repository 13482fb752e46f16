"""What people do for agents from afar: push configurations and take them back, ask for another log level and for diagnostics.

Each change is in the audit log, in its own transaction. It is told to `links.py` of this process at once; those of other
processes on the store look each second.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from telemetryx.care.check import check
from telemetryx.care.reach import Reach, judge, reach
from telemetryx.clock import Clock
from telemetryx.store.audit import Actor, Entry
from telemetryx.store.care import (
    CareRefused,
    Config,
    Kind,
    Known,
    Request,
    Stage,
    Standing,
    Target,
    matchers,
)
from telemetryx.store.enrolment import State
from telemetryx.store.tables import audit, enrolment, pushed, requests
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.rules import Lender

log = structlog.get_logger(__name__)

COLLECTOR: Final = Actor("collector", "collector")
PATIENCE_NS: Final = 600_000_000_000
"""An agent that was asked has so long until its answer begins, and between two parts of it: links are slow, and fresh readings go first."""
MAX_FORGOTTEN: Final = 64
"""Pieces of old answers that one round deletes at most."""


@dataclass(frozen=True, slots=True)
class Push:
    """A configuration that somebody wants to push."""

    toml: str
    target: Target
    note: str = ""
    canary: str = ""
    """How many agents get it first, as a number or a percentage; "" sends it to all at once."""


@dataclass(frozen=True, slots=True)
class Care:
    """Remote care, in the store."""

    store: Lender
    clock: Clock
    told: Callable[[], None] = lambda: None
    """Called after each change: live sessions needn't wait for the next look."""
    aside: Callable[[Callable[[str], None], str], Awaitable[None]] = asyncio.to_thread
    """How to do what takes long: not on the loop, where there is one."""

    # --- configurations

    async def check(self, push: Push) -> Reach:
        """Say what pushing it would do, and do nothing. Raises CareRefused."""
        await self._checked(push)

        def work(db: Database) -> Reach:
            _hears(db, push.target.agent)
            return reach(push.target, push.canary, pushed.standing(db), pushed.known(db))

        return await self.store.read(work)

    async def push(self, push: Push, actor: Actor) -> tuple[Config, Reach]:
        """Want it at those whom it is for, from now on. Raises CareRefused."""
        await self._checked(push)
        return await self._add(push, actor, "config.push")

    async def push_again(self, version: int, canary: str, actor: Actor) -> tuple[Config, Reach]:
        """Push an old one anew, as the newest, to whom it was for. Raises CareRefused."""

        def old(db: Database) -> tuple[Config | None, str | None]:
            return pushed.find(db, version), pushed.text(db, version)

        before, text = await self.store.read(old)
        if before is None or text is None:
            raise _no(version)
        return await self._add(Push(text, before.target, before.note, canary), actor, "config.push_again")

    async def take_back(self, version: int, actor: Actor) -> Config:
        """Want it nowhere any more: its agents get what is next for them. Raises CareRefused."""
        now = self.clock.now_ns()

        def work(db: Database) -> Config | None:
            before = pushed.find(db, version)
            found = pushed.take_back(db, version, now)
            if before is not None and found is not None and before.taken_back_ns is None:
                audit.note(
                    db, now, Entry(actor, "config.take_back", str(version), _shown(before), _shown(found))
                )
            return found

        found = await self.store.write(work)
        if found is None:
            raise _no(version)
        log.info("care.taken_back", version=version, by=actor.name)
        self.told()
        return found

    async def configs(self, limit: int, before: int | None = None) -> list[Config]:
        """Return them, newest first."""
        return await self.store.read(lambda db: pushed.page(db, limit, before))

    async def config(self, version: int) -> tuple[Config, str]:
        """Return one with its text. Raises CareRefused."""

        def work(db: Database) -> tuple[Config | None, str | None]:
            return pushed.find(db, version), pushed.text(db, version)

        found, text = await self.store.read(work)
        if found is None or text is None:
            raise _no(version)
        return found, text

    async def states(self) -> list[tuple[Known, Config | None]]:
        """Return every agent with what it should have."""

        def work(db: Database) -> list[tuple[Known, Config | None]]:
            standing = pushed.standing(db)
            return [(one, standing.wanted(one.agent, one.labels)) for one in pushed.known(db)]

        return await self.store.read(work)

    async def state(self, agent: str) -> tuple[Known, Config | None] | None:
        """Return one agent with what it should have; None when there is no such agent."""

        def work(db: Database) -> tuple[Known, Config | None] | None:
            found = pushed.known(db, agent)
            if not found:
                return None
            return found[0], pushed.standing(db).wanted(found[0].agent, found[0].labels)

        return await self.store.read(work)

    async def counts(self) -> dict[str, int]:
        """Count agents by what they said last of their configuration."""
        return await self.store.read(pushed.counts)

    # --- requests

    async def ask(
        self, agent: str, kind: Kind, args: Mapping[str, object], wait_ns: int, actor: Actor
    ) -> Request:
        """Ask an agent for something: now, or when it is connected within a time. Raises CareRefused."""
        now = self.clock.now_ns()
        mark = os.urandom(16)

        def work(db: Database) -> Request:
            _hears(db, agent)
            for known in pushed.known(db, agent):
                if known.connected and known.said is not None and not known.said.requests:
                    raise CareRefused(
                        f"agent {agent!r} takes no requests",
                        "upgrade it, or set `requests = true` in `[remote]` of its configuration",
                        conflict=True,
                    )
            made = requests.add(db, mark, agent, kind, args, actor.name, now, now + wait_ns)
            audit.note(
                db, now, Entry(actor, f"agent.{kind.value}", agent, None, {"request_id": made.id, **args})
            )
            return made

        made = await self.store.write(work)
        log.info("care.asked", agent=agent, kind=kind.value, request=made.id, by=actor.name)
        self.told()
        return made

    async def request(self, number: int) -> Request:
        """Return one. Raises CareRefused."""
        found = await self.store.read(lambda db: requests.find(db, number))
        if found is None:
            raise CareRefused(f"there is no request {number}", "each is kept for 24 hours", missing=True)
        return found

    async def requests(self, agent: str | None, limit: int) -> list[Request]:
        """Return requests, newest first."""
        return await self.store.read(lambda db: requests.page(db, agent, limit))

    async def piece(self, number: int, after: int) -> tuple[int, bytes] | None:
        """Return a piece of an answer, and where it begins; None behind the last."""
        return await self.store.read(lambda db: requests.piece(db, number, after))

    # --- behind it all, in one process of several

    async def upkeep(self) -> bool:
        """Decide canaries, end requests that nobody answers, delete what is past its time; True when there is more."""
        await self._decide()
        now = self.clock.now_ns()

        def idle(db: Database) -> tuple[bool, bool]:
            return requests.overdue(db, now, PATIENCE_NS), requests.expired(db, now)

        overdue, expired = await self.store.read(idle)
        if overdue:
            await self.store.write(lambda db: requests.lapse(db, now, PATIENCE_NS))
        for _ in range(MAX_FORGOTTEN if expired else 0):
            if not await self.store.write(lambda db: requests.forget(db, now)):
                return False
        return expired

    async def _decide(self) -> None:
        def look(db: Database) -> tuple[Standing, list[Known]]:
            return (pushed.standing(db), pushed.known(db)) if pushed.trying(db) else (Standing(), [])

        standing, agents = await self.store.read(look)
        for config in standing.configs:
            if config.stage is not Stage.CANARY:
                continue
            verdict = judge(config, standing, agents)
            if verdict.stage is Stage.CANARY:
                continue
            action = "config.canary_stopped" if verdict.stage is Stage.STOPPED else "config.rolled_out"
            now = self.clock.now_ns()

            def work(
                db: Database,
                version: int = config.version,
                stage: Stage = verdict.stage,
                reason: str = verdict.reason,
                action: str = action,
                now: int = now,
            ) -> bool:
                before = pushed.find(db, version)
                if not pushed.decide(db, version, stage, reason):
                    return False
                audit.note(
                    db,
                    now,
                    Entry(COLLECTOR, action, str(version), _shown(before), _shown(pushed.find(db, version))),
                )
                return True

            if await self.store.write(work):
                log.info(
                    "care.canary", version=config.version, stage=verdict.stage.value, reason=verdict.reason
                )
                self.told()

    # --- inside

    async def _checked(self, push: Push) -> None:
        # Seconds for the worst TOML of this size: not on the loop.
        await self.aside(check, push.toml)
        if push.target.match:
            matchers(push.target.match)

    async def _add(self, push: Push, actor: Actor, action: str) -> tuple[Config, Reach]:
        now = self.clock.now_ns()

        def work(db: Database) -> tuple[Config, Reach]:
            _hears(db, push.target.agent)
            standing = pushed.standing(db)
            found = reach(push.target, push.canary, standing, pushed.known(db))
            before = next((one for one in standing.configs if one.target == push.target), None)
            made = pushed.add(db, push.toml, push.target, push.note, actor.name, found.first, now)
            audit.note(db, now, Entry(actor, action, str(made.version), _shown(before), _shown(made)))
            return made, found

        made, found = await self.store.write(work)
        log.info(
            "care.pushed",
            version=made.version,
            target=str(made.target),
            agents=len(found.agents),
            by=actor.name,
        )
        self.told()
        return made, found


def _hears(db: Database, agent: str) -> None:
    """Refuse what is for an agent that was revoked, and would wait for nothing. Raises CareRefused."""
    found = enrolment.find(db, agent) if agent else None
    if found is not None and found.state is State.REVOKED and not found.never_in:
        what, way_out = found.shut_out()
        raise CareRefused(f"{what}: nothing reaches it any more", way_out, conflict=True)


def _no(version: int) -> CareRefused:
    return CareRefused(f"there is no configuration {version}", "GET /api/v1/configs lists them", missing=True)


def _shown(one: Config | None) -> dict[str, object] | None:
    """Write one for the audit log: by its digest, for a text may hold what nobody should have written into it."""
    if one is None:
        return None
    return {
        "version": one.version,
        "for": str(one.target),
        "digest": one.digest.hex(),
        "bytes": one.size,
        "state": one.state,
        "reason": one.reason,
        "note": one.note,
        "first": sorted(one.canary),
        "taken_back_ns": one.taken_back_ns,
    }
