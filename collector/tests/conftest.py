"""What every test has: a log as it is by default, and for those that need one a PostgreSQL server, one for the whole run."""

from collections.abc import Callable, Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

from postgres_server import PostgresServer
from telemetryx.store.postgres.engine import PostgresEngine

# How long an example takes says nothing but what else the machine does.
settings.register_profile("telemetryx", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("telemetryx")


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """A command that runs in a test's process quiets the log; the tests after it look at theirs."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


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
