"""Token buckets: bursts pass, floods wait, and strangers can't fill the memory."""

from telemetryx.api.limits import MAX_PEERS, Buckets


def test_a_burst_passes_and_what_follows_waits() -> None:
    """After the burst, one token comes back every 1/rate seconds."""
    now = [0.0]
    buckets = Buckets(rate=2, burst=3, monotonic=lambda: now[0])
    assert [buckets.take("a") for _ in range(3)] == [0.0, 0.0, 0.0]
    assert buckets.take("a") == 0.5
    now[0] = 0.5
    assert buckets.take("a") == 0.0
    assert buckets.take("b") == 0.0


def test_a_refusal_costs_nothing() -> None:
    """Who waits as told is served, however often it asked in between."""
    now = [0.0]
    buckets = Buckets(rate=1, burst=1, monotonic=lambda: now[0])
    buckets.take("a")
    for _ in range(100):
        assert buckets.take("a") == 1.0
    now[0] = 1.0
    assert buckets.take("a") == 0.0


def test_memory_is_bounded_however_many_peers_ask() -> None:
    """The peer that was quiet longest is forgotten."""
    buckets = Buckets(rate=1, burst=1, monotonic=lambda: 0.0)
    for number in range(MAX_PEERS + 10):
        buckets.take(str(number))
    assert len(buckets._buckets) == MAX_PEERS
