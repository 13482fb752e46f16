"""Writes docs/reference/http-api.md from the declared routes, models and metrics; a test keeps the page fresh."""

import json
from collections.abc import Iterator
from typing import Any

from telemetryx.api import export
from telemetryx.api.metrics import Metric
from telemetryx.api.models import LiveRequest, Subscribe
from telemetryx.api.openapi import ErrorBody, needs, parameters
from telemetryx.api.routes import ROUTES, document

_HEAD = """\
# The HTTP API

Generated from the declarations in `collector/src/telemetryx/api/` (`telemetryx openapi --markdown`); a test keeps it fresh.
The same as OpenAPI 3.1: `GET /openapi.json`.

Times in answers are integers: nanoseconds since the epoch, UTC. NaN and infinities are null. In parameters a time is RFC 3339
with an offset, seconds since the epoch, `now`, or relative like `-15m`; a duration is `10s`, `1h30m`, `7d`. Unknown parameters
are refused. Where a limit cuts an answer, the answer says so.

**Who may ask.** On loopback without a `token_file` and without accounts, every program of this machine. Otherwise `Authorization: Bearer TOKEN`,
or the cookie that `POST /api/v1/login` gives a browser; a change by a cookie also sends `csrf` of `/api/v1/me` as `X-CSRF-Token`. Each endpoint
says the role that it needs (docs/how-to/accounts.md). `/healthz` and `/readyz` are open.

What GET reads, HEAD looks for: the same status, without the body. A method that a path doesn't take is 405 (`method_not_allowed`), and `Allow` says which it takes.
"""

_EXPORT = """
The answer is the file, with its type and a name for it (docs/how-to/export.md). Refusals are JSON, as everywhere; 501 where a format needs what isn't installed,
503 with `Retry-After` where two exports run already. One that fails half-way breaks the connection off. Where the retention has deleted raw data of the time that is
asked for, the header `Telemetryx-Warning` says so before the file, as `warnings` do in JSON answers.

What Grafana and others ask a Prometheus is under `/prometheus/api/v1/` (docs/how-to/grafana.md).
"""

_LIVE = """\
## GET /api/v1/live

A WebSocket. The client sends JSON; each message replaces the subscription:

```json
{"subscribe": {"match": "temperature{site=\\"plant1\\"}", "alerts": true}, "cursor": null, "max_hz": 2}
```
"""

_LIVE_ANSWERS = """
The server sends:

| message | when |
|---|---|
| `{"type":"samples","cursor":n,"series":{"<id>":{"times_ns":[..],"values":[..]}},"dropped":0}` | at most `max_hz` times a second; a window counts by its last sample; where a value is NaN or infinite it is null, and `"special":{"values":{"<place>":"+Inf"}}` beside it names it, as everywhere; `dropped` points were left out because the client was too slow |
| `{"type":"agents","agents":[..],"counts":{..},"now_ns":n}` | agents that changed, shaped as in `/api/v1/agents` |
| `{"type":"alert","alert":{..}}` | an alert changed, shaped as in `/api/v1/alerts` |
| `{"type":"event","cursor":n,"event":{..}}` | an event was stored |
| `{"type":"resumed","from":n,"gap":false}` | after a subscription with a cursor; `gap` says that something between can't be replayed: ask `/api/v1/query_range` |
| `{"type":"error","error":{..}}` | a message was refused, or messages were dropped |

After a lost connection, subscribe with the newest `cursor` that was seen: what was committed since follows, each sample once. An event may come once more, with the same `id`: its
cursor doesn't pass its commit's other events, nor samples that wait for their turn.
"""


def show(*, markdown: bool) -> None:
    """Print the page, or the OpenAPI document."""
    print(page() if markdown else json.dumps(document(), indent=2), end="" if markdown else "\n")


