"""What has no answer is refused with a sentence, and no text can end the process."""

import re

import pytest

from promql_memory import Data, ask, every
from telemetryx.promql.data import Bounds
from telemetryx.promql.errors import BadQuery, ExecutionFailed, OutOfTime
from telemetryx.promql.parse import parse, selector

TWO: Data = {'x{n="1"}': [(0.0, 1.0)], 'x{n="2"}': [(0.0, 2.0)], 'y{n="1"}': [(0.0, 3.0)]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("histogram_fraction(0, 1, x)", "function histogram_fraction isn't evaluated"),
        ("sum(info(x))", "function info isn't evaluated"),
        ("limitk(2, x)", "aggregation limitk isn't evaluated"),
        ("x + fill(0) y", "fill isn't evaluated"),
        ("foo(x)", "unknown function with name 'foo'"),
        ("sum(", "parse error"),
        ("", "no expression found"),
        ("x @ -5", "before 1970"),
        ("x offset 200y", "100 years"),
        ("x[1000000000y]", "100 years"),
        ("sum(rate(x[1000000000y]))", "100 years"),
        ("x offset -1000000000y", "100 years"),
        ("x[5m] offset 1000000000y", "100 years"),
        ("x[1000000000y:1m]", "100 years"),
        ("max_over_time(x[5m:1000000000y])", "100 years"),
        ("max_over_time(x[5m:1m] offset 1000000000y)", "100 years"),
        ("x[1e30]", "100 years"),
        ("x[ 1E30 ]", "100 years"),
        ("x[5m:1e19] @ 3", "100 years"),
        ("x[99999999999999999999:]", "100 years"),
        ("sum(x offset -1e+30)", "100 years"),
        ("x offset inf", "100 years"),
        ("x offset nan", "100 years"),
        ("x[1e400]", "100 years"),
        ("x[1e-10]", "duration must be greater than 0"),
        ("x[1e-10:1m]", "duration must be greater than 0"),
        ("max_over_time(x[5m:1e-10])", "duration must be greater than 0"),
        ('x{a=~"a(?=b)"}', "looking around"),
        ("rate(x)", "expected type"),
    ],
)
def test_what_is_not_evaluated_is_refused_by_name(text: str, words: str) -> None:
    """The person learns which word it was."""
    with pytest.raises(BadQuery, match=words.replace("(", r"\(")):
        ask(TWO, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("plant.temp", '1:1: parse error: unexpected character after \'.\': \'t\' (a name with dots stands in braces: {__name__="plant.temp"})'),
        ("rate(plant.temp[5m])", '1:6: .*{__name__="plant.temp"}'),
        ('sum(a.b.c{x="y.z"})', '1:5: .*{__name__="a.b.c", x="y.z"}'),
        ("x\n + plant.temp", "2:4: "),
        ('x{a.b="c"}', '1:3: .*{"a.b"="…"}'),
        ("sum by (a.b) (x)", '1:9: .*by ("a.b")'),
        ("sum by le (x)", "1:8: .*by (le)"),
        ("sum(x) by le", "1:11: .*by (le)"),
        ("sum without a, b (x)", "1:13: .*without (a, b)"),
        ("x * on a y", "1:8: .*on (a)"),
        ("x{a=b}", '1:5: .*a="b"'),
        ('x{b="1", a=}', '1:12: .*a="…"'),
        ("sum x", "1:5: .*sum(x)"),
        ("1 +* 2", "1:4: .*missing before *"),
        ("x ==", "1:5: .*missing after =="),
        ("foo(x)", "1:1: .*unknown function"),
        ("1 + rate(x)", "1:5: .*rate(…[5m])"),
        ("sum(x", "1:4: .*unclosed"),
        ("x)", "1:2: .*unexpected right"),
        ("x[5m", "1:5: .*unexpected end"),
    ],
)  # fmt: skip
def test_a_refusal_says_where_it_is_and_what_to_write(text: str, words: str) -> None:
    """As line and column, and in the words of PromQL: people come from stores that write it differently."""
    wanted = ".*".join(re.escape(part) for part in words.split(".*"))
    with pytest.raises(BadQuery, match=f'"query": {wanted}'):
        parse(text)


