"""Expressions and their answers, worked out by hand from Prometheus' rules; tests/compat/test_prometheus.py asks the original."""

import json
import math

import numpy as np
import pytest

from promql_memory import Data, Memory, Shown, ask, every
from telemetryx.promql.data import NS, Vector
from telemetryx.promql.evaluate import Query, evaluate
from telemetryx.promql.parse import parse

NAN = math.nan
#: Two machines with a counter each and a gauge; a sample every 15 s, in 10 minutes.
FIELD: Data = {
    'packets{host="a",port="1"}': every(15, [10.0 * n for n in range(41)]),
    'packets{host="a",port="2"}': every(15, [20.0 * n for n in range(41)]),
    'packets{host="b",port="1"}': every(15, [30.0 * n for n in range(41)]),
    'heat{host="a"}': every(15, [n % 4 for n in range(41)]),
    'heat{host="b"}': every(15, [-(n % 4) for n in range(41)]),
    'info{host="a",site="north"}': every(15, [1.0] * 41),
    'info{host="b",site="south"}': every(15, [1.0] * 41),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1+1", [2.0]),
        ("-2^2", [-4.0]),
        ("2 ^ 3 ^ 2", [512.0]),
        ("7 % -4", [3.0]),
        ("1 / 0", [math.inf]),
        ("1 > bool 2", [0.0]),
        ("time()", [600.0]),
        ("pi() * 2", [2 * math.pi]),
        ('"text"', "text"),
        ('scalar(heat{host="b"} + 5)', [5.0]),
        ("vector(3)", {"": [3.0]}),
    ],
)
def test_scalars_and_texts(text: str, expected: Shown) -> None:
    """An expression without series has an answer, too: Grafana's connection test is one."""
    assert ask(FIELD, text, 600) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('packets{host="b"}', {'packets{host="b",port="1"}': [1200.0]}),
        ('packets{host!="a"}', {'packets{host="b",port="1"}': [1200.0]}),
        ('{__name__=~"pack.*",port=~"2|3"}', {'packets{host="a",port="2"}': [800.0]}),
        ('packets{port="2"} offset 1m', {'packets{host="a",port="2"}': [720.0]}),
        ('packets{port="2"} offset -1m', {'packets{host="a",port="2"}': [800.0]}),
        ('packets{port="2"} @ 60', {'packets{host="a",port="2"}': [80.0]}),
        ('packets{port="2"} @ start() offset 5m', {'packets{host="a",port="2"}': [400.0]}),
        (
            'packets{port="2" or host="b"}',
            {'packets{host="a",port="2"}': [800.0], 'packets{host="b",port="1"}': [1200.0]},
        ),
        ("nothing", {}),
    ],
)
def test_selectors(text: str, expected: Shown) -> None:
    """Matchers, offset and @ choose series and time."""
    assert ask(FIELD, text, 600) == expected


def test_a_value_counts_for_five_minutes_and_not_a_moment_longer() -> None:
    """The lookback is left-open: a sample exactly five minutes old is gone."""
    data = {"x": [(0.0, 7.0)]}
    assert ask(data, "x", 299.999, 300) == {"x": [7.0, None]}


def test_a_series_that_is_marked_as_ended_is_gone_at_once() -> None:
    """Prometheus' own mark of staleness is understood; an ordinary NaN is a value."""
    ended = float(np.array([0x7FF0000000000002], np.uint64).view(np.float64)[0])
    assert ask({"x": [(0.0, 1.0), (10.0, ended)]}, "x", 5, 10, 20) == {"x": [1.0, None, None]}
    assert ask({"x": [(0.0, 1.0), (10.0, ended)]}, "count_over_time(x[1m])", 20) == {"": [1.0]}
    assert ask({"x": [(0.0, NAN)]}, "count(x)", 1) == {"": [1.0]}


