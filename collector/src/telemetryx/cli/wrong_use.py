"""What Typer says of a value that it doesn't take, in words that are meant for a person: its checker's are pydantic's."""

from collections.abc import Mapping
from typing import Any, Final

import typer

#: Typer has its own copy of click, under a private name; its errors' class is the base of this public one.
WRONG_USE: Final[type[Exception]] = next(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
)
_WORDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("int_parsing", "int_type", "int_from_float", "int_parsing_size"), "'{given}' is no whole number."
    ),
    **dict.fromkeys(("float_parsing", "float_type"), "'{given}' is no number."),
    **dict.fromkeys(("bool_parsing", "bool_type"), "'{given}' is neither true nor false."),
    "finite_number": "'{given}' is no finite number.",
    "greater_than_equal": "{given} is less than {ge}.",
    "greater_than": "{given} is not more than {gt}.",
    "less_than_equal": "{given} is more than {le}.",
    "less_than": "{given} is not less than {lt}.",
}
_LONG: Final = 60


def reworded(error: Exception) -> Exception:
    """Have the error say what is wrong in our words, where its checker's are known."""
    cause: Any = error.__cause__
    found = cause.errors(include_url=False)[0] if hasattr(cause, "errors") else None
    if found is not None and isinstance(error, typer.BadParameter):
        error.message = _said(found) or error.message.removeprefix("Value error, ")
    return error


def _said(found: Mapping[str, Any]) -> str:
    words = _WORDS.get(found["type"])
    if words is None:
        return ""
    given = str(found["input"])
    shown = given if len(given) <= _LONG else f"{given[:_LONG]}…"
    return words.format(given=repr(shown)[1:-1], **found.get("ctx", {}))
