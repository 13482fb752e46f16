"""Any expression over any data has an answer or a refusal: never another failure, and the same at one time as over many."""

import math
import threading

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from promql_memory import Memory
from telemetryx.promql import names
from telemetryx.promql.data import NS, Block, Vector
from telemetryx.promql.errors import PromqlError
from telemetryx.promql.evaluate import Query, evaluate
from telemetryx.promql.parse import MAX_NESTING, parse

NUMBERS = ("0", "1", "-2.5", "1e300", "NaN", "Inf", "time()", "scalar(a)")
SELECTORS = ("a", 'a{x="1"}', "b", '{__name__=~"a|b"}', "a offset 10s", "a @ 40", "nothing", "b @ end()")
RANGES = ("a[1m]", "b[30s] offset 5s", "nothing[1m]", '{__name__=~"a|b"}[20s]', "a[1s]")
ONE_RANGE = sorted(names.RANGE_FUNCTIONS - {"quantile_over_time", "predict_linear"})
AGGREGATIONS = ("sum", "avg", "min", "max", "count", "group", "stddev", "stdvar")
OPERATORS = ("+", "-", "*", "/", "%", "^", "atan2", "==", "!=", ">", "<=", "and", "or", "unless", "> bool")
MATCHINGS = ("", "on (x)", "ignoring (x)", "on (x) group_left ()", "ignoring (y) group_right (x)")

scalars = st.sampled_from(NUMBERS)
ranges = st.sampled_from(RANGES)


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    one = st.builds(
        "{}({})".format,
        st.sampled_from(sorted(names.ELEMENT_FUNCTIONS | {"absent", "sort", "timestamp", "hour"})),
        inner,
    )
    grouped = st.builds(
        "{} {} ({})".format,
        st.sampled_from(AGGREGATIONS),
        st.sampled_from(("", "by (x)", "without (y)")),
        inner,
    )
    chosen = st.builds("{}({}, {})".format, st.sampled_from(("topk", "bottomk", "quantile")), scalars, inner)
    pair = st.builds(
        "({}) {} {} ({})".format, inner, st.sampled_from(OPERATORS), st.sampled_from(MATCHINGS), inner
    )
    mixed = st.builds("({}) {} {}".format, inner, st.sampled_from(OPERATORS[:7]), scalars)
    sub = st.builds("{}(({})[1m:7s])".format, st.sampled_from(ONE_RANGE), inner)
    clamp = st.builds("clamp({}, {}, {})".format, inner, scalars, scalars)
    relabelled = st.builds('label_replace({}, "x", "$1", "y", "(.*)")'.format, inner)
    return one | grouped | chosen | pair | mixed | sub | clamp | relabelled


leaves = st.one_of(
    st.sampled_from(SELECTORS),
    st.builds("{}({})".format, st.sampled_from(ONE_RANGE), ranges),
    st.builds("quantile_over_time({}, {})".format, scalars, ranges),
    st.builds("predict_linear({}, {})".format, ranges, scalars),
    st.builds("vector({})".format, scalars),
)
expressions = st.recursive(leaves, _grown, max_leaves=6)
values = st.one_of(st.floats(-100, 100), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1e308, 5e-324]))
points = st.lists(st.tuples(st.integers(0, 90), values), max_size=12, unique_by=lambda one: one[0]).map(
    sorted
)
fields = st.fixed_dictionaries(
    {'a{x="1"}': points, 'a{x="2",y="q"}': points, 'b{x="1"}': points, 'b{x="1",y="r"}': points}
)


@settings(max_examples=200, deadline=None, phases=(Phase.reuse, Phase.generate, Phase.shrink))
@given(expressions, fields)
def test_an_expression_has_an_answer_or_a_refusal(
    text: str, data: dict[str, list[tuple[float, float]]]
) -> None:
    """And what is answered over many times is what each time alone answers."""
    times = np.array([5, 30, 31, 90], np.int64) * NS
    source = Memory(data)
    try:
        whole = evaluate(parse(text), Query(times), source)
    except PromqlError:
        return
    if not isinstance(whole, Vector) or "@ end()" in text:
        assert not isinstance(whole, Block)
        return
    assert whole.values.shape == whole.present.shape == (len(whole.labels), len(times))
    assert len(set(whole.labels)) == len(whole.labels)
    for at in range(len(times)):
        single = evaluate(parse(text), Query(times[at : at + 1]), source)
        assert isinstance(single, Vector)
        mine = {
            one: row[at]
            for one, row, seen in zip(whole.labels, whole.values, whole.present, strict=True)
            if seen[at]
        }
        assert set(single.labels) == set(mine)
        for one, row in zip(single.labels, single.values, strict=True):
            assert row[0] == pytest.approx(mine[one], nan_ok=True, rel=1e-9), one


@pytest.mark.parametrize(
    "text",
    ["(" * 195 + "x" + ")" * 195, "-" * 199 + "x", "+".join(["x"] * 200), "abs(" * 190 + "x" + ")" * 190],
)
def test_the_deepest_expression_that_is_taken_is_evaluated_in_a_thread(text: str) -> None:
    """The bound on nesting leaves the parser and the evaluator enough stack."""
    found: list[object] = []

    def work() -> None:
        found.append(evaluate(parse(text), Query(np.array([NS], np.int64)), Memory({"x": [(0.0, -1.0)]})))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert isinstance(found[0], Vector)
    assert MAX_NESTING == 200
