"""The floors of the package hold: import-linter says so, and so does a look at what a running collector has loaded."""

import subprocess
import sys
from pathlib import Path

COLLECTOR = Path(__file__).parents[1]


def test_no_module_imports_from_a_floor_above() -> None:
    """A forbidden import fails here with the sentence that names it."""
    script = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([script, "--no-cache"], cwd=COLLECTOR, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_collector_starts_without_the_heavy_libraries() -> None:
    """Polars, scikit-learn and onnxruntime belong into child processes: memory and start time are targets.

    Nor does it need the compiled module, which the demo doesn't build.
    """
    code = (
        "import sys, telemetryx.app\n"
        "heavy = {'polars', 'sklearn', 'scipy', 'onnx', 'onnxruntime', 'pandas', 'typer', 'playwright', 'telemetryx._native'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=COLLECTOR / "src"
    )
    assert done.stdout.strip() == "[]"


def test_the_command_line_starts_without_the_collector() -> None:
    """`telemetryx query` loads neither aiohttp nor grpc nor NumPy."""
    code = (
        "import sys, telemetryx.cli.commands, telemetryx.cli.query, telemetryx.cli.listing\n"
        "print(sorted({'aiohttp', 'grpc', 'numpy', 'pydantic', 'sqlite3'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=COLLECTOR / "src"
    )
    assert done.stdout.strip() == "[]"
