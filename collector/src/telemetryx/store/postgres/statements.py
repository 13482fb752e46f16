"""The statements of store/tables as PostgreSQL takes them, and parameters as asyncpg takes them.

What is translated: parameters (`?`, `?2` and `:name` become `$n`), `INDEXED BY` (left out: the planner has statistics) and
`instr` (`strpos`). Nothing else: those statements are written for both engines.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

_PARAMETER: Final = re.compile(r"'(?:[^']|'')*'|\?(?P<number>\d+)?|(?<!:):(?P<name>[a-z_]+)")
_HINT: Final = re.compile(r" INDEXED BY \w+")
_INSTR: Final = re.compile(r"\binstr\(")
_GIVES: Final = re.compile(r"\s*(SELECT|WITH|SHOW)\b|.*\bRETURNING\b", re.DOTALL)
NUL: Final = "\u2400"
"""PostgreSQL's texts hold no NUL: this picture of it stands in its place."""


class Statement:
    """One statement, translated once."""

    __slots__ = ("gives", "names", "text")

    def __init__(self, text: str, names: tuple[str, ...], *, gives: bool) -> None:
        """Keep the text, the names of its parameters in order (empty: they are a sequence), and whether it gives rows."""
        self.text = text
        self.names = names
        self.gives = gives

    def arguments(self, parameters: Sequence[Any] | Mapping[str, Any]) -> list[Any]:
        """Put parameters in order."""
        if isinstance(parameters, Mapping):
            return [plain(parameters[name]) for name in self.names]
        return [plain(value) for value in parameters]


@lru_cache(maxsize=2_048)
def translated(statement: str) -> Statement:
    """Translate a statement."""
    names: dict[str, int] = {}
    count = 0

    def parameter(found: re.Match[str]) -> str:
        nonlocal count
        if found[0].startswith("'"):
            return found[0]
        if found["name"]:
            return f"${names.setdefault(found['name'], len(names) + 1)}"
        if found["number"]:
            return f"${found['number']}"
        count += 1
        return f"${count}"

    text = _PARAMETER.sub(parameter, _INSTR.sub("strpos(", _HINT.sub("", statement)))
    return Statement(text, tuple(names), gives=_GIVES.match(text) is not None)


def plain(value: Any) -> Any:  # noqa: ANN401 - what a column takes
    """Return a parameter as PostgreSQL can hold it."""
    if type(value) is bool:
        return int(value)
    if isinstance(value, str) and "\0" in value:
        return value.replace("\0", NUL)
    return value