def test_a_range_is_open_on_its_left_and_closed_on_its_right() -> None:
    """As since Prometheus 3: of samples every 15 s a minute holds four, not five."""
    assert ask(FIELD, 'count_over_time(heat{host="a"}[1m])', 60) == {'{host="a"}': [4.0]}
    assert ask(FIELD, 'heat{host="a"}[1m]', 60) == {'heat{host="a"}': [1.0, 2.0, 3.0, 0.0]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rate(x[1m])", 1.0),
        ("increase(x[1m])", 60.0),
        ("delta(x[1m])", 60.0),
        ("irate(x[1m])", 1.0),
        ("idelta(x[1m])", 15.0),
        ("deriv(x[1m])", 1.0),
        ("predict_linear(x[1m], 3600)", 120.0 + 3600.0),
        ("avg_over_time(x[1m])", 97.5),
        ("min_over_time(x[1m])", 75.0),
        ("max_over_time(x[1m])", 120.0),
        ("sum_over_time(x[1m])", 390.0),
        ("count_over_time(x[1m])", 4.0),
        ("last_over_time(x[1m])", 120.0),
        ("present_over_time(x[1m])", 1.0),
        ("stdvar_over_time(x[1m])", 281.25),
        ("stddev_over_time(x[1m])", math.sqrt(281.25)),
        ("quantile_over_time(0.5, x[1m])", 97.5),
        ("quantile_over_time(2, x[1m])", math.inf),
        ("changes(x[1m])", 3.0),
        ("resets(x[1m])", 0.0),
    ],
)
def test_functions_of_ranges(text: str, expected: float) -> None:
    """On a line that rises by one a second."""
    data = {"x": every(15, [15.0 * n for n in range(20)])}
    found = ask(data, text, 120)
    assert isinstance(found, dict)
    ((value,),) = found.values()
    assert value == pytest.approx(expected, rel=1e-12)


def test_a_counter_that_starts_again_loses_nothing() -> None:
    """What it had reached before it fell is added; a gauge's delta takes the fall as it is."""
    data = {"x": every(15, [100.0, 110.0, 120.0, 5.0, 15.0])}
    increase, delta = ask(data, "increase(x[75s])", 60), ask(data, "delta(x[75s])", 60)
    # Over 60 s it grew by 20 + 5 + 10; the window reaches 15 s further back, as far as one interval.
    assert increase == {"": [pytest.approx(35.0 * 75 / 60)]}
    assert delta == {"": [pytest.approx(-85.0 * 75 / 60)]}
    assert ask(data, "resets(x[5m])", 60) == {"": [1.0]}


def test_a_rate_is_extrapolated_no_further_than_half_an_interval_beyond_a_series_that_began() -> None:
    """And a counter no further back than where it would have been zero."""
    data = {"x": every(10, [50.0, 60.0, 70.0], begin=100)}
    assert ask(data, "increase(x[5m])", 120) == {"": [pytest.approx(20.0 * (20 + 5) / 20)]}
    near = {"x": every(10, [2.0, 12.0, 22.0], begin=100)}
    assert ask(near, "increase(x[5m])", 120) == {"": [pytest.approx(20.0 * (20 + 2) / 20)]}


def test_a_rate_needs_two_samples() -> None:
    """One sample has no slope."""
    assert ask({"x": [(0.0, 1.0)]}, "rate(x[5m])", 60) == {}
    assert ask({"x": [(0.0, 1.0)]}, "irate(x[5m])", 60) == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sum(packets)", {"": [2400.0]}),
        ("sum by (host) (packets)", {'{host="a"}': [1200.0], '{host="b"}': [1200.0]}),
        ("sum without (port) (packets)", {'{host="a"}': [1200.0], '{host="b"}': [1200.0]}),
        ("avg(packets)", {"": [800.0]}),
        ("min(packets)", {"": [400.0]}),
        ("max(packets)", {"": [1200.0]}),
        ("count(packets)", {"": [3.0]}),
        ("group(packets)", {"": [1.0]}),
        ("stdvar(packets)", {"": [pytest.approx(320000 / 3)]}),
        ("stddev(packets)", {"": [pytest.approx(math.sqrt(320000 / 3))]}),
        ("quantile(0.25, packets)", {"": [600.0]}),
        ("topk(1, packets)", {'packets{host="b",port="1"}': [1200.0]}),
        (
            "bottomk(1, packets) by (host)",
            {'packets{host="a",port="1"}': [400.0], 'packets{host="b",port="1"}': [1200.0]},
        ),
        ('count_values("n", packets)', {'{n="1200"}': [1.0], '{n="400"}': [1.0], '{n="800"}': [1.0]}),
        ("sum(nothing)", {}),
    ],
)
def test_aggregations(text: str, expected: Shown) -> None:
    """Groups by labels, or by all but some."""
    assert ask(FIELD, text, 600) == expected


