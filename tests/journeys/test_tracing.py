"""One trace shows a reading's way: input, journal, spool, wire, commit, rule, notification; also where a kill lies in between."""

import time
from pathlib import Path

import pytest

from tests.harness import Agent, Stack, free_port, until
from tests.harness.mosquitto import Mosquitto
from tests.harness.receiver import Receiver
from tests.harness.spans import Span, Spans

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
SHOWN = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
#: From a client's request to the store; each is the parent of the next.
WAY = ["receive", "fold", "spool", "send", "gateway", "commit"]
RULES = """rules:
  - name: hot
    select: m.v
    agg: max
    window: 1s
    interval: 1s
    when: "> 90"
    severity: critical
"""


def traced(agent: Agent, value: float = 1.0) -> None:
    """Write a reading in the client's trace."""
    assert agent.write(f"m v={value} {time.time_ns()}", headers=SHOWN) == 204


def one(spans: Spans, name: str) -> Span:
    """Wait for the span of a name in the client's trace."""
    return until(f"{name} was exported", lambda: next(iter(spans.of(TRACE, name)), None))


def test_a_clients_trace_goes_on_from_its_request_to_the_message_of_an_alert(stack: Stack) -> None:
    """All spans of agent and collector are in it, with the right parents, times and names of what they are about."""
    rules = stack.folder / "rules.yaml"
    rules.write_text(RULES)
    with Spans() as spans, Receiver() as told:
        collector = stack.collector(f'[rules]\nfiles = ["{rules}"]\n{told.config}{spans.config}')
        agent = stack.agent(collector, extra=spans.config)
        agent.linked()
        before = time.time_ns()
        assert agent.write("m v=1") == 204
        traced(agent, 95.0)
        # Rules go by event time: what comes later shows that this second is over.
        assert agent.write(f"m v=95 {time.time_ns() + 3_000_000_000}") == 204
        until("the way to the store is whole", lambda: spans.way(TRACE, "commit") == WAY)
        names = {*WAY, "decode", "rules", "alert", "notify"}
        until("all spans came", lambda: {span.name for span in spans.of(TRACE)} >= names)

        assert one(spans, "receive").parent == PARENT
        found = spans.of(TRACE)
        assert {span.service for span in found if span.name in WAY[:4]} == {"telemetryx-agent"}
        for span in found:
            assert before <= span.start_ns <= span.end_ns <= time.time_ns()
            assert not span.failed
        receive, batch, send = (one(spans, name) for name in ("receive", "spool", "send"))
        assert (receive.attributes["telemetryx.input"], receive.attributes["telemetryx.readings"]) == (
            "http",
            1,
        )
        for span in (batch, send):
            assert span.attributes["telemetryx.agent"] == "edge"
            assert span.attributes["telemetryx.epoch"] == agent.status()["spool"]["epoch"]
            assert isinstance(span.attributes["telemetryx.batch.bytes"], int)
        seq = send.attributes["telemetryx.batch.seq"]
        assert (send.attributes["telemetryx.lane"], batch.attributes["telemetryx.batch.seq"]) == ("live", seq)
        assert one(spans, "gateway").attributes["telemetryx.batch.seq"] == seq
        # What came without a trace has none: `sample` is 0.
        assert {span.trace for span in spans.came} == {TRACE}
        # The agent counts them once it has read the receiver's answer.
        until("all four are counted", lambda: agent.status()["tracing"]["exported"] == 4)
        counted = agent.status()["tracing"]
        assert (counted["dropped"], counted["trouble"]) == (0, "")
        metric = 'telemetryx_collector_agent_spans_total{agent="edge",outcome="exported"} 4'
        until("the collector tells of the agent's spans", lambda: metric in collector.get("/metrics"))


def test_a_trace_survives_a_kill_between_journal_and_spool_and_one_between_spool_and_link(
    stack: Stack,
) -> None:
    """Nothing of it is in memory alone: the way is whole once the collector is there."""
    with Spans() as spans:
        collector = stack.collector(spans.config, start=False)
        agent = stack.agent(collector, extra=spans.config)
        # The first batch is cut at once; offline the next one waits for five seconds.
        assert agent.write("m v=1") == 204
        until("it is in a batch", agent.in_batches)
        traced(agent)
        assert agent.process is not None
        agent.process.kill()
        agent.start()
        until("it is in the spool", lambda: spans.way(TRACE, "spool") == WAY[:3])
        assert not spans.of(TRACE, "send")
        agent.process.kill()
        collector.start()
        agent.start()
        until("the way to the store is whole", lambda: spans.way(TRACE, "commit") == WAY)
        assert one(spans, "receive").parent == PARENT
        assert one(spans, "send").attributes["telemetryx.lane"] == "backlog"


def test_a_sampled_reading_in_a_window_is_traced_through_a_kill_while_the_window_is_open(
    stack: Stack,
) -> None:
    """The batch that takes the window takes the trace."""
    route = '[[fold.route]]\nmatch = "m.v"\nto = "window"\nwindow = "1s"\n'
    with Spans() as spans:
        collector = stack.collector(spans.config)
        agent = stack.agent(collector, extra=spans.config + route)
        # Ahead of its time: nothing but later readings closes it.
        at = time.time_ns() + 60_000_000_000
        assert agent.write(f"m v=1 {at}", headers=SHOWN) == 204
        until("it was received", lambda: spans.of(TRACE, "receive"))
        assert agent.process is not None
        agent.process.kill()
        agent.start()
        assert agent.write(f"m v=2 {at + 60_000_000_000}") == 204
        until("the way to the store is whole", lambda: spans.way(TRACE, "commit") == WAY)


def test_a_share_of_all_readings_is_traced_through_a_broker(stack: Stack, tmp_path: Path) -> None:
    """Each trace begins at the input, and the collector goes on with it behind the broker."""
    broker = Mosquitto(tmp_path / "broker")
    broker.start()
    token = tmp_path / "token"
    token.write_text("the-token-of-this-site\n")
    token.chmod(0o600)
    try:
        with Spans() as spans:
            door = f'token_file = "{token}"\n[gateway.mqtt]\nurl = "{broker.url}"\n'
            collector = stack.collector(door + spans.config)
            agent = stack.agent(collector, extra=f"{spans.config}sample = 1.0\n", start=False)
            text = agent.config.read_text()
            usual = f'url = "http://127.0.0.1:{collector.grpc}"\n'
            agent.config.write_text(text.replace(usual, f'url = "{broker.url}"\ntoken_file = "{token}"\n'))
            agent.start()
            assert agent.write("m v=1") == 204
            begun = until(
                "it was received", lambda: next((s for s in list(spans.came) if s.name == "receive"), None)
            )
            assert begun.parent == ""
            until("the way to the store is whole", lambda: spans.way(begun.trace, "commit") == WAY)
    finally:
        broker.kill()


@pytest.mark.parametrize("sample", ["", "sample = 1.0\n"])
def test_a_receiver_that_is_away_costs_its_spans_and_nothing_else(stack: Stack, sample: str) -> None:
    """Readings are acknowledged, stored, and the agent ends in order; its status says why no span arrives."""
    away = f'[tracing]\nendpoint = "http://127.0.0.1:{free_port()}"\n{sample}'
    collector = stack.collector()
    agent = stack.agent(collector, extra=away)
    for number in range(20):
        traced(agent, float(number))
    agent.wait_drained()
    assert sorted(collector.values("m.v")[0]) == [float(number) for number in range(20)]
    tracing = until("it says so", lambda: (said := agent.status()["tracing"])["trouble"] and said)
    assert tracing["exported"] == 0
    assert agent.process is not None
    agent.process.stop()
