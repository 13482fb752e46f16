"""The whole way: agent and collector together, from acknowledged readings to stored ones."""

import time

from tests.harness import Agent, Collector, Stack, until
from tests.load.bed import Bed, settle
from tests.load.usage import Watch

WINDOWS = '[[fold.route]]\nmatch = "bench*"\nto = "window"\nwindow = "10s"\n'
HOST = '[input.host]\ninterval = "1s"\n'
DRAIN_S = 900.0


def windows(bed: Bed) -> None:
    """Raw readings in, 10 s windows out, host metrics scored beside them; HTTP, 8 connections of 1,000 lines."""
    _full_load(bed, "agent", "into 10 s windows", WINDOWS + HOST, 3_000_000)


def raw(bed: Bed) -> None:
    """As `windows`, every reading shipped raw and stored."""
    _full_load(bed, "raw", "shipped raw", HOST, None)


def _full_load(bed: Bed, bench: str, what: str, config: str, target: float | None) -> None:
    with bed.stack() as stack:
        collector = stack.collector()
        agent = stack.agent(collector, extra=config)
        assert agent.process is not None
        assert collector.process is not None
        settle()
        begin = time.monotonic()
        with Watch(agent.process.pid) as watch, Watch(collector.process.pid) as other:
            found = bed.load("line_load", "--port", agent.http, "--connections", 8, "--seconds", bed.seconds)
            taken = time.monotonic() - begin
            backlog = agent.status()["fold"]["behind"]
            until("the fold has caught up", lambda: agent.status()["fold"]["behind"] == 0, DRAIN_S)
            folded = time.monotonic() - begin
            until("all is stored", agent.drained, DRAIN_S)
            stored = time.monotonic() - begin
        acked = found["acked"]
        bed.note(
            f"{bench}: {acked:,.0f} readings acknowledged in {taken:.1f} s, {found['pushed_back']:.0f} requests pushed back, {backlog:,} records waiting then"
        )
        bed.add(bench, f"{what}: acknowledged", found["per_second"], "events/s")
        bed.add(bench, f"{what}: folded and spooled, sustained", acked / folded, "events/s", target)
        bed.add(bench, f"{what}: acknowledged by the collector, sustained", acked / stored, "events/s")
        bed.add(bench, f"{what}: agent's CPU", watch.cpu_s / acked * 1e6, "s/million")
        bed.add(bench, f"{what}: agent's memory, highest", watch.peak_mb, "MB", 64, at_most=True)
        bed.add(bench, f"{what}: collector's CPU", other.cpu_s / acked * 1e6, "s/million")
        bed.add(bench, f"{what}: collector's memory, highest", other.peak_mb, "MB", 200, at_most=True)


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
            bed.add(
                "delay", f"{name}: measured to stored, p99", totals["delay_p99_ms"], "ms", 5, at_most=True
            )


def _pair(stack: Stack) -> tuple[Collector, Agent]:
    collector = stack.collector()
    agent = stack.agent(collector)
    settle(2)
    return collector, agent
