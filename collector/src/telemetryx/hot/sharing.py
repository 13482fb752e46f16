"""Makes the hot view and its wake-ups: of one process, or shared through Redis."""

from telemetryx.clock import Clock
from telemetryx.hot.address import Address
from telemetryx.hot.interface import Hot, Wake
from telemetryx.hot.memory import MemoryHot
from telemetryx.hot.wake import LocalWake

VERSION = "v1"
"""Of what lies under the keys: a collector that writes something else uses other keys."""


def open_hot(clock: Clock, address: Address | None, namespace: str, store: int) -> tuple[Hot, Wake]:
    """Make both. Processes share what has one namespace and one store: series ids mean nothing in another."""
    if address is None:
        return MemoryHot(clock), LocalWake()
    # The library takes 19 MB, for nothing where no Redis is named.
    from telemetryx.hot.link import Link  # noqa: PLC0415
    from telemetryx.hot.redis import RedisHot  # noqa: PLC0415
    from telemetryx.hot.shared_wake import RedisWake  # noqa: PLC0415

    link, prefix = Link(address), f"{namespace}:{VERSION}:{store:x}"
    return RedisHot(clock, link, prefix), RedisWake(link, prefix)
