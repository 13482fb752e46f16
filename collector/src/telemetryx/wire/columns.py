"""One column, `[encoding, count, parameter..., data]`, to a NumPy array and back. proto/README.md has the table.

Each encoding is a few vector operations. Counts are checked against the bytes that came, or against `cap`, before
anything is allocated: constant and run length are the two that make much from little.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from telemetryx.errors import UnknownVersion, WireError
from telemetryx.wire.compression import pack

RAW: Final = 0
CONSTANT: Final = 1
DELTA: Final = 2
DELTA_OF_DELTA: Final = 3
DECIMAL: Final = 4
RUN_LENGTH: Final = 5
NARROW: Final = 6
PCO: Final = 7
DECIMALS: Final = 8
PLANES: Final = 16
ZIGZAG: Final = 32

Column = list[Any]
Array = NDArray[Any]

_SIGNED: Final = {1: "<i1", 2: "<i2", 4: "<i4", 8: "<i8"}
_UNSIGNED: Final = {1: "<u1", 2: "<u2", 4: "<u4"}
_ZIGZAG: Final = {**_UNSIGNED, 8: "<u8"}
_INTEGERS: Final = {"i8", "u8", "i4", "u4"}
_EXACT: Final = 1 << 53
_RAW_SCALE: Final = 255
_PLAIN: Final = 32
"""Added to a segment's scale: its steps are from its base, not from the item before."""
_MAX_K: Final = 9
_POWERS: Final = [float(10**k) for k in range(_MAX_K + 1)]


@dataclass(frozen=True, slots=True)
class Raw:
    """A column as it came: what its encoding and numbers say, and its bytes."""

    encoding: int
    count: int
    parameters: tuple[int, ...]
    data: bytes


def decode(column: Raw, dtype: DTypeLike, cap: int) -> Array:
    """Return the items, or raise WireError; never more than `cap` of them."""
    kind = np.dtype(dtype)
    if not 0 <= column.count <= cap:
        raise WireError(f"a column claims {column.count} items; at most {cap} can be here", "too_large")
    marks, encoding = divmod(column.encoding, PLANES)
    if not 0 <= marks < 4 or encoding not in _DECODERS:  # noqa: PLR2004 - planes and zigzag, or neither
        raise UnknownVersion("column encoding", column.encoding)
    planes, zigzag = marks & 1, marks & 2
    if column.count == 0:
        if column.encoding or column.parameters or column.data:
            raise WireError("an empty column is written as encoding 0 without data")
        return np.empty(0, kind)
    if (planes and encoding in {CONSTANT, RUN_LENGTH}) or (
        zigzag and encoding not in {DELTA, DELTA_OF_DELTA, DECIMAL}
    ):
        raise UnknownVersion("column encoding", column.encoding)
    wanted, decoder = _DECODERS[encoding]
    if len(column.parameters) != wanted:
        raise WireError(f"encoding {encoding} has {wanted} parameters, not {len(column.parameters)}")
    return decoder(column, kind, bool(planes))


@dataclass(frozen=True, slots=True)
class Segments:
    """The five columns of encoding 8, decoded."""

    lengths: NDArray[np.uint32]
    scales: NDArray[np.uint8]
    bases: NDArray[np.int64]
    steps: NDArray[np.uint64]
    rest: NDArray[np.float64]


