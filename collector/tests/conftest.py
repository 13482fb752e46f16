"""A PostgreSQL server for the whole run, and databases of it for the tests that need one."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

from postgres_server import PostgresServer
from telemetryx.store.postgres.engine import PostgresEngine

# How long an example takes says nothing but what else the machine does.
settings.register_profile("telemetryx", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("telemetryx")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server, started when the first test needs it."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def new_database(postgres: PostgresServer) -> Callable[[], PostgresEngine]:
    """Makes empty databases."""
    return lambda: PostgresEngine(postgres.url(postgres.database()), postgres.password_file)


@pytest.fixture
def database(new_database: Callable[[], PostgresEngine]) -> PostgresEngine:
    """An empty database of this test's own."""
    return new_database()
