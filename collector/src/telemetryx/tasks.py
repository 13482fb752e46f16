"""Background work of the collector: each piece is owned here, tried again with growing pauses, visible when it fails, and joined.

A piece of work is a coroutine function that takes an event and runs until that is set, or until it is cancelled. One that
ends or raises before is logged, counted, and started again; meanwhile its state says why the part isn't ready.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from telemetryx.errors import StoreError

log = structlog.get_logger(__name__)

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 30.0
#: A run that lasted longer than this begins again with the first pause.
SOUND_S: Final = 60.0

Work = Callable[[asyncio.Event], Awaitable[None]]


@dataclass(slots=True)
class State:
    """How one piece of work is doing. `reason` is empty while it runs."""

    name: str
    reason: str = ""
    failures: int = 0
    stop: asyncio.Event = field(default_factory=asyncio.Event)


class Tasks:
    """The background work of one process."""

    def __init__(self) -> None:
        """Own nothing yet."""
        self.states: dict[str, State] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def spawn(self, name: str, work: Work) -> None:
        """Run `work` until `end` or `join`, again and again when it fails."""
        state = self.states[name] = State(name)
        self._tasks[name] = asyncio.create_task(self._keep(state, work), name=name)

    def every(
        self,
        name: str,
        seconds: float,
        work: Callable[[], Awaitable[bool]],
        under: Callable[[Work], Work] = lambda work: work,
    ) -> None:
        """Call `work` each so many seconds; at once again while it returns True (there is more to do).

        `under` puts the whole of it under a condition (a lease).
        """

        async def loop(stop: asyncio.Event) -> None:
            while not stop.is_set():
                if await work():
                    await asyncio.sleep(0)
                else:
                    await asyncio.sleep(seconds)

        self.spawn(name, under(loop))

    async def end(self, name: str, grace_s: float) -> None:
        """Tell one piece to stop, give it time to finish what it has, then cancel it."""
        task = self._tasks.pop(name, None)
        if task is None:
            return
        self.states[name].stop.set()
        _, still = await asyncio.wait([task], timeout=grace_s)
        if still:
            log.warning("task_cut_short", task=name, after_s=grace_s)
        await self._cancel([task])

    async def join(self) -> None:
        """Cancel what still runs, newest first, and wait for it."""
        tasks = list(reversed(self._tasks.values()))
        self._tasks.clear()
        await self._cancel(tasks)

    @staticmethod
    async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, state: State, work: Work) -> None:
        pause = FIRST_PAUSE_S
        loop = asyncio.get_running_loop()
        while not state.stop.is_set():
            begun = loop.time()
            recovery = loop.call_later(pause + 1, self._recovered, state)
            try:
                await work(state.stop)
                if state.stop.is_set():
                    return
                state.reason = "it ended by itself"
                log.error("task_ended", task=state.name)
            except Exception as error:
                if isinstance(error, StoreError) and error.retry:
                    # It says what is wrong with the store; where in our code that was met tells nobody anything.
                    state.reason = str(error)
                    log.warning(
                        "task_failed", task=state.name, reason=state.reason, again_in_s=round(pause, 1)
                    )
                else:
                    state.reason = f"{type(error).__name__}: {error}"
                    log.exception("task_failed", task=state.name, again_in_s=round(pause, 1))
            finally:
                recovery.cancel()
            state.failures += 1
            if loop.time() - begun > SOUND_S:
                pause = FIRST_PAUSE_S
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  jitter is no secret
            pause = min(LONGEST_PAUSE_S, pause * 2)

    @staticmethod
    def _recovered(state: State) -> None:
        """Call it sound again when it has run for a while without failing."""
        state.reason = ""
