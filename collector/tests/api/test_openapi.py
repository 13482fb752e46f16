"""The OpenAPI document tells the truth: schemathesis asks a running server all it allows, and much that it doesn't."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import CheckFunction
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks

from running import T0, Field, Nobody, S, key
from telemetryx.api import server
from telemetryx.api.auth import Gate
from telemetryx.api.delay import Delay
from telemetryx.api.gather import Gather
from telemetryx.api.live.hub import Hub
from telemetryx.api.metrics import Registry
from telemetryx.api.patterns import WORDS
from telemetryx.api.route import Route
from telemetryx.api.routes import ROUTES, document
from telemetryx.api.world import Limits, PartState, World
from telemetryx.care.service import Care
from telemetryx.cli.reference import page
from telemetryx.clock import ManualClock
from telemetryx.enrolment.authority import Authority
from telemetryx.enrolment.service import Enrolment, Policy
from telemetryx.store.sqlite.store import SqliteStore

REFERENCE = Path(__file__).parents[3] / "docs/reference/http-api.md"
CHECKS: list[CheckFunction] = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
]


async def _serve(folder: Path, started: "threading.Event", address: list[str], stop: asyncio.Event) -> None:
    clock = ManualClock(T0)
    store = await SqliteStore.open(folder / "telemetry.db", clock=clock)
    hub, delay, judge, metrics = Hub(), Delay(), Nobody(), Registry()
    authority = Authority.open(folder / "ca", T0)
    enrolment = Enrolment(store, authority, clock, Policy(90 * 86_400 * S, url="https://c.example:8420"))
    care = Care(store, clock)
    gather = Gather(store, judge, clock, enrolment, care.counts)
    metrics.add(gather.readings)
    agents = Field(store, hub, delay)
    await agents.send(
        {key("m", site="plant", device="d"): [(T0 - number * S, number / 7) for number in range(99, 0, -1)]},
        events=[(T0, 17, "plc", "watchdog", {"n": 1, "f": 1.5, "b": True, "t": "x"})],
    )
    await store.session_opened("edge", "p", "0.1.0", {"os": "linux"}, 0.5)
    world = World(
        store=store,
        judge=judge,
        clock=clock,
        limits=Limits(1 << 16, 100, 100_000, 30.0, 3),
        hub=hub,
        delay=delay,
        metrics=metrics,
        gate=Gate((), frozenset({"127.0.0.1"}), S, secure=False),
        started_ns=T0,
        readiness=lambda: [PartState("store", ready=True)],
        gather=gather.refresh,
        enrolment=enrolment,
        care=care,
    )
    app = server.create(world, server.Config(folder, 1e9))
    runner, port = await server.listen(app, "127.0.0.1", 0, None, 5.0)
    address.append(f"http://127.0.0.1:{port}")
    started.set()
    await stop.wait()
    await runner.cleanup()
    await store.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server in a thread of its own: schemathesis asks without an event loop."""
    loop = asyncio.new_event_loop()
    started, found, stop = threading.Event(), [], asyncio.Event()
    served = loop.create_task(_serve(tmp_path_factory.mktemp("api"), started, found, stop))
    thread = threading.Thread(target=loop.run_until_complete, args=(served,))
    thread.start()
    assert started.wait(120)
    yield found[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(60)
    loop.close()


@pytest.fixture(scope="module")
def described(address: str) -> schemathesis.BaseSchema:
    """The document as served."""
    return schemathesis.openapi.from_url(f"{address}/openapi.json")


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_the_server_does_what_its_document_says(
    described: schemathesis.BaseSchema, route: Route, mode: GenerationMode
) -> None:
    """Declared statuses, types and shapes only, for right and wrong requests; what the document forbids is refused."""
    operation = described[route.path][route.method]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=30,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: schemathesis.Case) -> None:
        response = case.call()
        # A request line over MAX_LINE never becomes a request: aiohttp's parser answers it.
        if b"Got more than" not in response.content:
            case.validate_response(response, checks=CHECKS)

    try:
        ask()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE
        assert not operation.definition.raw["parameters"]


def test_every_route_is_described_with_its_parameters_and_refusals() -> None:
    """And nothing else is."""
    described = document()["paths"]
    assert {(path, method.upper()) for path, methods in described.items() for method in methods} == {
        (route.path, route.method) for route in ROUTES
    }
    for methods in described.values():
        for operation in methods.values():
            assert {"200", "400", "401", "503"} <= set(operation["responses"])
            for parameter in operation["parameters"]:
                assert parameter["description"], (operation["operationId"], parameter["name"])


def test_every_pattern_has_words_for_who_gets_it_wrong() -> None:
    """A person at the console reads no regular expressions."""

    def patterns(part: object) -> Iterator[str]:
        if isinstance(part, dict):
            if isinstance(found := part.get("pattern"), str):
                yield found
            for one in part.values():
                yield from patterns(one)
        elif isinstance(part, list):
            for one in part:
                yield from patterns(one)

    written = set(patterns(document()))
    assert written == set(WORDS)
    assert all(words.startswith("it is ") for words in WORDS.values())


def test_the_reference_page_is_fresh() -> None:
    """docs/reference/http-api.md is what `telemetryx openapi --markdown` prints."""
    assert REFERENCE.read_text() == page()
