"""Walks an expression and evaluates each node at all times of a piece at once (pieces.py).

A node's value is a scalar (one number a time), a text, or a vector. Ranges exist only as arguments of functions: samples of
a selector, or of a subquery, whose inner expression is evaluated at the subquery's own times.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import promql_parser as ast

from telemetryx.promql import aggregate, binary, elements, histogram, names, over_time, rates, relabel
from telemetryx.promql.data import (
    MAX_SPAN_NS,
    NAME,
    NS,
    Block,
    Bounds,
    Labels,
    Selection,
    Source,
    Use,
    Vector,
    nameless,
)
from telemetryx.promql.errors import BadQuery, ExecutionFailed
from telemetryx.promql.number import text
from telemetryx.promql.operators import COMPARISON, SETS, compare, compute
from telemetryx.promql.parse import matchers
from telemetryx.promql.pieces import CELL, Grid, TooWide, Value, over
from telemetryx.promql.ranges import Ranges, lively, ranges, stale
from telemetryx.types import F64, I64, Matcher

LOOKBACK_NS: Final = 300 * NS
#: The step of a subquery that names none.
DEFAULT_STEP_NS: Final = 60 * NS
#: Bytes of a value while it is computed: where its window lies, and what the functions of a range and of a group compute beside it.
_WINDOW: Final = 128
_GROUPED: Final = 48
_PAIRED: Final = 32
#: Bytes of a sample beside its time and value, while a function looks at it.
_SAMPLE: Final = 24
_SAME: Final = "vector cannot contain metrics with the same labelset"
_USES: Final[dict[str, Use]] = {
    **dict.fromkeys(("avg", "min", "max", "sum", "count", "last", "present", "absent"), "over_time"),
    **dict.fromkeys(("stddev", "stdvar"), "readings"),
    "quantile": "spread",
}

Scalar = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked: the outer times, how far back a value counts, and the end that was named, which may lie behind the last time."""

    times: I64
    lookback_ns: int = LOOKBACK_NS
    bounds: Bounds = field(default_factory=Bounds)
    end_ns: int | None = None


def evaluate(expression: ast.Expr, query: Query, source: Source) -> Value | Block:
    """Evaluate at all times; a range at the top gives its samples at the first time."""
    inner = _Evaluator(query, source)
    bare = expression
    while isinstance(bare, ast.ParenExpr):
        bare = bare.expr
    # Overflow, division by zero and NaN have results in PromQL, and are nobody's mistake.
    with np.errstate(all="ignore"):
        if isinstance(bare, ast.MatrixSelector | ast.SubqueryExpr):
            return inner.samples(bare)
        value = over(query.times, query.bounds, lambda times: inner.piece(expression, times), inner.begin)
        return value.seen() if isinstance(value, Vector) else value


