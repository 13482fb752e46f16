"""How the collector is: its parts for /readyz and the service manager, and what they count for /metrics."""

from collections.abc import Sequence
from typing import Final

from telemetryx.api.metrics import Metric, Reading
from telemetryx.api.times import NS
from telemetryx.api.world import PartState
from telemetryx.gateway.server import Gateway
from telemetryx.hot.interface import Hot
from telemetryx.ingest.ingest import Ingest
from telemetryx.leases import Leases
from telemetryx.store.tables.store import TableStore
from telemetryx.tasks import Tasks
from telemetryx.traces import Tracer

#: Under which lease a task runs, where its name is another.
_LEASE: Final = {"compaction": "upkeep", "retention": "upkeep"}


def part_states(store: TableStore, tasks: Tasks, ingest: Ingest, hot: Hot, leases: Leases) -> list[PartState]:
    """Say how each part is. A lost Redis is a note: nothing depends on it; so are a clock that deletion doesn't go by, and a log that was missing."""
    health = ingest.health(leases.wrote_at)
    trouble = health.reason or leases.trouble()
    owners = leases.owners() if leases.shared else {}
    doubt = store.doubt
    notes = {"hot": hot.sharing().note, "retention": store.ahead if doubt is None else str(doubt)}
    return [
        PartState("store", ready=not trouble, reason=trouble or store.note),
        *(
            PartState(
                state.name,
                ready=not state.reason,
                reason=state.reason or notes.get(state.name, ""),
                owner=owners.get(_LEASE.get(state.name, state.name)),
            )
            for state in tasks.states.values()
        ),
    ]


def brief(parts: Sequence[PartState], gateway: Gateway, hot: Hot, ingest: Ingest) -> str:
    """Say in one line how the collector is, what is wrong first."""
    agents = sum(gateway.door.connected.values())
    words = [f"{part.name.upper()} NOT READY: {part.reason}" for part in parts if not part.ready]
    words.append(f"{agents} agent{'' if agents == 1 else 's'} connected")
    words.append(f"{sum(hot.rates().values()):,.0f} readings/s")
    words.append(f"{ingest.health().queued_bytes / 1024:,.0f} KiB wait for the store")
    return ", ".join(words)


def spans(tracer: Tracer) -> list[tuple[Metric, list[Reading]]]:
    """Read what became of spans."""
    readings: list[Reading] = [
        (("exported",), float(tracer.exported)),
        (("dropped",), float(tracer.dropped)),
    ]
    return [(Metric.SPANS, readings)]


def longest(store: TableStore) -> list[Reading]:
    """Read how long anybody had to wait for a transaction of the store."""
    return [((kind,), took / NS) for kind, took in store.longest_ns().items()]


def readings(
    store: TableStore, ingest: Ingest, hot: Hot, tasks: Tasks, leases: Leases
) -> list[tuple[Metric, list[Reading]]]:
    """Read the parts' own counters as metrics."""
    counters = ingest.counters
    return [
        (Metric.BATCHES, [((name,), float(count)) for name, count in sorted(counters.outcomes.items())]),
        (Metric.REFUSED, [((name,), float(count)) for name, count in sorted(counters.refused.items())]),
        (Metric.QUARANTINED, [((), float(counters.quarantined))]),
        (Metric.OVER_LIMIT, [((), float(counters.over_limit))]),
        (Metric.SAMPLES, [((), float(counters.samples))]),
        (Metric.WINDOWS, [((), float(counters.windows))]),
        (Metric.EVENTS, [((), float(counters.events))]),
        (Metric.BYTES, [((), float(counters.payload_bytes))]),
        (Metric.COMMITS, [((), float(counters.commits))]),
        (Metric.COMMIT_SECONDS, [((), counters.commit_seconds)]),
        (Metric.QUEUE_BYTES, [((), float(ingest.health().queued_bytes))]),
        (Metric.INGEST_LAG, [((), ingest.lag_s())]),
        (
            Metric.READY,
            [((part.name,), float(part.ready)) for part in part_states(store, tasks, ingest, hot, leases)],
        ),
        (Metric.CLOCK_AHEAD, [((), 0.0 if store.doubt is None else store.doubt.ahead_ns / NS)]),
        (Metric.LEASE, [((task,), float(leases.holds(task))) for task in leases.owners()]),
        (Metric.MEMBERS, [((), float(len(leases.members)))]),
        (Metric.HOT_CONNECTED, [((), float(hot.sharing().connected))]),
        (Metric.HOT_FAILURES, [((), float(hot.sharing().failures))]),
        (Metric.AGENT_RATE, [((agent,), rate) for agent, rate in sorted(hot.rates().items())]),
        (Metric.TASK_FAILURES, [((state.name,), float(state.failures)) for state in tasks.states.values()]),
    ]


def door_readings(gateway: Gateway) -> list[tuple[Metric, list[Reading]]]:
    """Read the agents' door as metrics."""
    readings: list[tuple[Metric, list[Reading]]] = [
        (Metric.SESSIONS, [((name,), float(count)) for name, count in gateway.door.connected.items()]),
        (Metric.TURNED_AWAY, [((name,), float(count)) for name, count in sorted(gateway.refused.items())]),
        (Metric.TLS_BEGUN, [((), float(gateway.handshakes.begun))]),
        (Metric.TLS_SERVED, [((), float(gateway.handshakes.served))]),
    ]
    if gateway.site is not None:
        counters = gateway.site.counters
        readings += [
            (Metric.MQTT_CONNECTED, [((), float(gateway.site.connected))]),
            (Metric.MQTT_ENVELOPES, [(("in",), float(counters.received)), (("out",), float(counters.sent))]),
            (Metric.MQTT_DROPPED, [((name,), float(count)) for name, count in counters.dropped.items()]),
        ]
    return readings
