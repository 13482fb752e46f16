"""Every exception of the collector that crosses a module, as one tree.

    TelemetryXError
    ├── WireError            bytes that aren't what proto/README.md says; the sender gets `message`
    │   └── UnknownVersion   a codec, version or encoding number of the future: refused by number, never guessed
    ├── StoreError           the store can't do what was asked; `retry` says whether waiting may help
    │   ├── StoreUnavailable locked, full, read-only, closed: nothing was written, nothing may be acknowledged
    │   ├── StoreDamaged     the file isn't a sound store of ours: a person must act
    │   │   └── SchemaBroken it lacks a table, a column or a key: nothing goes on without it
    │   ├── SchemaTooNew     written by a newer collector
    │   ├── LeaseLost        another process does this work now: what this one would have written is refused
    │   ├── CursorGone       a reader asks for commits that were compacted already: read by time instead
    │   └── QueryRefused     a query over its limits or that makes no sense; the message is for whoever asked
    │       ├── TooManyReadings  it would hold more readings at once than it may: a smaller part of it may do
    │       └── QueryOutOfTime   it reads more than can be read in its time
    ├── SelectorError        text that isn't a selector; has the column
    ├── IngestClosed         the collector is shutting down
    ├── QueueFull            too much waits for its commit; has `after_ms`
    ├── NotCompiled          the compiled module telemetryx._native is missing or of another machine
    └── GatewayRefused       the agents' door can't open: an address, a certificate, a token file

Each message says what happened, with which value, and what to do. Causes are words that metrics count by.
"""

import re
from typing import Final

#: Python reads no whole number of more digits (sys.get_int_max_str_digits), and says so in words about itself.
_LONG_NUMBER: Final = re.compile(r"\d(?:_?\d){4300,}")


class TelemetryXError(Exception):
    """The root of the collector's own errors."""


class WireError(TelemetryXError):
    """Bytes that aren't what proto/README.md says. `cause` is a word for metrics."""

    def __init__(self, message: str, cause: str = "malformed") -> None:
        """Keep the word beside the sentence."""
        super().__init__(message)
        self.cause = cause


class UnknownVersion(WireError):  # noqa: N818 - named after what happened, as WireError's other causes are
    """A codec, version or encoding number that this collector doesn't know."""

    def __init__(self, what: str, number: object) -> None:
        """Name the number."""
        super().__init__(f"{what} {number!r} is unknown here; upgrade the collector", "unknown_version")


class StoreError(TelemetryXError):
    """The store can't do what was asked."""

    retry = False


class StoreUnavailable(StoreError):  # noqa: N818
    """Nothing was written; it may work later. `reason` is one of locked, conflict, full, read_only, io, lease, closed."""

    retry = True

    def __init__(self, message: str, reason: str) -> None:
        """Keep the word beside the sentence."""
        super().__init__(message)
        self.reason = reason


class StoreDamaged(StoreError):  # noqa: N818
    """The file isn't a sound store of ours."""


class SchemaBroken(StoreDamaged):
    """A table, a column or a key isn't as the schema has it: all work waits until a person has mended that."""


class SchemaTooNew(StoreError):  # noqa: N818
    """The file was written by a newer collector."""


class LeaseLost(StoreUnavailable):
    """Another process owns the work by now; nothing was written."""

    def __init__(self, message: str) -> None:
        """Say whose it was."""
        super().__init__(message, "lease")


class CursorGone(StoreError):  # noqa: N818
    """Commits after the cursor were compacted; `oldest` is the smallest cursor that can still be read from."""

    def __init__(self, cursor: int, oldest: int) -> None:
        """Name both."""
        super().__init__(
            f"commits after cursor {cursor} are compacted; read by time, then go on from {oldest}"
        )
        self.oldest = oldest


class QueryRefused(StoreError):  # noqa: N818
    """A query over its limits, or one that makes no sense."""


class TooManyReadings(QueryRefused):
    """It would hold more readings or windows at once than it may; a shorter time or fewer series may do."""


class QueryOutOfTime(QueryRefused):
    """It reads more than can be read in a query's time; a shorter time, fewer series or rollups may do."""


class SelectorError(TelemetryXError):
    """Text that isn't a selector. `column` counts from 1."""

    def __init__(self, message: str, column: int) -> None:
        """Keep where it went wrong."""
        super().__init__(f"{message} at column {column}")
        self.column = column


class IngestClosed(TelemetryXError):  # noqa: N818
    """The collector is shutting down."""


class QueueFull(TelemetryXError):  # noqa: N818
    """Too much waits for its commit."""

    def __init__(self, message: str, after_ms: int) -> None:
        """Say when to try again."""
        super().__init__(message)
        self.after_ms = after_ms


class NotCompiled(TelemetryXError):  # noqa: N818
    """The compiled module telemetryx._native can't be loaded."""


class GatewayRefused(TelemetryXError):  # noqa: N818
    """The agents' door can't open."""


def misread(error: ValueError, text: str) -> str:
    """Say why a text isn't of its format, without Python's advice to itself where that is a number of thousands of digits."""
    number = _LONG_NUMBER.search(text) if "int_max_str_digits" in str(error) else None
    if number is None:
        return str(error)
    line = text.count("\n", 0, number.start()) + 1
    return f"a number of {len(number[0].replace('_', '')):,} digits (at line {line}): nothing takes one"


def unread(error: OSError | UnicodeDecodeError) -> str:
    """Say why a text file can't be read, in the system's words, without their number and a second time the file's name."""
    if isinstance(error, UnicodeDecodeError):
        return f"it is no UTF-8 text (at byte {error.start + 1})"
    return error.strerror or str(error) or type(error).__name__
