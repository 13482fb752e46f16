"""The dashboards: every expression is asked of a real collector, or of a real Prometheus that scrapes one."""

import json
import re
import shutil
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from telemetryx.api.metrics import Metric
from tests.harness import Agent, Collector, Stack
from tests.harness.processes import PATIENCE, Process, free_port, until
from tests.harness.stack import ROOT

FOLDER = ROOT / "packaging/grafana"
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((FOLDER / "dashboards").glob("*.json"))}
SOURCES = yaml.safe_load((FOLDER / "provisioning/datasources/telemetryx.yaml").read_text())["datasources"]
READINGS, OURSELVES = "telemetryx", "telemetryx-metrics"
#: What not every host has (sensors, swap, disks of a virtual machine), or what comes only after some minutes.
NOT_EVERYWHERE = {"hw.temperature", "telemetryx.anomaly.score", "system.linux.pressure.stalled"}
#: Beside the collector's own labels, those that Prometheus adds.
ADDED = {"instance", "job"}

each_board = pytest.mark.parametrize("board", sorted(BOARDS))


@dataclass(frozen=True)
class Question:
    """One expression of a panel."""

    board: str
    panel: str
    source: str
    expr: str

    def __str__(self) -> str:
        """Name it in a test's report."""
        return f"{self.board}: {self.panel}: {self.expr}"


def questions(source: str) -> list[Question]:
    """Give every expression that is asked of a source, that of a variable too."""
    found = []
    for name, board in BOARDS.items():
        for panel in board["panels"]:
            found += [
                Question(name, panel["title"], target["datasource"]["uid"], target["expr"])
                for target in panel.get("targets", ())
            ]
    return [one for one in found if one.source == source]


def filled(expr: str, agent: str) -> str:
    """Put in what Grafana puts in."""
    for name, value in (("$__rate_interval", "1m"), ("$agent", agent), ("$instance", ".*")):
        expr = expr.replace(name, value)
    assert "$" not in expr, expr
    return expr


def ask(base: str, expr: str) -> list[dict[str, Any]]:
    """Ask a Prometheus API for one moment."""
    query = urllib.parse.urlencode({"query": expr})
    with urllib.request.urlopen(f"{base}/api/v1/query?{query}", timeout=PATIENCE) as answer:
        return list(json.load(answer)["data"]["result"])


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Collector, Agent, str]]:
    """Start a collector, an agent with its host's metrics, and a Prometheus that scrapes; yield the last one's URL."""
    if shutil.which("prometheus") is None:
        pytest.skip("Prometheus isn't installed: packaging/bootstrap.sh setup test installs Debian's")
    folder = tmp_path_factory.mktemp("grafana")
    stack = Stack(folder)
    collector = stack.collector()
    agent = stack.agent(
        collector, inputs='[input.host]\ninterval = "500ms"\n', extra="[model]\nhost = false\n"
    )
    config = yaml.safe_load((ROOT / "packaging/prometheus/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s"}
    del config["rule_files"]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{collector.http}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    prometheus = Process(
        "prometheus",
        [
            *("prometheus", f"--config.file={folder / 'prometheus.yml'}"),
            *(f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}"),
        ],
        folder / "prometheus.log",
    )
    try:
        yield collector, agent, f"http://127.0.0.1:{port}"
    finally:
        prometheus.kill()
        stack.close()


def test_every_question_about_readings_gets_an_answer_from_the_collector(
    watched: tuple[Collector, Agent, str],
) -> None:
    """Series, not only no error: an expression that finds nothing is a panel that stays empty."""
    collector, agent, _ = watched
    base = f"http://127.0.0.1:{collector.http}/prometheus"
    asked = questions(READINGS)
    assert len(asked) > 15
    for one in asked:
        expr = filled(one.expr, agent.name)
        if any(name in expr for name in NOT_EVERYWHERE):
            ask(base, expr)
        else:
            until(f"an answer to {one}", lambda expr=expr: ask(base, expr))


def test_every_question_about_ourselves_is_one_that_prometheus_can_answer(
    watched: tuple[Collector, Agent, str],
) -> None:
    """Those about what every collector exposes from its start find something; the others are at least evaluated."""
    collector, agent, prometheus = watched
    until("it was scraped", lambda: ask(prometheus, "telemetryx_collector_agent_last_seen_seconds"))
    exposed = set(re.findall(r"^# TYPE (\S+)", collector.get("/metrics"), re.MULTILINE))
    asked = questions(OURSELVES)
    assert len(asked) > 30
    for one in asked:
        expr = filled(one.expr, agent.name)
        # What has counted nothing yet has no series, and a comparison may leave none.
        counted = set(re.findall(r"telemetryx_collector_\w+", expr)) <= exposed
        if counted and not re.search(r" > |=\"firing\"|task_failures|agent_readings|delay_seconds", expr):
            until(f"an answer to {one}", lambda expr=expr: ask(prometheus, expr))
        else:
            ask(prometheus, expr)


@each_board
def test_metrics_and_labels_are_those_that_there_are(board: str) -> None:
    """A renamed one would leave a panel empty for good."""
    known = {metric.value.full_name: set(metric.value.labels) for metric in Metric}
    variables = [one["query"]["query"] for one in BOARDS[board]["templating"]["list"]]
    text = [one.expr for one in questions(OURSELVES) if one.board == board] + variables
    for expr in text:
        used = re.findall(r"(telemetryx_collector_\w+)(?:\{([^}]*)\})?", expr)
        assert used, expr
        labels = set().union(*(known[name] for name, _ in used)) | ADDED
        for _, selector in used:
            assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)) <= labels, expr
        for by in re.findall(r"\bby \(([^)]*)\)", expr):
            assert set(by.replace(" ", "").split(",")) <= labels, expr


