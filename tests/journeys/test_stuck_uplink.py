"""A way to the collector on which nothing comes to an end: it is noticed and said, the session begins anew, and nothing is lost.

What is waited for is what docs/how-to/uplink.md names: an acknowledgement for 60 s, a word over a broker for 30 s.
"""

import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import suppress

import grpc
import pytest

from telemetryx.wire._pb2 import link_pb2 as pb
from telemetryx.wire._pb2.link_pb2_grpc import LinkServicer, add_LinkServicer_to_server
from tests.fault.proxy import Proxy
from tests.harness import Agent, Collector, Stack, until
from tests.harness.frozen import frozen
from tests.harness.mosquitto import Mosquitto
from tests.harness.stack import AGENT

#: A minute without an acknowledgement, on a machine that has other things to do.
PATIENCE_S = 240.0


def stored(collector: Collector) -> list[int]:
    """Return the numbers that arrived."""
    found = collector.values("one.n", start="-1h")
    return sorted(int(value) for value in found[0]) if found else []


def shown(agent: Agent) -> str:
    """Return what a person is told."""
    said = subprocess.run(
        [AGENT, "status", "--config", agent.config], capture_output=True, text=True, timeout=60, check=True
    )
    return said.stdout


class Taker(LinkServicer):
    """A collector that greets, takes every batch, and acknowledges none."""

    def __init__(self, port: int) -> None:
        """Listen."""
        #: The batches of each session.
        self.sessions: list[list[int]] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        add_LinkServicer_to_server(self, self._server)
        assert self._server.add_insecure_port(f"127.0.0.1:{port}") == port
        self._server.start()

    def Session(  # noqa: N802 - the protocol's name
        self, request_iterator: Iterator[pb.FromAgent], context: grpc.ServicerContext
    ) -> Iterator[pb.FromCollector]:
        """Greet, and say nothing more."""
        del context
        assert next(request_iterator).WhichOneof("frame") == "hello"
        yield pb.FromCollector(greeting=pb.Greeting(wire=1, collector="0", credit_bytes=1 << 20))
        batches: list[int] = []
        self.sessions.append(batches)
        with suppress(grpc.RpcError):
            for frame in request_iterator:
                if frame.WhichOneof("frame") == "batch":
                    batches.append(frame.batch.seq)  # noqa: PERF401 - seen while the session goes on

    def close(self) -> None:
        """End."""
        self._server.stop(0).wait(30)


@pytest.mark.waits(seconds=80)
def test_a_collector_that_takes_everything_and_acknowledges_nothing(stack: Stack) -> None:
    """It is said while the session lasts and after it; the next one sends the same again, and the right collector stores it once."""
    collector = stack.collector(start=False)
    taker = Taker(collector.grpc)
    agent = stack.agent(collector)
    try:
        assert agent.write("one n=1i") == 204
        until("the batch was taken", lambda: taker.sessions and taker.sessions[0])
        until("it is noticed", lambda: agent.status()["link"]["unanswered_s"] >= 15, PATIENCE_S)
        assert "NOTHING IS ACKNOWLEDGED" in shown(agent)
        until(
            "another session sends it again",
            lambda: len(taker.sessions) > 1 and taker.sessions[1],
            PATIENCE_S,
        )
        assert taker.sessions[1][0] == taker.sessions[0][0]
        link = agent.status()["link"]
        assert link["connected"]
        assert link["stalls"] == 1
        assert "NOTHING WAS ACKNOWLEDGED in the last 1 session" in shown(agent)
    finally:
        taker.close()
    collector.start()
    agent.wait_drained()
    assert stored(collector) == [1]
    until("that is over", lambda: agent.status()["link"]["stalls"] == 0)


@pytest.mark.waits(seconds=80)
def test_a_collector_that_stands_still(stack: Stack) -> None:
    """Its kernel takes connections and bytes, its program does nothing: sessions end, and once it goes on all is stored once."""
    collector = stack.collector()
    agent = stack.agent(collector)
    assert agent.write("one n=1i") == 204
    agent.wait_drained()
    assert collector.process is not None
    with frozen(collector.process.pid):
        assert agent.write("one n=2i") == 204
        until("the session was given up", lambda: not agent.status()["link"]["connected"], PATIENCE_S)
        until("why is said", lambda: agent.status()["link"]["last_error"])
        assert agent.write("one n=3i") == 204
    agent.wait_drained()
    assert stored(collector) == [1, 2, 3]


class Sink:
    """A broker that takes connections, subscriptions and pings, and neither confirms nor passes on what is published."""

    def __init__(self) -> None:
        """Listen."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self.open: list[socket.socket] = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                one, _ = self._listener.accept()
                self.open.append(one)
                threading.Thread(target=self._serve, args=(one,), daemon=True).start()

    def _serve(self, one: socket.socket) -> None:
        with suppress(OSError), one.makefile("rb") as incoming:
            while head := incoming.read(1):
                length = shift = 0
                while (byte := incoming.read(1)[0]) >= 128:
                    length, shift = length | (byte & 127) << shift, shift + 7
                body = incoming.read(length | byte << shift)
                kind = head[0] >> 4
                if kind == 1:
                    self.connections += 1
                    one.sendall(b"\x20\x02\x00\x00")
                elif kind == 8:
                    one.sendall(b"\x90" + struct.pack("!B2s2s", 4, body[:2], b"\x01\x01"))
                elif kind == 12:
                    one.sendall(b"\xd0\x00")

    def close(self) -> None:
        """End."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for one in self.open:
            one.close()


def over_broker(stack: Stack, collector: Collector, port: int) -> Agent:
    """Start an agent whose only way is a broker on this port."""
    agent = stack.agent(collector, start=False)
    usual = f'url = "http://127.0.0.1:{collector.grpc}"'
    text = agent.config.read_text()
    assert usual in text
    agent.config.write_text(text.replace(usual, f'url = "mqtt://localhost:{port}"'))
    agent.start()
    return agent


@pytest.mark.waits(seconds=60)
def test_a_broker_that_confirms_nothing_gets_a_new_connection_each_time(stack: Stack) -> None:
    """The connection looks well, and only its loss can help: it isn't kept for the next session."""
    sink = Sink()
    agent = over_broker(stack, stack.collector(start=False), sink.port)
    try:
        assert agent.write("one n=1i") == 204
        until("the third connection is tried", lambda: sink.connections >= 3, PATIENCE_S)
        assert "no collector greeted" in agent.status()["link"]["last_error"]
    finally:
        sink.close()


@pytest.mark.waits(seconds=40)
def test_a_connection_to_a_broker_that_dies_without_a_word(stack: Stack) -> None:
    """Nothing arrives on it any more, and nobody is told: the next session has another, and each reading is stored once."""
    broker = Mosquitto(stack.folder / "broker")
    broker.start()
    try:
        collector = stack.collector(f'[gateway.mqtt]\nurl = "{broker.url}"\n')
        with Proxy(broker.port) as proxy:
            agent = over_broker(stack, collector, proxy.port)
            assert agent.write("one n=1i") == 204
            agent.wait_drained()
            proxy.black_hole()
            proxy.forget()
            assert agent.write("one n=2i") == 204
            proxy.mend()
            until("the session was given up", lambda: agent.status()["link"]["sessions"] > 1, PATIENCE_S)
            assert agent.write("one n=3i") == 204
            agent.wait_drained()
            assert stored(collector) == [1, 2, 3]
    finally:
        broker.kill()
