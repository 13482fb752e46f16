"""Selectors: `name{label="value", other=~"re", third!="x"}`, as in Prometheus, to matchers.

`__name__` and `__agent__` are labels too. Regular expressions are RE-like, anchored at both ends, and checked here.
"""

import re
from typing import Final, cast

from telemetryx.errors import SelectorError
from telemetryx.types import Matcher, Op, Series

NAME: Final = "__name__"
AGENT: Final = "__agent__"
MAX_LENGTH: Final = 4_096
MAX_REGEX: Final = 512

_METRIC = re.compile(r"[^\s{},=!~\"'()\[\]]+")
_LABEL = re.compile(r"[^\s{},=!~\"'()\[\]]+")
_OPERATOR = re.compile(r"=~|!~|!=|=")
_SPACE = re.compile(r"\s*")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r"}


def parse(text: str) -> list[Matcher]:
    """Read a selector; an empty one matches everything. Raises SelectorError with the column."""
    if len(text) > MAX_LENGTH:
        raise SelectorError(
            f"the selector has {len(text)} characters; at most {MAX_LENGTH} are taken", MAX_LENGTH + 1
        )
    return _Parser(text).selector()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def selector(self) -> list[Matcher]:
        matchers: list[Matcher] = []
        self._space()
        if metric := self._match(_METRIC):
            matchers.append(Matcher(NAME, "=", metric))
        self._space()
        if self._take("{"):
            matchers += self._braces()
        self._space()
        if self._at < len(self._text):
            raise self._error(f"{self._text[self._at]!r} isn't expected")
        return matchers

    def _braces(self) -> list[Matcher]:
        matchers: list[Matcher] = []
        while True:
            self._space()
            if self._take("}"):
                return matchers
            if matchers and not self._separated:
                raise self._error("a comma or } is expected")
            matchers.append(self._matcher())
            self._space()
            self._separated = self._take(",")

    _separated = True

    def _matcher(self) -> Matcher:
        name = self._match(_LABEL)
        if name is None:
            raise self._error("a label name is expected")
        self._space()
        op = self._match(_OPERATOR)
        if op is None:
            raise self._error(
                f'after label {name} one of = != =~ !~ is expected (text stands in quotes: {name}="...")'
            )
        self._space()
        start = self._at
        found = _TEXT.match(self._text, self._at)
        if found is None:
            raise self._error(f'the value of {name} must stand in quotes: {name}{op}"..."')
        self._at = found.end()
        value = _ESCAPE.sub(
            lambda one: _ESCAPES.get(one[1], one[1]), found[1] if found[1] is not None else found[2]
        )
        if op in {"=~", "!~"}:
            value = found[1] if found[1] is not None else found[2]
            value = value.replace('\\"', '"')
            try:
                regex(value)
            except (re.error, ValueError) as error:
                raise SelectorError(f"{value!r} isn't a regular expression: {error}", start + 1) from error
        return Matcher(name, cast("Op", op), value)

    def _space(self) -> None:
        found = _SPACE.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _match(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        return found[0]

    def _take(self, character: str) -> bool:
        if self._text[self._at : self._at + 1] == character:
            self._at += 1
            return True
        return False

    def _error(self, message: str) -> SelectorError:
        return SelectorError(message, self._at + 1)


#: Nested repetition, the form that makes backtracking explode: (a+)+, (a*|b)*.
_EXPLOSIVE = re.compile(r"\([^()]*[*+}][^()]*\)\s*[*+{]")


def regex(text: str) -> re.Pattern[str]:
    """Compile a matcher's expression. Those that may take for ever are refused, as are very long ones."""
    if len(text) > MAX_REGEX:
        raise ValueError(f"longer than {MAX_REGEX} characters")
    if _EXPLOSIVE.search(text):
        raise ValueError("a repetition inside a repetition may take for ever; write it without")
    return re.compile(text)


def test(matcher: Matcher, value: str) -> bool:
    """Tell whether a label's value (empty when there is none) meets a matcher."""
    if matcher.op == "=":
        return value == matcher.value
    if matcher.op == "!=":
        return value != matcher.value
    met = regex(matcher.value).fullmatch(value) is not None
    return met if matcher.op == "=~" else not met


def label(series: Series, name: str) -> str:
    """Return a label of a series, with `__name__` and `__agent__`; empty when there is none."""
    if name == NAME:
        return series.name
    if name == AGENT:
        return series.agent
    return series.labels.get(name, "")


def matches(matchers: list[Matcher] | tuple[Matcher, ...], series: Series) -> bool:
    """Tell whether a series meets all matchers."""
    return all(test(matcher, label(series, matcher.name)) for matcher in matchers)


def text(series: Series) -> str:
    """Write a series as a selector."""
    inner = ",".join(
        f'{key}="{value.replace(chr(92), chr(92) * 2).replace(chr(34), chr(92) + chr(34))}"'
        for key, value in sorted(series.labels.items())
    )
    return f"{series.name}{{{inner}}}" if inner else series.name
