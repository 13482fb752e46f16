"""Says where an expression can't be read, and what was probably meant: the parser often says neither.

What people write who come from other stores: names with dots, labels without parentheses or quotes. A guess is made only after the
parser has refused the text.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from telemetryx.promql import names

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|`[^`]*`|#[^\n]*', re.DOTALL)
_NAME: Final = r"[A-Za-z_:][\w:]*"
_DOTTED = re.compile(rf"(?<![\w.:]){_NAME}(?:\.[\w:]+)+")
_GROUPED = re.compile(rf"\b(by|without|on|ignoring)\s+({_NAME}(?:\s*,\s*{_NAME})*)", re.IGNORECASE)
_IN_GROUP = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^()]*\Z", re.IGNORECASE)
_UNQUOTED = re.compile(rf"({_NAME})\s*(=~|!~|!=|=)\s*([^\s,}}\"'`]*)")
_BARE = re.compile(
    rf"\b({'|'.join(sorted(names.AGGREGATIONS))})\s+(?!by\b|without\b)({_NAME})", re.IGNORECASE
)
_OPERATORS: Final = r"==|!=|<=|>=|[*/%^<>]"
_TWO = re.compile(rf"(?:{_OPERATORS}|[+-])\s*({_OPERATORS})")
_LAST = re.compile(rf"(?:{_OPERATORS}|[+-])\s*\Z")
_CALLED = re.compile(r"function (?:with name )?'(\w+)'")
_RANGE = re.compile(r"expected type matrix in call to function '(\w+)', got vector")


@dataclass(frozen=True, slots=True)
class Hint:
    """Where it is, counted from 0 (None: not known), and what to write (empty: not known)."""

    at: int | None = None
    write: str = ""


def hint(text: str, said: str) -> Hint:
    """Look for what the parser's complaint is probably about."""
    bare = _QUOTED.sub(lambda found: " " * len(found[0]), text)
    finders: tuple[Callable[[str, str, str], Hint | None], ...] = (
        _labels,
        _dots,
        _matcher,
        _call,
        _parentheses,
        _operators,
    )
    for find in finders:
        found = find(text, bare, said)
        if found is not None:
            return found
    return Hint()


def place(text: str, at: int) -> str:
    """Write a place as Prometheus does: line and column from 1."""
    line = text.count("\n", 0, at) + 1
    return f"{line}:{at - (text.rfind(chr(10), 0, at) + 1) + 1}"


def _labels(text: str, bare: str, said: str) -> Hint | None:
    if "invalid promql query" not in said:
        return None
    found = _GROUPED.search(bare)
    if found is None:
        return None
    del text
    return Hint(found.start(2), f"labels stand in parentheses: {found[1]} ({found[2]})")


def _dots(text: str, bare: str, said: str) -> Hint | None:
    if "'.'" not in said and "bad number" not in said:
        return None
    found = _DOTTED.search(bare)
    if found is None:
        return None
    before, name, at = bare[: found.start()], found[0], found.start()
    if before.count("{") > before.count("}"):
        return Hint(at, f'a label with dots stands in quotes: {{"{name}"="…"}}')
    if group := _IN_GROUP.search(before):
        return Hint(at, f'a label with dots stands in quotes: {group[1]} ("{name}")')
    rest = text[found.end() :].lstrip()
    labels = rest[1 : rest.find("}")].strip() if rest.startswith("{") and "}" in rest else ""
    inside = f'__name__="{name}"' + (f", {labels}" if labels else "")
    return Hint(at, f"a name with dots stands in braces: {{{inside}}}")


def _matcher(text: str, bare: str, said: str) -> Hint | None:
    if "label matching" not in said and "invalid promql query" not in said:
        return None
    for found in _UNQUOTED.finditer(bare):
        before = bare[: found.start()]
        # What was quoted is blank here: only what isn't is a fault.
        quoted = text[found.end(2) :].lstrip()[:1] in {'"', "'", "`"}
        if before.count("{") > before.count("}") and not quoted:
            value = found[3] or "…"
            return Hint(found.start(3), f'a value stands in quotes: {found[1]}{found[2]}"{value}"')
    return None


def _call(text: str, bare: str, said: str) -> Hint | None:
    del text
    named = _CALLED.search(said)
    if named is not None and (found := re.search(rf"\b{named[1]}\s*\(", bare)):
        wants = _RANGE.search(said)
        return Hint(found.start(), f"it takes a range: {wants[1]}(…[5m])" if wants else "")
    found = _BARE.search(bare) if "invalid promql query" in said else None
    return (
        None
        if found is None
        else Hint(found.start(2), f"what is aggregated stands in parentheses: {found[1]}({found[2]})")
    )


def _parentheses(text: str, bare: str, said: str) -> Hint | None:
    if "parenthesis" not in said and "unexpected end of input" not in said:
        return None
    opened: list[int] = []
    for at, mark in enumerate(bare):
        if mark in "([{":
            opened.append(at)
        elif mark in ")]}":
            if not opened:
                return Hint(at)
            opened.pop()
    return Hint(opened[-1] if "parenthesis" in said else len(text.rstrip())) if opened else None


def _operators(text: str, bare: str, said: str) -> Hint | None:
    if "invalid promql query" not in said:
        return None
    if found := _TWO.search(bare):
        return Hint(found.start(1), f"a value is missing before {found[1]}")
    if found := _LAST.search(bare):
        return Hint(len(text.rstrip()), f"a value is missing after {found[0].strip()}")
    return None
