"""The collector's own metrics: each is declared here as a type, exposed at /metrics, and listed in the reference.

Counting parts keep plain numbers; `app.py` gives this module functions that read them. So nothing on a hot path knows
Prometheus, and a metric that isn't declared can't be shown.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
#: Agents that get series of their own; what exceeds it is summed under agent="(others)".
MAX_AGENTS: Final = 5_000


@dataclass(frozen=True, slots=True)
class Declared:
    """One metric: its name without prefix, kind, meaning and labels."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """The name as exposed."""
        return f"telemetryx_collector_{self.name}"


class Metric(Enum):
    """Every metric there is. A name ends in its unit, or in `_total` for what only grows."""

    UP_SINCE = Declared(
        "start_time_seconds", "gauge", "When the process started, in seconds since the epoch."
    )
    READY = Declared("ready", "gauge", "1 when the part works.", ("part",))
    LEASE = Declared(
        "lease_held", "gauge", "1 where this process does the work; of those on a store one does.", ("task",)
    )
    MEMBERS = Declared("members", "gauge", "Collector processes that are at work on the store.")
    HELD_BACK = Declared(
        "commits_held_back_seconds",
        "gauge",
        "For how long commits have waited to be shown and judged, because an older transaction on the database server is open.",
    )
    CLOCK_AHEAD = Declared(
        "clock_ahead_seconds",
        "gauge",
        "By how much this machine's clock is ahead of the time that deletion goes by, because nothing confirms it; 0 when it is believed.",
    )
    MEMORY = Declared("resident_memory_bytes", "gauge", "Resident memory of the process.")
    BATCHES = Declared("batches_total", "counter", "Batches by what became of them.", ("outcome",))
    SAMPLES = Declared("samples_total", "counter", "Samples stored.")
    WINDOWS = Declared("windows_total", "counter", "Windows stored.")
    REFUSED = Declared(
        "refused_batches_total", "counter", "Batches that can never be stored, by cause.", ("cause",)
    )
    QUARANTINED = Declared(
        "quarantined_batches_total", "counter", "Batches kept apart: their times are ahead of our clock."
    )
    OVER_LIMIT = Declared(
        "series_limit_readings_total", "counter", "Readings refused: their series are above the limit."
    )
    COMMIT_SECONDS = Declared("commit_seconds_total", "counter", "Time spent in those transactions.")
    LONGEST_WRITE = Declared(
        "store_write_longest_seconds",
        "gauge",
        "The longest transaction so far, its wait for the disk included, by whom it was for; in SQLite the next waits for it.",
        ("kind",),
    )
    AGENT_RATE = Declared(
        "agent_readings_per_second", "gauge", "Readings stored of the agent lately.", ("agent",)
    )
    HOT_CONNECTED = Declared(
        "hot_redis_connected", "gauge", "1 while the hot view is shared through Redis, all of it."
    )
    HOT_FAILURES = Declared(
        "hot_redis_failures_total",
        "counter",
        "How often Redis was lost, not there at the start, or began to refuse writes; tries while that lasts aren't counted.",
    )
    EVENTS = Declared("events_total", "counter", "Events stored.")
    BYTES = Declared("payload_bytes_total", "counter", "Compressed payload bytes taken in.")
    QUEUE_BYTES = Declared("ingest_queue_bytes", "gauge", "Payload bytes that wait for their commit.")
    INGEST_LAG = Declared(
        "ingest_lag_seconds", "gauge", "For how long the batch that waits longest for its commit has waited."
    )
    COMMITS = Declared("commits_total", "counter", "Transactions of the ingest path.")
    CURSOR = Declared("commit_cursor", "gauge", "Number of the newest commit.")
    AGENTS = Declared("agents", "gauge", "Agents by state.", ("state",))
    AGENT_LAST_SEEN = Declared(
        "agent_last_seen_seconds",
        "gauge",
        "When anything last came from the agent, unless it was revoked.",
        ("agent",),
    )
    AGENT_BACKLOG = Declared("agent_backlog_bytes", "gauge", "Bytes in the agent's spool.", ("agent",))
    AGENT_SKEW = Declared(
        "agent_clock_skew_seconds", "gauge", "The agent's clock less ours, unless it was revoked.", ("agent",)
    )
    CERTIFICATE_ENDS = Declared(
        "agent_certificate_expires_seconds",
        "gauge",
        "When the certificate of an agent that joined with a token ends, in seconds since the epoch; none for one that waits or was revoked.",
        ("agent",),
    )
    CERTIFICATE_DUE = Declared(
        "agent_certificate_renewal_seconds",
        "gauge",
        "When the agent is to renew it, at two thirds of its life, in seconds since the epoch.",
        ("agent",),
    )
    LOST = Declared(
        "agent_lost_readings_total", "counter", "Readings that were lost, by cause.", ("agent", "cause")
    )
    ALERTS = Declared("alerts", "gauge", "Alerts by state.", ("state",))
    NOTIFICATIONS = Declared("notifications_total", "counter", "Notifications by outcome.", ("outcome",))
    STORE_BYTES = Declared("store_bytes", "gauge", "Size of the store on disk.")
    SERIES = Declared("series", "gauge", "Series in the store.")
    LIVE_CLIENTS = Declared("live_clients", "gauge", "WebSocket clients.")
    LIVE_DROPPED = Declared(
        "live_dropped_points_total", "counter", "Points not sent to WebSocket clients that were too slow."
    )
    REQUESTS = Declared("http_requests_total", "counter", "HTTP requests by status class.", ("class",))
    REQUEST_SECONDS = Declared("http_request_seconds_total", "counter", "Time spent on HTTP requests.")
    DELAY = Declared("delay_seconds", "gauge", "Age of live samples when they are stored.", ("quantile",))
    SESSIONS = Declared(
        "gateway_sessions", "gauge", "Agents connected, by what carries their frames.", ("transport",)
    )
    TURNED_AWAY = Declared(
        "gateway_turned_away_total",
        "counter",
        "Sessions refused, by cause; `turn` is told to come back.",
        ("cause",),
    )
    TLS_BEGUN = Declared(
        "gateway_tls_begun_total", "counter", "TLS handshakes that began at the agents' door over gRPC."
    )
    TLS_SERVED = Declared(
        "gateway_tls_served_total",
        "counter",
        "Connections over TLS that asked for a session; those that began and didn't come so far failed, or wanted nothing.",
    )
    ENROLLED = Declared("enrolled_agents", "gauge", "Agents that joined with a token, by state.", ("state",))
    ENROLMENTS = Declared(
        "enrolments_total", "counter", "Requests to join or to renew that were granted.", ("outcome",)
    )
    ENROLMENTS_REFUSED = Declared(
        "enrolments_refused_total", "counter", "Requests to join or to renew that were refused.", ("cause",)
    )
    CONFIGURED = Declared(
        "configured_agents",
        "gauge",
        "Agents by what they said last of the configuration that was pushed to them.",
        ("phase",),
    )
    CARE_REFUSED = Declared(
        "care_frames_refused_total",
        "counter",
        "Frames of agents about configurations and requests that were not taken, by cause.",
        ("cause",),
    )
    MQTT_CONNECTED = Declared("gateway_mqtt_connected", "gauge", "1 while the site's broker is there.")
    MQTT_ENVELOPES = Declared(
        "gateway_mqtt_envelopes_total", "counter", "Envelopes from and to the broker.", ("direction",)
    )
    MQTT_DROPPED = Declared(
        "gateway_mqtt_dropped_total", "counter", "Envelopes that were not taken, by cause.", ("cause",)
    )
    SPANS = Declared(
        "spans_total",
        "counter",
        "Spans of traces by what became of them: `exported`, or `dropped` for want of room or of a receiver.",
        ("outcome",),
    )
    AGENT_SPANS = Declared(
        "agent_spans_total",
        "counter",
        "Spans of an agent's traces since its start by what became of them, as it says: `exported`, or `dropped`.",
        ("agent", "outcome"),
    )
    TASK_FAILURES = Declared(
        "task_failures_total", "counter", "Background work that failed and was tried again.", ("task",)
    )


#: One reading of a metric: label values in the declared order, and the number.
Reading = tuple[tuple[str, ...], float]
Source = Callable[[], Iterable[tuple[Metric, Iterable[Reading]]]]


class Registry:
    """Where the parts' numbers are read when somebody asks."""

    def __init__(self) -> None:
        """Begin without sources."""
        self._sources: list[Source] = []

    def add(self, source: Source) -> None:
        """Read this function too at each exposition."""
        self._sources.append(source)

    def read(self) -> dict[Metric, list[Reading]]:
        """Read every source now."""
        found: dict[Metric, list[Reading]] = {}
        for source in self._sources:
            for metric, readings in source():
                found.setdefault(metric, []).extend(readings)
        return found

    def totals(self) -> dict[str, float]:
        """Sum each metric over its labels, where a sum means something: what /api/v1/status shows."""
        return {
            metric.value.name: sum(value for _, value in readings)
            for metric, readings in self.read().items()
            if not {"agent", "quantile", "part", "kind"} & set(metric.value.labels)
        }

    def exposition(self) -> str:
        """Write the Prometheus text format."""
        return "".join(line + "\n" for line in _lines(self.read()))


def _lines(found: Mapping[Metric, list[Reading]]) -> Iterator[str]:
    for metric in Metric:
        readings = found.get(metric)
        if not readings:
            continue
        declared = metric.value
        yield f"# HELP {declared.full_name} {_help(declared.help)}"
        yield f"# TYPE {declared.full_name} {declared.kind}"
        for labels, value in readings:
            pairs = ",".join(
                f'{name}="{_escaped(text)}"' for name, text in zip(declared.labels, labels, strict=True)
            )
            yield (
                f"{declared.full_name}{{{pairs}}} {_number(value)}"
                if pairs
                else f"{declared.full_name} {_number(value)}"
            )


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