@pytest.mark.parametrize(
    "text", ['x{a="b.c"}', 'sum by ("a.b") (x)', '{"plant.temp"}', '{__name__="plant.temp"}']
)
def test_what_the_hints_say_is_read(text: str) -> None:
    """What is advised works."""
    parse(text)


@pytest.mark.parametrize("text", ["(" * 100_000, "-" * 10_000 + "1", "+".join(["1"] * 8_000), "abs(" * 4_000])
def test_deep_nesting_is_refused_before_the_parser_sees_it(text: str) -> None:
    """It recurses: without the bound these end the process."""
    with pytest.raises(BadQuery):
        parse(text)


def test_operators_in_texts_do_not_count_as_nesting() -> None:
    """A long regular expression is no deep one."""
    assert selector('x{path=~"' + "a-b|" * 120 + 'z"}')[0][1].value.startswith("a-b|")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x * on (nothing) y * 2 + on (nothing) x", "multiple matches|duplicate series"),
        ("y + on () x", "found duplicate series for the match group {} on the right hand-side"),
        ("x + on () y", "many-to-one matching must be explicit"),
        ('label_replace(x, "n", "", "n", ".*")', "same labelset"),
        ('rate({__name__=~"x|y"}[5m])', "same labelset"),
        ("topk(NaN, x)", "NaN"),
        ('label_replace(x, "a", "b", "n", "(")', "invalid regular expression"),
        ('label_replace(x, "a", "b", "n", "(.)(?!b)")', "looking around"),
        ('count_values("", x)', "invalid label name"),
    ],
)
def test_data_without_an_answer_are_told(text: str, words: str) -> None:
    """As Prometheus refuses them: while executing."""
    data = {
        'x{n="1"}': every(15, [1.0, 2.0]),
        'x{n="2"}': every(15, [1.0, 2.0]),
        'y{n="1"}': every(15, [1.0, 2.0]),
    }
    with pytest.raises(ExecutionFailed, match=words):
        ask(data, text, 15)


def test_an_answer_beyond_the_limits_is_refused() -> None:
    """By values of a vector, and by samples that windows visit."""
    data = {"x": every(1, [1.0] * 1_000)}
    with pytest.raises(ExecutionFailed, match="more than 5 values"):
        ask(data, "x", 1, 2, 3, 4, 5, 6, bounds=Bounds(max_cells=5))
    with pytest.raises(ExecutionFailed, match="at most 100 are visited"):
        ask(data, "quantile_over_time(0.5, x[5m])", 900, bounds=Bounds(max_visits=100))


def test_an_evaluation_ends_when_its_time_is_over() -> None:
    """Between two steps of work."""

    def over() -> None:
        raise OutOfTime("query timed out")

    with pytest.raises(OutOfTime):
        ask(TWO, "sum(x)", bounds=Bounds(check=over))


@pytest.mark.parametrize(
    "query", ["x[1e30]", "x offset 1e30", "x[5m:1e25]", "x offset nan", "x[18446744073709551616]"]
)
def test_a_length_beyond_the_parsers_own_bounds_is_no_panic_in_the_log(
    query: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Who may ask could fill it: each was several lines that are no JSON."""
    with pytest.raises(BadQuery):
        parse(query)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "query", ["x[1e3]", "x[300]", "x[5m:30]", "x offset 1e2", "x offset -1.5", "a:99999999999999:b", "x[.5]"]
)
def test_lengths_as_plain_numbers_of_seconds_are_lengths(query: str) -> None:
    """And a number that is a part of a name isn't."""
    try:
        parse(query)
    except BadQuery as error:
        assert "100 years" not in str(error), query
