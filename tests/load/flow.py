"""The whole way: agent and collector together, from acknowledged readings to stored ones."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.harness import Agent, Collector, Stack, until
from tests.load.bed import Bed, settle
from tests.load.usage import Watch

WINDOWS = '[[fold.route]]\nmatch = "system.*"\nto = "window"\nwindow = "10s"\n'
#: Event time runs this much faster, so that models warm up (3 minutes) and windows end while the load runs.
SPEED = 15
WINDOWED_S = 20
DRAIN_S = 900.0
LINES = ("--connections", 8, "--series", 104)


def windows(bed: Bed) -> None:
    """Take readings in, each seen by the default model; 10 s windows and scores out; HTTP, 8 connections of 1,000 lines."""
    seconds = max(bed.seconds, WINDOWED_S)
    words = ["line_load", *LINES, "--scored", "--speed", SPEED, "--seconds", seconds]
    _full_load(bed, "agent", "scored, into 10 s windows", words, windowed=True)


def raw(bed: Bed) -> None:
    """Ship every reading raw and store it, none scored; HTTP, 8 connections of 1,000 lines."""
    _full_load(bed, "raw", "shipped raw", ["line_load", *LINES, "--seconds", bed.seconds])


def published(bed: Bed) -> None:
    """Ship raw what 50 MQTT connections publish, QoS 1, 20 in flight each, and store it: the default configuration."""
    _full_load(bed, "published", "MQTT, shipped raw", ["mqtt_load", "--seconds", bed.seconds])


@contextmanager
def _journal(agent: Agent) -> Iterator[list[int]]:
    """Look at the bytes that the journal holds, each half second: what isn't folded yet waits there."""
    seen, end = [0], threading.Event()

    def look() -> None:
        while not end.wait(0.5):
            seen.append(int(agent.status()["journal"]["bytes"]))

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield seen
    finally:
        end.set()
        looking.join(10)


def _full_load(bed: Bed, bench: str, what: str, words: list[object], *, windowed: bool = False) -> None:
    with bed.stack() as stack:
        collector = stack.collector()
        agent = stack.agent(collector, extra=WINDOWS if windowed else "")
        assert agent.process is not None
        assert collector.process is not None
        settle()
        port = agent.mqtt if words[0] == "mqtt_load" else agent.http
        begin = time.monotonic()
        with (
            Watch(agent.process.pid) as watch,
            Watch(collector.process.pid) as other,
            _journal(agent) as journal,
        ):
            found = bed.load(str(words[0]), "--port", port, *words[1:])
            taken = time.monotonic() - begin
            backlog = agent.status()["fold"]["behind"]
            until("the fold has caught up", lambda: agent.status()["fold"]["behind"] == 0, DRAIN_S)
            folded = time.monotonic() - begin
            until("all is stored", agent.drained, DRAIN_S)
            stored = time.monotonic() - begin
        acked = found["acked"]
        bed.note(
            f"{bench}: {acked:,.0f} readings acknowledged in {taken:.1f} s, "
            f"{found.get('pushed_back', 0):.0f} requests pushed back, {backlog:,} records waiting then"
        )
        _accounted(bed, agent, collector, acked, windowed=windowed)
        target = 3_000_000 if windowed else None
        bed.add(bench, f"{what}: acknowledged", found["per_second"], "events/s")
        bed.add(bench, f"{what}: folded and spooled, sustained", acked / folded, "events/s", target)
        bed.add(bench, f"{what}: acknowledged by the collector, sustained", acked / stored, "events/s")
        # A front that takes more than the fold does lives on its journal: so long, and no longer, it keeps that up.
        bed.add(bench, f"{what}: journal, highest", max(journal) / 1e6, "MB")
        bed.add(bench, f"{what}: agent's CPU", watch.cpu_s / acked * 1e6, "s/million")
        bed.add(bench, f"{what}: agent's memory, highest", watch.peak_mb, "MB", 64, at_most=True)
        # A collector that gets windows never sees the readings: its seconds mean more than their millions.
        bed.add(bench, f"{what}: collector's CPU", other.cpu_s / stored, "cores")
        bed.add(bench, f"{what}: collector's memory, highest", other.peak_mb, "MB", 200, at_most=True)


def _accounted(bed: Bed, agent: Agent, collector: Collector, acked: float, *, windowed: bool) -> None:
    """Refuse figures of work that was not done: each reading is accounted for, and what should come out is stored."""
    spool, totals = agent.status()["spool"], collector.get("/api/v1/status")["totals"]
    done = spool["counts"].get("reduced_window" if windowed else "shipped", 0)
    scores = len(collector.latest("telemetryx.anomaly.score"))
    bed.note(
        f"stored: {totals['samples_total']:,.0f} samples, {totals['windows_total']:,.0f} windows, "
        f"{scores:,} series of scores, in {spool['acked']:,} batches"
    )
    if done < acked:
        raise RuntimeError(
            f"{acked:,.0f} readings were acknowledged, {done:,} accounted for: {spool['counts']}"
        )
    if windowed and not (totals["windows_total"] and scores):
        raise RuntimeError("no window or no score came out: the figures would mean nothing")


def delay(bed: Bed) -> None:
    """Age of a reading when the collector has it on disk, at a steady rate.

    Senders stamp each reading as they send it; the collector compares that with its clock at the commit and shows the
    quantiles over all samples as `totals.delay_p50_ms` and `delay_p99_ms` in /api/v1/status (bins 5 % wide).
    """
    for rate, connections, lines in ((10_000, 4, 25), (100_000, 8, 100)):
        with bed.stack() as stack:
            collector, agent = _pair(stack)
            found = bed.load(
                "line_load", "--port", agent.http, "--connections", connections, "--lines", lines,
                "--rate", rate, "--seconds", max(bed.seconds, 5),
            )  # fmt: skip
            agent.wait_drained()
            totals = collector.get("/api/v1/status")["totals"]
            name = f"{rate:,} events/s"
            bed.add("delay", f"{name}: acknowledged by the agent", found["per_second"], "events/s")
            bed.add("delay", f"{name}: sent to acknowledged by the agent, p99", found["p99_ms"], "ms")
            bed.add("delay", f"{name}: measured to stored, p50", totals["delay_p50_ms"], "ms")
            bed.add("delay", f"{name}: measured to stored, p99", totals["delay_p99_ms"], "ms")


def _pair(stack: Stack) -> tuple[Collector, Agent]:
    collector = stack.collector()
    agent = stack.agent(collector)
    settle(2)
    return collector, agent
