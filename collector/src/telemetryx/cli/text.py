"""Makes other people's text safe for a terminal: what isn't printable is shown as its escape, never obeyed."""

import unicodedata
from typing import Final

#: Categories that move the cursor, colour, hide or reorder: controls, formats (bidi marks among them), surrogates, unassigned.
_UNSAFE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

#: Of what was given no more is repeated in a message.
_REPEATED: Final = 80


def shortened(text: str) -> str:
    """Cut a long text that is repeated in a message, and say how long it is."""
    return text if len(text) <= _REPEATED else f"{text[: _REPEATED - 20]}… ({len(text):,} characters)"


def printable(text: str) -> str:
    """Replace every character that a terminal might act on."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if unicodedata.category(character) not in _UNSAFE else _escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "replace").decode("ascii")
