"""What the numbered scripts say is in a database: tables and their columns, read from the scripts, as there is no empty server to ask.

It reads the statements that the scripts are written in, a column a line; a test compares it with a real database.
"""

import re
from collections.abc import Iterable
from typing import Final

_COMMENT = re.compile(r"--[^\n]*")
_TABLE = re.compile(r'CREATE TABLE "?(\w+)"? \((.*?)\)[^(),;]*(?:PARTITION BY[^;]*|WITH[^;]*)?;', re.DOTALL)
_ADDED = re.compile(r'ALTER TABLE "?(\w+)"? ADD COLUMN "?(\w+)"?')
_NAME = re.compile(r'"?(\w+)"?')
_CONSTRAINTS: Final = frozenset({"PRIMARY", "UNIQUE", "CONSTRAINT", "CHECK", "FOREIGN", "EXCLUDE", "LIKE"})


def tables(scripts: Iterable[str]) -> dict[str, set[str]]:
    """Return the columns of each table that these scripts leave, partitions left out."""
    found: dict[str, set[str]] = {}
    for script in scripts:
        text = _COMMENT.sub("", script)
        for table in _TABLE.finditer(text):
            found[table[1]] = set(_columns(table[2]))
        for added in _ADDED.finditer(text):
            found[added[1]].add(added[2])
    return found


def _columns(body: str) -> Iterable[str]:
    """Yield the name that each part between commas outside of parentheses begins with."""
    depth, part = 0, ""
    for character in f"{body},":
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            name = _NAME.match(part.strip())
            if name is not None and name[1] not in _CONSTRAINTS:
                yield name[1]
            part = ""
        else:
            part += character
