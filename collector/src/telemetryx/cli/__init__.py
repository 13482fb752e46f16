"""The command `telemetryx`: the collector itself, and what people ask it.

`commands.py` declares every command; each loads its own module when it runs, so that `--help` and queries start fast.
Exit codes: 0 done; 1 it ran and the answer is no (what was asked for by name is not there, a check failed); 2 wrong use; 3 the collector can't be
reached; 4 it refused; 130 interrupted. SIGTERM and SIGHUP end it as themselves, and leave nothing half-written.
"""

import gc
import itertools
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from telemetryx.cli.ending import Ending
from telemetryx.cli.errors import CliError, Exit


def main() -> None:
    """Run the command line; the installed script and `python -m telemetryx` call this."""
    # A quarter of a start: looking for garbage among modules that stay (whoever works for long turns it on again: store.opened,
    # run.collector, run.demo), and for plugins of Pydantic in everything that is installed.
    gc.disable()
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
    with Ending():
        _run()


def _run() -> None:
    for_program = wants_json(sys.argv[1:])
    try:
        try:
            _command(as_json=for_program)
        finally:
            # What can't be written shows here, and not when Python has ended.
            sys.stdout.flush()
    except CliError as error:
        for problem in error.problems:
            sys.stderr.write(f"{problem}\n")
        sys.stderr.write(f"telemetryx: {error.message}\n")
        if error.hint:
            sys.stderr.write(f"  {error.hint}\n")
        _leave(error)
    except BrokenPipeError:
        # `telemetryx query … | head` closes our output: that is no error, and Python must not complain at exit.
        sys.stderr.close()
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        _refused_by_the_system(error, as_json=for_program)


def wants_json(arguments: Sequence[str]) -> bool:
    """Tell whether a program reads the answer, so that errors are JSON too: --json, or --format json or ndjson."""
    options = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    if "--json" in options:
        return True
    formats = [two for one, two in itertools.pairwise(options) if one in {"-f", "--format"}]
    formats += [one.removeprefix("--format=") for one in options if one.startswith("--format=")]
    formats += [one.removeprefix("-f") for one in options if one.startswith("-f")]
    return any(one in {"json", "ndjson"} for one in formats)


def _command(*, as_json: bool) -> NoReturn:
    """Run the command line; with `as_json` errors are `{"error": {...}}` on stderr, wrong use among them. Exit codes are the same."""
    import typer

    from telemetryx.cli.commands import app
    from telemetryx.cli.wrong_use import WRONG_USE, reworded

    try:
        sys.exit(app(standalone_mode=False))
    except CliError as error:
        if not as_json:
            raise
        _complain(error.code, error.message, error.hint, error.problems)
        _leave(error)
    except typer.Abort:
        sys.exit(130)
    except WRONG_USE as error:
        wrong: Any = reworded(error)
        if as_json:
            _complain(Exit.USAGE, wrong.format_message(), "--help lists commands and options")
        else:
            wrong.show()
        sys.exit(Exit.USAGE)


def _refused_by_the_system(error: OSError, *, as_json: bool) -> NoReturn:
    """Name the file that a command didn't expect to fail; what names none is a fault of ours, but for standard output."""
    import errno
    from pathlib import Path

    from telemetryx.cli.targets import remedy, shown

    output = error.filename is None and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
    if not output and not isinstance(error.filename, str):
        raise error
    if output:
        # Python would try again at its end, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    path = Path("standard output" if output else error.filename)
    said = f"{shown(path)}: {error.strerror or error}"
    hint = "free some space there, or write elsewhere" if output else remedy(error, path)
    if as_json:
        _complain(Exit.NO, said, hint)
    else:
        sys.stderr.write(f"telemetryx: {said}\n  {hint}\n")
    sys.exit(Exit.NO)


def _complain(code: int, message: str, hint: str, problems: Sequence[str] = ()) -> None:
    error: dict[str, object] = {"code": Exit(code).name.lower(), "message": message, "hint": hint}
    if problems:
        error["problems"] = list(problems)
    sys.stderr.write(json.dumps({"error": error}) + "\n")


def _leave(error: CliError) -> NoReturn:
    """End with the error's exit code."""
    if error.at_once:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(error.code)
    sys.exit(error.code)
