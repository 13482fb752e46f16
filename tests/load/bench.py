"""Benchmarks: `just bench [NAME ...] [--seconds N] [--json FILE] [--data FOLDER] [--backlog GIB] [--no-build]`.

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

from telemetryx.compiled import native  # noqa: E402
from tests.load import (  # noqa: E402
    alarm,
    fleet,
    flow,
    idle,
    intake,
    joining,
    layouts,
    live,
    parts,
    peers,
    recovery,
    storing,
    sustained,
    writes,
)
from tests.load.bed import Bed, Sizes, settle  # noqa: E402
from tests.load.report import Report, machine  # noqa: E402
from tests.load.usage import others_cpu  # noqa: E402

BENCHES: dict[str, Callable[[Bed], None]] = {
    "http": intake.http,
    "tcp": intake.tcp,
    "mqtt": intake.mqtt,
    "fold": parts.fold,
    "score": parts.score,
    "wire": parts.wire,
    "sustained": sustained.sustained,
    "rest": storing.store,
    "peers": peers.peers,
    "layouts": layouts.layouts,
    "fleet": fleet.fleet,
    "consolidation": joining.joining,
    "collector": storing.ingest,
    "postgres": storing.postgres,
    "agent": flow.windows,
    "raw": flow.raw,
    "published": flow.published,
    "delay": flow.delay,
    "live": live.live,
    "alert": alarm.alert,
    "idle": idle.idle,
    "recovery": recovery.recovery,
    "writes": writes.writes,
    "binary": parts.binary,
}
#: What people ask for by one word.
GROUPS = {
    "intake": ["http", "tcp", "raw", "agent"],
    "mqtt": ["mqtt", "published"],
    "store": ["sustained", "rest", "wire", "peers"],
    "e2e": ["live", "alert"],
}
#: These run parts of the agent by themselves, so they need no whole one.
WITHOUT_AGENT = {
    "http", "tcp", "mqtt", "fold", "score", "wire", "rest", "collector", "postgres", "sustained", "peers",
    "layouts", "fleet", "consolidation",
}  # fmt: skip

ORDERS = {"both": (False, True), "in-order": (False,), "late": (True,)}
#: And these no program of ours but the collector.
PYTHON_ALONE = {"rest", "collector", "postgres", "sustained", "peers", "layouts", "fleet", "consolidation"}


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
    grouped = ", ".join(f"{name} ({' '.join(of)})" for name, of in GROUPS.items())
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"run these; all by default. Groups: {grouped}"
    )
    parser.add_argument("--only", metavar="NAME,...", help="the same, separated by commas")
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
    parser.add_argument("--install", action="store_true", help="install missing peers with apt-get (as root)")
    sizes = Sizes()
    parser.add_argument(
        "--series",
        default=",".join(map(str, sizes.series)),
        metavar="N,...",
        help="numbers of series of `layouts`",
    )
    parser.add_argument(
        "--samples", type=int, default=sizes.samples, help="samples of its columns (2,000,000)"
    )
    parser.add_argument("--rows", type=int, default=sizes.rows, help="and of its plain rows (500,000)")
    parser.add_argument(
        "--order",
        choices=ORDERS,
        default="both",
        help="whether a fifth of them is late (both, one after the other)",
    )
    parser.add_argument("--no-build", action="store_true", help="measure what was built before")
    given = parser.parse_args()
    asked = [*given.names, *(given.only.split(",") if given.only else [])] or list(BENCHES)
    if unknown := set(asked) - BENCHES.keys() - GROUPS.keys():
        parser.error(
            f"no bench is called {', '.join(sorted(unknown))}; there are {', '.join([*BENCHES, *GROUPS])}"
        )
    given.names = list(dict.fromkeys(one for name in asked for one in GROUPS.get(name, [name])))
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
    if not native().OPTIMISED:
        print(
            "telemetryx._native is a debug build: the collector's figures are worth nothing (`just bench` builds it)"
        )
    with tempfile.TemporaryDirectory(prefix="bench-", dir=parent) as folder:
        data = given.data.resolve() if given.data else None
        bed = Bed(given.seconds, data, Path(folder), report, given.backlog, install=given.install)
        bed.sizes = Sizes(
            tuple(map(int, given.series.split(","))), given.samples, given.rows, ORDERS[given.order]
        )
        prepare = bed.built_before if given.no_build else bed.build
        if set(given.names) - PYTHON_ALONE:
            prepare(agent=bool(set(given.names) - WITHOUT_AGENT))
        for name in given.names:
            print(
                f"\n{name}: {(BENCHES[name].__doc__ or '').splitlines()[0]}  (just bench {name})",
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
