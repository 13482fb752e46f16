"""What an agent may be called that joins with a token: what a certificate, a topic, a path of the API and a command line take as it is."""

import re
from typing import Final

PATTERN: Final = r"^[A-Za-z0-9._-]*[A-Za-z0-9][A-Za-z0-9._-]*$"
"""A name of marks alone is none: clients of HTTP take `.` and `..` in a path for a way to another."""
LONGEST: Final = 128
MARKS: Final = "letters, digits and - _ . only, a letter or digit among them"
NAME_RULE: Final = f"{MARKS}, at most {LONGEST}"
_NAME: Final = re.compile(PATTERN)


def is_name(text: str) -> bool:
    """Tell whether an agent may join under it."""
    # Before the pattern: it tries a long text at every place.
    return len(text) <= LONGEST and _NAME.fullmatch(text) is not None
