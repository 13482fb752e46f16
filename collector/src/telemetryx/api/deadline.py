"""By when a request is answered: counted from when it came, so that whoever waits on its way (for who asks, for its turn) takes of the same time.

A store that says nothing is met at each of these steps, and each had the whole of `query_timeout` before.
"""

import asyncio
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from telemetryx.api.errors import Handler

BEGUN: Final = web.RequestKey("begun", float)
DEADLINE: Final = web.RequestKey("deadline", float)
LEAST_S: Final = 0.25
"""Who asks is found out also for a query that has no time: what it hears is that its time is over."""


def now() -> float:
    """Return the event loop's time."""
    return asyncio.get_running_loop().time()


def middleware(within_s: float) -> Middleware:
    """Give each request its end."""

    @web.middleware
    async def begin(request: web.Request, handler: Handler) -> web.StreamResponse:
        again(request, within_s)
        return await handler(request)

    return begin


def narrow(request: web.Request, seconds: float) -> None:
    """Take a query's own time-out, where it ends before."""
    request[DEADLINE] = min(request[DEADLINE], request[BEGUN] + seconds)


def again(request: web.Request, seconds: float) -> None:
    """Begin anew: a body has come, which takes as long as its sender's line."""
    request[BEGUN] = now()
    request[DEADLINE] = request[BEGUN] + seconds


def left_s(request: web.Request) -> float:
    """Return how many seconds are left; 0 at least."""
    return max(0.0, request[DEADLINE] - now())


def until(request: web.Request) -> asyncio.Timeout:
    """Raise TimeoutError at the request's end; for who must be waited for a moment at least."""
    return asyncio.timeout(max(LEAST_S, left_s(request)))