class _Evaluator:
    def __init__(self, query: Query, source: Source) -> None:
        self._query = query
        self._source = source
        self._bounds = replace(query.bounds, hold=self._hold)
        self._grid = Grid.of(query.times)
        self._end = int(query.times[-1]) if query.end_ns is None else query.end_ns
        self._blocks: dict[Selection, Block] = {}
        self._held = 0
        self._alone = True

    def begin(self, times: I64) -> None:
        """Read for these times from now on."""
        self._grid = Grid.of(times)
        self._query.bounds.release(sum(one.nbytes for one in self._blocks.values()))
        self._blocks.clear()

    def piece(self, expression: ast.Expr, times: I64) -> Value:
        """Evaluate at some of the times. Raises TooWide where that are too many."""
        self._alone = len(times) == 1
        try:
            return self.value(expression, times)
        finally:
            self._query.bounds.release(self._held)
            self._held = 0

    def _hold(self, size: int) -> None:
        """Hold memory until the node is evaluated that is being evaluated."""
        self._query.bounds.hold(size)
        self._held += size

    def value(self, node: ast.Expr, times: I64) -> Value:
        self._bounds.check()
        before = self._held
        found = self._value(node, times)
        # What a node needed beside its value is no longer there.
        gone = self._held - before - (found.values.size * CELL if isinstance(found, Vector) else 0)
        self._query.bounds.release(gone)
        self._held -= gone
        return found

    def _value(self, node: ast.Expr, times: I64) -> Value:
        match node:
            case ast.NumberLiteral():
                return np.full(len(times), node.val)
            case ast.StringLiteral():
                return node.val
            case ast.ParenExpr():
                return self.value(node.expr, times)
            case ast.UnaryExpr():
                return self._negative(self.value(node.expr, times))
            case ast.VectorSelector():
                return self._instant(node, times)[0]
            case ast.BinaryExpr():
                return self._binary(node, times)
            case ast.AggregateExpr():
                return self._aggregate(node, times)
            case ast.Call():
                return self._call(node, times)
        raise BadQuery(f"{type(node).__name__} isn't evaluated here")

    def vector(self, node: ast.Expr, times: I64) -> Vector:
        value = self.value(node, times)
        if not isinstance(value, Vector):
            raise BadQuery("an instant vector is expected here")
        return value

    def scalar(self, node: ast.Expr, times: I64) -> F64:
        value = self.value(node, times)
        if isinstance(value, Vector | str):
            raise BadQuery("a scalar is expected here")
        return value

    def samples(self, node: ast.Expr) -> Block:
        """Return the samples in a range at the first time."""
        self._grid = Grid.of(self._query.times[:1])
        found = self._ranges(node, self._query.times[:1], "samples")
        block = found.block
        self._hold(int(found.counts.sum()) * _SAMPLE)
        index = (
            np.concatenate([np.arange(lo, hi) for lo, hi in zip(found.lo[:, 0], found.hi[:, 0], strict=True)])
            if block.labels
            else np.empty(0, np.int64)
        )
        offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(found.counts[:, 0], dtype=np.int64)))
        return Block(block.labels, offsets, block.times[index], block.values[index])

    # --- selectors

    def _at(self, times: I64, at: ast.AtModifier | None, offset: timedelta | None) -> tuple[I64, Grid]:
        """Return the times that a selector looks at, and all that it will look at."""
        grid, back = self._grid, 0 if offset is None else _span(offset)
        if at is not None:
            kind = str(at.type).rpartition(".")[2]
            edges = {"Start": int(self._query.times[0]), "End": self._end}
            moment = edges[kind] if kind in edges else _moment(at)
            times, grid = np.full(len(times), moment, np.int64), Grid(moment, moment, 0)
        return times - back, grid.before(back)

    def _fetch(self, node: ast.VectorSelector, grid: Grid, span: int, use: Use) -> Block:
        rest = int(self._query.times[-1] - self._query.times[0]) - (self._grid.last - self._grid.first)
        whole = grid.last - grid.first + span + max(0, rest)
        wanted = Selection(matchers(node), grid.first - span, grid.last, use, grid.unit, span, whole)
        found = self._blocks.get(wanted)
        if found is None:
            found = self._source.select(wanted)
            found = found if use == "last" else lively(found)
            self._blocks[wanted] = found
        return found

    def _windows(self, block: Block, ends: I64, span: int) -> Ranges:
        cells = len(block.labels) * len(ends)
        if cells > self._bounds.max_piece and not self._alone:
            raise TooWide(len(block.labels))
        self._hold(cells * _WINDOW + len(block.times) * _SAMPLE)
        return ranges(block, ends - span, ends, self._bounds)

    def _instant(self, node: ast.VectorSelector, times: I64) -> tuple[Vector, I64]:
        """Return the newest values within the lookback, and when they were measured."""
        ends, grid = self._at(times, node.at, node.offset)
        span = self._query.lookback_ns
        block = self._fetch(node, grid, span, "last")
        found = self._windows(block, ends, span)
        present = found.hi > found.lo
        newest = np.where(present, found.hi - 1, 0)
        if not len(block.times):
            return Vector.empty(len(times)), np.empty((0, len(times)), np.int64)
        if np.isnan(block.values).any():
            present &= ~stale(block.values)[newest]
        return Vector(block.labels, np.where(present, block.values[newest], np.nan), present), block.times[
            newest
        ]

    def _ranges(self, node: ast.Expr, times: I64, use: Use) -> Ranges:
        while isinstance(node, ast.ParenExpr):
            node = node.expr
        if isinstance(node, ast.MatrixSelector):
            inner = node.vector_selector
            (ends, grid), span = self._at(times, inner.at, inner.offset), _span(node.range)
            return self._windows(self._fetch(inner, grid, span, use), ends, span)
        if isinstance(node, ast.SubqueryExpr):
            (ends, grid), span = self._at(times, node.at, node.offset), _span(node.range)
            return self._windows(self._subquery(node, ends, grid, span), ends, span)
        raise BadQuery("a range is expected here")

    def _subquery(self, node: ast.SubqueryExpr, ends: I64, grid: Grid, span: int) -> Block:
        step = DEFAULT_STEP_NS if node.step is None else _span(node.step)
        whole, part = grid.within(span, step), Grid.of(ends).within(span, step)
        if whole is None or part is None:
            return Block.empty()
        count = (part.last - part.first) // step + 1
        if count > self._bounds.max_cells:
            raise ExecutionFailed(f"the subquery has {count} steps; use a wider one")
        times = part.first + step * np.arange(count, dtype=np.int64)
        outer, self._grid = self._grid, whole
        try:
            value = self.vector(node.expr, times)
        finally:
            self._grid = outer
        offsets = np.concatenate(
            (np.zeros(1, np.int64), np.cumsum(value.present.sum(axis=1), dtype=np.int64))
        )
        self._hold(int(offsets[-1]) * 2 * _SAMPLE)
        return Block(value.labels, offsets, times[np.nonzero(value.present)[1]], value.values[value.present])

    # --- operators

    @staticmethod
    def _negative(value: Value) -> Value:
        if isinstance(value, str):
            raise BadQuery("a text has no sign")
        if not isinstance(value, Vector):
            return -value
        return binary.merged(Vector(nameless(value.labels), -value.values, value.present), _SAME)

    def _binary(self, node: ast.BinaryExpr, times: I64) -> Value:
        op, left, right = str(node.op), self.value(node.lhs, times), self.value(node.rhs, times)
        matching = _matching(node.modifier)
        self._hold(sum(one.values.size for one in (left, right) if isinstance(one, Vector)) * _PAIRED)
        if isinstance(left, Vector) and isinstance(right, Vector):
            if op in SETS:
                return binary.sets(op, left, right, matching)
            return binary.vectors(op, left, right, matching, self._bounds)
        if isinstance(left, str) or isinstance(right, str):
            raise BadQuery(f"operator {op} takes no text")
        if isinstance(left, Vector):
            return self._scaled(op, left, np.asarray(right), matching, swapped=False)
        if isinstance(right, Vector):
            return self._scaled(op, right, np.asarray(left), matching, swapped=True)
        return compare(op, left, right).astype(np.float64) if op in COMPARISON else compute(op, left, right)

    @staticmethod
    def _scaled(op: str, vector: Vector, scalar: F64, matching: binary.Matching, *, swapped: bool) -> Vector:
        bare = matching.returns_bool or op not in COMPARISON
        out = binary.with_scalar(op, vector, scalar, swapped=swapped, returns_bool=matching.returns_bool)
        if bare:
            out.labels = nameless(out.labels)
        return binary.merged(out, _SAME)

    def _aggregate(self, node: ast.AggregateExpr, times: I64) -> Vector:
        op, vector = str(node.op), self.vector(node.expr, times).seen()
        self._hold(vector.values.size * _GROUPED)
        modifier, param = node.modifier, node.param
        grouping = aggregate.Grouping(
            modifier is None or str(modifier.type).endswith("By"),
            frozenset(() if modifier is None else modifier.labels),
        )
        if param is None:
            return aggregate.reduce(op, vector, grouping)
        if op in {"topk", "bottomk"}:
            return aggregate.choose(op, vector, grouping, self.scalar(param, times))
        if op == "quantile":
            return aggregate.quantile(vector, grouping, self.scalar(param, times))
        label = self.value(param, times)
        if not isinstance(label, str) or not label:
            raise ExecutionFailed(f"invalid label name {label!r}")
        return aggregate.count_values(vector, grouping, label, text, self._bounds)

    # --- functions

    def _call(self, node: ast.Call, times: I64) -> Value:
        name, given = node.func.name, list(node.args)
        if name in names.RANGE_FUNCTIONS:
            return self._range_function(name, given, times)
        if name in names.ELEMENT_FUNCTIONS:
            return self._each(given[0], times, lambda values: elements.element(name, values))
        if name in names.DATE_FUNCTIONS:
            if not given:
                return Vector(
                    [()], elements.date_part(name, times / NS)[None], np.ones((1, len(times)), np.bool_)
                )
            return self._each(given[0], times, lambda values: elements.date_part(name, values))
        handler: Callable[[Sequence[Any], I64], Value] = getattr(self, f"_{name}")
        return handler(given, times)

    def _each(self, node: ast.Expr, times: I64, function: Callable[[F64], F64]) -> Vector:
        found = self.vector(node, times)
        self._hold(found.values.size * CELL)
        return binary.merged(Vector(nameless(found.labels), function(found.values), found.present), _SAME)

    def _range_function(self, name: str, given: Sequence[Any], times: I64) -> Vector:
        ranged = given[1] if name == "quantile_over_time" else given[0]
        found = self._ranges(ranged, times, _USES.get(name.removesuffix("_over_time"), "samples"))
        if name == "absent_over_time":
            return _absent((found.counts > 0).any(axis=0), ranged, len(times))
        present = found.hi > found.lo
        match name:
            case "rate" | "increase" | "delta":
                values, present = rates.extrapolated(
                    found, counter=name != "delta", per_second=name == "rate"
                )
            case "irate" | "idelta":
                values, present = rates.instantaneous(found, counter=name == "irate")
            case "deriv":
                values, present = over_time.regression(found, None, self._bounds)[0], found.counts > 1
            case "predict_linear":
                slopes, levels = over_time.regression(found, times, self._bounds)
                values, present = levels + slopes * self.scalar(given[1], times), found.counts > 1
            case "quantile_over_time":
                values = over_time.quantile(found, self.scalar(given[0], times), self._bounds)
            case "stddev_over_time" | "stdvar_over_time":
                values = over_time.variance(found, self._bounds)
                values = np.sqrt(values) if name == "stddev_over_time" else values
            case _:
                values = _SIMPLE[name](found)
        labels = found.block.labels if name == "last_over_time" else nameless(found.block.labels)
        out = Vector(labels, values, present).seen()
        if len(set(out.labels)) < len(out.labels):
            raise ExecutionFailed(_SAME)
        return out

    def _time(self, given: Sequence[Any], times: I64) -> F64:
        del given
        return np.asarray(times / NS)

    def _pi(self, given: Sequence[Any], times: I64) -> F64:
        del given
        return np.full(len(times), math.pi)

    def _timestamp(self, given: Sequence[Any], times: I64) -> Vector:
        node = given[0]
        while isinstance(node, ast.ParenExpr):
            node = node.expr
        if isinstance(node, ast.VectorSelector):
            found, measured = self._instant(node, times)
            out = Vector(nameless(found.labels), measured / NS, found.present)
        else:
            found = self.vector(node, times)
            moments = np.broadcast_to(times / NS, found.values.shape)
            out = Vector(nameless(found.labels), moments, found.present)
        return binary.merged(out.seen(), _SAME)

    def _scalar(self, given: Sequence[Any], times: I64) -> F64:
        found = self.vector(given[0], times)
        one = found.present.sum(axis=0) == 1
        return np.where(one, np.where(found.present, found.values, 0.0).sum(axis=0), np.nan)

    def _vector(self, given: Sequence[Any], times: I64) -> Vector:
        return Vector([()], self.scalar(given[0], times)[None], np.ones((1, len(times)), np.bool_))

    def _absent(self, given: Sequence[Any], times: I64) -> Vector:
        return _absent(self.vector(given[0], times).present.any(axis=0), given[0], len(times))

    def _sort(self, given: Sequence[Any], times: I64) -> Vector:
        return _sorted(self.vector(given[0], times).seen(), 1.0)

    def _sort_desc(self, given: Sequence[Any], times: I64) -> Vector:
        return _sorted(self.vector(given[0], times).seen(), -1.0)

    def _round(self, given: Sequence[Any], times: I64) -> Vector:
        nearest = self.scalar(given[1], times) if len(given) > 1 else np.ones(len(times))
        return self._each(given[0], times, lambda values: elements.rounded(values, nearest))

    def _clamp(self, given: Sequence[Any], times: I64) -> Vector:
        return self._clamped(given[0], times, self.scalar(given[1], times), self.scalar(given[2], times))

    def _clamp_min(self, given: Sequence[Any], times: I64) -> Vector:
        return self._clamped(given[0], times, self.scalar(given[1], times), np.full(len(times), np.inf))

    def _clamp_max(self, given: Sequence[Any], times: I64) -> Vector:
        return self._clamped(given[0], times, np.full(len(times), -np.inf), self.scalar(given[1], times))

    def _clamped(self, node: ast.Expr, times: I64, low: F64, high: F64) -> Vector:
        out = self._each(node, times, lambda values: elements.clamped(values, low, high))
        out.present = out.present & ~(low > high)
        return out

    def _histogram_quantile(self, given: Sequence[Any], times: I64) -> Vector:
        wanted = self.scalar(given[0], times)
        return histogram.quantile(self.vector(given[1], times), wanted).seen()

    def _label_replace(self, given: Sequence[Any], times: I64) -> Vector:
        found = self.vector(given[0], times)
        target, template, source, pattern = (str(self.value(one, times)) for one in given[1:])
        labels = relabel.replace(found.labels, target, template, source, pattern)
        return binary.merged(Vector(labels, found.values, found.present).seen(), _SAME)

    def _label_join(self, given: Sequence[Any], times: I64) -> Vector:
        found = self.vector(given[0], times)
        target, separator, *sources = (str(self.value(one, times)) for one in given[1:])
        labels = relabel.join(found.labels, target, separator, sources)
        return binary.merged(Vector(labels, found.values, found.present).seen(), _SAME)


