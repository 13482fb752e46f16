"""What an endpoint is: one declaration that the router, the parameter parser, OpenAPI and the docs all read."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, TypeVar, get_origin

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, WithJsonSchema
from pydantic_core.core_schema import ValidationInfo

from telemetryx.api.errors import BadRequest, TooLarge
from telemetryx.api.nearest import nearest
from telemetryx.api.patterns import WORDS
from telemetryx.api.times import format_duration, parse_duration, parse_time
from telemetryx.api.world import World
from telemetryx.documented import Documented
from telemetryx.store.accounts import Role
from telemetryx.store.audit import secret

#: Repetitions of one parameter, e.g. `series=`.
MAX_REPEATED: Final = 1_000
MAX_SHOWN: Final = 80


class Model(Documented):
    """A closed JSON object of this API; attribute docstrings are its documentation."""

    # What isn't asked for needs no validator.
    model_config = ConfigDict(extra="forbid", defer_build=True)


def _time(value: object, info: ValidationInfo) -> object:
    now = info.context["now_ns"] if info.context else 0
    return parse_time(value, now) if isinstance(value, str) else value


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _step(value: object) -> object:
    return value if value == "auto" else _duration(value)


#: RFC 3339, a date, epoch seconds, or relative to now; nanoseconds inside.
Time = Annotated[
    int,
    BeforeValidator(_time),
    WithJsonSchema(
        {
            "type": "string",
            "description": "RFC 3339, a date (midnight UTC), epoch seconds, `now`, or relative like `-15m`",
        }
    ),
]
#: `auto` or a duration.
Step = Annotated[
    Literal["auto"] | int,
    BeforeValidator(_step),
    WithJsonSchema({"type": "string", "description": "`auto`, or a duration like `10s`"}),
]
#: A duration.
Span = Annotated[
    int,
    BeforeValidator(_duration),
    WithJsonSchema({"type": "string", "description": "a duration like `10s`, `2h` or `1d12h`"}),
]
#: Nanoseconds since the epoch, UTC.
Nanoseconds = Annotated[
    int, WithJsonSchema({"type": "integer", "format": "int64", "description": "ns since the epoch, UTC"})
]


M = TypeVar("M", bound=Model)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with something beside its JSON: a status, a header, a cookie."""

    data: object
    status: int = 200
    prepare: Callable[[web.StreamResponse], None] | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint. `handler(world, params)` or `handler(world, params, body)` returns what `response` describes."""

    method: str
    path: str
    handler: Callable[..., Awaitable[object]]
    response: type[BaseModel]
    summary: str
    tag: str
    role: Role
    """What it needs: nobody gets further without."""
    params: type[Model] = Model
    body: type[Model] | None = None
    statuses: tuple[int, ...] = field(default=())
    """Refusals beside those that every endpoint has."""
    unavailable: type[BaseModel] | None = None
    """What its 503 holds, where that is more than the error."""
    max_body: int | None = None
    """Largest body in bytes, where it is less than the server's limit."""

    @property
    def operation(self) -> str:
        """Name of the operation: the handler's module and name."""
        return f"{self.handler.__module__.rpartition('.')[2]}_{self.handler.__name__}"


def read_params(route: Route, request: web.Request, world: World) -> Model:
    """Read path and query parameters as the route's model, or say which is wrong and why."""
    raw: dict[str, Any] = dict(request.match_info)
    fields = route.params.model_fields
    for name in request.query:
        if name in request.match_info:
            raise BadRequest(f"parameter {shown(name)} belongs into the path")
        values = request.query.getall(name)
        if name in fields and get_origin(fields[name].annotation) is tuple:
            if len(values) > MAX_REPEATED:
                raise BadRequest(
                    f"parameter {name!r} is given {len(values)} times", f"at most {MAX_REPEATED} are possible"
                )
            raw[name] = values
        elif len(values) > 1:
            raise BadRequest(f"parameter {shown(name)} is given {len(values)} times", "give it once")
        else:
            raw[name] = values[0]
    return params_of(route.params, raw, world.clock.now_ns())


def params_of(model: type[Model], raw: Mapping[str, Any], now_ns: int) -> Model:
    """Read parameters as the model, or say which is wrong and why."""
    for name, value in raw.items():
        if "\0" in str(value):
            raise BadRequest(f"parameter {shown(name)} holds a NUL character")
    try:
        return model.model_validate(raw, context={"now_ns": now_ns})
    except ValidationError as error:
        raise refusal(error, "parameter", list(model.model_fields)) from error


