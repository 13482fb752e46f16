"""What the API's tests run on: agents that number series and batches as real ones do, and a client of the running API."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiohttp.test_utils import TestClient

from telemetryx.api.delay import Delay
from telemetryx.api.live.hub import Hub
from telemetryx.api.world import PartState, World
from telemetryx.clock import ManualClock
from telemetryx.rules.service import RuleStatus
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.types import BatchKey, Committed, Decoded, Definition, EventBlock, SampleBlock, Stored
from telemetryx.wire import payload as wire

#: 2026-03-01T10:00:00Z
T0 = 1_772_359_200_000_000_000
S = 1_000_000_000
EPOCH = b"e" * 16

Points = Sequence[tuple[int, float]]


class Nobody:
    """Rules that never judge: alerts have tests of their own."""

    found: list[dict[str, Any]]

    def __init__(self) -> None:
        self.found = []

    async def alerts(
        self,
        state: str = "open",
        *,
        agent: str | None = None,
        rule: str | None = None,
        before: tuple[int, int] | None = None,
        limit: int = 1_000,
    ) -> list[dict[str, Any]]:
        """Return what the test put here, which it did newest first where there are pages."""
        del state, agent, rule
        rest = [one for one in self.found if before is None or (one["started_ns"], one["id"]) < before]
        return rest[:limit]

    async def rules(self) -> Sequence[RuleStatus]:
        """Return one rule."""
        return [
            RuleStatus(
                "hot", "metric", "a.yaml", "avg of t > 5", "warning", "ok", "", 1, 0, 0, {"name": "hot"}
            )
        ]


@dataclass
class Field:
    """The agents of a test: numbers series and batches as they do."""

    store: SqliteStore
    hub: Hub
    delay: Delay
    numbers: dict[tuple[str, str, tuple[tuple[str, str], ...]], int] = field(default_factory=dict)
    seqs: dict[str, int] = field(default_factory=dict)

    async def send(
        self,
        columns: Mapping[tuple[str, tuple[tuple[str, str], ...]], Points] | None = None,
        *,
        agent: str = "edge",
        unit: str = "°C",
        events: Sequence[tuple[int, int, str, str, dict[str, Any]]] = (),
    ) -> Committed:
        """Commit one batch and tell the live view."""
        known = {}
        for (name, labels), points in (columns or {}).items():
            number = self.numbers.setdefault((agent, name, labels), len(self.numbers) + 1)
            known[number] = (Definition(number, name, dict(labels), unit), points)
        ordered = sorted(known)
        counts = [len(known[number][1]) for number in ordered]
        block = SampleBlock(
            np.array(ordered, np.int64),
            np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
            np.array([point[0] for number in ordered for point in known[number][1]], np.int64),
            np.array([point[1] for number in ordered for point in known[number][1]], np.float64),
        )
        happened = None
        if events:
            happened = EventBlock(
                [event[2] for event in events],
                np.array([event[0] for event in events], np.int64),
                np.array([event[1] for event in events], np.uint8),
                [event[3] for event in events],
                [event[4] for event in events],
            )
        seq = self.seqs[agent] = self.seqs.get(agent, 0) + 1
        payload = wire.encode(wire.Payload(samples=block, events=happened, windows=None, counts={}))
        decoded = wire.decode(payload)
        times = [*block.times.tolist(), *(event[0] for event in events)]
        (outcome,) = await self.store.commit(
            [
                Decoded(
                    key=BatchKey(agent, EPOCH, seq),
                    checksum=hashlib.sha256(payload).digest()[:16],
                    payload=payload,
                    samples=decoded.samples,
                    events=decoded.events,
                    definitions=[known[number][0] for number in ordered],
                    t0_ns=min(times),
                    t1_ns=max(times),
                )
            ]
        )
        assert isinstance(outcome, Stored), outcome
        assert outcome.committed is not None
        self.hub.committed(outcome.committed)
        self.delay.committed(outcome.committed)
        return outcome.committed


def key(name: str, **labels: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Name a series."""
    return name, tuple(sorted(labels.items()))


@dataclass
class Running:
    """A running API and what it runs on."""

    client: TestClient[Any, Any]
    world: World
    field: Field
    clock: ManualClock
    judge: Nobody
    broken: list[PartState]
    announced: list[Committed]
    """Commits that the API made and told the other parts of."""

    async def get(self, path: str, status: int = 200, **params: Any) -> dict[str, Any]:
        """GET under /api/v1 and check the status."""
        pairs = [
            (name, str(one))
            for name, value in params.items()
            for one in (value if isinstance(value, list) else [value])
        ]
        async with self.client.get(f"/api/v1{path}", params=pairs) as answer:
            body: dict[str, Any] = await answer.json()
            assert answer.status == status, body
            return body
