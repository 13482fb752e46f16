"""Passwords, hashed with Argon2id in a few threads: slow and memory-hungry on purpose, so only so many at once.

The parameters are OWASP's for a server that does other work too (19 MiB, one lane), with twice their passes; a hash holds its
own, so a change here hashes anew at the next login. Browsers that are known have a thread of their own: whoever floods the
door with guesses doesn't keep the people out who were here before.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from telemetryx.api.errors import Unavailable

T = TypeVar("T")

MIN_LENGTH: Final = 10
MAX_LENGTH: Final = 1_000
THREADS: Final = 2
MAX_WAITING: Final = 32
#: The hash of a password that nobody has: what an unknown name is checked against, so that it takes as long as a known one.
NOBODY: Final = (
    "$argon2id$v=19$m=19456,t=4,p=1$sfIw0u7t8waC8NJnJY73OQ$2xcoDHtihyLs86kCQ9sDWTmrS4lImoBRWHVWg/jBKiA"
)
_HASHER: Final = PasswordHasher(time_cost=4, memory_cost=19_456, parallelism=1)


def make(password: str) -> str:
    """Hash a password. Blocking; for the event loop there is `Passwords`."""
    return _HASHER.hash(password)


def weakness(name: str, password: str) -> str | None:
    """Say why a password isn't taken."""
    if len(password) < MIN_LENGTH:
        return f"the password has {len(password)} characters; at least {MIN_LENGTH} are needed"
    if len(password) > MAX_LENGTH:
        return f"the password has more than {MAX_LENGTH} characters"
    if password.lower() == name.lower() or len(set(password)) < 4:  # noqa: PLR2004 - aaaaaaaaaa, abababab
        return (
            "the password can be guessed at once: it is the name, or has fewer than four different characters"
        )
    return None


def outdated(hashed: str) -> bool:
    """Whether a hash was made with other parameters than today's."""
    return _HASHER.check_needs_rehash(hashed)


def _right(hashed: str, password: str) -> bool:
    try:
        return _HASHER.verify(hashed, password)
    except (VerificationError, InvalidHashError):
        return False


class Passwords:
    """Hashes and checks beside the event loop."""

    def __init__(self) -> None:
        """Threads start when they are needed."""
        self._strangers = ThreadPoolExecutor(THREADS, thread_name_prefix="password")
        self._known = ThreadPoolExecutor(1, thread_name_prefix="password-known")
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """Hash a password."""
        return await self._run(self._known, lambda: make(password))

    async def right(self, hashed: str, password: str, *, known: bool) -> bool:
        """Check a password. Raises Unavailable when too many wait."""
        if known:
            return await self._run(self._known, lambda: _right(hashed, password))
        async with self._turn():
            return await self._run(self._strangers, lambda: _right(hashed, password))

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._waiting >= MAX_WAITING:
            raise Unavailable("too many people log in at once", "try again in a moment", retry_after=1)
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    @staticmethod
    async def _run(threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, work)

    def close(self) -> None:
        """End the threads; what waits is given up."""
        for threads in (self._strangers, self._known):
            threads.shutdown(wait=False, cancel_futures=True)
