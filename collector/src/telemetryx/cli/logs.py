"""How the collector's log looks: for people on a terminal, JSON elsewhere. Text from the field is escaped either way."""

import io
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Final, TextIO

import structlog

from telemetryx.cli.text import printable

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def configure(level: str, how: str) -> None:
    """Send everything, aiohttp's and grpc's own lines too, to stderr in one form."""
    people = how == "console" or (how == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: structlog.typing.Processor
    if people:
        shared.append(_escape)
        last = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=traceback)
    else:
        shared.append(structlog.processors.format_exc_info)
        last = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, last],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    handler.addFilter(_ours)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(_LEVELS[level], logging.WARNING))


def quiet() -> None:
    """Keep what the collector's own code would log from a command's output: warnings go to stderr, the rest nowhere."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
            _escape,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=traceback),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


def traceback(out: TextIO, error: structlog.typing.ExcInfo) -> None:
    """Write a traceback, indented: what an exception quotes from the field neither acts on the terminal nor looks like a line of the log."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, error)
    out.write("\n" + "\n".join(f"  {printable(line)}" for line in text.getvalue().strip("\n").split("\n")))


def _escape(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in entry.items():
        if isinstance(value, str) and key != "exception":
            entry[key] = printable(value)
    return entry


def _ours(record: logging.LogRecord) -> bool:
    """Leave out what a peer's malformed HTTP makes aiohttp log with a traceback: strangers mustn't fill the log."""
    error = record.exc_info[1] if record.exc_info else None
    return type(error).__module__ != "aiohttp.http_exceptions"
