"""Benchmarks: `just bench [--only NAME,...] [--seconds N] [--json FILE] [--data FOLDER] [--backlog GIB] [--no-build]`.

Prints a table with the core count; docs/reference/benchmarks.md has a full run and what each figure means. Nothing
here judges: targets stand beside the figures, and no figure makes it fail.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Run by its path, so the repository isn't where imports are looked for yet.
sys.path[0] = str(ROOT)

from tests.load import alarm, flow, idle, intake, parts, recovery, storing, writes  # noqa: E402
from tests.load.bed import Bed, settle  # noqa: E402
from tests.load.report import Report, machine  # noqa: E402
from tests.load.usage import others_cpu  # noqa: E402

BENCHES: dict[str, Callable[[Bed], None]] = {
    "http": intake.http,
    "tcp": intake.tcp,
    "mqtt": intake.mqtt,
    "fold": parts.fold,
    "score": parts.score,
    "wire": parts.wire,
    "store": storing.store,
    "collector": storing.ingest,
    "postgres": storing.postgres,
    "agent": flow.windows,
    "raw": flow.raw,
    "delay": flow.delay,
    "alert": alarm.alert,
    "idle": idle.idle,
    "recovery": recovery.recovery,
    "writes": writes.writes,
    "binary": parts.binary,
}
#: These run parts of the agent by themselves, so they need no whole one.
WITHOUT_AGENT = {"http", "tcp", "mqtt", "fold", "score", "wire", "store", "collector", "postgres"}


def options() -> argparse.Namespace:
    """Read the command line."""
    listed = "\n".join(
        f"  {name:10} {(call.__doc__ or '').splitlines()[0]}" for name, call in BENCHES.items()
    )
    parser = argparse.ArgumentParser(
        prog="just bench",
        description=f"Benchmarks:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", metavar="NAME,...", help="run these; all by default")
    parser.add_argument("--seconds", type=int, default=10, help="length of each loaded run (10)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="real readings: CSV files in skab/ and nab/; generated ones by default",
    )
    parser.add_argument(
        "--backlog", type=float, default=0.25, metavar="GIB", help="what waits before the recovery (0.25)"
    )
    parser.add_argument(
        "--folder", type=Path, help="where data is written: a real disk (.cache in the repository)"
    )
    parser.add_argument("--no-build", action="store_true", help="measure what was built before")
    given = parser.parse_args()
    given.names = given.only.split(",") if given.only else list(BENCHES)
    if unknown := set(given.names) - BENCHES.keys():
        parser.error(f"no bench is called {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    if given.seconds < 1:
        parser.error(f"--seconds {given.seconds}: give at least 1")
    if "mqtt" in given.names and shutil.which("mosquitto") is None:
        os.environ["PATH"] += ":/usr/sbin"
        if shutil.which("mosquitto") is None:
            parser.error("mosquitto is needed as the peer of the MQTT bench: apt-get install mosquitto")
    return given


def main() -> int:
    """Measure and print; 1 when a bench could not run."""
    given = options()
    parent = given.folder or ROOT / ".cache"
    parent.mkdir(parents=True, exist_ok=True)
    report, failed = Report(), []
    print(machine())
    with tempfile.TemporaryDirectory(prefix="bench-", dir=parent) as folder:
        data = given.data.resolve() if given.data else None
        bed = Bed(given.seconds, data, Path(folder), report, given.backlog)
        prepare = bed.built_before if given.no_build else bed.build
        prepare(agent=bool(set(given.names) - WITHOUT_AGENT))
        for name in given.names:
            print(
                f"\n{name}: {(BENCHES[name].__doc__ or '').splitlines()[0]}  (just bench --only {name})",
                flush=True,
            )
            settle()
            begin, others = time.monotonic(), others_cpu()
            try:
                BENCHES[name](bed)
            except Exception:  # noqa: BLE001 - the others' figures are still wanted
                failed.append(name)
                report.show()
                traceback.print_exc()
            report.show()
            seconds = time.monotonic() - begin
            # What else ran is the first thing to know about a figure that surprises.
            others = max(0.0, others_cpu() - others) / max(seconds, 1.0)
            print(f"  {seconds:.0f} s; other programs took {others:.2f} cores", flush=True)
    if given.json:
        report.write(given.json)
    if failed:
        print(f"\ncould not run: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
