"""Debian's Prometheus, on samples that promtool makes a block of; and its answers beside ours."""

import json
import math
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.harness.processes import PATIENCE, Process, free_port, until

Answer = dict[str, Any]


def serve(folder: Path, lines: Iterable[str]) -> tuple[str, Process]:
    """Give samples to promtool as OpenMetrics, and serve what it makes; return the URL."""
    (folder / "samples.txt").write_text("".join(lines) + "# EOF\n", encoding="utf-8")
    data = folder / "tsdb"
    subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", folder / "samples.txt", data],
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    port = free_port()
    (folder / "prometheus.yml").write_text("global: {}\n")
    process = Process(
        "prometheus",
        [
            *("prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={data}"),
            *(f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=10y"),
        ],
        folder / "prometheus.log",
    )
    url = f"http://127.0.0.1:{port}"
    until("Prometheus is ready", lambda: get(f"{url}/-/ready"))
    return url, process


def get(url: str, **query: object) -> Any:
    """GET JSON, or bytes without a question."""
    target = f"{url}?{urllib.parse.urlencode(query, doseq=True)}" if query else url
    with urllib.request.urlopen(target, timeout=PATIENCE) as answer:
        body = answer.read()
    return json.loads(body) if query else body


def comparable(found: Answer) -> list[tuple[str, list[tuple[float, float]]]]:
    """Make an answer's series comparable, whatever their order."""
    data = found["data"]
    if data["resultType"] == "scalar":
        return [("", [(data["result"][0], float(data["result"][1]))])]
    return sorted(
        (
            json.dumps(one["metric"], sort_keys=True),
            [(at, float(value)) for at, value in one.get("values", [one.get("value")])],
        )
        for one in data["result"]
    )


def same(ours: Answer, theirs: Answer, text: str) -> None:
    """Compare answers: types, labels, times, and values but for their last bits."""
    assert ours["data"]["resultType"] == theirs["data"]["resultType"], text
    one, two = comparable(ours), comparable(theirs)
    assert [labels for labels, _ in one] == [labels for labels, _ in two], text
    for (labels, mine), (_, wanted) in zip(one, two, strict=True):
        assert [at for at, _ in mine] == [at for at, _ in wanted], (text, labels)
        for (at, a), (_, b) in zip(mine, wanted, strict=True):
            assert math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9) or (math.isnan(a) and math.isnan(b)), (
                text,
                labels,
                at,
                a,
                b,
            )
