"""What a collector loads that it doesn't use costs every site memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import telemetryx


@pytest.mark.parametrize("library", ["redis", "paho", "polars", "sklearn", "onnxruntime", "asyncpg"])
def test_a_collector_does_not_load_what_its_configuration_does_not_name(library: str) -> None:
    """Redis, a site's broker, training and exports are loaded when they are used."""
    program = f"import sys, telemetryx.app; sys.exit({library!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert done.returncode == 0


@pytest.mark.parametrize(
    "program",
    ["from telemetryx.store.tables import planning", "from telemetryx.cli import run; run.loaded()"],
)
def test_processes_that_stay_load_no_tables_for_terminals(program: str) -> None:
    """`rich` is 3 to 6 MB, which structlog loads where it is installed; a command that prints a table gets it afterwards."""
    lines = f"import sys\n{program}\nassert 'rich' not in sys.modules\nimport rich.table"
    done = subprocess.run([sys.executable, "-c", lines], check=False, timeout=120)
    assert done.returncode == 0


def test_a_start_reads_no_source() -> None:
    """What models say of their attributes is for documents: to parse it was a quarter of the processor time of each start."""
    program = (
        "import ast\ndef parse(*_, **__): raise AssertionError('source is parsed')\nast.parse = parse\n"
        "from telemetryx.cli import run; run.loaded()\nfrom telemetryx import config; config.Settings()"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=120)
    assert done.returncode == 0


WORK = """
import asyncio, sys, tempfile
from pathlib import Path
from reference_agent import T0, decoded, defined, samples
from store_batches import compacted, key
from telemetryx.api.live.pending import Wanted
from telemetryx.store.sqlite.store import SqliteStore
from telemetryx.wire.payload import Payload
import telemetryx.app

async def work(folder):
    store = await SqliteStore.open(Path(folder) / "t.db")
    rows = {number: [(T0 + i * 10**9, 1.0) for i in range(100)] for number in (1, 2)}
    await store.commit([decoded(key(1), Payload(samples(rows)), defined("a", "b"))])
    await compacted(store)
    await store.range([1, 2], T0, T0 + 100 * 10**9, 10**9)
    assert Wanted([2, 1])
    await store.close()

with tempfile.TemporaryDirectory() as folder:
    asyncio.run(work(folder))
sys.exit("numpy.ma" in sys.modules)
"""


def test_work_loads_no_part_of_numpy_that_it_does_not_need() -> None:
    """`numpy.ma` is 6 MB, and its loading held up the event loop for 35 ms at the first commit."""
    paths = os.pathsep.join([str(Path(telemetryx.__file__).parents[1]), str(Path(__file__).parent)])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", WORK], check=False, timeout=300, env=environment)
    assert done.returncode == 0
