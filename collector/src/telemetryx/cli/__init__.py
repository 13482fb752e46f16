"""The command `telemetryx`: the collector itself, and what people ask it.

`commands.py` declares every command; each loads its own module when it runs, so that `--help` and queries start fast.
Exit codes: 0 done; 1 it ran and the answer is no (nothing matched, a check failed); 2 wrong use; 3 the collector can't be
reached; 4 it refused; 130 interrupted.
"""

import sys

from telemetryx.cli.errors import CliError


def main() -> None:
    """Run the command line; the installed script and `python -m telemetryx` call this."""
    from telemetryx.cli.commands import app

    try:
        app()
    except CliError as error:
        sys.stderr.write(f"telemetryx: {error.message}\n")
        if error.hint:
            sys.stderr.write(f"  {error.hint}\n")
        sys.exit(error.code)
    except BrokenPipeError:
        # `telemetryx query … | head` closes our output: that is no error, and Python must not complain at exit.
        sys.stderr.close()
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)