_SIMPLE: Final[dict[str, Callable[[Ranges], F64]]] = {
    "sum_over_time": over_time.total,
    "count_over_time": over_time.number,
    "avg_over_time": over_time.mean,
    "min_over_time": over_time.least,
    "max_over_time": over_time.most,
    "last_over_time": over_time.last,
    "present_over_time": lambda found: np.ones(found.lo.shape),
    "changes": over_time.changes,
    "resets": over_time.resets,
}


def _absent(there: Any, node: ast.Expr, times: int) -> Vector:  # noqa: ANN401  a mask
    """Make the series that says that there is none, with the labels that one would have."""
    return Vector([_expected(node)], np.ones((1, times)), ~there[None]).seen()


def _expected(node: ast.Expr) -> Labels:
    while isinstance(node, ast.ParenExpr):
        node = node.expr
    if isinstance(node, ast.MatrixSelector):
        node = node.vector_selector
    if not isinstance(node, ast.VectorSelector) or node.matchers.or_matchers:
        return ()
    found: dict[str, list[Matcher]] = {}
    for one in matchers(node)[0]:
        found.setdefault(one.name, []).append(one)
    return tuple(
        (name, some[0].value)
        for name, some in sorted(found.items())
        if name != NAME and len(some) == 1 and some[0].op == "=" and some[0].value
    )


