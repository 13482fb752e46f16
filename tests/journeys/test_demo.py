"""The README's first minutes: the demo, a publish, and where one reads it. Every command is the one that people type."""

import csv
import io
import json
import os
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.harness import Process, until
from tests.harness.browser import picture
from tests.harness.recording import TICK, Recording
from tests.harness.stack import AGENT, ROOT

TELEMETRYX = [sys.executable, "-m", "telemetryx"]
ENVIRONMENT = {"PYTHONPATH": str(ROOT / "collector/src"), "PYTHONUNBUFFERED": "1"}


@pytest.fixture(name="demo")
def _demo(tmp_path: Path) -> Iterator[Process]:
    """Give a demo that runs until it is interrupted."""
    process = Process(
        "demo",
        [*TELEMETRYX, "demo", "--agent", AGENT, "--folder", tmp_path / "demo"],
        tmp_path / "demo.log",
        ENVIRONMENT,
    )
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


def telemetryx(command: str, *more: str) -> str:
    """Run a `telemetryx` command as printed, with more options, and return its output."""
    program, *arguments = shlex.split(command)
    assert program == "telemetryx"
    done = subprocess.run(
        [*TELEMETRYX, *arguments, *more],
        env={**os.environ, **ENVIRONMENT, "COLUMNS": "200"},
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
    publish = shlex.split(offered(demo, "try"))
    assert publish[0] == "mosquitto_pub"
    assert publish[-6:] == ["-q", "1", "-t", "plant1/pump7/temperature", "-m", "21.5"]
    subprocess.run(publish, check=True, timeout=30)
    query = offered(demo, "then")

    def stored() -> str | None:
        try:
            return telemetryx(query, "--format", "csv")
        except AssertionError:
            return None  # its exit code says that nothing matches yet

    (row,) = csv.DictReader(io.StringIO(until("the reading is stored", stored)))
    assert (row["name"], float(row["value"])) == ("temperature", 21.5)
    assert json.loads(row["labels"]) == {"site": "plant1", "device": "pump7"}

    (series,) = json.loads(telemetryx(query, "--json"))["series"]
    assert series["labels"] == {"site": "plant1", "device": "pump7"}
    assert [value for value in series["values"] if value is not None] == [21.5]

    table = telemetryx(query)
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
