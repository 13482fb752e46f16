"""P6: alert history depends on the data, not on when it arrived."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

S = 1_000_000_000
T0 = 1_700_000_000 * S
LATER = T0 + 86_400 * S


@dataclass(frozen=True)
class Reading:
    """One sample: which series, when (in ms after T0), what."""

    series: int
    ms: int
    value: float


def rule(agg: str, window: int, for_: int, recover: str, interval: str, group_by: str) -> str:
    """Write a rule file."""
    lines = [
        "rules:",
        "  - name: r",
        "    select: m",
        f"    agg: {agg}",
        f"    window: {window}s",
        f"    when: '{'> 3' if agg == 'count' else '> 1'}'",
        f"    for: {for_}s",
        f"    interval: {interval}",
    ]
    if recover:
        lines.append(f"    recover_when: '{recover}'")
    if group_by:
        lines.append(f"    group_by: [{group_by}]")
    return "\n".join(lines)


RULES = st.builds(
    rule,
    st.sampled_from(["avg", "min", "max", "last", "count"]),
    st.sampled_from([10, 25, 40]),
    st.sampled_from([0, 10, 30]),
    st.sampled_from(["", "< 0.6"]),
    st.sampled_from(["10s", "5s", "reading"]),
    st.sampled_from(["", "agent"]),
)


def readings_of(values: list[float]) -> st.SearchStrategy[list[Reading]]:
    """Draw readings over 200 s, often on the grid's points, often at equal times."""
    times = st.one_of(st.integers(0, 200_000), st.integers(0, 40).map(lambda cell: cell * 5_000))
    one = st.builds(Reading, st.integers(0, 2), times, st.sampled_from(values))
    return st.lists(one, min_size=1, max_size=40)


READINGS = readings_of([0.1, 0.3, 0.7, 1.0, 1.1, 1.7, 2.3, math.nan])
EXACT = readings_of([0.125, 0.25, 0.75, 1.25, 1.75, 2.5, math.nan])
"""Values whose sums are exact in any order: for the comparison with plain Python."""
LABELS = [
    {"device": "a", "model_version": "1"},
    {"device": "b", "model_version": "1"},
    {"device": "a", "model_version": "2"},
]


async def history(
    bench: Any,
    text: str,
    batches: Sequence[tuple[int, Sequence[Reading]]],
    breaks: Sequence[int],
    pauses: Sequence[int] = (),
) -> list[tuple[Any, ...]]:
    """Deliver batches in this order; after each say whether it is judged at once (1), after a restart (2), or later (0).

    With pauses the clock runs: it begins with the readings and moves so many seconds after each batch.
    """
    at = bench(text, now_ns=T0 if pauses else LATER)
    await at.settle()  # rules judge what comes after they began
    for (seq, readings), stop, pause in zip(batches, breaks, pauses or [0] * len(batches), strict=True):
        rows = [("m", LABELS[one.series], T0 + one.ms * 1_000_000, one.value) for one in readings]
        at.store.commit_samples(seq, rows)
        at.clock.advance(pause * S)
        if stop == 2:
            at.restart()
        if stop:
            await at.settle()
    at.clock.step(LATER - at.clock.now_ns())
    await at.settle()
    found: list[tuple[Any, ...]] = at.store.standing()
    assert {state for _, state in at.store.told} <= {"firing", "resolved", "retracted"}
    return found


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=RULES, readings=READINGS, data=st.data())
def test_any_order_and_delay_of_batches_gives_the_same_standing_alerts(
    bench: Any, text: str, readings: list[Reading], data: st.DataObject
) -> None:
    """However batches arrive, are judged in between, and the collector is restarted: the alerts are bit-equal."""
    cut = data.draw(st.lists(st.integers(0, 7), min_size=len(readings), max_size=len(readings)))
    batches = [
        (seq, [one for one, mine in zip(readings, cut, strict=True) if mine == seq])
        for seq in sorted(set(cut))
    ]
    order = data.draw(st.permutations(batches))
    breaks = data.draw(st.lists(st.sampled_from([0, 1, 1, 2]), min_size=len(order), max_size=len(order)))
    at_once = asyncio.run(history(bench, text, batches, [0] * len(batches)))
    pauses = data.draw(
        st.one_of(st.just([]), st.lists(st.integers(0, 60), min_size=len(order), max_size=len(order)))
    )
    arrived = asyncio.run(history(bench, text, order, breaks, pauses))
    assert repr(arrived) == repr(at_once)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=RULES, readings=READINGS, data=st.data())
