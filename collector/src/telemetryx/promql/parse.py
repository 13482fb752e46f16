"""Reads an expression with `promql-parser`, and refuses by name what isn't evaluated before any sample is read.

The parser is Rust that recurses: how deep an expression nests is bounded before it sees the text, so that no text can end
the process.
"""

import contextlib
import re
from typing import Final

import promql_parser as ast

from telemetryx.promql import hints, names
from telemetryx.promql.errors import BadQuery
from telemetryx.store.regex import RegexError, regex
from telemetryx.types import Matcher, Op

MAX_LENGTH: Final = 16_384
MAX_NESTING: Final = 200
#: Texts and comments: what stands in them can't nest.
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|`[^`]*`|#[^\n]*', re.DOTALL)
_BRACES = re.compile(r"\{[^{}]*\}")
_NESTS = re.compile(r"[(\[{+\-*/%^<>!=]|\b(?:and|or|unless|atan2)\b")
#: Before 1970 the parser's times panic.
_BEFORE_1970 = re.compile(r"@\s*-")
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_OFFSET = re.compile(r"\boffset\s*[-+]?\s*([\w.]+(?:[-+]\d+)?)", re.IGNORECASE)
#: Seconds as a number: the parser panics where they are none that it can count, and each panic is lines in the log.
_SECONDS = re.compile(r"\s*((?:\d[\d.]*|\.\d+)(?:e[-+]?\d+)?|inf|nan)\s*", re.IGNORECASE)
_MOST_S: Final = 1e11
_ILLEGAL: Final = "illegal regex for "
_OPS: Final[dict[str, Op]] = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}


def parse(text: str) -> ast.Expr:
    """Read an expression. Raises BadQuery with what is wrong."""
    if not text.strip():
        raise BadQuery('invalid parameter "query": no expression found in input')
    if len(text) > MAX_LENGTH:
        raise BadQuery(f'invalid parameter "query": {len(text)} characters; at most {MAX_LENGTH} are taken')
    bare = _BRACES.sub("", _QUOTED.sub("", text))
    if len(_NESTS.findall(bare)) > MAX_NESTING:
        raise BadQuery(f'invalid parameter "query": more than {MAX_NESTING} operators and parentheses')
    if _BEFORE_1970.search(bare):
        raise BadQuery('invalid parameter "query": times before 1970 after @ aren\'t evaluated')
    _check_lengths(bare)
    try:
        read = ast.parse(text)
    except ValueError as error:
        raise BadQuery(f'invalid parameter "query": {_told(text, str(error))}') from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise BadQuery('invalid parameter "query": the parser gave up on it') from error
    ast.walk(read, pre_visit=_check)
    return read


def _check_lengths(bare: str) -> None:
    lengths = [part for inside in _BRACKETS.findall(bare) for part in inside.split(":")]
    for length in (*lengths, *_OFFSET.findall(bare)):
        number = _SECONDS.fullmatch(length)
        if number is not None:
            with contextlib.suppress(ValueError):
                if not float(number[1]) <= _MOST_S:
                    raise BadQuery(f"a span of {number[1]} s is longer than is evaluated here (100 years)")


def _told(text: str, said: str) -> str:
    """Write what the parser says, with where it is and what was probably meant."""
    found = hints.hint(text, said)
    where = "" if found.at is None else f"{hints.place(text, found.at)}: "
    return f"{where}parse error: {said}{_why(said)}" + (f" ({found.write})" if found.write else "")


def _why(said: str) -> str:
    """Add what is wrong with a regular expression: the parser only says which one it is."""
    try:
        regex(said.partition(_ILLEGAL)[2])
    except RegexError as error:
        return f": {error}"
    return ""


def matchers(selector: ast.VectorSelector) -> tuple[tuple[Matcher, ...], ...]:
    """Return a selector's conditions: one group of them must be met."""
    named = () if selector.name is None else (Matcher(names.NAME, "=", selector.name),)
    either = selector.matchers.or_matchers or [selector.matchers.matchers]
    return tuple((*named, *(_matcher(one) for one in group)) for group in either)


def selector(text: str) -> tuple[tuple[Matcher, ...], ...]:
    """Read a `match[]` parameter."""
    read = parse(text)
    while isinstance(read, ast.ParenExpr):
        read = read.expr
    if not isinstance(read, ast.VectorSelector):
        raise BadQuery(f'invalid parameter "match[]": {text[:80]!r} is no selector of series')
    return matchers(read)


def _matcher(found: ast.Matcher) -> Matcher:
    op = _OPS[str(found.op).rpartition(".")[2]]
    if op in {"=~", "!~"}:
        try:
            regex(found.value)
        except RegexError as error:
            raise BadQuery(
                f"{found.value!r} isn't a regular expression that is evaluated: {error}"
            ) from error
    return Matcher(found.name, op, found.value)


def _check_spans(node: ast.Expr) -> None:
    """Refuse spans that can't be told (the parser's are longer than Python's) or that are none: a step of 0 never arrives."""
    try:
        spans = {name: getattr(node, name, None) for name in ("range", "step", "offset")}
    except (ValueError, OverflowError) as error:
        raise BadQuery("a span is longer than is evaluated here (100 years)") from error
    if any(span is not None and not span for span in (spans["range"], spans["step"])):
        raise BadQuery('invalid parameter "query": parse error: duration must be greater than 0')


def _check(node: ast.Expr) -> None:
    _check_spans(node)
    if isinstance(node, ast.Call):
        if node.func.name not in names.FUNCTIONS:
            raise BadQuery(f"function {node.func.name} isn't evaluated here")
    elif isinstance(node, ast.AggregateExpr):
        if str(node.op) not in names.AGGREGATIONS:
            raise BadQuery(f"aggregation {node.op} isn't evaluated here")
    elif isinstance(node, ast.BinaryExpr):
        if node.modifier is not None and (
            node.modifier.fill_values.lhs is not None or node.modifier.fill_values.rhs is not None
        ):
            raise BadQuery("modifier fill isn't evaluated here")
    elif isinstance(node, ast.VectorSelector):
        matchers(node)
