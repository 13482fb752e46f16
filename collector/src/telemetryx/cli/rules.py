"""`telemetryx rules check`: reads rule files and says each rule in a sentence, or every problem with its line."""

import errno
import os
from pathlib import Path

from telemetryx.cli import output
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.targets import shown
from telemetryx.cli.text import printable
from telemetryx.errors import unread


def check(paths: list[Path], *, as_json: bool) -> None:
    """Check the files together, as the collector loads them."""
    from telemetryx.rules.load import RulesError, load_rules
    from telemetryx.rules.service import explain

    for path in paths:
        if (why := _unreadable(path)) is not None:
            raise CliError(f"{shown(path)} can't be read: {why}", "name files of rules", Exit.USAGE)
    try:
        found = load_rules(paths, defaults=False)
    except RulesError as error:
        raise CliError(
            output.count(len(error.problems), "problem"),
            "nothing was loaded or changed",
            problems=[printable(problem) for problem in error.problems],
        ) from error
    rows = [
        {"rule": name, "file": found.origins[name], "says": explain(rule)}
        for name, rule in found.rules.items()
    ]
    if as_json:
        output.write_json({"rules": rows})
        return
    for row in rows:
        print(printable(row["says"]))


def _unreadable(path: Path) -> str | None:
    """Say why a file isn't there or may not be read; what is wrong in it is another matter."""
    try:
        path.stat()
    except OSError as error:
        return unread(error)
    return None if os.access(path, os.R_OK) else os.strerror(errno.EACCES)
