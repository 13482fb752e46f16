"""Follows what any process commits to a shared store: one task reads on by cursor, and tells this process's live view and rules.

    ingest (our commits) ─▶ known, wake ┐
    other processes      ─▶ wake        ├▶ store.news(cursor) ─▶ subscribers, in the one order of the numbers
    nobody (a poll)      ─▶             ┘

A wake-up only shortens the wait. What was committed here is told from memory and not read again; while nobody listens
nothing is read at all. Where a process has the store to itself, ingest tells its subscribers directly.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol

import structlog

from telemetryx.errors import StoreError
from telemetryx.hot.interface import Wake
from telemetryx.store.alerts import Alert
from telemetryx.store.tables.follow import News
from telemetryx.types import Committed

log = structlog.get_logger(__name__)

POLL_S: Final = 1.0
"""Without a wake-up the store is asked this often."""
HELD_POLL_S: Final = 0.1
"""And this often while commits wait for an older transaction: its end wakes nobody."""
HELD_S: Final = 5.0
"""Commits that can't be shown for so long are worth a line in the log."""
MAX_READINGS: Final = 400_000
MAX_COMMITS: Final = 4_096
PAUSE_S: Final = 1.0


class FollowStore(Protocol):
    """What is read."""

    async def cursor(self) -> int:
        """Return the newest commit's number."""
        ...

    async def news(
        self, cursor: int, known: Mapping[int, Committed], *, data: bool, limit: int = 256
    ) -> News:
        """Return what is new after a cursor."""
        ...

    async def holder(self) -> str:
        """Say who keeps commits from being shown."""
        ...


OfCommit = Callable[[Committed, int], None]
"""Takes a commit, and the number after which it is the next one."""
OfAlerts = Callable[[Sequence[Alert]], Awaitable[None]]


class Follower:
    """Reads on for as long as it runs. Used on the event loop only."""

    def __init__(self, store: FollowStore, wake: Wake, monotonic: Callable[[], float]) -> None:
        """Begin at the newest commit, when `run` does."""
        self._store = store
        self._wake = wake
        self._monotonic = monotonic
        self._commits: list[OfCommit] = []
        self._alerts: list[OfAlerts] = []
        self._gaps: list[Callable[[int], None]] = []
        self._wanted: list[Callable[[], bool]] = []
        self._known: dict[int, Committed] = {}
        self._readings = 0
        self._told = -1
        self._held_since: float | None = None
        self._complained = False

    def subscribe(self, commits: OfCommit, wanted: Callable[[], bool]) -> None:
        """Tell of each commit, in order; nothing is read while nobody wants any. It must return at once."""
        self._commits.append(commits)
        self._wanted.append(wanted)

    def subscribe_alerts(self, alerts: OfAlerts) -> None:
        """Tell of alerts that changed, whichever process judged them."""
        self._alerts.append(alerts)

    def subscribe_gaps(self, gap: Callable[[int], None]) -> None:
        """Tell when commits were compacted before they were read here: up to this number some are missing."""
        self._gaps.append(gap)

    @property
    def held_s(self) -> float:
        """For how long commits have been waiting for an older transaction to end."""
        return 0.0 if self._held_since is None else self._monotonic() - self._held_since

    def committed(self, batch: Committed) -> None:
        """Take note of a commit of this process; it is told when its turn comes."""
        if any(wanted() for wanted in self._wanted):
            self._known[batch.cursor] = batch
            self._readings += len(batch.samples)
            while self._known and (self._readings > MAX_READINGS or len(self._known) > MAX_COMMITS):
                self._forget(next(iter(self._known)))
        self._wake.committed(batch.cursor)

    def _forget(self, number: int) -> None:
        gone = self._known.pop(number, None)
        self._readings -= 0 if gone is None else len(gone.samples)

    async def run(self, stop: asyncio.Event) -> None:
        """Follow until `stop` is set."""
        ending = asyncio.create_task(self._wake_at(stop), name="follow-stop")
        cursor: int | None = None
        try:
            while not stop.is_set():
                try:
                    if cursor is None:
                        cursor = self._told = await self._store.cursor()
                    wait, cursor = await self.step(cursor)
                except StoreError as error:
                    log.warning("follow_waits_for_store", error=str(error))
                    wait = PAUSE_S
                if wait:
                    await self._wake.changed(wait)
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.committed(0)

    async def step(self, cursor: int) -> tuple[float, int]:
        """Read on once; return how long to wait for more, and the new cursor."""
        data = any(wanted() for wanted in self._wanted)
        news = await self._store.news(cursor, self._known, data=data)
        if news.cursor < cursor:
            log.warning("follow_went_back", cursor=cursor, to=news.cursor)
        if news.skipped:
            log.warning("follow_skipped", cursor=cursor)
            for gap in self._gaps:
                gap(news.commits[0].cursor if news.commits else news.cursor)
        if news.skipped or news.cursor < cursor:
            self._told = -1
        for batch in news.commits:
            self._tell(batch)
        if not data:
            self._told = news.cursor
        for number in [number for number in self._known if number <= news.cursor]:
            self._forget(number)
        if news.alerts:
            for listener in self._alerts:
                await listener(news.alerts)
        await self._watch(news)
        if news.more:
            return 0.0, news.cursor
        return (HELD_POLL_S if news.held_back else POLL_S), news.cursor

    def _tell(self, batch: Committed) -> None:
        for subscriber in self._commits:
            try:
                subscriber(batch, self._told)
            except Exception:
                log.exception("follow_subscriber_failed", cursor=batch.cursor)
        self._told = batch.cursor

    async def _watch(self, news: News) -> None:
        """Notice when an older transaction keeps commits from being shown, and say whose it is."""
        if not news.held_back:
            if self._complained:
                log.info("commits_shown_again", after_s=round(self.held_s, 1))
            self._held_since, self._complained = None, False
            return
        if self._held_since is None:
            self._held_since = self._monotonic()
        if self.held_s > HELD_S and not self._complained:
            self._complained = True
            log.warning(
                "commits_held_back",
                by=await self._store.holder(),
                effect="what is committed meanwhile is stored, and shown and judged when that transaction ends",
            )
