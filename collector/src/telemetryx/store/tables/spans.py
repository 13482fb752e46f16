"""Sets of half-open time spans: what of a range must be read raw."""

from collections.abc import Iterable

Span = tuple[int, int]


def union(spans: Iterable[Span]) -> list[Span]:
    """Sort, and join what overlaps or touches."""
    out: list[Span] = []
    for start, end in sorted(spans):
        if start >= end:
            continue
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((start, end))
    return out


def aligned(spans: Iterable[Span], unit: int, within: Span) -> list[Span]:
    """Widen spans to whole units, clip them to a range that is itself aligned, and join them."""
    return union(
        (max(start // unit * unit, within[0]), min(-(-end // unit) * unit, within[1])) for start, end in spans
    )


def without(whole: Span, spans: Iterable[Span]) -> list[Span]:
    """Return what is left of a range."""
    out: list[Span] = []
    at = whole[0]
    for start, end in spans:
        if start > at:
            out.append((at, start))
        at = max(at, end)
    if at < whole[1]:
        out.append((at, whole[1]))
    return out
