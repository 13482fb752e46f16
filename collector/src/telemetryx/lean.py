"""Keeps a process that stays free of what its libraries load on the chance that it is wanted."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lean() -> Iterator[None]:
    """Load modules inside without `rich`, which structlog loads for tracebacks that we don't print: 3 to 6 MB, and a tenth of a second.

    Whoever wants it afterwards (a table on a terminal) gets it.
    """
    if "rich" in sys.modules:
        yield
        return
    sys.modules["rich"] = None  # type: ignore[assignment]  # how Python marks what can't be imported
    try:
        yield
    finally:
        del sys.modules["rich"]