def test_any_cut_into_batches_gives_the_same_standing_alerts(
    bench: Any, text: str, readings: list[Reading], data: st.DataObject
) -> None:
    """Where the agent cuts its batches is of no matter, as long as no two readings of a series share a time."""
    unique = list({(one.series, one.ms): one for one in readings}.values())
    cut = data.draw(st.lists(st.integers(0, 9), min_size=len(unique), max_size=len(unique)))
    batches = [
        (seq, [one for one, mine in zip(unique, cut, strict=True) if mine == seq]) for seq in sorted(set(cut))
    ]
    whole = asyncio.run(history(bench, text, [(1, unique)], [1]))
    parts = asyncio.run(history(bench, text, batches, [1] * len(batches)))
    assert repr(parts) == repr(whole)


def expected(text: str, readings: list[Reading]) -> list[tuple[int, int | None, int | None]]:
    """Say what should stand, by the rule's words alone: one group, point by point, in plain Python."""
    key = dict(line.strip().split(": ", 1) for line in text.splitlines()[2:] if ": " in line)
    window, for_ = (int(key[name][:-1]) * 1_000 for name in ("window", "for"))
    step = 0 if key["interval"] == "reading" else int(key["interval"][:-1]) * 1_000
    sound = sorted((one for one in readings if not math.isnan(one.value)), key=lambda one: one.ms)
    if not readings:
        return []
    if step:
        last = -(-max(one.ms for one in readings) // step) * step
        points = list(range(0, last + 1, step))
    else:
        points = sorted({one.ms for one in sound})
    found: list[tuple[int, int | None, int | None]] = []
    since = fired = None
    before = -(10**9)
    for point in points:
        values = [one.value for one in sound if point - window < one.ms <= point]
        if not values:
            continue
        value = {
            "avg": sum(values) / len(values),
            "min": min(values),
            "max": max(values),
            "last": values[-1],
            "count": len(values),
        }[key["agg"]]
        when = value > (3 if key["agg"] == "count" else 1)
        recovered = value < 0.6 if "recover_when" in key else not when
        pause = point - before > max(window, for_)
        before = point
        if fired is not None:
            if recovered:
                found.append((since, fired, point))
                since = fired = None
            continue
        if not when:
            since = None
            continue
        if since is None or pause:
            since = point
        if point - since >= for_:
            fired = point
    if since is not None:
        found.append((since, fired, None))
    return found


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=RULES, readings=EXACT)
def test_what_stands_is_what_the_rule_says(bench: Any, text: str, readings: list[Reading]) -> None:
    """Against a slow evaluation in plain Python, written from the documentation alone."""
    mine = list({one.ms: Reading(0, one.ms, one.value) for one in readings}.values())
    found = asyncio.run(history(bench, text, [(1, mine)], [1])) if mine else []
    base = [
        (
            T0 + start * 1_000_000,
            None if fired is None else T0 + fired * 1_000_000,
            None if end is None else T0 + end * 1_000_000,
        )
        for start, fired, end in expected(text, mine)
    ]
    assert [(row[2], row[4], row[5]) for row in found] == base


@pytest.mark.parametrize("agg", ["avg", "max", "last"])
async def test_a_backlog_that_comes_in_pieces_beside_live_readings_gives_the_on_time_alerts(
    bench: Any, agg: str
) -> None:
    """An hour offline: live readings first, then the backlog, oldest first, a few minutes a batch."""
    text = rule(agg, 30, 20, "< 0.6", "10s", "")
    values = [2.0 if 300 <= second < 500 or 2_000 <= second < 2_900 else 0.3 for second in range(0, 3_600, 5)]
    readings = [Reading(0, second * 5_000 + 1_000, value) for second, value in enumerate(values)]
    on_time = await history(
        bench, text, [(n, readings[n : n + 1]) for n in range(len(readings))], [1] * len(readings)
    )
    live, backlog = readings[600:], [(n, readings[n : n + 30]) for n in range(0, 600, 30)]
    mixed: list[tuple[int, list[Reading]]] = []
    for index, batch in enumerate(backlog):
        mixed.append((700 + index, live[index * 6 : (index + 1) * 6]))
        mixed.append(batch)
    assert await history(bench, text, mixed, [1] * len(mixed)) == on_time
    assert [row[3] for row in on_time] == ["resolved", "resolved"]