@each_board
def test_host_metrics_are_named_as_the_agent_names_them(board: str) -> None:
    """By the page that lists them all."""
    page = (ROOT / "docs/how-to/host-metrics.md").read_text() + "telemetryx.anomaly.score`"
    for one in questions(READINGS):
        if one.board == board:
            assert all(f"{name}`" in page for name in re.findall(r'\{"([^"]+)"', one.expr)), one


@each_board
def test_a_board_loads_as_it_is(board: str) -> None:
    """It asks nothing at import, names the sources that are provisioned, and its panels don't lie on each other."""
    content = BOARDS[board]
    assert "__inputs" not in content
    assert "id" not in content
    assert content["uid"] == f"telemetryx-{board}"
    sources = {source["uid"] for source in SOURCES}
    assert (
        set(re.findall(r'"datasource": \{\s*"type": "prometheus",\s*"uid": "([^"]+)"', json.dumps(content)))
        <= sources
    )
    taken: set[tuple[int, int]] = set()
    for panel in content["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    ids = [panel["id"] for panel in content["panels"]]
    assert len(ids) == len(set(ids))
    variables = {one["name"] for one in content["templating"]["list"]}
    used = set(
        re.findall(
            r"\$\{?(\w+)",
            " ".join(one.expr for one in (*questions(READINGS), *questions(OURSELVES)) if one.board == board),
        )
    )
    assert used - {"__rate_interval"} == variables


def test_the_sources_take_their_secrets_from_files_and_their_addresses_from_the_environment() -> None:
    """So that the files need no edit, and hold nothing that must be kept."""
    readings = next(source for source in SOURCES if source["uid"] == READINGS)
    assert re.fullmatch(r"Bearer \$__file\{/[\w/.]+\}", readings["secureJsonData"]["httpHeaderValue1"])
    assert {source["url"] for source in SOURCES} == {"${TELEMETRYX_URL}", "${TELEMETRYX_PROMETHEUS_URL}"}


def test_the_folder_of_the_boards_is_where_the_provider_looks() -> None:
    """As the compose file mounts it."""
    (provider,) = yaml.safe_load((FOLDER / "provisioning/dashboards/telemetryx.yaml").read_text())[
        "providers"
    ]
    compose = (ROOT / "packaging/compose/compose.yaml").read_text()
    assert f"../grafana/dashboards:{provider['options']['path']}:ro" in compose
    assert {"TELEMETRYX_URL:", "TELEMETRYX_PROMETHEUS_URL:"} <= set(re.findall(r"TELEMETRYX_\w+:", compose))
    assert all(
        path in compose
        for path in re.findall(
            r"\$__file\{([^}]+)\}", Path(FOLDER / "provisioning/datasources/telemetryx.yaml").read_text()
        )
    )
