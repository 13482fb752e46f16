"""The recorded fault as the operator sees it: the alert comes up on an open console, lasts, and goes, without a reload."""

import re
import time
from collections.abc import Iterator

from playwright.sync_api import Page, expect

from tests.harness import Agent, Collector, Stack
from tests.harness.browser import picture
from tests.harness.recording import TICK, Recording

RULE = "host metric anomalous"
#: The fault lasts 70 s; after it the default rule recovers when its 30 s window is calm again.
RECORDING = Recording(calm=60, fault=7, after=24)


def play() -> Iterator[str]:
    """Begin the recording so that its fault ends now, and an alert that it raises is found on time."""
    return RECORDING.play(RECORDING.start(time.time_ns() + RECORDING.after * TICK))


def opened(page: Page, collector: Collector, path: str) -> None:
    """Open a page and mark it, so that a reload would be noticed."""
    page.goto(f"http://127.0.0.1:{collector.http}{path}")
    page.evaluate("window.notReloaded = true")


def send(agent: Agent, ticks: Iterator[str], count: int) -> None:
    """Send some ticks, each durable before the next."""
    for _ in range(count):
        assert agent.write(next(ticks)) == 204


def test_the_alert_comes_up_on_the_open_alerts_page_and_goes_when_the_fault_is_over(
    stack: Stack, page: Page
) -> None:
    """Over the WebSocket: no alert, then one that fires with rule, host, score and limit, then none again, resolved in the history."""
    collector = stack.collector()
    agent = stack.agent(collector)
    opened(page, collector, "/alerts")
    alerts = page.get_by_role("table", name="alert")
    expect(page.get_by_text("No alert is open.")).to_be_visible()
    picture(page, "alerts-none")

    ticks = play()
    send(agent, ticks, RECORDING.calm + RECORDING.fault)
    row = alerts.get_by_role("row", name=RULE)
    expect(row).to_have_count(1)
    expect(row).to_contain_text("firing")
    expect(row).to_contain_text("Unusual behaviour of host edge")
    expect(row).to_contain_text("limit 1")
    expect(row.get_by_role("link", name=RECORDING.device)).to_be_visible()
    expect(page.locator("#spoken")).to_contain_text("Alert firing")
    picture(page, "alerts-firing")
    page.locator("header").get_by_role("button").click()
    picture(page, "alerts-firing-other-theme")
    page.set_viewport_size({"width": 320, "height": 800})
    picture(page, "alerts-firing-narrow")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    page.set_viewport_size({"width": 1280, "height": 900})

    [alert] = collector.get("/api/v1/alerts", state="firing")["alerts"]
    collector.post(f"/api/v1/alerts/{alert['id']}/acknowledge", author="Ada", comment="belt <b>slips</b>")
    collector.post("/api/v1/silences", match='{agent=~".+"}', duration="1h", author="Ada")
    # It asks again every ten seconds.
    expect(row).to_contain_text("Taken on by Ada")
    expect(row).to_contain_text(": belt <b>slips</b>")
    expect(row).to_contain_text("Notifications are held back by silence 1")
    picture(page, "alerts-taken-on")

    send(agent, ticks, RECORDING.after)
    expect(row).to_have_count(0)
    expect(page.get_by_text("No alert is open.")).to_be_visible()
    page.get_by_label("Show").select_option("resolved")
    expect(row).to_contain_text("resolved")
    picture(page, "alerts-resolved")
    assert page.evaluate("window.notReloaded") is True


def test_the_fleet_page_says_that_an_alert_fires_and_leads_to_it_and_to_the_score(
    stack: Stack, page: Page
) -> None:
    """From the sentence on the first page to the alert, to the device, to the score's chart above its limit."""
    collector = stack.collector()
    agent = stack.agent(collector)
    opened(page, collector, "/")
    expect(page.get_by_text("No alert is firing.")).to_be_visible()
    send(agent, play(), RECORDING.calm + RECORDING.fault)
    expect(page.get_by_text("1 alert is firing.")).to_be_visible()
    picture(page, "fleet-firing")
    page.get_by_role("link", name="Open alerts").click()
    page.get_by_role("row", name=RULE).get_by_role("link", name=RECORDING.device).click()
    chart = page.locator(".card", has=page.get_by_role("heading", name="telemetryx.anomaly.score"))
    expect(chart).to_contain_text(re.compile(r"to [\d.]+, last [\d.]+\.$", re.MULTILINE))
    picture(page, "device-firing")
    chart.get_by_role("button", name="Table").click()
    newest = chart.get_by_role("row").nth(1).get_by_role("cell").last
    assert float(newest.inner_text()) > 1.0
    assert page.evaluate("window.notReloaded") is True
