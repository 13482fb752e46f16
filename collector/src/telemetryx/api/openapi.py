"""Builds the OpenAPI 3.1 document from the declared routes and their models; schemathesis tests the server against it."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import telemetryx
from telemetryx.api.errors import Unavailable
from telemetryx.api.route import Model, Route
from telemetryx.store.accounts import Role

_STATUS: Final = {
    400: "The request can't be understood",
    401: "No valid token or session",
    403: "From another site, a Host that isn't ours, or from who may not do it",
    404: "It doesn't exist",
    409: "It contradicts what is stored",
    413: "The body is too large",
    429: "Too many requests; Retry-After says when",
    500: "The collector failed; its log has the cause",
    503: "Busy, stopping or timed out; Retry-After says when",
}
_ALWAYS: Final = (400, 401, 403, 429, 500, 503)


class ErrorBody(Model):
    """What went wrong."""

    code: str
    """For programs."""
    message: str
    """What happened, with which value."""
    hint: str
    """What to do; may be empty."""


class ErrorAnswer(Model):
    """Every refusal has this shape."""

    error: ErrorBody


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """Describe the whole API."""
    models = _models(routes)
    definitions, top = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    names = {
        model: definitions[(model, "validation")]["$ref"]
        for model in models
        if "$ref" in definitions[(model, "validation")]
    }
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, names)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "TelemetryX collector",
            "version": telemetryx.__version__,
            "description": "Times in answers are integers, nanoseconds since the epoch, UTC. NaN and infinities are null in JSON.",
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}, {"session": []}],
        "paths": paths,
        "components": {
            "schemas": top.get("$defs", {}),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "telemetryx_session"},
            },
        },
    }


def _models(routes: Iterable[Route]) -> list[type[BaseModel]]:
    found: dict[type[BaseModel], None] = {ErrorAnswer: None}
    for route in routes:
        found[route.response] = None
        for model in (route.body, route.unavailable):
            if model is not None:
                found[model] = None
    return list(found)


def _operation(route: Route, names: dict[type[BaseModel], str]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.operation,
        "summary": route.summary,
        "description": needs(route),
        "tags": [route.tag],
        "parameters": parameters(route),
        "responses": {
            "200": {
                "description": "OK",
                "content": {"application/json": {"schema": {"$ref": names[route.response]}}},
            },
        },
    }
    statuses = {*_ALWAYS, *route.statuses}
    if route.body is not None:
        statuses |= {413}
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": names[route.body]}}},
        }
    for status in sorted(statuses):
        answer = (route.unavailable if status == Unavailable.status else None) or ErrorAnswer
        operation["responses"][str(status)] = {
            "description": _STATUS[status],
            "content": {"application/json": {"schema": {"$ref": names[answer]}}},
        }
    return operation


def needs(route: Route) -> str:
    """Say which role a route needs."""
    return "Open to all." if route.role is Role.ANYONE else f"Needs the role {route.role.word}."


def parameters(route: Route) -> list[dict[str, Any]]:
    """Describe a route's parameters."""
    in_path = set(re.findall(r"{(\w+)}", route.path))
    schema = route.params.model_json_schema(ref_template="#/components/schemas/{model}")
    required = set(schema.get("required", ()))
    out = []
    for name, described in schema.get("properties", {}).items():
        inner = {key: value for key, value in described.items() if key not in {"title", "description"}}
        # An optional parameter is left out, not null.
        if "anyOf" in inner:
            kinds = [kind for kind in inner.pop("anyOf") if kind.get("type") != "null"]
            inner = {**kinds[0], **{key: value for key, value in inner.items() if value is not None}}
        inner.pop("description", None)
        out.append(
            {
                "name": name,
                "in": "path" if name in in_path else "query",
                "required": name in in_path or name in required,
                "description": described.get("description", ""),
                "schema": inner,
            }
        )
    return out
