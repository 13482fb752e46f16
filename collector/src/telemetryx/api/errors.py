"""Every refusal of this API, in one shape: {"error": {"code", "message", "hint"}}.

    ApiError
    ├── BadRequest      400  the request can't be understood; sending it again won't help
    ├── Unauthorized    401  no valid token or session
    ├── Forbidden       403  a browser on another site, a Host that isn't ours, or a role that doesn't suffice
    ├── NotFound        404
    ├── Conflict        409  it contradicts what is there
    ├── TooLarge        413  the body is over the limit
    ├── TooMany         429  too many requests from one address; Retry-After says when
    ├── NotInstalled    501  what it needs isn't installed on the collector's machine
    └── Unavailable     503  busy, stopping or timed out; Retry-After says when

Whoever knows the cause raises; `middleware` turns it into the answer and logs what the sender isn't told.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import ClassVar

import orjson
import structlog
from aiohttp import web

from telemetryx.api.methods import taken
from telemetryx.errors import NotCompiled, SelectorError, StoreDamaged

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ApiError(Exception):
    """A refusal: `code` is for programs, `message` says what happened with which value, `hint` what to do."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"

    def __init__(self, message: str, hint: str = "", *, retry_after: float | None = None) -> None:
        """Take what the sender reads; `retry_after` is in seconds."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.retry_after = retry_after

    def said(self) -> dict[str, str]:
        """Return what stands under `error`."""
        return {"code": self.code, "message": self.message, "hint": self.hint}

    def headers(self) -> dict[str, str]:
        """Return the headers that go with it."""
        headers = {} if self.retry_after is None else {"Retry-After": str(max(1, round(self.retry_after)))}
        if self.status == Unauthorized.status:
            headers["WWW-Authenticate"] = 'Bearer realm="telemetryx"'
        return headers

    def response(self) -> web.Response:
        """Write the answer."""
        return body(self.status, self.code, self.message, self.hint, self.headers())


class BadRequest(ApiError):
    """The request can't be understood."""

    status = 400
    code = "bad_request"


class Unauthorized(ApiError):
    """There is no valid token or session in it."""

    status = 401
    code = "unauthorized"


class Forbidden(ApiError):
    """It comes from where it must not come from, or from who may not do it."""

    status = 403
    code = "forbidden"


class NotFound(ApiError):
    """What it names doesn't exist."""

    status = 404
    code = "not_found"


class Conflict(ApiError):
    """It contradicts what is there."""

    status = 409
    code = "conflict"


class TooLarge(ApiError):
    """Its body is over the limit."""

    status = 413
    code = "too_large"


class TooMany(ApiError):
    """Its sender asks too often."""

    status = 429
    code = "too_many_requests"


class NotInstalled(ApiError):
    """What it needs isn't installed on the collector's machine."""

    status = 501
    code = "not_installed"


class Unavailable(ApiError):
    """It can't be answered now."""

    status = 503
    code = "unavailable"


def no_selector(error: SelectorError) -> BadRequest:
    """Say that `match` can't be read, in the same words at every endpoint."""
    return BadRequest(f"parameter 'match': {error}", 'write e.g. temperature{site="plant1",device=~"pump.*"}')


def body(
    status: int, code: str, message: str, hint: str = "", headers: Mapping[str, str] | None = None
) -> web.Response:
    """Write an error in the one shape."""
    error = {"code": code, "message": message, "hint": hint}
    return web.Response(
        status=status,
        body=orjson.dumps({"error": error}),
        content_type="application/json",
        headers=headers,
    )


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every exception into the one shape; an unexpected one gets an id that finds it in the log."""
    try:
        return await handler(request)
    except ApiError as error:
        return error.response()
    except web.HTTPException as error:
        return await _of_aiohttp(request, error)
    except TimeoutError:
        return Unavailable(
            "the query took too long and was given up",
            "ask for a shorter time range or fewer series",
            retry_after=1,
        ).response()
    except NotCompiled as error:
        return NotInstalled(str(error), "whoever runs the collector must install it").response()
    except StoreDamaged as error:
        return Unavailable(
            str(error), "a person must look after the store: the message says what is wrong", retry_after=30
        ).response()
    except ConnectionResetError:
        raise
    except Exception:
        reference = secrets.token_hex(4)
        log.exception("api_failed", reference=reference, method=request.method, path=request.path)
        return body(
            500,
            "internal",
            "the collector failed to answer",
            f"its log has the cause under reference={reference}",
        )


async def _of_aiohttp(request: web.Request, error: web.HTTPException) -> web.Response:
    """Say aiohttp's own refusals in our shape; redirects pass."""
    if error.status < 400:  # noqa: PLR2004  below are no errors
        raise error
    if isinstance(error, web.HTTPNotFound | web.HTTPMethodNotAllowed):
        return await _nowhere(request, error)
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return TooLarge(error.text or "the body is too large", "send less at once").response()
    return body(error.status, error.reason.lower().replace(" ", "_"), error.text or error.reason)


async def _nowhere(request: web.Request, error: web.HTTPNotFound | web.HTTPMethodNotAllowed) -> web.Response:
    """Tell a path that nothing has from one that doesn't take this method."""
    methods = await taken(request)
    ours = request.path.startswith(("/api/", "/prometheus/"))
    if not methods and not ours and isinstance(error, web.HTTPMethodNotAllowed):
        methods = frozenset(error.allowed_methods)
    if not methods:
        known = (
            "docs/how-to/grafana.md lists what is answered there"
            if request.path.startswith("/prometheus/")
            else "GET /openapi.json lists every endpoint"
        )
        return NotFound(f"there is nothing at {request.path}", known).response()
    allowed = ", ".join(sorted(methods))
    return body(
        405,
        "method_not_allowed",
        f"{request.method} is not possible on {request.path}",
        f"use {allowed}",
        {"Allow": allowed},
    )