def page() -> str:
    """Write the whole page."""
    described = document()
    lines = [
        _HEAD,
        "## Errors\n",
        'Every refusal is `{"error": {"code", "message", "hint"}}`; that of `/readyz` has its `parts` beside it. `error`:\n',
        *_fields(ErrorBody.model_json_schema()),
        "",
    ]
    lines += [
        "| status | meaning |",
        "|---|---|",
        *(f"| {status} | {text} |" for status, text in _statuses(described)),
        "",
    ]
    for route in ROUTES:
        operation: Any = described["paths"][route.path][route.method.lower()]  # type: ignore[index]
        lines += [f"## {route.method} {route.path}\n", f"{route.summary}. {needs(route)}\n"]
        if operation["parameters"]:
            lines += ["| parameter | type | meaning |", "|---|---|---|"]
            lines += [_parameter(item) for item in operation["parameters"]]
            lines.append("")
        if route.body is not None:
            lines += ["Body:\n", *_fields(route.body.model_json_schema()), ""]
        lines += ["Answer:\n", *_fields(route.response.model_json_schema()), ""]
        if route.unavailable is not None:
            lines += ["Answer with status 503:\n", *_fields(route.unavailable.model_json_schema()), ""]
    lines += [
        f"## GET {export.PATH}\n",
        f"{export.DECLARED.summary}. {needs(export.DECLARED)}\n",
        "| parameter | type | meaning |",
        "|---|---|---|",
        *(_parameter(item) for item in parameters(export.DECLARED)),
        _EXPORT,
        _LIVE,
        *_fields(LiveRequest.model_json_schema()),
        "",
        "`subscribe`:\n",
        *_fields(Subscribe.model_json_schema()),
    ]
    lines += [
        _LIVE_ANSWERS,
        "## GET /metrics\n",
        "Prometheus text format.\n",
        "| metric | kind | labels | meaning |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{metric.value.full_name}` | {metric.value.kind} | {', '.join(metric.value.labels)} | {metric.value.help} |"
        for metric in Metric
    ]
    return "\n".join(lines) + "\n"


def _statuses(described: dict[str, Any]) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for methods in described["paths"].values():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                if status != "200":
                    found[status] = answer["description"]
    return sorted(found.items())


def _parameter(item: dict[str, Any]) -> str:
    schema = item["schema"]
    notes = []
    if "default" in schema and schema["default"] not in ("", None, []):
        notes.append(f"default {schema['default']}")
    bounds = {name: schema[name] for name in ("minimum", "maximum", "maxLength") if name in schema}
    notes += [f"{name} {value}" for name, value in bounds.items()]
    required = " (required)" if item["required"] and item["in"] == "query" else ""
    meaning = item["description"] + required + (f" ({', '.join(notes)})" if notes else "")
    return f"| `{item['name']}` | {_kind(schema)} | {meaning} |"


def _fields(schema: dict[str, Any]) -> Iterator[str]:
    """Yield a table of an object's fields, those of inner objects below with dots."""
    yield "| field | type | meaning |"
    yield "|---|---|---|"
    yield from _rows(schema, schema.get("$defs", {}), "")


def _rows(schema: dict[str, Any], definitions: dict[str, Any], prefix: str) -> Iterator[str]:
    for name, described in schema.get("properties", {}).items():
        inner, many = _object(described, definitions)
        kind = _kind(described) if inner is None else ("objects" if many else "object")
        meaning = described.get("description", "" if inner is None else inner.get("description", ""))
        nullable = any(kind.get("type") == "null" for kind in described.get("anyOf", ()))
        yield f"| `{prefix}{name}` | {kind}{' or null' if nullable else ''} | {meaning} |"
        if inner is not None:
            yield from _rows(inner, definitions, f"{prefix}{name}{'[]' if many else ''}.")


def _object(described: dict[str, Any], definitions: dict[str, Any]) -> tuple[dict[str, Any] | None, bool]:
    many = described.get("type") == "array"
    target = described.get("items", {}) if many else described
    kinds = [target, *target.get("anyOf", ())]
    for kind in kinds:
        if "$ref" in kind:
            return definitions[kind["$ref"].rpartition("/")[2]], many
    return None, False


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "anyOf" in schema:
        return " or ".join(_kind(kind) for kind in schema["anyOf"] if kind.get("type") != "null")
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    return str(schema.get("type", "object"))
