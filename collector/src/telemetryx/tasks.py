"""Background work of the collector: each piece is owned here, tried again with growing pauses, visible when it fails, and joined.

A piece of work is a coroutine function that runs until it is cancelled. One that ends or raises is logged, counted, and
started again; meanwhile `states` says why the part isn't ready.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

log = structlog.get_logger(__name__)

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 30.0
#: A run that lasted longer than this begins again with the first pause.
SOUND_S: Final = 60.0


@dataclass(slots=True)
class State:
    """How one piece of work is doing. `reason` is empty while it runs."""

    name: str
    reason: str = ""
    failures: int = 0


class Tasks:
    """The background work of one process."""

    def __init__(self) -> None:
        """Own nothing yet."""
        self.states: dict[str, State] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def spawn(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` until `join`, again and again when it fails."""
        state = self.states[name] = State(name)
        self._tasks.append(asyncio.create_task(self._keep(state, work), name=name))

    def every(self, name: str, seconds: float, work: Callable[[], Awaitable[bool]]) -> None:
        """Call `work` each so many seconds; at once again while it returns True (there is more to do)."""

        async def loop() -> None:
            while True:
                if await work():
                    await asyncio.sleep(0)
                else:
                    await asyncio.sleep(seconds)

        self.spawn(name, loop)

    async def join(self, timeout_s: float) -> None:
        """Cancel everything, newest first, and wait for it; what doesn't end in time is named in the log."""
        for task in reversed(self._tasks):
            task.cancel()
        if not self._tasks:
            return
        _, still = await asyncio.wait(self._tasks, timeout=timeout_s)
        for task in still:
            log.error("task_does_not_end", task=task.get_name())
        self._tasks.clear()

    async def _keep(self, state: State, work: Callable[[], Awaitable[None]]) -> None:
        pause = FIRST_PAUSE_S
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            recovery = loop.call_later(pause + 1, self._recovered, state)
            try:
                await work()
                state.reason = "it ended by itself"
            except Exception as error:
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