def kinds(scales: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell of each segment whether its items are raw, and whether they are sums (one step fewer than items)."""
    return scales == _RAW_SCALE, scales <= _MAX_K


def decode_segments(count: int, cap: int, parts: Segments) -> NDArray[np.float64]:
    """Put decimals by segment (encoding 8) together, all segments at once."""
    if not 0 < count <= cap:
        raise WireError(f"a column claims {count} items; at most {cap} can be here", "too_large")
    lengths, scales = parts.lengths.astype(np.int64), parts.scales
    if len(lengths) != len(scales) or int(lengths.sum()) != count or int(lengths.min()) < 1:
        raise WireError(f"a column's segments don't add up to its {count} items")
    raw, summed = kinds(scales)
    plain = (scales >= _PLAIN) & (scales <= _PLAIN + _MAX_K)
    if not bool((raw | summed | plain).all()):
        raise WireError(f"a segment has scale {int(scales[~(raw | summed | plain)][0])}, which is none")
    starts = np.cumsum(lengths) - lengths
    decimal_items = int(lengths[~raw].sum())
    if (
        len(parts.bases) != int((~raw).sum())
        or len(parts.steps) != decimal_items - int(summed.sum())
        or len(parts.rest) != count - decimal_items
    ):
        raise WireError(f"the parts of a column of {count} decimals have other lengths than its segments say")
    if bool(((parts.bases >= _EXACT) | (parts.bases <= -_EXACT)).any()):
        raise WireError("a segment's base lies outside the integers that f64 holds exactly")
    # A step for every item: those a segment doesn't have (its first one, or all of a raw one) are 0.
    is_step = np.repeat(~raw, lengths)
    is_step[starts[summed]] = False
    whole = np.zeros(count, np.int64)
    steps = parts.steps
    whole[is_step] = (steps >> np.uint64(1)).view(np.int64) ^ -((steps & np.uint64(1)).view(np.int64))
    if summed.any():
        sums = np.cumsum(whole)
        offset = sums[starts] - whole[starts]
        np.copyto(whole, sums - np.repeat(offset, lengths), where=np.repeat(summed, lengths))
    base = np.zeros(len(scales), np.int64)
    base[~raw] = parts.bases
    whole += np.repeat(base, lengths)
    if int(whole.min()) <= -_EXACT or int(whole.max()) >= _EXACT:
        raise WireError("a segment leaves the integers that f64 holds exactly")
    powers = np.array(_POWERS)[np.where(raw, 0, scales & (_PLAIN - 1))]
    values = whole.astype(np.float64)
    values /= np.repeat(powers, lengths)
    if len(parts.rest):
        values[np.repeat(raw, lengths)] = parts.rest
    return values


def decode_segment(
    count: int, scale: int, base: int, steps: NDArray[np.uint64], rest: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return one segment alone as `decode_segments` gives it, in a third of the time: a query of one series has one in each batch."""
    if scale == _RAW_SCALE:
        values = rest
    else:
        plain = _PLAIN <= scale <= _PLAIN + _MAX_K
        if not plain and not 0 <= scale <= _MAX_K:
            raise WireError(f"a segment has scale {scale}, which is none")
        if not -_EXACT < base < _EXACT:
            raise WireError("a segment's base lies outside the integers that f64 holds exactly")
        signed = (steps >> np.uint64(1)).view(np.int64) ^ -((steps & np.uint64(1)).view(np.int64))
        whole = signed + np.int64(base) if plain else _sums(np.int64(base), signed)
        if len(whole) and (int(whole.min()) <= -_EXACT or int(whole.max()) >= _EXACT):
            raise WireError("a segment leaves the integers that f64 holds exactly")
        values = whole / _POWERS[scale & (_PLAIN - 1)]
    if len(values) != count:
        raise WireError(f"a segment of {count} items has {len(values)}")
    return values


def _items(data: bytes, dtype: str | np.dtype[Any], count: int, *, planes: bool) -> Array:
    """View exactly `count` items; with byte planes, put their bytes together again."""
    kind = np.dtype(dtype)
    if len(data) != count * kind.itemsize:
        raise WireError(f"a column of {count} items of {kind.itemsize} bytes has {len(data)} bytes of data")
    if planes and kind.itemsize > 1 and count:
        plane = np.frombuffer(data, np.uint8).reshape(kind.itemsize, count)
        return np.ascontiguousarray(plane.T).view(kind).reshape(count)
    return np.frombuffer(data, kind)


def _steps(column: Raw, width: int, count: int, *, planes: bool) -> Array:
    """View the differences of a column: signed, or zigzagged where its encoding says so."""
    if not column.encoding & ZIGZAG:
        return _items(column.data, _width(width, _SIGNED), count, planes=planes)
    items = _items(column.data, _width(width, _ZIGZAG), count, planes=planes)
    one = items.dtype.type(1)
    # Unsigned arithmetic wraps, so this needs no wider type.
    signed: Array = (items >> one) ^ -(items & one)
    return signed.view(_SIGNED[width])


def _width(value: int, of: dict[int, str]) -> str:
    if value not in of:
        raise WireError(f"a column has items of width {value}; {sorted(of)} are known here")
    return of[value]


def _wrap(value: int) -> np.int64:
    """Take a whole number of the wire as 64 bits, as its sender's arithmetic did."""
    if not -(1 << 63) <= value < 1 << 64:
        raise WireError(f"{value} doesn't fit into 64 bits")
    return np.int64(value - (1 << 64) if value >= 1 << 63 else value)


def _integers(values: NDArray[np.int64], kind: np.dtype[Any]) -> Array:
    """Turn 64-bit results into the column's own type, or refuse what doesn't fit."""
    if kind.itemsize == 8:  # noqa: PLR2004 - 64 bits: the bits are the value
        return values.view(kind)
    info = np.iinfo(kind)
    if int(values.min()) < info.min or int(values.max()) > info.max:
        raise WireError(f"a {kind.name} column holds a value outside its type")
    return values.astype(kind)


def _raw(column: Raw, kind: np.dtype[Any], planes: bool) -> Array:  # noqa: FBT001 - one shape for all decoders
    return _items(column.data, kind, column.count, planes=planes)


def _constant(column: Raw, kind: np.dtype[Any], _planes: bool) -> Array:  # noqa: FBT001
    return np.repeat(_items(column.data, kind, 1, planes=False), column.count)


def _sums(first: np.int64, steps: Array) -> NDArray[np.int64]:
    """Return first and its running sums with the steps, wrapping at 64 bits."""
    out = np.empty(len(steps) + 1, np.int64)
    out[0] = first
    out[1:] = steps
    return np.cumsum(out, out=out)


def _delta(column: Raw, kind: np.dtype[Any], planes: bool) -> Array:  # noqa: FBT001
    _only_integers(kind, DELTA)
    width, first = column.parameters
    steps = _steps(column, width, column.count - 1, planes=planes)
    return _integers(_sums(_wrap(first), steps), kind)


def _delta_of_delta(column: Raw, kind: np.dtype[Any], planes: bool) -> Array:  # noqa: FBT001
    _only_integers(kind, DELTA_OF_DELTA)
    width, first, start = column.parameters
    if column.count < 2:  # noqa: PLR2004 - it takes two items to have a difference
        raise WireError("a delta-of-delta column has fewer than two items")
    seconds = _steps(column, width, column.count - 2, planes=planes)
    return _integers(_sums(_wrap(first), _sums(_wrap(start), seconds)), kind)


def _decimal(column: Raw, kind: np.dtype[Any], planes: bool) -> Array:  # noqa: FBT001
    if kind != np.float64:
        raise WireError(f"decimal delta is for f64, not {kind.name}")
    k, width, first = column.parameters
    if not 0 <= k <= _MAX_K:
        raise WireError(f"decimal delta with 10^{k}; 0 to {_MAX_K} are known")
    if not -_EXACT < first < _EXACT:
        raise WireError("a decimal delta starts outside the integers that f64 holds exactly")
    steps = _steps(column, width, column.count - 1, planes=planes)
    whole = _sums(np.int64(first), steps)
    if int(whole.min()) <= -_EXACT or int(whole.max()) >= _EXACT:
        raise WireError("a decimal delta leaves the integers that f64 holds exactly")
    values = whole.astype(np.float64)
    if k:
        values /= _POWERS[k]
    return values


def _run_length(column: Raw, kind: np.dtype[Any], _planes: bool) -> Array:  # noqa: FBT001
    (runs,) = column.parameters
    if not 0 < runs <= column.count or len(column.data) != runs * (4 + kind.itemsize):
        raise WireError(f"a column of {runs} runs of {kind.name} has {len(column.data)} bytes of data")
    lengths = np.frombuffer(column.data, "<u4", runs)
    if int(lengths.sum(dtype=np.uint64)) != column.count:
        raise WireError(f"a column's runs don't add up to its {column.count} items")
    return np.repeat(np.frombuffer(column.data, kind, runs, 4 * runs), lengths)


def _narrow(column: Raw, kind: np.dtype[Any], planes: bool) -> Array:  # noqa: FBT001
    if kind.kind != "u":
        raise WireError(f"narrow is for unsigned integers, not {kind.name}")
    (width,) = column.parameters
    items = _items(column.data, _width(width, _UNSIGNED), column.count, planes=planes)
    if items.dtype.itemsize > kind.itemsize:
        raise WireError(f"narrow items of width {width} are wider than {kind.name}")
    return items.astype(kind)


def _only_integers(kind: np.dtype[Any], encoding: int) -> None:
    if kind.str[1:] not in _INTEGERS:
        raise WireError(f"encoding {encoding} is not for {kind.name}")


_Decoder = Callable[[Raw, "np.dtype[Any]", bool], Array]
_DECODERS: Final[dict[int, tuple[int, _Decoder]]] = {
    RAW: (0, _raw),
    CONSTANT: (0, _constant),
    DELTA: (2, _delta),
    DELTA_OF_DELTA: (3, _delta_of_delta),
    DECIMAL: (3, _decimal),
    RUN_LENGTH: (1, _run_length),
    NARROW: (1, _narrow),
}


# --- encoding: every form that fits is tried, the smallest after compression is taken


def encode(
    values: Array, dtype: DTypeLike, *, only: int | None = None, segments: Sequence[int] | None = None
) -> Column:
    """Write a column in the form that compresses best, or in encoding `only` (tests walk all of them).

    `segments` are lengths that an f64 column may be cut into, each with a decimal scale of its own: one a series.
    """
    kind = np.dtype(dtype)
    items = np.ascontiguousarray(values, kind)
    if not len(items):
        return [RAW, 0, b""]
    forms = _forms(items, kind)
    if segments is not None and kind == np.float64:
        forms.append(_segmented(items, segments))
    if only is not None:
        forms = [form for form in forms if form[0] == only]
        if not forms:
            raise WireError(f"encoding {only} can't hold this {kind.name} column")
    if len(forms) == 1 or forms[0][0] == CONSTANT:
        return forms[0]
    return min(forms, key=lambda form: len(pack(_bytes_of(form), 1)))


def _bytes_of(form: Column) -> bytes:
    """Return what of a column is worth compressing."""
    return b"".join(
        _bytes_of(part) if isinstance(part, list) else part for part in form if isinstance(part, list | bytes)
    )


def _segmented(items: Array, segments: Sequence[int]) -> Column:
    """Write decimals by segment (encoding 8)."""
    ends = np.cumsum(np.array(segments, np.int64))
    scales, bases, steps, rest = [], [], [], []
    for start, end in zip((ends - np.array(segments)).tolist(), ends.tolist(), strict=True):
        part = items[start:end]
        scaled = decimal(part)
        if scaled is None:
            scales.append(_RAW_SCALE)
            rest.append(part)
            continue
        k, whole = scaled
        summed, plain = np.diff(whole), whole - whole.min()
        jumps = len(summed) and int(np.abs(summed).max()) > int(plain.max())
        scales.append(k + (_PLAIN if jumps else 0))
        bases.append(int(whole.min() if jumps else whole[0]))
        steps.append(plain if jumps else summed)
    differences = np.concatenate([np.empty(0, np.int64), *steps])
    return [
        DECIMALS,
        len(items),
        encode(np.array(segments), "<u4"),
        encode(np.array(scales), "<u1"),
        encode(np.array(bases, np.int64), "<i8"),
        encode(_zigzag(differences), "<u8"),
        encode(np.concatenate([np.empty(0), *rest]), "<f8"),
    ]


def _zigzag(differences: NDArray[np.int64]) -> NDArray[np.uint64]:
    return ((differences << 1) ^ (differences >> 63)).view(np.uint64)


def _zigzagged(head: Column, differences: NDArray[np.int64]) -> list[Column]:
    """Write differences unsigned: [encoding, count, width, ...] with the width that they need then."""
    items = _zigzag(differences)
    widest = int(items.max()) if len(items) else 0
    width = next(size for size in (1, 2, 4, 8) if widest < 1 << (8 * size))
    encoding, at = head[0], 3 if head[0] == DECIMAL else 2
    parts = [encoding + ZIGZAG, *head[1:at], width, *head[at + 1 :]]
    return _with_planes(parts, items.astype(_ZIGZAG[width]))


def _forms(items: Array, kind: np.dtype[Any]) -> list[Column]:
    count = len(items)
    bits = items.view(f"u{kind.itemsize}")
    forms: list[Column] = []
    if bool((bits == bits[0]).all()):
        forms.append([CONSTANT, count, items[:1].tobytes()])
    forms += _with_planes([RAW, count], items)
    edges = np.flatnonzero(bits[1:] != bits[:-1]) + 1
    starts = np.concatenate((np.zeros(1, np.int64), edges))
    if len(starts) * 2 <= count:
        lengths = np.diff(starts, append=count).astype("<u4")
        forms.append([RUN_LENGTH, count, len(starts), lengths.tobytes() + items[starts].tobytes()])
    if kind.str[1:] in _INTEGERS:
        forms += _integer_forms(items, kind)
    if kind == np.float64:
        forms += _decimal_forms(items)
    if kind.kind == "u":
        widest = int(items.max())
        forms += [
            form
            for width, name in _UNSIGNED.items()
            if width <= kind.itemsize and widest < 1 << (8 * width)
            for form in _with_planes([NARROW, count, width], items.astype(name))
        ]
    return forms


def _with_planes(head: Column, items: Array) -> list[Column]:
    forms: list[Column] = [[*head, items.tobytes()]]
    width = items.dtype.itemsize
    if width > 1 and len(items) > 1:
        planes = np.ascontiguousarray(items.view(np.uint8).reshape(len(items), width).T)
        forms.append([head[0] + PLANES, *head[1:], planes.tobytes()])
    return forms


def _narrowest(steps: NDArray[np.int64]) -> int:
    low, high = (int(steps.min()), int(steps.max())) if len(steps) else (0, 0)
    return next(
        width for width in (1, 2, 4, 8) if -(1 << (8 * width - 1)) <= low and high < 1 << (8 * width - 1)
    )


def _integer_forms(items: Array, kind: np.dtype[Any]) -> list[Column]:
    wide = items.view(np.int64) if kind.itemsize == 8 else items.astype(np.int64)  # noqa: PLR2004
    first = int(items[0])
    steps = np.diff(wide)
    width = _narrowest(steps)
    head: Column = [DELTA, len(items), width, first]
    forms = _with_planes(head, steps.astype(_SIGNED[width])) + _zigzagged(head, steps)
    if len(items) > 1:
        seconds = np.diff(steps)
        width = _narrowest(seconds)
        head = [DELTA_OF_DELTA, len(items), width, first, int(steps[0])]
        forms += _with_planes(head, seconds.astype(_SIGNED[width])) + _zigzagged(head, seconds)
    return forms


def _decimal_forms(items: Array) -> list[Column]:
    scaled = decimal(items)
    if scaled is None:
        return []
    k, whole = scaled
    steps = np.diff(whole)
    width = _narrowest(steps)
    head: Column = [DECIMAL, len(items), k, width, int(whole[0])]
    return _with_planes(head, steps.astype(_SIGNED[width])) + _zigzagged(head, steps)


def decimal(items: Array) -> tuple[int, NDArray[np.int64]] | None:
    """Find the smallest k <= 9 for which round(v * 10^k) / 10^k is bit-equal to v for the whole column."""
    if not bool(np.isfinite(items).all()):
        return None
    bits = items.view(np.int64)
    head = items[:64]
    for k, power in enumerate(_POWERS):
        with np.errstate(over="ignore"):
            if not bool((np.rint(head * power) / power == head).all()):
                continue
            whole = np.rint(items * power)
        if not bool((np.abs(whole) < _EXACT).all()):
            return None
        integers = whole.astype(np.int64)
        if bool(((integers.astype(np.float64) / power).view(np.int64) == bits).all()):
            return k, integers
    return None