def _sorted(found: Vector, sign: float) -> Vector:
    if found.values.shape[1] != 1:
        return found
    order = np.lexsort((np.isnan(found.values[:, 0]), sign * found.values[:, 0]))
    return Vector(
        [found.labels[row] for row in order.tolist()], found.values[order], found.present[order], ordered=True
    )


def _matching(modifier: ast.BinModifier | None) -> binary.Matching:
    if modifier is None:
        return binary.Matching()
    many = {"ManyToOne": "left", "OneToMany": "right"}.get(str(modifier.card).rpartition(".")[2], "")
    on = modifier.matching is not None and str(modifier.matching.type).endswith("Include")
    labels = frozenset(() if modifier.matching is None else modifier.matching.labels)
    return binary.Matching(on, labels, many, tuple(modifier.group_labels or ()), modifier.return_bool)


def _span(length: timedelta | None) -> int:
    if length is None:
        raise BadQuery("a range without a length isn't evaluated here")
    nanoseconds = ((length.days * 86_400 + length.seconds) * 1_000_000 + length.microseconds) * 1_000
    if abs(nanoseconds) > MAX_SPAN_NS:
        raise BadQuery(f"a span of {length.days} days is longer than is evaluated here (100 years)")
    return nanoseconds


_EPOCH: Final = datetime.fromtimestamp(0, UTC)


def _moment(at: ast.AtModifier) -> int:
    try:
        moment = at.at
    except (ValueError, OverflowError) as error:
        # The parser takes any number; a time it becomes only here.
        raise BadQuery('invalid parameter "query": the time after @ is no time that there is') from error
    if moment is None:
        raise BadQuery("@ without a time isn't evaluated here")
    return _span(moment - _EPOCH)
