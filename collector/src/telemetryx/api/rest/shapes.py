"""Turns the store's words into the API's JSON: one function a noun, the same for REST and the live stream."""

import math
from collections.abc import Mapping
from typing import Any

import orjson

from telemetryx.api import special
from telemetryx.fleet import Agent, Device, LossRow, Quarantined, QuarantinedSeries
from telemetryx.types import Event, Latest, RangeSeries, Series, Severity


def known_time(time_ns: int | None) -> int | None:
    """Show 0, the store's `never`, as null."""
    return time_ns or None


def finite(value: float | None) -> float | None:
    """JSON has no NaN and no infinities: null."""
    return value if value is not None and math.isfinite(value) else None


def agent(row: Agent) -> dict[str, Any]:
    """Shape one agent."""
    return {
        "name": row.name,
        "state": row.state.value,
        "version": row.version,
        "connected": row.connected,
        "last_seen_ns": known_time(row.last_seen_ns),
        "last_event_ns": known_time(row.last_event_ns),
        "backlog_bytes": row.backlog_bytes,
        "backlog_batches": row.backlog_batches,
        "oldest_ns": known_time(row.oldest_ns),
        "skew_ms": finite(row.skew_ms),
        "clock_set": clock_set(row),
        "rate": finite(row.rate) or 0.0,
        "series": row.series,
        "quarantined": row.quarantined,
        "labels": dict(row.labels),
    }


def clock_set(row: Agent) -> bool | None:
    """Read whether an agent's host knows the time; None when it didn't say."""
    said = status(row).get("clock_set")
    return said if isinstance(said, bool) else None


def quarantined(row: Quarantined) -> dict[str, Any]:
    """Shape one batch that is kept apart."""
    return {
        "id": row.id,
        "agent": row.agent,
        "epoch": row.epoch.hex(),
        "seq": row.seq,
        "received_ns": row.received_ns,
        "first_ns": row.t0_ns,
        "last_ns": row.t1_ns,
        "clock_offset_ns": row.clock_offset_ns,
        "clock_uncertain": row.clock_uncertain,
        "rows": row.rows,
        "bytes": row.bytes,
    }


def quarantined_series(row: QuarantinedSeries) -> dict[str, Any]:
    """Shape what such a batch holds of one series."""
    return {
        "name": row.name,
        "labels": dict(row.labels),
        "unit": row.unit,
        "samples": row.samples,
        "windows": row.windows,
        "first_ns": row.first_ns,
        "last_ns": row.last_ns,
        "last": finite(row.last),
    }


def status(row: Agent) -> dict[str, Any]:
    """Read what an agent said about itself; what isn't a JSON object is shown as text, never trusted."""
    if not row.status_json:
        return {}
    try:
        said = orjson.loads(row.status_json)
    except orjson.JSONDecodeError:
        return {"text": row.status_json}
    return said if isinstance(said, dict) else {"value": said}


def device(row: Device) -> dict[str, Any]:
    """Shape one device."""
    return {
        "agent": row.agent,
        "site": row.site,
        "device": row.device,
        "series": row.series,
        "last_event_ns": known_time(row.last_event_ns),
    }


def series(row: Series, latest: Mapping[int, Latest]) -> dict[str, Any]:
    """Shape one series with its newest value."""
    newest = latest.get(row.id)
    return {
        **series_head(row),
        "latest": None
        if newest is None
        else {
            "time_ns": newest.time_ns,
            "value": finite(newest.value),
            "special": special.word(newest.value),
        },
    }


def series_head(row: Series) -> dict[str, Any]:
    """Shape what names a series."""
    return {"id": row.id, "agent": row.agent, "name": row.name, "labels": dict(row.labels), "unit": row.unit}


def line(head: Series, row: RangeSeries, *, raw: bool) -> dict[str, Any]:
    """Shape one line of a chart. NumPy columns go to the encoder as they are; NaN becomes null there."""
    if raw:
        odd = special.of({"values": row.values})
        return {
            **series_head(head), "times_ns": row.times, "values": row.values, "min": [], "max": [], "special": odd
        }  # fmt: skip
    gap = row.counts == 0
    columns = {"values": row.values, "min": row.min, "max": row.max}
    if gap.any():
        for column in columns.values():
            column[gap] = math.nan
    return {**series_head(head), "times_ns": row.times, **columns, "special": special.of(columns, gap)}


def severity_name(number: int) -> str:
    """Name a severity number as OpenTelemetry's ranges of four do."""
    for severity in reversed(Severity):
        if number >= severity:
            return severity.name.lower()
    return Severity.TRACE.name.lower()


def event(row: Event) -> dict[str, Any]:
    """Shape one event."""
    return {
        "id": row.id,
        "agent": row.agent,
        "time_ns": row.time_ns,
        "severity": severity_name(row.severity),
        "severity_number": row.severity,
        "source": row.source,
        "body": row.body,
        "attributes": dict(row.attributes),
    }


def loss(row: LossRow) -> dict[str, Any]:
    """Shape one row of the loss ledger."""
    return {
        "agent": row.agent,
        "cause": row.cause,
        "count": row.count,
        "first_ns": known_time(row.first_ns),
        "last_ns": known_time(row.last_ns),
    }
