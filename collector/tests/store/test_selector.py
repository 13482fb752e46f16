"""Selectors: what is read, what is refused and where."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryx.errors import SelectorError
from telemetryx.store import selector
from telemetryx.types import Matcher, Series


@pytest.mark.parametrize(
    ("text", "matchers"),
    [
        ("", []),
        ("{}", []),
        ("temp", [Matcher("__name__", "=", "temp")]),
        ("system.cpu.utilization", [Matcher("__name__", "=", "system.cpu.utilization")]),
        (
            'temp { a = "1" , b!="2", } ',
            [Matcher("__name__", "=", "temp"), Matcher("a", "=", "1"), Matcher("b", "!=", "2")],
        ),
        ("{a='x\"y'}", [Matcher("a", "=", 'x"y')]),
        (r'{a="x\"y\\\n"}', [Matcher("a", "=", 'x"y\\\n')]),
        (
            r"""{"pump \"1\" hot", 'a b'="1", c="2"}""",
            [
                Matcher("__name__", "=", 'pump "1" hot'),
                Matcher("a b", "=", "1"),
                Matcher("c", "=", "2"),
            ],
        ),
        (r'{a=~"\d+", b!~"x|y"}', [Matcher("a", "=~", r"\d+"), Matcher("b", "!~", "x|y")]),
    ],
)
def test_selectors_are_read(text: str, matchers: list[Matcher]) -> None:
    """Names with dots, names and labels in quotes, both quotes, escapes, trailing commas and spaces are fine."""
    assert selector.parse(text) == matchers


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("temp{", "label name is expected at column 6"),
        ("temp{a}", "one of ="),
        ("temp{a=b}", "quotes"),
        ('temp{a="b" c="d"}', "comma"),
        ('temp{a="b"} x', "isn't expected at column 13"),
        ('temp{a=~"("}', "regular expression"),
        ('{a=~"a(?=b)"}', "looking around"),
        ("x" * 5000, "5000 characters"),
    ],
)
def test_what_is_no_selector_says_where(text: str, says: str) -> None:
    """The message has the column and what was expected."""
    with pytest.raises(SelectorError, match=says.replace("(", r"\(")):
        selector.parse(text)


@pytest.mark.parametrize(
    ("text", "write"),
    [
        ("pump hot", '{__name__="pump hot"}'),
        ('pump hot{site="n"}', '{__name__="pump hot", site="n"}'),
        ('"pump hot"', '{__name__="pump hot"}'),
        ("pump (hot)", '{__name__="pump (hot)"}'),
    ],
)
def test_a_name_of_several_words_is_refused_with_the_form_that_works(text: str, write: str) -> None:
    """Which is read as that name."""
    with pytest.raises(SelectorError, match="isn't expected") as refused:
        selector.parse(text)
    assert f"in braces: {write})" in str(refused.value)
    name = text.partition("{")[0].strip('"')
    assert selector.parse(write)[0] == Matcher("__name__", "=", name)


@given(st.text(max_size=40))
def test_any_text_is_a_selector_or_an_error(text: str) -> None:
    """Nothing else comes out."""
    try:
        selector.parse(text)
    except SelectorError as error:
        assert error.column >= 1


@given(st.dictionaries(st.from_regex(r"[a-z]{1,4}", fullmatch=True), st.text(max_size=6), max_size=3))
def test_a_series_written_as_a_selector_finds_itself(labels: dict[str, str]) -> None:
    """text() and parse() are inverse."""
    series = Series(1, "a", "m", labels)
    assert selector.matches(selector.parse(selector.text(series)), series)
