"""Selectors: `name{label="value", other=~"re", third!="x"}`, as in Prometheus, to matchers.

`__name__` and `__agent__` are labels too, and `agent` is the agent's name where a series has no label of its own so called. Names that hold spaces or marks stand in quotes, as in Prometheus 3: `{"a name", "a label"="value"}`. Regular expressions (regex.py) are anchored at both ends, and checked here.
"""

import re
from typing import Final, cast

from telemetryx.errors import SelectorError
from telemetryx.store.regex import RegexError, regex
from telemetryx.types import Matcher, Op, Series

NAME: Final = "__name__"
AGENT: Final = "__agent__"
OUR_AGENT: Final = "agent"
"""What the agent's name is as a label, unless a series has one of its own."""
MAX_LENGTH: Final = 4_096

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
            raise self._error(f"{self._text[self._at]!r} isn't expected{self._meant()}")
        return matchers

    def _meant(self) -> str:
        """Say how a name is written that isn't one word."""
        name, brace, rest = self._text.partition("{")
        name = name.strip().strip("\"'")
        if self._at > len(self._text) - len(brace + rest) or not name or '"' in name or "\\" in name:
            return ""
        inside = rest.strip().removesuffix("}").strip()
        return f' (a name with spaces or marks stands in braces: {{{NAME}="{name}"{", " * bool(inside)}{inside}}})'

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
        quoted = _TEXT.match(self._text, self._at)
        if quoted is not None:
            self._at = quoted.end()
            name = _unescaped(quoted)
        elif (found_name := self._match(_LABEL)) is not None:
            name = found_name
        else:
            raise self._error("a label name is expected")
        self._space()
        op = self._match(_OPERATOR)
        if op is None and quoted is not None:
            return Matcher(NAME, "=", name)
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
        value = _unescaped(found)
        if op in {"=~", "!~"}:
            value = found[1] if found[1] is not None else found[2]
            value = value.replace('\\"', '"')
            try:
                regex(value)
            except RegexError as error:
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


def _unescaped(found: re.Match[str]) -> str:
    """Return what a text in quotes says."""
    return _ESCAPE.sub(
        lambda one: _ESCAPES.get(one[1], one[1]), found[1] if found[1] is not None else found[2]
    )


def test(matcher: Matcher, value: str) -> bool:
    """Tell whether a label's value (empty when there is none) meets a matcher."""
    if matcher.op == "=":
        return value == matcher.value
    if matcher.op == "!=":
        return value != matcher.value
    met = regex(matcher.value).matches(value)
    return met if matcher.op == "=~" else not met


def label(series: Series, name: str) -> str:
    """Return a label of a series, with `__name__`, `__agent__` and `agent`; empty when there is none."""
    if name == NAME:
        return series.name
    if name == AGENT:
        return series.agent
    return series.labels.get(name, series.agent if name == OUR_AGENT else "")


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