async def read_body(model: type[Model], request: web.Request, limit: int, now_ns: int) -> Model:
    """Read a JSON body as the model; times like `-15m` count from now."""
    if request.content_type != "application/json":
        raise BadRequest(
            f"the body's type is {shown(request.content_type)}",
            "send JSON with `Content-Type: application/json`",
        )
    if (request.content_length or 0) > limit:
        raise TooLarge(f"the body has {request.content_length} bytes", f"at most {limit} are taken")
    content = await request.read()
    if len(content) > limit:
        raise TooLarge(f"the body has {len(content)} bytes", f"at most {limit} are taken")
    return body_of(model, content, now_ns)


def body_of(model: type[M], content: bytes, now_ns: int) -> M:
    """Read JSON as the model, or say which field is wrong and why."""
    if b"\\u0000" in content:
        raise BadRequest("the body holds a NUL character")
    try:
        return model.model_validate_json(content, context={"now_ns": now_ns})
    except ValidationError as error:
        raise refusal(error, "field", list(model.model_fields)) from error


def refusal(error: ValidationError, what: str, known: Sequence[str], whole: str = "the body") -> BadRequest:
    """Name the first wrong thing; a person mends one at a time."""
    found = error.errors(include_url=False)
    # One that is missing may be there by another name.
    strange = [one for one in found if one["type"] == "extra_forbidden"]
    first = strange[0] if strange and found[0]["type"] == "missing" else found[0]
    # One of several values of a parameter is the parameter, to who asks.
    parts = first["loc"][:1] if what == "parameter" else first["loc"]
    name = ".".join(str(part) for part in parts)
    if first["type"] == "extra_forbidden":
        return BadRequest(f"there is no {what} {shown(name)}{nearest(name, known)}")
    if first["type"] == "missing":
        return BadRequest(f"{what} {name!r} is missing", "give it")
    message = _sentence(first["type"], first.get("ctx", {}), first["input"]) or str(
        first["msg"]
    ).removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        return BadRequest(f"{whole} is no JSON: {message.removeprefix('Invalid JSON: ')}", "send one object")
    if not name:
        return BadRequest(f"{whole}: {message}", "send one object")
    hidden = isinstance(first["input"], dict | list) or secret(name.rpartition(".")[2])
    given = "" if hidden else shown(_text(first["input"]))
    # Times and durations quote what they can't read themselves.
    return BadRequest(
        f"{what} {name!r}: {message}{f' (got {given})' if given and given not in message else ''}"
    )


_SAID: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("int_parsing", "int_type", "int_parsing_size", "int_from_float"), "it must be a whole number"
    ),
    **dict.fromkeys(("float_parsing", "float_type"), "it must be a number"),
    "finite_number": "it must be a number other than NaN and infinities",
    **dict.fromkeys(("string_type", "string_unicode"), "it must be a text"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "it must be true or false"),
    **dict.fromkeys(("model_type", "dict_type", "mapping_type"), "it must be an object"),
    **dict.fromkeys(("tuple_type", "list_type"), "it must be a list"),
}


def _sentence(kind: str, context: Mapping[str, Any], given: object) -> str:
    """Say what a value must be, in one form for all endpoints; empty for what the checker says well itself."""
    bounds = {"greater_than_equal": ("ge", "at least"), "less_than_equal": ("le", "at most")}
    if kind in bounds:
        key, word = bounds[kind]
        bound = context[key]
        if isinstance(given, str) and given[-1:].isalpha():
            # A duration, which is nanoseconds only to us.
            return f"it must be {word} {format_duration(int(bound))}"
        return f"it must be {word} {int(bound) if bound == int(bound) else bound}"
    if kind == "literal_error":
        return f"it must be {context['expected']}"
    if kind == "string_pattern_mismatch":
        return WORDS[context["pattern"]]
    if kind == "too_long":
        return f"it has more than {context['max_length']} items"
    if kind == "string_too_short":
        return (
            "it is empty"
            if context["min_length"] == 1
            else f"it has less than {context['min_length']} characters"
        )
    if kind == "string_too_long":
        return f"it is longer than {context['max_length']} characters"
    return _SAID.get(kind, "")


def _text(given: object) -> str:
    """Write what a sender gave as it was sent, not as Python has it."""
    if isinstance(given, bytes):
        return given.decode(errors="replace")
    # Numbers of any length: json, not orjson.
    return given if isinstance(given, str) else json.dumps(given, default=str, ensure_ascii=False)


def shown(text: str) -> str:
    """Quote a sender's own text for a message: short, and without control characters."""
    return repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…")
