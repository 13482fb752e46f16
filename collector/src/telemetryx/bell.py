"""A bell for one task: whoever rings wakes it, or lets its next wait end at once. What the wake-ups of hot/ and store/ are made of."""

import asyncio


class Bell:
    """Rung any number of times between two waits it ends one of them. Used on the event loop only."""

    def __init__(self) -> None:
        """Begin silent."""
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake who waits, or the next who does."""
        self._rung.set()

    async def heard(self, timeout_s: float) -> bool:
        """Wait until it is rung; False when the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._rung.wait()
        except TimeoutError:
            return False
        self._rung.clear()
        return True
