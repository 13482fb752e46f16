"""The README's first minutes: the demo, a publish, and where one reads it. Every command is the one that people type."""

import csv
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.harness import Process, until
from tests.harness.browser import picture
from tests.harness.recording import TICK, Recording
from tests.harness.stack import AGENT, ROOT

TELEMETRYX = [sys.executable, "-m", "telemetryx"]
ENVIRONMENT = {"PYTHONPATH": str(ROOT / "collector/src"), "PYTHONUNBUFFERED": "1"}
#: A person's shell, in the checkout: no virtual environment is active.
SHELL = {
    **{name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}},
    "PATH": os.pathsep.join(
        entry for entry in os.environ["PATH"].split(os.pathsep) if Path(entry) != Path(sys.executable).parent
    ),
    "COLUMNS": "200",
}


def start(folder: Path, *more: str) -> Process:
    """Start a demo in a folder of its own."""
    return Process(
        "demo",
        [*TELEMETRYX, "demo", "--agent", AGENT, "--folder", folder / "demo", *more],
        folder / "demo.log",
        ENVIRONMENT,
    )


@pytest.fixture(name="demo")
def _demo(tmp_path: Path) -> Iterator[Process]:
    """Give a demo that runs until it is interrupted."""
    process = start(tmp_path)
    try:
        until("the demo runs", lambda: said(process, r"^running; Ctrl-C"))
        yield process
    finally:
        if process.running:
            process.stop()


def said(demo: Process, pattern: str) -> re.Match[str] | None:
    """Look for a line in what the demo printed."""
    assert demo.running, demo.tail()
    return re.search(pattern, demo.log.read_text(), re.MULTILINE)


def offered(demo: Process, word: str) -> str:
    """Return the command or address that stands behind `word` in the demo's first lines."""
    line = said(demo, rf"^{word} +(.+)$")
    assert line, demo.tail()
    return line[1]


def until_stored(look: Callable[[], int | None]) -> int:
    """Look until there is a row; the file may not have its tables yet."""

    def guarded() -> int | None:
        try:
            return look()
        except sqlite3.OperationalError:
            return None

    return until("a stored batch", guarded)


def typed(command: str, folder: Path = ROOT) -> str:
    """Type a command as it is printed, in a checkout, and return what it prints."""
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env=SHELL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_mosquitto_pub_sends_to_the_demo_shows_in_query_and_on_the_device_page(
    demo: Process, page: Page
) -> None:
    """mosquitto_pub returns; `telemetryx query` has the reading as table, CSV and JSON, and the console draws it."""
    publish = offered(demo, "try")
    assert publish.startswith("mosquitto_pub ")
    assert publish.endswith(" -q 1 -t plant1/pump7/temperature -m 21.5")
    typed(publish)
    query = offered(demo, "then")

    def stored() -> str | None:
        try:
            return typed(f"{query} --format csv")
        except AssertionError:
            return None  # its exit code says that nothing matches yet

    (row,) = csv.DictReader(io.StringIO(until("the reading is stored", stored)))
    assert (row["name"], float(row["value"])) == ("temperature", 21.5)
    assert json.loads(row["labels"]) == {"site": "plant1", "device": "pump7"}

    (series,) = json.loads(typed(f"{query} --json"))["series"]
    assert series["labels"] == {"site": "plant1", "device": "pump7"}
    assert [value for value in series["values"] if value is not None] == [21.5]

    table = typed(query)
    (line,) = [line for line in table.splitlines() if "temperature" in line]
    assert "pump7" in line
    assert "plant1" in line
    assert "21.5" in line

    page.goto(offered(demo, "console"))
    page.get_by_role("link", name="pump7").click()
    card = page.locator(".card", has=page.get_by_role("heading", name="temperature"))
    expect(card).to_contain_text("last 21.5")
    card.get_by_role("button", name="Table").click()
    expect(card.get_by_role("cell", name="21.5")).to_be_visible()
    picture(page, "demo-device")
    page.goto("about:blank")  # an open console would go on asking

    assert demo.stop() == 0, demo.tail()
    assert re.search(r"^ +lost +0$", demo.log.read_text(), re.MULTILINE), demo.tail()


def test_the_demo_prints_how_to_ask_the_store_in_sql_and_the_agent_how_it_is(demo: Process) -> None:
    """Both commands work as printed, and the printed folder has the files that they name."""
    folder = Path(offered(demo, "folder").split("  ")[0])
    assert {"collector.toml", "agent.toml", "collector.log", "agent.log"} <= {
        path.name for path in folder.iterdir()
    }
    until(
        "SQL sees the host's metrics",
        lambda: "system.memory.usage" in typed(f"{offered(demo, 'sql')} --format csv"),
    )
    status = offered(demo, "agent").split("  ")[0]
    (host,) = [one for one in json.loads(typed(f"{status} --json"))["inputs"] if one["name"] == "host"]
    assert host["received"] > 0


