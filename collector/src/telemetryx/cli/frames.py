"""Polars, which some commands need, loaded without what it does to Ctrl-C."""

import signal
from typing import Any, Final

from telemetryx.cli.errors import CliError, Exit

REMEDY: Final = "pip install 'telemetryx[sql]'"


def polars(what: str, remedy: str = REMEDY) -> Any:  # noqa: ANN401 - a module; it is untyped here
    """Load it. Raises CliError where it isn't installed."""
    try:
        import polars as pl
    except ImportError as error:
        raise CliError(f"{what} needs Polars, which isn't installed", remedy, Exit.USAGE) from error
    # It listens to SIGINT for queries of its own, with SA_RESTART: a command that waits (for a pipe, a thread) would go on waiting.
    signal.siginterrupt(signal.SIGINT, True)
    return pl
