"""Regular expressions of selectors and of PromQL: RE2's, as Prometheus' are, always for the whole text.

RE2 takes time in proportion to the text, whatever the expression: no selector that a person may send can make a collector
stand still. What only backtracking can do (looking around, referring back) is refused with a sentence that says so.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import re2

MAX_LENGTH: Final = 4_096
_MEMORY: Final = 1 << 20
"""Bytes that one compiled expression may take, about; what needs more is refused."""
_KEPT: Final = 128

_BACKTRACKING: Final = (
    (re.compile(r"\(\?<?[=!]"), "looking around ((?=…), (?!…), (?<=…), (?<!…))"),
    (re.compile(r"\\[1-9]|\(\?P="), "referring back to a group (\\1, (?P=name))"),
)
#: A single byte: RE2 in C++ alone knows it, and texts here are made of characters.
_BYTE: Final = re.compile(r"(?<!\\)(?:\\\\)*\\C")


class RegexError(ValueError):
    """A text is no expression that can be used here; the message says why, without the text."""


class Regex:
    """A compiled expression, for the whole text; a dot is any character, a line's end too."""

    __slots__ = ("_captures", "_matcher")

    def __init__(self, text: str) -> None:
        """Compile. Raises RegexError."""
        self._matcher = _compiled(text, captures=False)
        self._captures: Any = None

    def matches(self, text: str) -> bool:
        """Tell whether it meets a text from beginning to end."""
        return self._matcher.fullmatch(text.encode()) is not None

    def groups(self, text: str) -> Mapping[str, str] | None:
        """Return what its groups caught, by number ("0": everything) and by name; None when it doesn't meet the text."""
        if self._captures is None:
            self._captures = _compiled(self._matcher.pattern, captures=True)
        found = self._captures.fullmatch(text)
        if found is None:
            return None
        caught = (text, *found.groups(default=""))
        return {**{str(at): part for at, part in enumerate(caught)}, **found.groupdict(default="")}


@lru_cache(maxsize=_KEPT)
def regex(text: str) -> Regex:
    """Compile an expression, or take it from those that were used lately. Raises RegexError."""
    if len(text) > MAX_LENGTH:
        raise RegexError(f"longer than {MAX_LENGTH} characters")
    return Regex(text)


def _compiled(text: str, *, captures: bool) -> Any:  # noqa: ANN401 - re2 is untyped
    options = re2.Options()
    options.dot_nl = True
    options.log_errors = False
    options.max_mem = _MEMORY
    options.never_capture = not captures
    try:
        if _BYTE.search(text):
            raise RegexError("\\C (a byte) isn't possible in a text")
        return re2.compile(text, options)
    except re2.error as error:
        said = error.args[0] if error.args else ""
        said = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
        for form, name in _BACKTRACKING:
            if form.search(text):
                said = f"{name} isn't possible: expressions are RE2's, as in Prometheus, and take linear time"
        raise RegexError(said) from error
    except UnicodeEncodeError as error:
        raise RegexError("it holds what isn't Unicode text") from error
