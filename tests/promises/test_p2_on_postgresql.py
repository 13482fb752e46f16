"""P2, with P1, on the other store: what was acknowledged is in PostgreSQL, once, whoever of the three is killed."""

import time
import urllib.error
from collections.abc import Iterator

import pytest

from tests.fault.kill import Kill
from tests.fault.rounds import rounds
from tests.harness import Collector, Stack, until
from tests.harness.postgres import PostgresServer, section


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """Start a server that fsyncs, as one in the field does."""
    server = PostgresServer(fsync=True)
    try:
        server.start()
        yield server
    finally:
        server.remove()


class KillOnPostgres(Kill):
    """kill -9 of agent and collector; the collector keeps its data in PostgreSQL."""

    def __init__(self, server: PostgresServer) -> None:
        """Take the server."""
        super().__init__()
        self._store = section(server, server.database(), 'compact_interval = "1s"\n')

    def collector(self, stack: Stack) -> Collector:
        """Add a collector, started."""
        return stack.collector(self._store)


def test_twelve_kills_lose_nothing_acknowledged_and_store_nothing_twice(
    stack: Stack, server: PostgresServer
) -> None:
    """Agent and collector are killed under load, the collector in every second round; the sums hold."""
    report = rounds(stack, KillOnPostgres(server), 12, seed=5, collector_every=2)
    assert report.acknowledged > 1_000
    assert report.collector_strikes == 6
    assert (report.acknowledged_and_lost, report.stored_twice, report.books_off) == (0, 0, 0)
    assert report.failures_to_start == 0


def test_a_database_that_goes_away_costs_nothing_and_is_used_again_by_itself(
    stack: Stack, server: PostgresServer
) -> None:
    """While it is down the collector says so and batches wait at the agent; afterwards everything is there, once."""
    collector = stack.collector(section(server, server.database()))
    agent = stack.agent(collector)
    start = time.time_ns() - 60_000_000_000
    for number in range(1, 101):
        if number in {31, 71}:
            server.kill()
            until("readiness is red", lambda: not ready(collector))
            with pytest.raises(urllib.error.HTTPError) as refused:
                collector.get("/api/v1/series")
            assert refused.value.code == 503
            assert "can't be used now" in refused.value.read().decode()
        if number in {61, 91}:
            server.start()
        assert agent.write(f"c n={number}i {start + number}") == 204
    agent.wait_drained()
    until("readiness is green", lambda: ready(collector))
    assert collector.values("c.n") == [[float(number) for number in range(1, 101)]]


def ready(collector: Collector) -> bool:
    """Whether the collector says that it can store."""
    try:
        return collector.get("/readyz") is not None
    except OSError:
        return False
