"""The child process that trains: `python -m telemetryx.training COLUMNS.npz OUT --id host --version 2`.

Writes OUT/model.onnx, OUT/manifest.json and OUT/card.md, and one line of JSON with the result. Exits 0 when the model
passed its check, 1 with a reason on standard error when it didn't, 2 on wrong arguments.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from telemetryx.errors import TelemetryXError
from telemetryx.training.columns import Columns
from telemetryx.training.train import Options, train


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, check, write."""
    parser = argparse.ArgumentParser(
        prog="python -m telemetryx.training", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "columns", type=Path, help="samples of calm hosts, as telemetryx.training.Columns.save writes them"
    )
    parser.add_argument("out", type=Path, help="folder for model.onnx, manifest.json and card.md")
    parser.add_argument("--id", required=True, help="name of the model")
    parser.add_argument("--version", required=True, type=int, help="version of the model")
    parser.add_argument(
        "--margin",
        type=float,
        default=Options().margin,
        help="how far above the calm rows the threshold lies",
    )
    given = parser.parse_args(arguments)
    try:
        trained = train(
            Columns.load(given.columns),
            model_id=given.id,
            version=given.version,
            created_ns=time.time_ns(),
            options=Options(margin=given.margin),
        )
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "model.onnx").write_bytes(trained.onnx)
        (given.out / "manifest.json").write_bytes(trained.manifest)
        (given.out / "card.md").write_text(trained.card)
    except (TelemetryXError, OSError) as error:
        print(f"training failed: {error}", file=sys.stderr)  # noqa: T201 - the parent reads it
        return 1
    result = {"rows": trained.parity.rows, "worst": trained.parity.worst, "threshold": trained.threshold}
    print(json.dumps(result))  # noqa: T201 - the parent reads it
    return 0


if __name__ == "__main__":
    sys.exit(main())
