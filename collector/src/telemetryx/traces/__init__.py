"""Traces of ourselves: what a batch's frame says of its trace, the spans of its way through the collector, their export.

gateway · ingest · rules · notify ─▶ tracer.py (bounded) ─▶ export.py ─▶ OTLP over HTTP

The messages are OpenTelemetry's own (`opentelemetry-proto`) and go over aiohttp, which is here anyway: its SDK would export from
a thread of its own with a second HTTP client, and tells nobody what it drops.
"""

from telemetryx.traces.context import Context, parse
from telemetryx.traces.tracer import OFF, Kind, Span, Tracer

__all__ = ["OFF", "Context", "Kind", "Span", "Tracer", "parse"]
