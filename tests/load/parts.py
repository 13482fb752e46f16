"""Single parts: bytes on the wire, scoring, folding, the binary's size. Each runs its crate's own measuring program."""

import re
import subprocess

from tests.load import dataset
from tests.load.bed import Bed
from tests.load.storing import described

_NUMBERS = 5


def wire(bed: Bed) -> None:
    """Bytes a sample on the wire: payload, frame and, once a session, names."""
    targets = {("8", "1000"): 2.1, ("95", "1000"): 2.6, ("8", "10000"): 2.0, ("95", "10000"): 2.0}
    with bed.place() as place:
        folder = dataset.folder(bed.data, place)
        described(bed)
        text = _run(bed, "measure", str(folder))
    for line in text.splitlines()[1:]:
        words = line.rsplit(maxsplit=_NUMBERS)
        shape = re.search(r"(\d+) series, (\d+)$", words[0].strip())
        if len(words) <= _NUMBERS or shape is None:
            continue
        series, size = shape.groups()
        name = f"{series} series, {int(size):,} a batch"
        bed.add(
            "wire",
            f"{name}: names included",
            float(words[3]),
            "B/sample",
            targets.get((series, size)),
            at_most=True,
        )
        bed.add("wire", f"{name}: payload alone", float(words[1]), "B/sample")
        bed.add("wire", f"{name}: agent encodes, one core", float(words[4]) * 1e6, "samples/s")


def score(bed: Bed) -> None:
    """Scoring with the default model on one core: amortised over the samples of a device, and bytes a series."""
    for line in _run(bed, "score_rate").splitlines():
        if found := re.match(
            r"score (\d+) series every (\d+) s: ([\d.]+) us a sample, \d+ scores, (\d+) bytes", line
        ):
            series, every, micros, size = found.groups()
            name = f"{int(series):,} series, a sample every {every} s"
            bed.add("score", f"{name}: features and model", float(micros), "us/sample", 0.25, at_most=True)
            bed.add("score", f"{name}: state", float(size), "B/series", 128, at_most=True)
        elif found := re.match(r"evaluate (host .*), (\d+) a batch: ([\d.]+) us a row", line):
            bed.add("score", f"evaluate {found[1]}, {found[2]} rows at a time", float(found[3]), "us/row")


def fold(bed: Bed) -> None:
    """Fold on one core, without scores."""
    for line in _run(bed, "fold_rate").splitlines():
        if found := re.match(r"fold +(\w+), (.+): ([\d.]+) M samples/s", line):
            bed.add("fold", f"{found[1]}, {found[2]}", float(found[3]) * 1e6, "samples/s")


def binary(bed: Bed) -> None:
    """Size of the agent's binary as packages have it, stripped."""
    bed.add(
        "binary",
        "telemetryx-agent, profile dist, stripped",
        bed.agent.stat().st_size / 1e6,
        "MB",
        12,
        at_most=True,
    )


def _run(bed: Bed, program: str, *words: str) -> str:
    done = subprocess.run(
        [str(bed.example(program)), *words], capture_output=True, text=True, timeout=900, check=True
    )
    return done.stdout
