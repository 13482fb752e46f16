"""The API's reading process: takes (engine, wanted, form) from its parent, pickled, and writes the export to stdout.

Before the first byte a failure is one line of JSON on stderr and exit code 1; after it the exit code alone tells that what
came isn't whole. It runs with a lower priority than the collector.
"""

import json
import os
import pickle
import sys

from telemetryx.errors import QueryRefused, StoreError
from telemetryx.export.run import export


def main() -> int:
    """Run one export."""
    os.nice(10)
    # From our own parent, through a pipe of its own.
    engine, wanted, form = pickle.load(sys.stdin.buffer)  # noqa: S301
    try:
        database = engine.open_reader()
        try:
            database.begin_snapshot()
            export(database, wanted, form, sys.stdout.buffer, lambda *_: None)
            sys.stdout.buffer.flush()
        finally:
            database.close()
    except BrokenPipeError:
        return 1
    except (QueryRefused, StoreError, OSError) as error:
        sys.stderr.write(json.dumps({"error": str(error)}) + "\n")
        return 1
    except Exception as error:
        ours = engine.translate(error)
        if ours is None:
            raise
        sys.stderr.write(json.dumps({"error": str(ours)}) + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
