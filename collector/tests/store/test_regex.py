"""Regular expressions of selectors: RE2's syntax and meaning, for whole texts, in linear time; what it can't do is refused by name."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryx.store.regex import MAX_LENGTH, RegexError, regex


@pytest.mark.parametrize(
    "text", ["(a|a)*b", "(a+)+b", "(a*)*b", "(a|aa)+b", "(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)[^a]"]
)
def test_what_explodes_where_expressions_backtrack_answers_at_once(text: str) -> None:
    """Python's own engine would try more ways than there are atoms: this test would not end."""
    found = regex(text)
    assert not found.matches("a" * 10_000)
    assert found.matches("a" * 10_000 + "b")
    assert found.groups("a" * 10_000) is None


@pytest.mark.parametrize(
    ("text", "meets", "misses"),
    [
        ("pump.*", ["pump", "pump-7", "pump\nseven"], ["a pump", ""]),
        ("a|bc", ["a", "bc"], ["abc", "ac"]),
        (r"\d{2,3}", ["12", "123"], ["1", "1234", "٣٤"]),
        ("(?i)valve", ["VALVE", "vAlVe"], ["valves"]),
        ("ü.ß", ["üxß", "üéß"], ["uxss", "üxyß"]),
        ("", [""], ["a"]),
        (r"a\.b", ["a.b"], ["axb"]),
        ("[^/]+", ["x", "-"], ["a/b", ""]),
        (".+", ["x", "\n"], [""]),
        ("^x$", ["x"], ["x\n"]),
        (r"\pL+", ["Größe"], ["a1"]),
    ],
)
def test_an_expression_is_for_the_whole_text(text: str, meets: list[str], misses: list[str]) -> None:
    """Anchored at both ends, a dot is any character, digits are ASCII's: as in Prometheus 3."""
    found = regex(text)
    assert [one for one in (*meets, *misses) if found.matches(one)] == meets
    assert [one for one in (*meets, *misses) if found.groups(one) is not None] == meets


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a(?=b)", "looking around"),
        ("a(?!b)", "looking around"),
        ("(?<=a)b", "looking around"),
        ("(?<!a)b", "looking around"),
        (r"(a)\1", "referring back"),
        ("(?P<x>a)(?P=x)", "referring back"),
        (r"a\C", "a byte"),
        ("(", "missing )"),
        ("*a", "repetition"),
        ("a{1001}", "repetition"),
        ("[b-a]", "range"),
        ("(a{1000}){1000}", "repetition"),
        (r"(?:\pL{500}){2}", "too large"),
        ("\ud800", "Unicode"),
        ("x" * (MAX_LENGTH + 1), f"longer than {MAX_LENGTH}"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(text: str, says: str) -> None:
    """Before anything is read: whoever wrote it learns what to write instead."""
    with pytest.raises(RegexError, match=re.escape(says)):
        regex(text)


def test_groups_are_caught_by_number_and_by_name() -> None:
    """One that took no part caught nothing."""
    assert regex("(?P<kind>[a-z]+)-(?P<n>[0-9]+)(x)?").groups("pümp-7") is None
    assert regex("(?P<kind>.+)-(?P<n>[0-9]+)(x)?").groups("pümp-7") == {
        "0": "pümp-7", "1": "pümp", "2": "7", "3": "", "kind": "pümp", "n": "7",
    }  # fmt: skip


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_text_is_an_expression_or_a_refusal(text: str, value: str) -> None:
    """Nothing else comes out, and matching says yes or no."""
    try:
        found = regex(text)
    except RegexError as error:
        assert str(error)
    else:
        assert found.matches(value) == (found.groups(value) is not None)


@given(st.text(max_size=30))
def test_a_quoted_text_meets_itself_alone(value: str) -> None:
    """Whatever characters it has."""
    quoted = "".join(f"\\x{{{ord(one):x}}}" for one in value)
    assert regex(quoted).matches(value)
    assert not regex(quoted).matches(value + "x")
