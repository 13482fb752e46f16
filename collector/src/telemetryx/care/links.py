"""Remote care meets the live sessions of this process: each hears what its agent should have and is asked, and says what came of it.

    a session opens ─▶ enter ─▶ the wanted configuration, if the agent has another
    the store changes (looked at each second, at once for changes made here) ─▶ the same for all; requests that wait are claimed and sent
    state ─▶ noted together once a second; answer ─▶ checked, written piece by piece

All that is sent is decided by one task (`watch`), so that no two things race to a session. What comes in is bounded: one state an
agent waits to be written, `MAX_ASKED` answers are under way, each with less than `PIECE` bytes in memory.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, Protocol

import structlog

from telemetryx.bell import Bell
from telemetryx.clock import Clock
from telemetryx.errors import StoreError
from telemetryx.store.care import (
    MAX_ANSWER,
    MAX_OPEN,
    MAX_PART,
    Config,
    ConfigState,
    Phase,
    Request,
    RequestState,
    Standing,
)
from telemetryx.store.tables import pushed, requests
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.rules import Lender

log = structlog.get_logger(__name__)

WATCH_S: Final = 1.0
PIECE: Final = 1 << 20
"""Bytes of an answer that are written at once,"""
LINGER_S: Final = 10.0
"""or what has come in so long: on a slow link it is seen to come, and isn't taken for silent."""
MAX_ASKED: Final = 16
"""Requests of this process that are being answered at one time."""
MAX_UNDER_WAY: Final = 32 << 20
"""Bytes of configurations that sessions are writing at one time: a change for a whole fleet goes out in portions."""
MAX_TEXTS: Final = 8
"""Texts of configurations in memory."""
SILENT_S: Final = 900.0
"""An answer of which nothing came for so long is given up here; in the store it has failed before."""
NOTHING: Final = sha256(b"").digest()
"""The digest of the empty text, which takes back what was pushed."""
CAUSES: Final = ("malformed", "foreign", "out_of_order", "too_large")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an answer, as it came."""

    mark: bytes
    offset: int
    data: bytes
    done: bool
    error: str


class Line(Protocol):
    """One live session, as far as it can be told something."""

    def configure(self, version: int, toml: str, digest: bytes) -> None:
        """Send a configuration; version 0 takes back what was pushed."""
        ...

    def ask(self, request: Request) -> None:
        """Send a request."""
        ...


@dataclass(eq=False, slots=True)
class _Answer:
    """An answer under way."""

    request: int
    at: float
    """When anything last came of it, and"""
    kept_at: float
    """when that was last written; both in seconds of the monotonic clock."""
    came: int = 0
    written: int = 0
    waiting: bytearray = field(default_factory=bytearray)


@dataclass(eq=False, slots=True)
class Guest:
    """One live session and its agent. `has` is what it has as far as we know: (version, digest), by its hello and what was sent since."""

    agent: str
    labels: Mapping[str, str]
    said: ConfigState
    line: Line
    has: tuple[int, bytes] = (0, b"")
    answers: dict[bytes, _Answer] = field(default_factory=dict)
    under_way: int = 0
    """Bytes of the configuration that its session has yet to write."""

    @property
    def takes(self) -> bool:
        """Whether it takes configurations. One that declines them is told, and says so."""
        return self.said.phase is not Phase.UNSUPPORTED


class Links:
    """The live sessions of this process. app.py owns `watch`; the gateway calls the rest."""

    def __init__(self, store: Lender, clock: Clock) -> None:
        """Know nobody yet."""
        self._store = store
        self._clock = clock
        self._bell = Bell()
        self._guests: dict[str, list[Guest]] = {}
        self._fresh: list[Guest] = []
        self._notes: dict[str, ConfigState] = {}
        self._standing = Standing()
        self._number = -1
        self._look = True
        self._texts: OrderedDict[int, str] = OrderedDict()
        self._under_way = 0
        self.refused = dict.fromkeys(CAUSES, 0)
        """Frames of agents that were not taken, by cause."""

    # --- what the gateway calls

    def enter(self, agent: str, labels: Mapping[str, str], said: ConfigState, line: Line) -> Guest:
        """Take care of a session that was greeted; `leave` ends it."""
        guest = Guest(agent, labels, said, line, (said.version, said.digest) if said.version else (0, b""))
        # While nobody was here, nobody looked.
        self._look = self._look or not self._guests
        self._guests.setdefault(agent, []).append(guest)
        self._fresh.append(guest)
        self._note(said)
        self._bell.ring()
        return guest

    async def leave(self, guest: Guest) -> None:
        """Let go of a session that ended; what it was asked and hasn't answered has failed."""
        self.written(guest)
        there = self._guests.get(guest.agent, [])
        if guest in there:
            there.remove(guest)
        if not there:
            self._guests.pop(guest.agent, None)
        left, guest.answers = list(guest.answers.values()), {}
        for one in left:
            # In a store that can't be written it fails later, for its silence.
            with contextlib.suppress(StoreError):
                await self._finish(one, RequestState.FAILED, "the link ended before the agent had answered")

    def said(self, guest: Guest, state: ConfigState) -> None:
        """Keep what an agent said of its configuration; only its newest is written."""
        guest.said = state
        self._note(state)

    def written(self, guest: Guest) -> None:
        """Hear that a session has written the configuration that it was given, or ended: there is room for the next."""
        full = self._under_way >= MAX_UNDER_WAY
        self._under_way -= guest.under_way
        guest.under_way = 0
        if full and self._fresh:
            self._bell.ring()

    def reject(self, guest: Guest, cause: str, why: str) -> None:
        """Count a frame that isn't taken."""
        self.refused[cause] += 1
        log.debug("care.frame_refused", agent=guest.agent, cause=cause, reason=why)

    async def answered(self, guest: Guest, part: Part) -> None:
        """Take a part of an answer. One that nobody asked this session for is counted and dropped."""
        one = guest.answers.get(part.mark)
        if one is None:
            self.reject(guest, "foreign", "an answer to nothing that was asked in this session")
            return
        wrong = _wrong(one, part)
        if wrong is not None:
            cause, why = wrong
            self.reject(guest, cause, why)
            guest.answers.pop(part.mark, None)
            await self._safely(self._finish(one, RequestState.FAILED, f"its answer wasn't taken: {why}"))
            return
        one.at = self._clock.mono_ns() / 1e9
        one.came += len(part.data)
        one.waiting += part.data
        if part.done:
            guest.answers.pop(part.mark, None)
            await self._safely(self._done(one, part.error))
        elif (
            len(one.waiting) >= PIECE or (one.waiting and one.at - one.kept_at >= LINGER_S)
        ) and not await self._safely(self._write(one)):
            guest.answers.pop(part.mark, None)

    # --- what changes here

    def changed(self) -> None:
        """Look at the store at once."""
        self._look = True
        self._bell.ring()

    # --- the task

    async def watch(self, stop: asyncio.Event) -> None:
        """Send and write until `stop` is set; also while the store can't be read it goes on."""
        self._look = True
        ending = asyncio.create_task(self._ring_at(stop))
        try:
            await self._go_on(stop)
        finally:
            ending.cancel()
        with contextlib.suppress(StoreError):
            await self._flush()

    async def _ring_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._bell.ring()

    async def _go_on(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        looked = -WATCH_S
        while not stop.is_set():
            try:
                if self._look or loop.time() - looked >= WATCH_S:
                    self._look, looked = False, loop.time()
                    await self._flush()
                    await self._read()
                await self._meet()
            except StoreError as error:
                log.debug("care.waits_for_store", error=str(error))
                # What was to be done is found again by the next look.
                self._number = -1
            self._give_up()
            await self._bell.heard(WATCH_S)

    async def _read(self) -> None:
        """Look what changed: configurations by their number, and requests that wait."""
        if not self._guests:
            return
        known = self._number

        def work(db: Database) -> tuple[int, Standing | None, list[Request]]:
            number = pushed.change(db)
            return (
                number,
                pushed.standing(db) if number != known else None,
                requests.waiting(db, MAX_OPEN),
            )

        number, standing, waiting = await self._store.read(work)
        if standing is not None:
            self._standing = standing
            self._fresh = [guest for there in self._guests.values() for guest in there]
            self._number = number
        await self._ask(waiting)

    async def _meet(self) -> None:
        """Send those that came, or all after a change, what they should have and don't, as long as there is room."""
        if self._number < 0:
            return
        while self._fresh and self._under_way < MAX_UNDER_WAY:
            guest = self._fresh[-1]
            await self._configure(guest)
            # Others may have come meanwhile.
            self._fresh.remove(guest)

    async def _configure(self, guest: Guest) -> None:
        if not guest.takes or guest not in self._guests.get(guest.agent, ()):
            return
        wanted = self._standing.wanted(guest.agent, guest.labels)
        if not _needs(guest, wanted):
            return
        if wanted is None:
            guest.has = (0, b"")
            self.written(guest)
            guest.line.configure(0, "", NOTHING)
            return
        text = await self._text(wanted)
        guest.has = (wanted.version, wanted.digest)
        self._under_way += wanted.size - guest.under_way
        guest.under_way = wanted.size
        guest.line.configure(wanted.version, text, wanted.digest)
        log.info("care.sent", agent=guest.agent, version=wanted.version)

    async def _text(self, config: Config) -> str:
        if (kept := self._texts.get(config.version)) is not None:
            self._texts.move_to_end(config.version)
            return kept
        text = await self._store.read(lambda db: pushed.text(db, config.version)) or ""
        self._texts[config.version] = text
        while len(self._texts) > MAX_TEXTS:
            self._texts.popitem(last=False)
        return text

    async def _ask(self, waiting: Sequence[Request]) -> None:
        """Claim and send what waits for agents that are here; of two sessions of one agent the newer is asked."""
        room = MAX_ASKED - sum(len(guest.answers) for there in self._guests.values() for guest in there)
        here = [request for request in waiting if request.agent in self._guests]
        unable = [one.id for one in here if not self._guests[one.agent][-1].said.requests]
        able = [one for one in here if self._guests[one.agent][-1].said.requests][: max(0, room)]
        if not unable and not able:
            return
        now = self._clock.now_ns()

        def work(db: Database) -> list[int]:
            for number in unable:
                requests.finish(db, number, RequestState.FAILED, "the agent takes no requests", now)
            return requests.claim(db, [one.id for one in able], now)

        claimed = set(await self._store.write(work))
        at = self._clock.mono_ns() / 1e9
        for request in able:
            there = self._guests.get(request.agent)
            if request.id not in claimed:
                continue
            if not there:
                # It left meanwhile: the request fails, as those of a session that ends do.
                gone = _Answer(request.id, at, at)
                await self._finish(gone, RequestState.FAILED, "the link ended before the agent had answered")
                continue
            there[-1].answers[request.mark] = _Answer(request.id, at, at)
            there[-1].line.ask(request)

    async def _flush(self) -> None:
        """Write what agents said since the last time."""
        notes, self._notes = self._notes, {}
        if not notes:
            return
        try:
            await self._store.write(lambda db: pushed.note(db, list(notes.values())))
        except StoreError:
            for one in notes.values():
                self._note(self._notes.get(one.agent, one))
            raise

    def _note(self, state: ConfigState) -> None:
        """Keep what an agent said until it is written: the newest of its newest session."""
        before = self._notes.get(state.agent)
        if before is None or before.session <= state.session:
            self._notes[state.agent] = state

    def _give_up(self) -> None:
        """Forget answers of which nothing came for long."""
        limit = self._clock.mono_ns() / 1e9 - SILENT_S
        for there in self._guests.values():
            for guest in there:
                for mark in [mark for mark, one in guest.answers.items() if one.at < limit]:
                    del guest.answers[mark]

    # --- answers

    async def _done(self, one: _Answer, error: str) -> None:
        if error:
            await self._finish(one, RequestState.FAILED, error)
            return
        if not one.waiting or await self._write(one):
            await self._finish(one, RequestState.DONE, "")

    async def _write(self, one: _Answer) -> bool:
        data, one.waiting = bytes(one.waiting), bytearray()
        at, now = one.written, self._clock.now_ns()
        one.written += len(data)
        one.kept_at = one.at
        return await self._store.write(lambda db: requests.add_piece(db, one.request, at, data, now))

    async def _finish(self, one: _Answer, state: RequestState, reason: str) -> None:
        now = self._clock.now_ns()
        await self._store.write(lambda db: requests.finish(db, one.request, state, reason, now))

    async def _safely(self, work: Coroutine[Any, Any, object]) -> bool:
        """Do it; False when the store can't: the request then fails for its silence."""
        try:
            result = await work
        except StoreError as error:
            log.warning("care.answer_not_kept", error=str(error))
            return False
        return result is not False


def _needs(guest: Guest, wanted: Config | None) -> bool:
    """Tell whether an agent must be sent what it should have. The same text is sent again only to try it again."""
    want = (0, b"") if wanted is None else (wanted.version, wanted.digest)
    if want == guest.has:
        return False
    return want[1] != guest.has[1] or guest.said.phase is Phase.FAILED


def _wrong(one: _Answer, part: Part) -> tuple[str, str] | None:
    """Say why a part can't be the next of an answer."""
    if len(part.data) > MAX_PART:
        return "too_large", f"a part of {len(part.data):,} bytes; at most {MAX_PART:,} are taken"
    if part.offset != one.came:
        return "out_of_order", f"a part at {part.offset} came where {one.came} was expected"
    if one.came + len(part.data) > MAX_ANSWER:
        return "too_large", f"it is longer than {MAX_ANSWER:,} bytes"
    return None
