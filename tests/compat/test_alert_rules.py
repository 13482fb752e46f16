"""The alert rules that come with TelemetryX: promtool tests them, and Debian's Prometheus loads them and scrapes a collector."""

import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from telemetryx.api.metrics import Metric
from tests.harness import Stack
from tests.harness.processes import Process, free_port, until

FOLDER = Path(__file__).resolve().parents[2] / "packaging" / "prometheus"
RULES = FOLDER / "telemetryx.rules.yml"

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None or shutil.which("prometheus") is None,
    reason="Prometheus isn't installed: packaging/bootstrap.sh setup test installs Debian's",
)


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=120) as answer:
        return json.load(answer)["data"]


def test_each_rule_fires_where_it_should_and_a_calm_collector_alarms_nobody() -> None:
    """As the test file beside the rules says; no rule is left out of it."""
    tested = subprocess.run(
        ["promtool", "test", "rules", FOLDER / "telemetryx.rules.test.yml"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr
    names = re.findall(r"alert: (\w+)", RULES.read_text())
    expected = re.findall(r'alertname="(\w+)"', (FOLDER / "telemetryx.rules.test.yml").read_text())
    assert sorted(names) == sorted(expected)


def test_the_rules_speak_of_metrics_and_label_values_that_there_are() -> None:
    """A renamed metric would silence its rule for good."""
    known = {metric.value.full_name for metric in Metric}
    used = set(re.findall(r"telemetryx_collector_\w+", RULES.read_text()))
    assert used
    assert used <= known


@pytest.mark.waits(seconds=20)
def test_prometheus_loads_the_files_as_they_are_and_finds_the_collector_well(
    stack: Stack, tmp_path: Path
) -> None:
    """But for the address; each rule is evaluated without an error, and none fires."""
    collector = stack.collector()
    agent = stack.agent(collector)
    assert agent.write("level,device=tank value=1\n") == 204
    agent.wait_drained()
    shutil.copy(RULES, tmp_path)
    config = (FOLDER / "prometheus.yml").read_text()
    assert "localhost:8420" in config
    here = f"127.0.0.1:{collector.http}"
    (tmp_path / "prometheus.yml").write_text(
        # So long a scrape may take as well: one that is cut off on a busy machine is a collector that is down.
        config.replace("localhost:8420", here).replace("interval: 30s", "interval: 10s")
    )
    port = free_port()
    prometheus = Process(
        "prometheus",
        [
            *("prometheus", f"--config.file={tmp_path / 'prometheus.yml'}"),
            *(f"--storage.tsdb.path={tmp_path / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}"),
        ],
        tmp_path / "prometheus.log",
    )
    url = f"http://127.0.0.1:{port}/api/v1"
    try:
        until(
            "the collector was scraped",
            lambda: [one["health"] for one in _get(f"{url}/targets")["activeTargets"]] == ["up"],
        )

        def judged() -> list[dict[str, Any]] | None:
            rules = [rule for group in _get(f"{url}/rules")["groups"] for rule in group["rules"]]
            return rules if rules and all(rule["health"] != "unknown" for rule in rules) else None

        rules = until("each rule was evaluated", judged)
        states = {rule["name"]: (rule["health"], rule["state"]) for rule in rules}
        assert states == dict.fromkeys(re.findall(r"alert: (\w+)", RULES.read_text()), ("ok", "inactive"))
        seen = _get(f"{url}/query?query=telemetryx_collector_agent_last_seen_seconds")["result"]
        assert [one["metric"]["agent"] for one in seen] == [agent.name]
    finally:
        prometheus.kill()
