"""`telemetryx rules check`: reads rule files and says each rule in a sentence, or every problem with its line."""

import sys
from pathlib import Path

from telemetryx.cli.errors import CliError
from telemetryx.cli.text import printable


def check(paths: list[Path]) -> None:
    """Check the files together, as the collector loads them."""
    from telemetryx.rules.load import RulesError, load_rules
    from telemetryx.rules.service import explain

    try:
        found = load_rules(paths, defaults=False)
    except RulesError as error:
        for problem in error.problems:
            sys.stderr.write(printable(problem) + "\n")
        count = len(error.problems)
        raise CliError(
            f"{count} problem{'s' if count > 1 else ''}", "nothing was loaded or changed"
        ) from error
    for rule in found.rules.values():
        print(printable(explain(rule)))
