"""What one peer may take: a token bucket an address (an IPv6 network of 64 bits is one), with a bound on how many addresses are remembered.

Where several processes share a hot view they count together (hot/interface.py); these buckets stand in for it.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from telemetryx.api.errors import Handler, TooMany
from telemetryx.api.peer import Peers
from telemetryx.hot.interface import Limit
from telemetryx.network import network

#: Addresses remembered; beyond it the one that was quiet longest is forgotten (and begins with a full bucket again).
MAX_PEERS: Final = 4_096


class Buckets:
    """Token buckets by key. `rate` a second, bursts of `burst`; `monotonic` is the clock in seconds."""

    def __init__(self, rate: float, burst: float, monotonic: Callable[[], float]) -> None:
        """Start with every bucket full."""
        self._rate = rate
        self._burst = burst
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> float:
        """Take one token: 0.0 when there was one, else the seconds until there is."""
        now = self._monotonic()
        level, at = self._buckets.pop(key, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._rate)
        wait = 0.0 if level >= 1 else (1 - level) / self._rate
        self._buckets[key] = (level - 1 if wait == 0 else level, now)
        if len(self._buckets) > MAX_PEERS:
            self._buckets.popitem(last=False)
        return wait


def middleware(requests: Limit, peers: Peers, special: Mapping[str, Limit | None]) -> Middleware:
    """Answer 429 to an address that asks too often; some paths that anybody may ask have smaller buckets of their own.

    One with `None` is limited where it is known who asks, and costs no more than a refusal here until then.

    Logins have growing delays beside (throttle.py).
    """

    @web.middleware
    async def limit(request: web.Request, handler: Handler) -> web.StreamResponse:
        source = network(peers.of(request))
        share = special.get(request.path, requests)
        if share is not None and (wait := await share.wait_s(source)):
            raise TooMany(
                f"too many requests from {source}", f"wait {max(wait, 0.1):.1f} s", retry_after=wait
            )
        return await handler(request)

    return limit