def test_topk_chooses_anew_at_each_time() -> None:
    """A series is in the answer where it is among the largest."""
    data = {'x{n="1"}': every(60, [1.0, 9.0]), 'x{n="2"}': every(60, [5.0, 5.0])}
    assert ask(data, "topk(1, x)", 0, 60) == {'x{n="1"}': [None, 9.0], 'x{n="2"}': [5.0, None]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("heat + 1", {'{host="a"}': [1.0], '{host="b"}': [1.0]}),
        ("heat offset 15s > 0", {'heat{host="a"}': [3.0]}),
        ("heat offset 15s > bool 0", {'{host="a"}': [1.0], '{host="b"}': [0.0]}),
        ("0 < heat offset 15s", {'heat{host="a"}': [3.0]}),
        ("sum by (host) (packets) / on (host) info", {'{host="a"}': [1200.0], '{host="b"}': [1200.0]}),
        (
            "packets * on (host) group_left (site) info",
            {
                '{host="a",port="1",site="north"}': [400.0],
                '{host="a",port="2",site="north"}': [800.0],
                '{host="b",port="1",site="south"}': [1200.0],
            },
        ),
        (
            "info * on (host) group_right (site) packets",
            {
                '{host="a",port="1",site="north"}': [400.0],
                '{host="a",port="2",site="north"}': [800.0],
                '{host="b",port="1",site="south"}': [1200.0],
            },
        ),
        ('packets and on (host) info{site="south"}', {'packets{host="b",port="1"}': [1200.0]}),
        ('packets unless on (host) info{site="north"}', {'packets{host="b",port="1"}': [1200.0]}),
        ('heat{host="a"} or heat', {'heat{host="a"}': [0.0], 'heat{host="b"}': [0.0]}),
        ("-heat offset 15s", {'{host="a"}': [-3.0], '{host="b"}': [3.0]}),
        (
            "heat offset 15s == ignoring (nothing) heat offset 15s",
            {'heat{host="a"}': [3.0], 'heat{host="b"}': [-3.0]},
        ),
    ],
)
def test_operators(text: str, expected: Shown) -> None:
    """Arithmetic drops the name, a comparison filters and keeps it, `bool` doesn't filter."""
    assert ask(FIELD, text, 600) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abs(x)", 2.5),
        ("ceil(x)", -2.0),
        ("floor(x)", -3.0),
        ("round(x)", -2.0),
        ("round(x, 0.2)", -2.4),
        ("sgn(x)", -1.0),
        ("exp(x)", math.exp(-2.5)),
        ("ln(-x)", math.log(2.5)),
        ("log2(-x)", math.log2(2.5)),
        ("log10(-x)", math.log10(2.5)),
        ("sqrt(-x)", math.sqrt(2.5)),
        ("clamp(x, -1, 1)", -1.0),
        ("clamp_min(x, 0)", 0.0),
        ("clamp_max(x, -3)", -3.0),
        ("timestamp(x)", 15.0),
        ("timestamp(x + 0)", 20.0),
        ("hour(vector(1772359200))", 10.0),
        ("day_of_week(vector(1772359200))", 0.0),
        ("days_in_month(vector(1772359200))", 31.0),
        ("year(vector(1772359200))", 2026.0),
        ("max_over_time(abs(x)[1m:15s])", 2.5),
    ],
)
def test_functions_of_values(text: str, expected: float) -> None:
    """Of one value, at one time."""
    found = ask({"x": every(15, [-2.5, -2.5])}, text, 20)
    assert isinstance(found, dict)
    ((value,),) = found.values()
    assert value == pytest.approx(expected)


def test_clamp_between_crossed_bounds_has_no_answer() -> None:
    """As in Prometheus, it is empty."""
    assert ask({"x": [(0.0, 1.0)]}, "clamp(x, 2, 1)") == {}


def test_absent_names_what_was_looked_for() -> None:
    """Its labels are those that an equality fixes."""
    assert ask({}, 'absent(x{a="1",b=~"2",c!="3"})') == {'{a="1"}': [1.0]}
    assert ask({}, 'absent_over_time(x{a="1"}[5m])') == {'{a="1"}': [1.0]}
    assert ask({"x": [(0.0, 1.0)]}, "absent(x)") == {}


