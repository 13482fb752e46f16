"""What `telemetryx sql` takes: one query that reads the store's tables. All else is refused before anything is read.

Polars' SQL also knows statements that change its tables, which here would change nothing and look as if they had, and functions that
read files of this machine; neither is a question to the store.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.text import printable

QUERIES: Final = frozenset({"SELECT", "WITH", "FROM", "VALUES", "("})
READS: Final = "begin with SELECT, WITH, EXPLAIN or SHOW TABLES"
_MAIN: Final = frozenset(
    {"SELECT", "FROM", "VALUES", "DELETE", "INSERT", "UPDATE", "MERGE", "CREATE", "DROP", "TRUNCATE", "ALTER"}
)
_FILES = re.compile(r"(?:read|scan)_\w+", re.IGNORECASE)
_TOKEN = re.compile(
    r"(?P<skip>\s+|--[^\n]*|/\*.*?(?:\*/|\Z))"
    r"|(?P<text>'(?:[^']|'')*(?:'|\Z))"
    r'|"(?P<quoted>(?:[^"]|"")*)(?:"|\Z)'
    r"|`(?P<ticked>[^`]*)(?:`|\Z)"
    r"|(?P<word>\w+)"
    r"|(?P<mark>.)",
    re.DOTALL,
)
_SHOWN: Final = 40


@dataclass(frozen=True, slots=True)
class Token:
    """A word, a name in quotes, a text, or a single mark; how deep in parentheses it stands."""

    text: str
    depth: int
    bare: bool
    """A word or a mark as it stands: what is quoted is no keyword."""
    literal: bool = False

    @property
    def keyword(self) -> str:
        """It as a keyword; empty when it can't be one."""
        return self.text.upper() if self.bare else ""


def check(statement: str) -> None:
    """Refuse what is no single query over the store's tables."""
    tokens = list(_tokens(statement))
    while tokens and tokens[-1].text == ";" and tokens[-1].bare:
        tokens.pop()
    if not tokens:
        raise CliError("the statement is empty", READS, Exit.USAGE)
    if any(token.bare and token.text == ";" for token in tokens):
        raise CliError("there is more than one statement", "give one at a time", Exit.USAGE)
    _query(tokens)
    for token, after in itertools.pairwise(tokens):
        if not token.literal and _FILES.fullmatch(token.text) and after.bare and after.text == "(":
            raise CliError(
                f"{token.text.lower()} reads a file: `telemetryx sql` asks the store and nothing else",
                "SHOW TABLES lists what there is to ask",
                Exit.USAGE,
            )


def _query(tokens: list[Token]) -> None:
    """Refuse a statement that begins, or behind its WITH goes on, as something else than a query."""
    first = tokens[0].keyword
    if first == "EXPLAIN" and len(tokens) > 1:
        _query(tokens[1:])
        return
    if first == "SHOW" and len(tokens) > 1:
        if [token.keyword for token in tokens[1:]] != ["TABLES"]:
            raise CliError("SHOW knows TABLES alone", "write SHOW TABLES", Exit.USAGE)
        return
    if first == "WITH":
        main = (token.keyword for token in tokens[1:] if token.depth == 0)
        first = next((word for word in main if word in _MAIN), first)
    if first not in QUERIES:
        word = printable(tokens[0].text if first in {"", "WITH"} else first)
        shown = word if len(word) <= _SHOWN else f"{word[:_SHOWN]}…"
        raise CliError(f"{shown} begins no query: `telemetryx sql` only reads", READS, Exit.USAGE)


def _tokens(statement: str) -> Iterator[Token]:
    depth = 0
    for found in _TOKEN.finditer(statement):
        kind, text = found.lastgroup, found[found.lastgroup or 0]
        if kind == "skip":
            continue
        if kind == "mark" and text == ")":
            depth = max(0, depth - 1)
        yield Token(text, depth, kind in {"word", "mark"}, kind == "text")
        if kind == "mark" and text == "(":
            depth += 1
