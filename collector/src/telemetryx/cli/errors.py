"""What a command ends with when it can't do its work: a sentence, a remedy, an exit code."""

from collections.abc import Sequence
from enum import IntEnum
from typing import ClassVar


class Exit(IntEnum):
    """Exit codes; --help lists them."""

    NO = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    INTERRUPTED = 130


class CliError(Exception):
    """A command's failure, for a person."""

    at_once: ClassVar[bool] = False
    """Whether the process ends without waiting for what still works in it."""

    def __init__(
        self, message: str, hint: str = "", code: Exit = Exit.NO, problems: Sequence[str] = ()
    ) -> None:
        """Keep the parts; main() prints them, as sentences or as JSON. `problems` are the single ones, a line each."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code
        self.problems = tuple(problems)
