"""The words of events: letters and digits, lower case, without accents, as SQLite's index cuts them too."""

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

_WORD: Final = re.compile(r"[^\W_]+")
LONGEST: Final = 200
"""Characters of a word that count."""
MOST: Final = 400_000
"""Bytes of words that are kept of one event: a tsvector ends at a megabyte."""


def words(text: str) -> list[str]:
    """Cut a text into words, in order."""
    bare = "".join(
        one for one in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(one)
    )
    return [word[:LONGEST] for word in _WORD.findall(bare)]


def lexemes(texts: Iterable[str]) -> list[str]:
    """Return the distinct words of an event."""
    found = dict.fromkeys(word for text in texts for word in words(text))
    size, out = 0, []
    for word in found:
        size += len(word.encode()) + 8
        if size > MOST:
            break
        out.append(word)
    return out


def query(text: str) -> str:
    """Turn what a person typed into a tsquery: all words, the last as a prefix; nothing in it is an operator."""
    wanted = words(text)
    return " & ".join(f"'{word}'" for word in wanted) + ":*" if wanted else ""
