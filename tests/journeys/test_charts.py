"""A chart says what is there: a line while readings come, a gap where none came, and all of it as a table too."""

import asyncio
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from playwright.sync_api import Locator, Page, expect

from telemetryx.wire.payload import Payload
from tests.harness import Agent, Collector, Stack, until
from tests.harness.browser import picture
from tests.harness.reference import ReferenceAgent, defined, samples

SECOND = 1_000_000_000
STEP = 10 * SECOND
#: Columns of pixels in which the first line's colour stands, as runs without an interruption: from, to.
RUNS = """
(card) => {
  const canvas = card.querySelector("canvas");
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const color = getComputedStyle(document.documentElement).getPropertyValue("--series-1").trim();
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  const runs = [];
  for (let x = 0; x < canvas.width; x++) {
    let drawn = false;
    for (let y = 0; y < canvas.height && !drawn; y++) {
      const at = 4 * (y * canvas.width + x);
      drawn = pixels[at + 3] > 60 && Math.abs(pixels[at] - red) + Math.abs(pixels[at + 1] - green) + Math.abs(pixels[at + 2] - blue) < 60;
    }
    if (!drawn) continue;
    if (runs.length && runs.at(-1)[1] >= x - 2) runs.at(-1)[1] = x;
    else runs.push([x, x]);
  }
  return runs.map(([from, to]) => [from / canvas.width, to / canvas.width]);
}
"""


def send(agent: Agent, now: int, minutes: list[tuple[int, int]]) -> int:
    """Send a reading every ten seconds in each span of minutes before now; return how many."""
    times = [now - ago * SECOND for begin, end in minutes for ago in range(begin * 60, end * 60, -10)]
    lines = "\n".join(f"level,device=tank value={20 + at % 7} {time}" for at, time in enumerate(times))
    assert agent.write(lines) == 204
    return len(times)


def chart(page: Page, collector: Collector, device: str, metric: str) -> Locator:
    """Open a device's page and return a metric's card once it has loaded."""
    page.goto(f"http://127.0.0.1:{collector.http}/device?agent=edge&site=&device={device}")
    card = page.locator(".card", has=page.get_by_role("heading", name=metric, exact=True))
    expect(card).to_contain_text("Last 15 min:")
    return card


def runs(card: Locator) -> list[tuple[float, float]]:
    """Give what is drawn, as parts of the picture's width."""
    found = until("something is drawn", lambda: card.evaluate(RUNS))
    return [(begin, end) for begin, end in found]