def test_the_set_up_of_the_demo_alone_gives_the_command_that_the_readme_names(tmp_path: Path) -> None:
    """`packaging/bootstrap.sh setup demo` leaves `.venv/bin/telemetryx`, which runs from any folder."""
    checkout = tmp_path / "a checkout"
    for folder in (".venv/bin", ".cache/bootstrap", "packaging"):
        (checkout / folder).mkdir(parents=True)
    (checkout / "collector").symlink_to(ROOT / "collector")
    for name in ("bootstrap.sh", "tools.lock"):
        shutil.copy(ROOT / "packaging" / name, checkout / "packaging")
    # The virtual environment that runs this test stands for one with all wheels.
    here = Path(sys.executable).parent.parent
    for name in ("lib", "pyvenv.cfg", "bin/python"):
        (checkout / ".venv" / name).symlink_to(here / name)
    for lock in (checkout / "packaging/tools.lock", ROOT / "collector/requirements-runtime.lock"):
        mark = f"wheels-{lock.name}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
        (checkout / ".cache/bootstrap" / mark).touch()

    typed("packaging/bootstrap.sh setup demo", checkout)
    named = set(re.findall(r"^\$ (\S+/telemetryx) ", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert named == {".venv/bin/telemetryx"}
    command = shlex.quote(str(checkout / ".venv/bin/telemetryx"))
    assert "--since" in typed(f"{command} query --help", tmp_path)


def test_a_good_demo_ends_by_itself_with_every_reading_accounted_for(tmp_path: Path) -> None:
    """`demo --for 12s --json` prints one JSON object; the agent's inputs took what the store has, once."""
    done = subprocess.run(
        [*TELEMETRYX, "demo", "--agent", AGENT, "--folder", tmp_path / "demo", "--for", "12s", "--json"],
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    summary = json.loads(done.stdout)
    assert summary["received"] > 300
    assert summary["stored"] > 300
    assert (summary["lost"], summary["duplicated"], summary["waiting"], summary["faults"]) == (0, 0, 0, [])
    left = summary["rejected"] + summary["deduplicated"] + summary["reduced"]
    assert summary["received"] + summary["derived"] == left + summary["stored"]
    assert summary["delay_p50_ms"] is not None
    assert summary["delay_p99_ms"] >= summary["delay_p50_ms"] > 0


def test_a_demo_whose_store_lost_a_batch_fails_and_says_how_much_is_missing(tmp_path: Path) -> None:
    """One row of the table of batches is deleted behind the collector's back, after its acknowledgement."""
    demo = start(tmp_path, "--json")
    file = tmp_path / "demo/collector/telemetry.db"

    def lose() -> int | None:
        with closing(sqlite3.connect(file, timeout=30)) as store, store:
            row = store.execute("SELECT id, samples FROM batch WHERE samples > 0").fetchone()
            if row is None:
                return None
            store.execute("DELETE FROM batch WHERE id = ?", row[:1])
            return int(row[1])

    try:
        until("a batch is stored", lambda: file.exists() and demo.running)
        lost = until_stored(lose)
        assert demo.stop() == 1
    finally:
        if demo.running:
            demo.kill()
    said_last = demo.log.read_text()
    assert f"the books don't balance: {lost:,} rows missing in the store" in said_last
    summary = json.loads(next(line for line in said_last.splitlines() if line.startswith("{")))
    assert (summary["lost"], summary["duplicated"]) == (lost, 0)
    assert summary["stored"] == summary["received"] - lost


def test_the_demo_says_when_an_alert_fires_and_when_it_is_over(demo: Process) -> None:
    """The recorded fault, sent to the demo's agent: a line with rule, host and score, one at the end, and both in the summary."""
    address = shlex.split(offered(demo, "or"))[-1]
    recording = Recording(calm=60, fault=7, after=24)
    for at, lines in enumerate(recording.play(recording.start(time.time_ns() + recording.after * TICK))):
        if at == recording.calm + recording.fault:
            until("it says that an alert fires", lambda: said(demo, r"^alert +host metric anomalous: "))
        request = urllib.request.Request(address, data=lines.encode(), method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 204
    until("it says that the alert is over", lambda: said(demo, r"^resolved +host metric anomalous$"))
    assert "anomaly score" in offered(demo, "alert")
    assert demo.stop() == 0, demo.tail()
    assert re.search(r"^ +alerts +1 fired, 0 open$", demo.log.read_text(), re.MULTILINE), demo.tail()
