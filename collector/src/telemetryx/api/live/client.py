"""One WebSocket client: reads its subscription, resumes it after a cursor, and sends at the pace it can take.

Two tasks a client: `_read` takes messages, `_write` is the only one that sends. Everything that waits is bounded
(pending.py for samples, a deque for messages), so that a client that stops reading costs nothing but its own data.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import structlog
from aiohttp import WSMsgType, web
from pydantic import ValidationError

from telemetryx.api import columns_json
from telemetryx.api.live.fleet import Fleet
from telemetryx.api.live.hub import event_messages
from telemetryx.api.live.pending import Pending, Wanted, highest
from telemetryx.api.models import LiveRequest, Subscribe
from telemetryx.api.route import refusal
from telemetryx.api.world import World
from telemetryx.errors import CursorGone, SelectorError, StoreUnavailable, TelemetryXError
from telemetryx.store import selector
from telemetryx.types import Committed, Matcher

log = structlog.get_logger(__name__)

#: Messages that may wait for one client; the oldest is dropped.
MAX_MESSAGES: Final = 1_000
#: Commits that a resume may read back; an older cursor is a gap, and the client asks query_range.
MAX_RESUME: Final = 2_000
#: Commits that are decoded at once for a resume: each may hold a hundred thousand samples.
RESUME_PAGE: Final = 16
MAX_SERIES: Final = 2_000
#: A client that takes no message for so long is gone.
SEND_TIMEOUT_S: Final = 15.0
#: A client that gets nothing is told the newest cursor this often, so that a resume stays short.
QUIET_S: Final = 10.0
#: How often a selector is asked again for series that are new.
REFRESH_S: Final = 5.0
_FIELDS: Final = (*LiveRequest.model_fields, *(f"subscribe.{name}" for name in Subscribe.model_fields))


class Client:
    """One connection, from its upgrade to its end."""

    def __init__(self, world: World, fleet: Fleet, socket: web.WebSocketResponse) -> None:
        """Wait for the first request; until then nothing is sent."""
        self._world = world
        self._fleet = fleet
        self._socket = socket
        self._wanted = Subscribe()
        self._ids = Wanted()
        self._matchers: Sequence[Matcher] | None = None
        self._pending = Pending()
        self._messages: deque[dict[str, Any]] = deque(maxlen=MAX_MESSAGES)
        self._wake = asyncio.Event()
        self._period_s = 1.0
        self._listening = False
        self._watching = False
        self._lost_messages = 0
        self._refreshed = 0.0
        self._told = 0.0
        self._told_cursor = 0
        self._flushed = 0.0
        # Events that come while older ones are read back, so that each is sent once and in order.
        self._held: deque[tuple[int, dict[str, Any]]] | None = None
        # The highest id that the selector was asked about; a commit above it may hold series that match.
        self._highest = 0
        self._unmet = False
        # Whether a commit waits that surely has something to send.
        self._ripe = False
        # Up to here a resume has read commits back. Where several processes share a store, this one may be told of them later.
        self._replayed = 0

    async def run(self) -> None:
        """Serve the client until it leaves or can't keep up."""
        self._world.hub.join(self)
        writer = asyncio.create_task(self._write(), name="live-writer")
        try:
            await self._read()
        finally:
            self._world.hub.leave(self)
            self._look_at_fleet(wanted=False)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    # --- what the hub tells

    def offer(self, committed: Committed) -> None:
        """Take a commit if it holds something for this client; what it didn't ask for costs it no message and no pace."""
        if committed.cursor <= self._replayed:
            return
        self._replayed = 0
        known = self._listening and self._ids.touched(committed)
        unmet = self._listening and self._matchers is not None and highest(committed) > self._highest
        if known or unmet:
            self._pending.offer(committed)
            self._ripe |= known
            self._unmet |= unmet
            self._wake.set()
            return
        self._pending.cursor = max(self._pending.cursor, committed.cursor)
        if self._quiet() or self._stale():
            self._wake.set()

    def gap(self, cursor: int) -> None:
        """Say that something was missed, as after a resume that came too late: the client asks query_range."""
        if self._listening:
            self._say({"type": "resumed", "from": cursor, "gap": True})

    def tell(self, kind: str, message: dict[str, Any], commit: int = 0) -> None:
        """Take a message of a kind that was asked for."""
        wanted = {"event": self._wanted.events, "alert": self._wanted.alerts, "agents": self._wanted.agents}
        if not wanted[kind]:
            return
        if kind == "event" and commit <= self._replayed:
            return
        if kind == "event" and self._held is not None:
            self._held.append((commit, message))
        else:
            self._say(message)

    # --- the client's side

    async def _read(self) -> None:
        async for message in self._socket:
            if message.type is not WSMsgType.TEXT:
                self._say(_error("bad_request", "only text messages are understood", "send JSON as text"))
                continue
            try:
                request = LiveRequest.model_validate_json(message.data)
                await self._subscribe(request)
            except ValidationError as error:
                said = refusal(error, "field", _FIELDS, "the message")
                hint = said.hint or "docs/reference/http-api.md shows the message"
                self._say(_error(said.code, said.message, hint))
            except SelectorError as error:
                self._say(_error("bad_request", f"match: {error}", 'write e.g. temperature{site="plant1"}'))
            except TelemetryXError as error:
                self._say(_error("unavailable", str(error), "subscribe again in a moment"))

    async def _subscribe(self, request: LiveRequest) -> None:
        """Replace the subscription. Commits are collected from here on, so that none is missed while older ones are read."""
        wanted = request.subscribe
        matchers = selector.parse(wanted.match) if wanted.match is not None else None
        self._listening = True
        self._held = deque(maxlen=MAX_MESSAGES) if request.cursor is not None else None
        self._told = asyncio.get_running_loop().time()
        self._pending = Pending(cursor=max(self._pending.cursor, self._world.hub.cursor))
        self._matchers = matchers
        self._ids = Wanted(wanted.series)
        self._highest, self._unmet, self._ripe = 0, False, False
        self._replayed = 0
        self._wanted = wanted
        self._period_s = 1.0 / request.max_hz
        try:
            await self._refresh()
            self._look_at_fleet(wanted=wanted.agents)
            if request.cursor is not None:
                await self._resume(request.cursor)
        finally:
            self._held = None
        self._wake.set()

    async def _resume(self, cursor: int) -> None:
        """Put what was committed after the cursor before what came meanwhile; say whether something is missing between."""
        async with self._in_time():
            newest = await self._world.store.cursor()
            gap = cursor > newest or await self._world.store.count_after(cursor, MAX_RESUME + 1) > MAX_RESUME
        merged = Pending()
        missed: deque[dict[str, Any]] = deque(maxlen=MAX_MESSAGES)
        at = cursor
        try:
            while not gap and at < newest:
                async with self._in_time():
                    page = await self._world.store.read_after(at, RESUME_PAGE)
                if not page:
                    break
                for item in page:
                    merged.offer(item)
                    if self._wanted.events:
                        missed.extend(event_messages(item))
                at = page[-1].cursor
        except CursorGone:
            gap, merged = True, Pending()
            missed.clear()
        merged.cursor = max(newest, self._pending.cursor)
        for item in self._pending.commits:
            if item.cursor > at or gap:
                merged.offer(item)
        self._pending = merged
        self._replayed = 0 if gap else at
        # Series may have come between the look at the selector and the end of reading.
        self._unmet = self._matchers is not None and bool(merged.commits)
        self._say({"type": "resumed", "from": cursor, "gap": gap or merged.dropped > 0})
        held, self._held = self._held, None
        for message in (*missed, *(message for commit, message in held or () if gap or commit > at)):
            self._say(message)

    async def _refresh(self) -> None:
        """Ask which series match now: new ones appear with new devices."""
        self._refreshed = asyncio.get_running_loop().time()
        if self._matchers is None:
            return
        async with self._in_time():
            found = await self._world.store.series(self._matchers, limit=MAX_SERIES + 1)
        if len(found) > MAX_SERIES:
            self._say(
                _error(
                    "too_many_series",
                    f"more than {MAX_SERIES} series match",
                    f"only the first {MAX_SERIES} are sent",
                )
            )
        self._ids = Wanted((*self._wanted.series, *(row.id for row in found[:MAX_SERIES])))

    @contextlib.asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """Wait for one answer of the store no longer than a query may: `_write` would take it for a client that is slow."""
        seconds = self._world.limits.query_timeout_s
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise StoreUnavailable(f"the store said nothing for {seconds:g} s", "io") from error

    def _look_at_fleet(self, *, wanted: bool) -> None:
        if wanted and not self._watching:
            self._messages.append(self._fleet.watch())
        elif self._watching and not wanted:
            self._fleet.unwatch()
        self._watching = wanted

    # --- our side

    def _say(self, message: dict[str, Any]) -> None:
        if len(self._messages) == MAX_MESSAGES:
            self._lost_messages += 1
        self._messages.append(message)
        self._wake.set()

    async def _write(self) -> None:
        """Send messages at once and samples at most every period; close a client that takes nothing."""
        loop = asyncio.get_running_loop()
        try:
            while not self._socket.closed:
                if self._messages:
                    await self._send(self._resumable(self._messages.popleft()))
                elif self._lost_messages:
                    lost, self._lost_messages = self._lost_messages, 0
                    await self._send(
                        _error(
                            "too_slow", f"{lost} messages were dropped", "read faster, or load the page again"
                        )
                    )
                elif self._held is None and self._pending.commits:
                    last = self._flushed if self._ripe else max(self._flushed, self._refreshed)
                    if (early := last + self._period_s - loop.time()) > 0:
                        await self._wait(early)
                    else:
                        await self._flush()
                elif self._held is None and self._quiet():
                    await self._flush()
                elif self._stale():
                    # Not before samples are sent: as a rule it finds nothing.
                    await self._look_again()
                else:
                    await self._wait(None)
        except (TimeoutError, ConnectionError):
            log.info("live_client_too_slow", peer=str(self._socket.get_extra_info("peername")))
            await self._socket.close(code=1013, message=b"too slow")

    def _resumable(self, message: dict[str, Any]) -> dict[str, Any]:
        """Let an event's cursor not pass samples that wait for their turn: who resumes there gets them, and the event once more."""
        if message["type"] != "event" or not self._samples() or not self._pending.commits:
            return message
        return message | {"cursor": min(message["cursor"], self._pending.first - 1)}

    async def _wait(self, seconds: float | None) -> None:
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    def _samples(self) -> bool:
        """Whether samples were asked for at all."""
        return bool(self._ids) or self._matchers is not None

    def _quiet(self) -> bool:
        """Whether it is time to tell a client the cursor that has heard nothing for long."""
        return (
            self._listening
            and self._samples()
            and self._pending.cursor > self._told_cursor
            and asyncio.get_running_loop().time() - self._told > QUIET_S
        )

    def _stale(self) -> bool:
        """Whether the selector was last asked so long ago that series of lower numbers may have come since."""
        return (
            self._listening
            and self._matchers is not None
            and asyncio.get_running_loop().time() - self._refreshed > REFRESH_S
        )

    async def _flush(self) -> None:
        # What comes while the store is asked for new series waits for the next time: it may hold newer ones.
        ready, self._pending = self._pending, Pending(cursor=self._pending.cursor)
        unmet, self._unmet, self._ripe = self._unmet, False, False
        if unmet:
            wanted, met = self._wanted, max(map(highest, ready.commits), default=0)
            await self._look_again()
            if self._wanted is not wanted:
                return
            # Not before: what comes while the store is asked is of series that aren't known to be wanted yet.
            self._highest = met
        series, dropped = ready.take(self._ids)
        self._world.hub.dropped += dropped
        if series or dropped or self._quiet():
            self._told = self._flushed = asyncio.get_running_loop().time()
            self._told_cursor = ready.cursor
            await self._send(
                {"type": "samples", "cursor": ready.cursor, "series": series, "dropped": dropped}
            )

    async def _look_again(self) -> None:
        try:
            await self._refresh()
        except TelemetryXError as error:
            log.warning("live_refresh_failed", error=str(error))

    async def _send(self, message: dict[str, Any]) -> None:
        text = columns_json.dumps(message).decode()
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await self._socket.send_str(text)


def _error(code: str, message: str, hint: str) -> dict[str, Any]:
    return {"type": "error", "error": {"code": code, "message": message, "hint": hint}}
