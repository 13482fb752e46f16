"""Makes the default host model: `python models/recipes/host.py [--out models/default]`.

Trains on made-up calm hosts (`hosts.py` says how they are made), measures on others, and writes host.onnx, host.json
(the manifest) and cards/host.md. The agent embeds the first two.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from telemetryx import _native
from telemetryx.training.train import Trained, train

import hosts

HERE = Path(__file__).resolve().parent.parent
#: The day on which this version was made, so that making it again gives the same files.
CREATED_NS = 1_795_564_800_000_000_000
VERSION = 1
DAY = 8_640

DATA = """
No recording of anyone's machines. Twenty-four made-up hosts of six kinds (idle, gateway, web, database, worker, desktop), one day each,
by `models/recipes/hosts.py`: a demand that wanders by the minute and the hour, a daily swing, small jobs every few minutes,
and processor, load, memory, disk and network that follow it with their own noise. Levels differ by orders of magnitude between kinds.
The features compare each host with its own last hour, so the model learns how the deviations of calm hosts hang together, not levels.
"""

LIMITS = """
- Made-up hosts are smoother than real ones: expect more scores above 1 on a real host than the calm figures here, most of all from rare heavy
  jobs (backups, updates, builds) that the last hour didn't hold. A rule should ask for 30 s or more (`for`).
- A host that grows quiet is seen only where it was busy before. A slow leak is seen when it has become fast against the last hour.
- What lasts for more than half an hour becomes normal. No scores in a device's first three minutes, nor where fewer than three of the features are there.
- Trained for samples every 1 to 10 s; at 60 s it works, with vectors only where samples are.
"""


def scored(trained: Trained, fleet: list[tuple[str, hosts.Levels]]) -> list[np.ndarray]:
    """Return each host's scores by cell, 0 where there is none."""
    devices, device, _, matrix, ready = hosts.columns(fleet).features()
    scores = _native.evaluate(trained.onnx, matrix).astype(np.float64) / trained.threshold
    scores[~ready] = 0.0
    return [scores[device == number] for number in range(len(devices))]


def runs(scores: np.ndarray, least: int) -> int:
    """Return how many times the score was above 1 for at least so many cells on end."""
    above = np.concatenate([[0], (scores > 1.0).astype(int), [0]])
    edges = np.diff(above)
    return int(np.sum(np.flatnonzero(edges < 0) - np.flatnonzero(edges > 0) >= least))


def measure(trained: Trained) -> str:
    """Return the figures on hosts that weren't trained on, as Markdown."""
    calm = hosts.fleet(seed=2, steps=DAY, each=2)
    days = len(calm)
    by_host = scored(trained, [(name, levels) for name, _, levels in calm])
    often = {least: sum(runs(scores, least) for scores in by_host) / days for least in (1, 3)}
    lines = [
        f"On {days} other made-up hosts, one day each:",
        "",
        "| | one cell or more | three cells (30 s) or more |",
        "|---|---|---|",
        f"| calm, times above 1 a host and day | {often[1]:.2f} | {often[3]:.2f} |",
        "",
        "| fault of ten minutes | found on | cells until found (median) | highest score (median) |",
        "|---|---|---|---|",
    ]
    start, stop = 4_000, 4_060
    for fault in hosts.FAULTS:
        fleet = [(name, hosts.with_fault(levels, kind, fault, start, stop)) for name, kind, levels in calm]
        delays, heights = [], []
        for scores in scored(trained, fleet):
            within = scores[start : stop + 3]
            heights.append(float(within.max()))
            hits = np.flatnonzero(within > 1.0)
            if hits.size:
                delays.append(int(hits[0]) + 1)
        delay = f"{np.median(delays):.0f}" if delays else "never"
        lines.append(f"| {fault} | {len(delays)} of {days} | {delay} | {np.median(heights):.1f} |")
    return "\n".join(lines)


def make(out: Path, card: Path) -> Trained:
    """Train, measure, write."""
    fleet = hosts.fleet(seed=1, steps=DAY, each=4)
    columns = hosts.columns((name, levels) for name, _, levels in fleet)
    plain = train(columns, model_id="host", version=VERSION, created_ns=CREATED_NS)
    about = {"Data": DATA, "Measured": measure(plain), "What it can't do": LIMITS}
    trained = train(columns, model_id="host", version=VERSION, created_ns=CREATED_NS, about=about)
    out.mkdir(parents=True, exist_ok=True)
    (out / "host.onnx").write_bytes(trained.onnx)
    (out / "host.json").write_bytes(trained.manifest)
    card.parent.mkdir(parents=True, exist_ok=True)
    card.write_text(trained.card)
    return trained


def main() -> int:
    """Run the recipe."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, default=HERE / "default", help="folder for host.onnx and host.json"
    )
    parser.add_argument("--card", type=Path, default=HERE / "cards" / "host.md", help="file of the card")
    given = parser.parse_args()
    trained = make(given.out, given.card)
    print(trained.card)
    return 0


if __name__ == "__main__":
    sys.exit(main())