def test_labels_are_replaced_and_joined() -> None:
    """A template refers to groups by number and name; no match changes nothing; an empty value removes the label."""
    data = {'x{path="pump-7"}': [(0.0, 1.0)]}
    assert ask(data, 'label_replace(x, "kind", "$1", "path", "(.*)-.*")') == {
        'x{kind="pump",path="pump-7"}': [1.0]
    }
    assert ask(data, 'label_replace(x, "n", "${n}$$", "path", ".*-(?P<n>.*)")') == {
        'x{n="7$",path="pump-7"}': [1.0]
    }
    assert ask(data, 'label_replace(x, "kind", "$1", "path", "valve-(.*)")') == {'x{path="pump-7"}': [1.0]}
    assert ask(data, 'label_replace(x, "path", "", "path", ".*")') == {"x": [1.0]}
    assert ask(data, 'label_join(x, "both", "/", "path", "path")') == {
        'x{both="pump-7/pump-7",path="pump-7"}': [1.0]
    }


def test_sorting_puts_nan_last_in_both_directions() -> None:
    """The order is part of an instant answer."""
    data = {'x{n="1"}': [(0.0, 2.0)], 'x{n="2"}': [(0.0, NAN)], 'x{n="3"}': [(0.0, 1.0)]}
    up, down = ask(data, "sort(x)"), ask(data, "sort_desc(x)")
    assert list(up) == ['x{n="3"}', 'x{n="1"}', 'x{n="2"}']
    assert list(down) == ['x{n="1"}', 'x{n="3"}', 'x{n="2"}']


def test_a_subquery_runs_at_whole_multiples_of_its_step() -> None:
    """Whatever the outer time: at 65 s a subquery of 1 m by 10 s runs at 10 to 60 s."""
    data = {"x": every(5, [float(n) for n in range(20)])}
    assert ask(data, "x[1m:10s]", 65) == {"x": [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]}
    assert ask(data, "sum_over_time(x[1m:10s])", 65, 70) == {"": [42.0, 54.0]}


def test_names_and_labels_of_any_text_are_data() -> None:
    """Dots, quotes, line breaks and tags pass through selectors, groups and label functions."""
    evil = 'a\n"b"\\<script>'
    data = {'{"pump.temp","é ü"="a\\n\\"b\\"\\\\<script>"}': [(0.0, 4.0)]}
    found = ask(data, '{"pump.temp","é ü"="a\\n\\"b\\"\\\\<script>"}')
    assert list(found) == ['{__name__="pump.temp",é ü=' + json.dumps(evil, ensure_ascii=False) + "}"]
    assert ask(data, 'sum by ("é ü") ({"pump.temp"})') == {
        "{é ü=" + json.dumps(evil, ensure_ascii=False) + "}": [4.0]
    }


def test_a_mean_of_numbers_whose_sum_overflows_is_finite() -> None:
    """Prometheus changes its way of adding there, too."""
    data = {'x{n="1"}': every(15, [1e308, 1.5e308]), 'x{n="2"}': every(15, [1.5e308, 1e308])}
    assert ask(data, "avg_over_time(x[1m])", 15) == {
        '{n="1"}': [pytest.approx(1.25e308)],
        '{n="2"}': [pytest.approx(1.25e308)],
    }
    assert ask(data, "avg(x)", 15) == {"": [pytest.approx(1.25e308)]}


def test_the_end_is_the_one_that_was_named_not_the_last_step_before_it() -> None:
    """A range of 50 s by steps of an hour has one time, and `@ end()` looks at the end of the 50 s."""
    data = {"x": every(10, [float(n) for n in range(20)])}
    query = Query(np.array([60 * NS], np.int64), end_ns=110 * NS)
    found = evaluate(parse("x @ end()"), query, Memory(data))
    assert isinstance(found, Vector)
    assert found.values.tolist() == [[11.0]]


def test_powers_and_bounds_treat_infinities_as_go_does() -> None:
    """The power 0.5 is no square root, and nothing is above +Inf, not even a bound that is NaN."""
    data = {f'x{{n="{n}"}}': [(0.0, value)] for n, value in enumerate((-math.inf, -0.0, math.inf, math.nan))}
    assert ask(data, 'x{n="0"} ^ 0.5') == {'{n="0"}': [math.inf]}
    assert ask(data, '1 / (x{n="1"} ^ 0.5)') == {'{n="1"}': [math.inf]}
    assert ask(data, 'clamp_min(x{n=~"[23]"}, NaN)') == {
        '{n="2"}': [math.inf],
        '{n="3"}': [pytest.approx(math.nan, nan_ok=True)],
    }
    assert ask(data, 'clamp_max(x{n="0"}, NaN)') == {'{n="0"}': [-math.inf]}