def test_readings_every_ten_seconds_are_one_line(stack: Stack, page: Page) -> None:
    """The picture is finer than the time between two readings; that is no gap."""
    collector = stack.collector()
    agent = stack.agent(collector)
    count = send(agent, time.time_ns() // STEP * STEP, [(10, 0)])
    until("all are stored", lambda: sum(map(len, collector.values("level"))) == count)
    card = chart(page, collector, "tank", "level")
    expect(card).not_to_contain_text("with gaps")
    drawn = runs(card)
    assert len(drawn) == 1
    begin, end = drawn[0]
    assert end - begin > 0.4


def test_where_no_reading_came_the_line_is_interrupted_and_one_reading_alone_is_a_dot(
    stack: Stack, page: Page
) -> None:
    """Ten minutes with nothing from the sixth to the third before now but one reading: line, dot, line."""
    collector = stack.collector()
    agent = stack.agent(collector)
    now = time.time_ns() // STEP * STEP
    count = send(agent, now, [(12, 8), (3, 0)])
    assert agent.write(f"level,device=tank value=23 {now - 330 * SECOND}") == 204
    until("all are stored", lambda: sum(map(len, collector.values("level"))) == count + 1)
    card = chart(page, collector, "tank", "level")
    expect(card).to_contain_text("with gaps")
    picture(page, "gap")
    left, dot, right = runs(card)
    assert left[1] - left[0] > 0.15
    assert dot[1] - dot[0] < 0.02
    assert right[1] - right[0] > 0.1
    assert dot[0] - left[1] > 0.1
    assert right[0] - dot[1] > 0.1


def deliver(agent: ReferenceAgent, port: int, readings: dict[str, Sequence[tuple[int, float]]]) -> None:
    """Send readings that the inputs of a real agent refuse, as one of another make may."""
    block = samples(dict(enumerate(readings.values(), start=1)))
    batch = agent.cut(Payload(block), defined(*readings, device="odd"))

    async def session() -> None:
        async with agent.session(port) as link:
            await link.send(batch)
            await link.acked()

    # In a thread: the browser has its own loop in this one.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, session()).result()


def test_readings_that_are_no_numbers_are_named(stack: Stack, page: Page) -> None:
    """NaN and infinities are readings: neither nothing nor gaps, in the sentence, in the table, and when they come live."""
    collector = stack.collector()
    agent = ReferenceAgent("edge")
    now = time.time_ns() // STEP * STEP
    times = [now - ago * STEP for ago in range(30, 0, -1)]
    mixed = [(at, float(n)) for n, at in enumerate(times[:-1])]
    readings = {
        "nothing": [(at, math.nan) for at in times],
        "endless": [(at, math.inf) for at in times],
        "mixed": [*mixed, (times[-1], -math.inf)],
    }
    deliver(agent, collector.grpc, readings)
    card = chart(page, collector, "odd", "nothing")
    expect(card).to_contain_text("Last 15 min: nothing but NaN.")
    expect(page.locator(".card", has=page.get_by_role("heading", name="endless"))).to_contain_text(
        "nothing but +Inf."
    )
    mixture = page.locator(".card", has=page.get_by_role("heading", name="mixed"))
    expect(mixture).to_contain_text("Last 15 min: 0 to 28, and -Inf, last -Inf.")
    mixture.get_by_role("button", name="Table").click()
    expect(mixture.get_by_role("cell").first).to_have_text("-Inf")
    later: dict[str, Sequence[tuple[int, float]]] = {
        "nothing": [(now, math.nan)],
        "endless": [(now, math.inf)],
        "mixed": [(now, math.nan)],
    }
    deliver(agent, collector.grpc, later)
    expect(mixture.get_by_role("cell").first).to_have_text("NaN")
    expect(mixture).to_contain_text("0 to 28, and -Inf, NaN, last NaN.")
    expect(card).to_contain_text("Last 15 min: nothing but NaN.")


def _pressed(button: Locator) -> bool:
    """Press it where it isn't. A table above that gets a row in this very moment moves it away under the pointer."""
    if button.get_attribute("aria-pressed") != "true":
        button.click()
    return button.get_attribute("aria-pressed") == "true"


def test_every_chart_has_a_table_with_the_same_readings(running: tuple[Collector, Agent], page: Page) -> None:
    """Each card of the host's page switches to a table whose newest row is what the picture ended with, and back."""
    collector, _ = running
    device = until("the host's readings", lambda: collector.latest("system.uptime"))[0]["labels"]["device"]
    # A share is known at the second tick: from then on no metric is new to the page.
    until("the second tick", lambda: collector.latest("system.cpu.utilization"))
    card = chart(page, collector, device, "system.uptime")
    cards = page.locator(".card")
    expect(cards.nth(15)).to_be_visible()
    # By their names: a metric that is new comes between them.
    for title in cards.get_by_role("heading").all_inner_texts():
        one = page.locator(".card", has=page.get_by_role("heading", name=title, exact=True))
        until(f"{title} is a table", partial(_pressed, one.get_by_role("button", name="Table")))
        table = one.get_by_role("table", name=title)
        expect(table).to_be_visible()
        expect(table.get_by_role("rowheader").first).to_contain_text(":")
        expect(one.locator("canvas")).to_have_count(0)

    def newest() -> float:
        return float(card.get_by_role("cell").first.inner_text().split()[0].replace(",", ""))

    def shown(value: float) -> float:
        return float(f"{value:.6g}")

    (values,) = collector.values("system.uptime")
    assert shown(min(values)) <= newest() <= shown(collector.latest("system.uptime")[0]["latest"]["value"])
    card.get_by_role("button", name="Table").click()
    expect(card.locator("canvas")).to_be_visible()
