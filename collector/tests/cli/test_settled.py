"""What the collector's command does once it runs, in a process of its own: it can't be taken back."""

import subprocess
import sys

PROGRAM = """
import asyncio, gc, sys
from pathlib import Path
from telemetryx import app
from telemetryx.cli import run

async def ended(settings, *, ready, **_more):
    before = gc.get_freeze_count()
    ready(app.Addresses(0, 0))
    print(before, gc.get_freeze_count() > 10_000)

app.run = ended
Path(sys.argv[1]).write_text("")
run.collector(Path(sys.argv[1]))
"""


def test_a_collector_that_runs_takes_what_it_loaded_out_of_garbage_collection(tmp_path: object) -> None:
    """A full collection would go through it each time, while nothing is acknowledged."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, f"{tmp_path}/collector.toml"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == ["0", "True"]
