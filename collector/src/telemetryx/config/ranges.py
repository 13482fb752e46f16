"""Which amounts the file may set: for each duration, size and number the least and the most.

What lies outside would make the collector useless (no byte of credit, raw data kept for a nanosecond) or break it later. The types
take more, so that each refusal names the key, the value and the range in the units of the file.
"""

from typing import Any, Final, TypeAlias

from pydantic import BaseModel, ByteSize

from telemetryx.api.times import format_duration, parse_duration

Bound: TypeAlias = str | int | float
"""A duration as `1s`, a size in bytes, or a number."""

_MIB: Final = 1 << 20
_LONG: Final = "3650d"
_CENTURY: Final = "36500d"
_MILLION: Final = 1_000_000

RANGES: Final[dict[str, tuple[Bound, Bound]]] = {
    "collector.shutdown_timeout": ("1s", "1h"),
    "api.session_lifetime": ("1m", _LONG),
    "api.oidc.session_lifetime": ("1m", _LONG),
    "api.max_body": (1024, 1024 * _MIB),
    "api.max_requests_per_second": (0.01, _MILLION),
    "api.max_live_clients": (1, _MILLION),
    "api.query_timeout": ("100ms", "1d"),
    "api.export_timeout": ("1s", "30d"),
    "api.max_query_series": (1, _MILLION),
    "api.max_query_points": (100, 1000 * _MILLION),
    "gateway.max_sessions": (1, _MILLION),
    "gateway.max_new_sessions_per_second": (0.01, _MILLION),
    "gateway.credit": (65_536, 1024 * _MIB),
    # No reader takes a larger payload (proto/README.md).
    "gateway.max_batch": (65_536, 4 * _MIB),
    "enroll.certificate_lifetime": ("1s", _LONG),
    "ingest.max_queue": (_MIB, _MIB * _MIB),
    "ingest.max_group": (1, 4_000),
    "ingest.max_series_per_agent": (1, 1000 * _MILLION),
    "ingest.max_series": (1, 1000 * _MILLION),
    "ingest.future_limit": ("1s", _LONG),
    "store.readers": (1, 64),
    "store.raw_retention": ("1m", _CENTURY),
    "store.rollup_retention": ("1m", _CENTURY),
    "store.event_retention": ("1m", _CENTURY),
    "store.audit_retention": ("1m", _CENTURY),
    "store.compact_interval": ("100ms", "1d"),
    "store.retention_interval": ("1s", _LONG),
    "hot.timeout": ("10ms", "1m"),
    "rules.interval": ("100ms", "1d"),
    "notify.webhook.timeout": ("100ms", "1h"),
    "tracing.timeout": ("100ms", "1h"),
}


SIZES: Final = frozenset({"api.max_body", "gateway.credit", "gateway.max_batch", "ingest.max_queue"})


def bounds(key: str) -> tuple[int | float, int | float]:
    """Return least and most, durations in nanoseconds."""
    least, most = RANGES[key]
    return _amount(least), _amount(most)


def taken(key: str) -> str:
    """Say what to give for a key; empty where it has no range."""
    return f"give {between(key)}" if key in RANGES else ""


def between(key: str) -> str:
    """Say what a key takes, as the file writes it: `1s to 1h`; empty where it has no range."""
    if key not in RANGES:
        return ""
    least, most = RANGES[key]
    in_bytes = key in SIZES
    return f"{_shown(least, in_bytes=in_bytes)} to {_shown(most, in_bytes=in_bytes)}"


def outside(section: BaseModel) -> list[tuple[tuple[str, ...], str]]:
    """Find the amounts that lie outside: the key's parts, and a sentence. Entries of lists of tables have their number in the parts."""
    found: list[tuple[tuple[str, ...], str]] = []
    _walk(section, (), found)
    return found


def _walk(value: Any, parts: tuple[str, ...], found: list[tuple[tuple[str, ...], str]]) -> None:  # noqa: ANN401
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            _walk(getattr(value, name), (*parts, name), found)
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            if isinstance(item, BaseModel):
                _walk(item, (*parts, str(number)), found)
    else:
        key = ".".join(part for part in parts if not part.isdigit())
        if key in RANGES and isinstance(value, int | float):
            least, most = bounds(key)
            if not least <= value <= most:
                shown = format_duration(int(value)) if isinstance(RANGES[key][0], str) else f"{value:.12g}"
                found.append((parts, f"{shown} is out of range: {taken(key)}"))


def _amount(bound: Bound) -> int | float:
    return parse_duration(bound) if isinstance(bound, str) else bound


def _shown(bound: Bound, *, in_bytes: bool) -> str:
    if in_bytes:
        return ByteSize(int(bound)).human_readable(separator="").replace(".0", "")
    return bound if isinstance(bound, str) else f"{bound:,}"
