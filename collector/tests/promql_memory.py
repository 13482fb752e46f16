"""A source of samples in memory, and expressions evaluated on it: what the evaluator's tests speak in."""

import json
import re
from collections.abc import Mapping, Sequence

import numpy as np
import promql_parser

from telemetryx.promql.data import NS, Block, Bounds, Labels, Selection, Vector
from telemetryx.promql.evaluate import Query, evaluate
from telemetryx.promql.parse import parse
from telemetryx.store.regex import regex
from telemetryx.types import Matcher

Points = Sequence[tuple[float, float]]
#: Labels as in a selector, and samples as (seconds, value).
Data = Mapping[str, Points]


def labels(text: str) -> Labels:
    """Read `name{a="1"}` as labels."""
    if text in {"", "{}"}:
        return ()
    found = promql_parser.parse(text)
    assert isinstance(found, promql_parser.VectorSelector)
    pairs = {one.name: one.value for one in found.matchers.matchers}
    return tuple(sorted({**pairs, **({"__name__": found.name} if found.name else {})}.items()))


def every(seconds: float, values: Sequence[float], begin: float = 0.0) -> list[tuple[float, float]]:
    """Make samples at equal distances."""
    return [(begin + seconds * at, value) for at, value in enumerate(values)]


class Memory:
    """Samples by series."""

    def __init__(self, data: Data) -> None:
        """Hold these."""
        self._data = {labels(name): points for name, points in data.items()}
        self.asked: list[Selection] = []

    def select(self, wanted: Selection) -> Block:
        """Return what meets one group of matchers, in (start, end]."""
        self.asked.append(wanted)
        found: list[Labels] = []
        times: list[np.ndarray] = []
        values: list[np.ndarray] = []
        for one, points in self._data.items():
            if not any(all(_met(matcher, dict(one)) for matcher in group) for group in wanted.groups):
                continue
            at = np.array([round(second * NS) for second, _ in points], np.int64)
            inside = (at > wanted.start_ns) & (at <= wanted.end_ns)
            found.append(one)
            times.append(at[inside])
            values.append(np.array([value for _, value in points], np.float64)[inside])
        if not found:
            return Block.empty()
        offsets = np.concatenate(([0], np.cumsum([len(part) for part in times]))).astype(np.int64)
        return Block(found, offsets, np.concatenate(times), np.concatenate(values))


def _met(matcher: Matcher, pairs: Mapping[str, str]) -> bool:
    value = pairs.get(matcher.name, "")
    if matcher.op in {"=", "!="}:
        return (value == matcher.value) == (matcher.op == "=")
    return regex(matcher.value).matches(value) == (matcher.op == "=~")


Shown = dict[str, list[float | None]] | list[float] | str


def ask(data: Data, text: str, *seconds: float, bounds: Bounds | None = None) -> Shown:
    """Evaluate at these times (0 when none is given); series are named as `shown` writes them."""
    times = np.array([round(second * NS) for second in seconds or (0.0,)], np.int64)
    found = evaluate(parse(text), Query(times, bounds=bounds or Bounds()), Memory(data))
    if isinstance(found, Vector):
        return {
            shown(one): [
                value if there else None for value, there in zip(row.tolist(), seen.tolist(), strict=True)
            ]
            for one, row, seen in zip(found.labels, found.values, found.present, strict=True)
        }
    if isinstance(found, Block):
        return {
            shown(one): found.values[begin:end].tolist()
            for one, begin, end in zip(found.labels, found.offsets[:-1], found.offsets[1:], strict=True)
        }
    return found if isinstance(found, str) else found.tolist()


def shown(one: Labels) -> str:
    """Write labels as a selector, the name first where it may stand so."""
    pairs = dict(one)
    name = pairs.pop("__name__", "")
    if name and not re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", name):
        pairs, name = {"__name__": name, **pairs}, ""
    inner = ",".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in pairs.items())
    return name + (f"{{{inner}}}" if inner else "")
