"""Answers in Prometheus' JSON, written a column at once: times and values are texts made in C, joined in pairs."""

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
import orjson

from telemetryx.promql.data import Block, Labels, Vector
from telemetryx.promql.number import text, texts
from telemetryx.types import F64, I64

MS: Final = 1_000_000
TRUNCATED: Final = "results truncated due to limit"
TOGETHER: Final = 50_000
"""Points whose texts are made at once."""

Line = tuple[Labels, list[bytes], F64]
"""A series, how its points begin, and their values."""
Hold = Callable[[int], None]
"""Is told how many bytes more are held."""


def moment(time_ns: int) -> bytes:
    """Write a time: seconds, with milliseconds where it has some."""
    seconds, rest = divmod(abs(time_ns) // MS, 1_000)
    sign = "-" if time_ns < 0 else ""
    return f"{sign}{seconds}.{rest:03d}".encode() if rest else f"{sign}{seconds}".encode()


def success(data: bytes | Sequence[bytes], warnings: Sequence[str] = (), infos: Sequence[str] = ()) -> bytes:
    """Wrap an answer. Its parts are put together once: a large one isn't copied from wrapping to wrapping."""
    out = [b'{"status":"success","data":', *([data] if isinstance(data, bytes) else data)]
    for name, some in ((b"warnings", warnings), (b"infos", infos)):
        if some:
            out.append(b',"' + name + b'":' + orjson.dumps(list(some)))
    return b"".join([*out, b"}"])


def error(kind: str, message: str) -> bytes:
    """Say why there is no answer."""
    return orjson.dumps({"status": "error", "errorType": kind, "error": message})


def result(kind: str, inner: Sequence[bytes]) -> list[bytes]:
    """Wrap a query's result."""
    return [b'{"resultType":"' + kind.encode() + b'","result":', *inner, b"}"]


def scalar(value: float, time_ns: int) -> list[bytes]:
    """Write one number at one time."""
    return result("scalar", [_pair(time_ns, text(value).encode())])


def string(value: str, time_ns: int) -> list[bytes]:
    """Write a text."""
    return result("string", [b"[" + moment(time_ns) + b"," + orjson.dumps(value) + b"]"])


def vector(found: Vector, time_ns: int, limit: int, warnings: list[str]) -> list[bytes]:
    """Write an instant vector, in its own order where it has one."""
    rows = _limited(_order(found.labels, ordered=found.ordered), limit, warnings)
    values = texts(found.values[:, 0][rows]) if rows else []
    return result(
        "vector",
        [
            b"["
            + b",".join(
                b'{"metric":' + _metric(found.labels[row]) + b',"value":' + _pair(time_ns, value) + b"}"
                for row, value in zip(rows, values, strict=True)
            )
            + b"]"
        ],
    )


def matrix(found: Vector, times: I64, limit: int, warnings: list[str], hold: Hold) -> list[bytes]:
    """Write a vector over time."""
    rows = _limited(_order(found.labels, ordered=False), limit, warnings)
    heads = np.array([b"[" + moment(one) + b',"' for one in times.tolist()], object)

    def line(row: int) -> Line:
        seen = found.present[row]
        return found.labels[row], heads[seen].tolist(), found.values[row][seen]

    return result("matrix", _lines(map(line, rows), hold))


def samples(found: Block, limit: int, warnings: list[str], hold: Hold) -> list[bytes]:
    """Write the samples of a range, one a millisecond."""
    rows = _limited(_order(found.labels, ordered=False), limit, warnings)

    def line(row: int) -> Line:
        part = slice(int(found.offsets[row]), int(found.offsets[row + 1]))
        # Readings less than a millisecond apart have one time here: the last of them stands, as for readings of one time.
        times = found.times[part] // MS
        last = np.append(times[1:] != times[:-1], np.ones(min(1, len(times)), np.bool_))
        heads = [b"[" + one + b',"' for one in texts(times[last] / 1_000)]
        return found.labels[row], heads, found.values[part][last]

    return result("matrix", _lines(map(line, rows), hold))


def _lines(lines: Iterable[Line], hold: Hold) -> list[bytes]:
    """Write series with their points, some together: each point is an object while its text is made."""
    out: list[bytes] = [b"["]
    some: list[Line] = []
    points = 0
    for one in lines:
        if not len(one[2]):
            continue
        some.append(one)
        points += len(one[2])
        if points >= TOGETHER:
            _written(some, out, hold)
            some, points = [], 0
    _written(some, out, hold)
    return [*out[:-1], b"]"] if len(out) > 1 else [b"[]"]


def _written(lines: Sequence[Line], out: list[bytes], hold: Hold) -> None:
    if not lines:
        return
    written = texts(np.concatenate([values for _, _, values in lines]))
    at, size = 0, 0
    for labels, heads, values in lines:
        pairs = b'"],'.join(map(operator.add, heads, written[at : at + len(values)]))
        at += len(values)
        out += [b'{"metric":' + _metric(labels) + b',"values":[' + pairs + b'"]]}', b","]
        size += len(out[-2])
    # Twice: when all is written it is put together.
    hold(2 * size)


def _order(labels: Sequence[Labels], *, ordered: bool) -> list[int]:
    places: list[int] = list(range(len(labels)))
    return places if ordered else sorted(places, key=labels.__getitem__)


def _limited(rows: list[int], limit: int, warnings: list[str]) -> list[int]:
    if limit and len(rows) > limit:
        warnings.append(TRUNCATED)
        return rows[:limit]
    return rows


def _metric(labels: Labels) -> bytes:
    return orjson.dumps(dict(labels))


def _pair(time_ns: int, value: bytes) -> bytes:
    return b"[" + moment(time_ns) + b',"' + value + b'"]'


def document(data: Any, warnings: Sequence[str] = ()) -> bytes:  # noqa: ANN401  any JSON
    """Write an answer without numbers of Prometheus' own spelling."""
    return success(orjson.dumps(data), warnings)
