"""A start with a long backlog behind it: gigabytes of batches in the spool, kill -9, and the agent comes back.

    just fault recovery --gib 10 [--folder DIR] [--json]

A spool of so many GiB is written through the spool's own code with readings that can't be compressed (`agent/crates/spool/examples/fill.rs`).
The agent runs on it with the collector away, takes readings, and is killed with kill -9. Measured from its next start, with files out of
the page cache where we are root: until its inputs are open, until its journal is folded, its resident memory then, and how long after the
collector's return the first batch is stored. Exit code 1 unless every batch is still there and can be read, and the limits that are
promised (ready within a second, 64 MiB) are kept.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.fault.figures import show
from tests.harness import Agent, Collector, Stack, until
from tests.harness import stack as harness
from tests.load.usage import resident_mb

ROOT = Path(__file__).resolve().parents[2]
FILL = ROOT / "agent/target/debug/examples/fill"
READY_S, RESIDENT_MB = 1.0, 64.0
#: Lines that the agent takes between its first start and the kill, and after it.
LINES, DEVICES = 1_000, 50
#: So many batches are acknowledged before the memory of a draining agent is looked at.
DRAINED = 200
FILL_S, VERIFY_S = 3_600.0, 3_600.0


def build() -> None:
    """Build what fills a spool."""
    command = ("cargo", "build", "--quiet", "--locked", "--workspace", "--example", "fill")
    subprocess.run(command, cwd=ROOT / "agent", check=True)


def fill(agent: Agent, gib: float) -> dict[str, float]:
    """Put so many GiB of batches into the spool of an agent that doesn't run."""
    folder = agent.data / "spool"
    folder.mkdir(parents=True)
    done = subprocess.run(
        [FILL, folder, str(gib)], capture_output=True, text=True, timeout=FILL_S, check=True
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def post(agent: Agent, first: int) -> None:
    """Have the next LINES numbered readings acknowledged, in the form that `judge` counts."""
    at = time.time_ns()
    body = "\n".join(f"s,device=d{n % DEVICES} n={n}i {at + n}" for n in range(first, first + LINES))
    assert agent.write(body) == 204


def forget_pages() -> bool:
    """Write and drop the page cache, as after a power cut; only root may."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("1\n")
    except OSError:
        return False
    return True


def recover(stack: Stack, gib: float) -> dict[str, Any]:
    """Run it and return the figures."""
    collector = stack.collector(start=False)
    agent = stack.agent(collector, extra='[spool]\nmax_bytes = "1024GiB"\n', start=False)
    filled = fill(agent, gib)
    agent.start()
    post(agent, 0)
    until("it is in batches", agent.in_batches)
    post(agent, LINES)
    waiting = agent.status()["spool"]["batches"]
    assert waiting >= filled["batches"], (waiting, filled)
    assert agent.process is not None
    agent.process.kill()
    cold = forget_pages()

    begin = time.monotonic()
    agent.start()
    ready = time.monotonic() - begin
    pid = agent.process.pid
    resident_ready = resident_mb(pid)
    until("the journal is folded", agent.in_batches)
    folded = time.monotonic() - begin
    resident = resident_mb(pid)
    status = agent.status()["spool"]

    seen = verify(agent)["spool"]

    # What is measured from here on is fresh, with the backlog behind it.
    collector.start()
    until("the session returns", lambda: agent.status()["link"]["connected"])
    returned = time.monotonic()
    post(agent, 2 * LINES)
    until("the fresh readings are stored", lambda: arrived(collector, 3 * LINES - 1))
    stored = time.monotonic() - returned
    until("the backlog drains", lambda: agent.status()["spool"]["acked"] > DRAINED)
    return {
        "gib": status["disk_bytes"] / 2**30,
        "batches": waiting,
        "page_cache_was_empty": cold,
        "filled_in_s": filled["seconds"],
        "ready_s": ready,
        "journal_folded_s": folded,
        "resident_when_ready_mb": resident_ready,
        "resident_when_folded_mb": resident,
        "fresh_stored_s_after_return": stored,
        "resident_draining_mb": resident_mb(agent.process.pid),
        "resident_at_most_mb": agent.process.peak_memory / 2**20,
        "batches_missing": max(0, waiting - status["batches"]),
        "batches_read_back": seen["batches"],
        "damaged": len(seen["damage"]) + seen["bad_records"] + seen["lost_batches"],
    }


def arrived(collector: Collector, number: int) -> bool:
    """Whether the reading of this number is stored."""
    series = collector.values(f's.n{{device="d{number % DEVICES}"}}', start="-1h")
    return any(number in map(int, values) for values in series)


def verify(agent: Agent) -> dict[str, Any]:
    """Read every batch of the stopped agent's spool back, checksums and all."""
    command = [harness.AGENT, "spool", "verify", "--config", agent.config, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=VERIFY_S, check=False)
    return dict(json.loads(done.stdout))


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gib", type=float, default=1.0, help="what is in the spool (1)")
    parser.add_argument(
        "--folder", type=Path, help="where it is written: a real disk (.cache in the repository)"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    given = parser.parse_args()
    build()
    parent = given.folder or ROOT / ".cache"
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="recovery-", dir=parent) as folder:
        stack = Stack(Path(folder))
        try:
            found = recover(stack, given.gib)
        finally:
            stack.close()
    show(found, as_json=given.json)
    return verdict(found)


def verdict(found: dict[str, Any]) -> int:
    """Say what of the promises was missed; 1 when one was."""
    missed = [
        text
        for text, true in (
            (
                "batches are missing",
                found["batches_missing"] or found["batches_read_back"] < found["batches"],
            ),
            ("batches are damaged", found["damaged"]),
            (f"the start took longer than {READY_S:.0f} s", found["ready_s"] >= READY_S),
            (f"it took more than {RESIDENT_MB:.0f} MB", found["resident_draining_mb"] > RESIDENT_MB),
        )
        if true
    ]
    for text in missed:
        print(text, file=sys.stderr)
    return int(bool(missed))


if __name__ == "__main__":
    raise SystemExit(main())
