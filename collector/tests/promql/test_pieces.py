"""A query over many series and times is computed piece by piece, and some stretches of time after others: the answer is the same."""

import math

import numpy as np
import pytest

from promql_memory import Memory, every
from telemetryx.promql.data import NS, Block, Bounds, Selection, Vector
from telemetryx.promql.errors import ExecutionFailed, TooManySamples
from telemetryx.promql.evaluate import Query, evaluate
from telemetryx.promql.parse import parse

DATA = {
    **{
        f'c{{a="{n}",b="{n % 3}"}}': every(7 + n, [(n + 1) * (at % 40) for at in range(60)], n)
        for n in range(9)
    },
    'g{a="0"}': every(15, [math.nan if at % 5 == 0 else at for at in range(40)]),
    'g{a="1"}': every(15, [math.inf if at == 7 else -at for at in range(10)], 200.0),
    **{
        f'h_bucket{{le="{le}"}}': every(20, [at * n for at in range(30)])
        for n, le in enumerate(("1", "2", "+Inf"), 1)
    },
}
EXPRESSIONS = (
    "c", "sum by (b) (c)", "topk(2, c)", "bottomk by (b) (1, c)", "quantile(0.4, c)", "count_values('v', g)",
    "rate(c[1m])", "sum(rate(c[1m])) / 3", "max_over_time(rate(c[30s])[2m:10s])", "avg_over_time(sum(c)[90s:])",
    "c + on (a) group_left g", "c and on (a) g", "g or c", "c unless on (a) g", "c @ end() - c @ start()",
    "c offset -30s", "sum_over_time(g[1m] @ 200)", "absent(g{a='1'})", "absent_over_time(g{a='1'}[1m])",
    "scalar(g{a='1'}) + time()", "timestamp(g)", "vector(time())", "label_replace(c, 'b', 'x', '', '')",
    "histogram_quantile(0.5, rate(h_bucket[1m]))", "quantile_over_time(0.3, c[1m])", "deriv(c[1m])", "7", "nothing",
    "min_over_time(c[50s:20s] offset 10s)", "stddev_over_time(c[1m])", "(c > 20) * 2", "-c", "hour(c)",
)  # fmt: skip
TIMES = np.arange(0, 600 * NS, 10 * NS, dtype=np.int64)


class Small(Memory):
    """Reads few samples at once."""

    most = 10**9

    def select(self, wanted: Selection) -> Block:
        """Refuse more, as a store does."""
        found = super().select(wanted)
        if len(found.times) > self.most:
            raise TooManySamples(f"{len(found.times)} samples")
        return found


def table(found: object) -> dict[object, object]:
    """Make an answer comparable, whatever the order of its series."""
    if not isinstance(found, Vector):
        return {(): repr(found)}
    return {
        labels: [(at, repr(value)) for at, value in enumerate(row.tolist()) if seen[at]]
        for labels, row, seen in zip(found.labels, found.values, found.present, strict=True)
    }


def asked(text: str, piece: int, most: int) -> dict[object, object]:
    """Evaluate with so many values and samples at once; or return the refusal."""
    source = Small(DATA)
    source.most = most
    try:
        return table(evaluate(parse(text), Query(TIMES, bounds=Bounds(max_piece=piece)), source))
    except TooManySamples:
        raise
    except ExecutionFailed as error:
        return {(): type(error).__name__}


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_pieces_of_any_size_give_the_answer_that_all_times_at_once_give(text: str) -> None:
    """To the last bit: one time at once, some, and with samples read for some of the times alone."""
    whole = asked(text, 10**9, 10**9)
    for piece, most in ((1, 10**9), (70, 10**9), (10**9, 400), (40, 400)):
        assert asked(text, piece, most) == whole, (piece, most)


def test_what_one_time_alone_needs_too_much_for_is_refused() -> None:
    """No piece is smaller; and each time's samples are refused once, not again for each half."""
    source = Small(DATA)
    source.most = 3
    with pytest.raises(TooManySamples):
        evaluate(parse("sum(sum_over_time(c[5m]))"), Query(TIMES[30:]), source)
    assert len(source.asked) <= 1 + math.ceil(math.log2(len(TIMES)))


def test_a_selector_that_stands_twice_is_read_once() -> None:
    """Also where it is evaluated in pieces."""
    source = Small(DATA)
    evaluate(parse("c * 2 + c"), Query(TIMES, bounds=Bounds(max_piece=50)), source)
    assert len(source.asked) == 1


def test_what_a_query_holds_is_told_and_let_go() -> None:
    """Little while pieces are computed; in the end what is held is the answer and what was read."""
    held, most = 0, 0

    def hold(size: int) -> None:
        nonlocal held, most
        held += size
        most = max(most, held)

    def release(size: int) -> None:
        nonlocal held
        held -= size

    def told(piece: int) -> tuple[int, int]:
        nonlocal held, most
        held = most = 0
        bounds = Bounds(max_piece=piece, hold=hold, release=release)
        evaluate(parse("sum by (b) (rate(c[1m]) * 2)"), Query(TIMES, bounds=bounds), Memory(DATA))
        return held, most

    whole, pieces = told(10**9), told(40)
    assert whole[0] == pieces[0] == 3 * len(TIMES) * 9
    assert pieces[1] < whole[1] / 2


def test_a_query_that_may_not_hold_more_ends_before_it_does() -> None:
    """With what `hold` raises."""

    def hold(size: int) -> None:
        if size > 100_000:
            raise ExecutionFailed("too much")

    with pytest.raises(ExecutionFailed, match="too much"):
        evaluate(parse("max_over_time(c[10m:1s])"), Query(TIMES[:1], bounds=Bounds(hold=hold)), Memory(DATA))
