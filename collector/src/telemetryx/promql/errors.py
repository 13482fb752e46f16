"""Why an expression has no answer, with the word that Prometheus' API has for it (`errorType`)."""

from typing import ClassVar, Final

TOO_MANY: Final = "query processing would load too many samples into memory in query execution"
"""Prometheus' own words."""


class PromqlError(Exception):
    """An expression without an answer; the message is for the person who wrote it."""

    kind: ClassVar[str] = "internal"


class BadQuery(PromqlError):
    """It can't be read, or uses what isn't evaluated: asking again won't help."""

    kind = "bad_data"


class ExecutionFailed(PromqlError):
    """It can be read, but these data have no answer to it, or only one beyond the limits."""

    kind = "execution"


class OutOfTime(PromqlError):
    """It took longer than it may."""

    kind = "timeout"


class TooManySamples(ExecutionFailed):
    """A selection is more than is read at once. For fewer evaluation times it may not be."""
