"""P8: what is wrong is refused to its sender, counted by cause, and hurts nobody else.

Two honest clients write all the while, one over HTTP and one over MQTT at QoS 1. After each attack both must have got
answers again, and at the end the store holds exactly what they were told is safe, and nothing of the attackers'.
"""

import gzip
import itertools
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

from tests.harness import Agent, Collector, Stack, until
from tests.harness.processes import PATIENCE

#: Longest wait for one answer that still counts as not being hurt, on a loaded machine with two cores.
SOON = 60.0

CONNECT = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x"
CONNACK = b"\x20\x02\x00\x00"
#: A remaining length may have four bytes.
FIVE_BYTE_LENGTH = b"\xff\xff\xff\xff\x01"

#: What is wrong in itself, before any CONNECT.
BAD_BEGINNINGS = {
    "a first packet with a length of five bytes": b"\x10" + FIVE_BYTE_LENGTH,
    "a CONNECT cut in the middle": CONNECT[:9],
    "a CONNECT cut after its type": CONNECT[:1],
    "a CONNECT whose client id is longer than its packet": CONNECT[:-3] + b"\xff\xffx",
    "a CONNECT of an unknown protocol": CONNECT.replace(b"MQTT", b"QTTM"),
    "a PUBLISH as the first packet": b"\x30\x05\x00\x01t21",
    "a packet of 256 MiB": b"\x10\xff\xff\xff\x7f",
    "HTTP on the MQTT port": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
}

#: What is wrong after a good CONNECT.
BAD_PACKETS = {
    "a length of five bytes": b"\x30" + FIVE_BYTE_LENGTH,
    "a PUBLISH whose topic is longer than its packet": b"\x32\x06\x00\xff\x00\x01ab",
    "a PUBLISH that ends in its topic's length": b"\x30\x01\x00",
    "a PUBLISH at QoS 1 without a packet id": b"\x32\x03\x00\x01t",
    "a topic that is not UTF-8": b"\x30\x06\x00\x02\xff\xfe21",
    "a topic with a wildcard": b"\x30\x06\x00\x03a/+9",
    "QoS 3": b"\x36\x07\x00\x01t\x00\x0121",
    "a second CONNECT": CONNECT,
    "a packet type that does not exist": b"\x00\x00",
    "a packet of 256 MiB": b"\x30\xff\xff\xff\x7f",
    "a SUBSCRIBE without a filter": b"\x82\x02\x00\x01",
}

#: Lines by what they are counted as.
BAD_LINES = {
    "rejected_not_finite": [b"bad,device=x v=1e999", b"bad,device=x v=-1e999"],
    "rejected_encoding": [b"bad,device=\xff\xfe v=1", b'bad,device=x v="\xc3\x28"'],
    "rejected_syntax": [b"bad,device=x v=", b"bad", b"bad,device=x v=1 v=2 v=3"],
    "rejected_time": [b"bad,device=x v=1 9223372036854775808", b"bad,device=x v=1 9000000000000000000"],
    "rejected_limit": [b"bad,device=" + b"x" * 2_000 + b" v=1"],
}

#: MQTT payloads by what they are counted as.
BAD_PAYLOADS = {
    "rejected_not_finite": [b"NaN", b"-inf", b'{"v":1e999}'],
    "rejected_encoding": [b"\xff\xfe\x00"],
    "rejected_limit": [b"[" * 5_000, b'{"a":' * 2_000],
    "rejected_time": [b'{"time":9000000000000000000,"v":1}'],
}


class Honest:
    """Two clients that never stop; each keeps the numbers that were confirmed to it."""

    def __init__(self, agent: Agent) -> None:
        """Start both."""
        self._agent = agent
        self._end = threading.Event()
        self.http: list[int] = []
        self.mqtt: list[int] = []
        self.troubles: list[str] = []
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), daemon=True)
            for work in (self._write_http, self._write_mqtt)
        ]
        for thread in self._threads:
            thread.start()
        self.go_on("the honest clients begin")

    def _guarded(self, work: object) -> None:
        assert callable(work)
        try:
            work()
        except Exception as error:
            self.troubles.append(repr(error))

    def _timed(self, what: str, began: float) -> None:
        took = time.monotonic() - began
        if took > SOON:
            self.troubles.append(f"{what} took {took:.1f} s")

    def _write_http(self) -> None:
        for number in itertools.count():
            if self._end.wait(0.01):
                return
            began = time.monotonic()
            status = self._agent.write(f"honest,device=http n={number}i")
            if status != 204:
                self.troubles.append(f"HTTP {number} was answered {status}")
                return
            self._timed(f"HTTP {number}", began)
            self.http.append(number)

    def _write_mqtt(self) -> None:
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="honest")
        client.on_disconnect = lambda *_: self._end.is_set() or self.troubles.append("MQTT was disconnected")
        client.connect("127.0.0.1", self._agent.mqtt, keepalive=60)
        client.loop_start()
        for number in itertools.count():
            if self._end.wait(0.01):
                break
            began = time.monotonic()
            info = client.publish("honest/mqtt/n", str(number), qos=1)
            info.wait_for_publish(PATIENCE)
            if not info.is_published():
                self.troubles.append(f"MQTT {number} got no PUBACK in {PATIENCE:.0f} s")
                break
            self._timed(f"MQTT {number}", began)
            self.mqtt.append(number)
        client.disconnect()
        client.loop_stop()

    def go_on(self, after: str) -> None:
        """Wait until both got answers to what they began after now."""
        http, published = len(self.http) + 2, len(self.mqtt) + 2
        until(
            f"the honest clients go on: {after} ({self.troubles})",
            lambda: self.troubles or (len(self.http) >= http and len(self.mqtt) >= published),
        )
        assert self.troubles == [], after

    def stop(self) -> None:
        """End both."""
        self._end.set()
        for thread in self._threads:
            thread.join(2 * PATIENCE)
            assert not thread.is_alive()

    def unhurt(self, collector: Collector) -> None:
        """Compare the store with what was confirmed: all of it, each once, and nothing else at all."""
        self.stop()
        assert self.troubles == []
        wanted = {
            ("honest.n", "http"): [float(number) for number in self.http],
            ("n", "mqtt"): [float(number) for number in self.mqtt],
        }
        samples = sum(len(values) for values in wanted.values())

        def found() -> dict[tuple[str, str], list[float]]:
            known = collector.get("/api/v1/series", agent="edge", limit=1000)["series"]
            answer = collector.get(
                "/api/v1/query_range",
                series=[one["id"] for one in known],
                start="-1d",
                end="now",
                agg="raw",
                max_points=1_000_000,
            )
            assert not answer["truncated"]
            return {(one["name"], one["labels"].get("device", "")): one["values"] for one in answer["series"]}

        until("all confirmed readings", lambda: sum(len(values) for values in found().values()) >= samples)
        self._agent.wait_drained()
        assert found() == wanted


@pytest.fixture(name="running")
def _running(stack: Stack) -> Iterator[tuple[Collector, Agent, Honest]]:
    """Give a collector and an agent with the two honest clients."""
    collector = stack.collector()
    agent = stack.agent(collector)
    honest = Honest(agent)
    yield collector, agent, honest
    honest.stop()


def causes(agent: Agent, name: str) -> dict[str, int]:
    """Return an input's refusals by cause."""
    found = next(one for one in agent.status()["inputs"] if one["name"] == name)
    return {cause: count for cause, count in found["causes"] if cause.startswith("rejected")}


def counted(agent: Agent, name: str, wanted: dict[str, int]) -> None:
    """Wait until the refusals of an input are these; they are counted together, within a second or so."""
    try:
        until("the refusals are counted", lambda: causes(agent, name) == wanted)
    except AssertionError:
        assert causes(agent, name) == wanted


def resident(agent: Agent) -> int:
    """Return the agent's largest resident memory so far, in bytes."""
    assert agent.process is not None
    lines = Path(f"/proc/{agent.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


def exchange(port: int, data: bytes) -> bytes:
    """Send bytes, say that no more come, and return everything the other side says until it closes."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as link:
        try:
            link.sendall(data)
            link.shutdown(socket.SHUT_WR)
            while piece := link.recv(4096):
                got += piece
        except (ConnectionResetError, BrokenPipeError):
            pass
    return got


def request(port: int, head: str, body: bytes = b"") -> int:
    """Send a request by hand, and return the status; the body may be cut off by the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as link:
        link.sendall(f"{head}\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        try:
            for at in range(0, len(body), 65_536):
                link.sendall(body[at : at + 65_536])
        except (ConnectionResetError, BrokenPipeError):
            pass  # it has been told already
        answer = link.recv(4096)
    return int(answer.split()[1])


def bomb() -> tuple[str, bytes]:
    """Return the head and the body of a request that says 1 GiB in 2 MiB."""
    packed = gzip.compress(b"bomb v=1\n" * (1 << 21), 9) * 57
    return f"POST /write HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}", packed


def test_a_gzip_bomb_is_refused_within_bounds(running: tuple[Collector, Agent, Honest]) -> None:
    """1 GiB of lines in 2 MiB: 413 each time, counted, and no more memory than the limits say."""
    collector, agent, honest = running
    head, body = bomb()
    before = resident(agent)
    for _ in range(5):
        assert request(agent.http, head, body) == 413
        honest.go_on("a bomb")
    counted(agent, "http", {"rejected_limit": 5})
    # input.http.max_decoded is 64 MiB, and a vector that grows holds its old half too.
    assert resident(agent) - before < 192 << 20
    honest.unhurt(collector)


def test_many_gzip_bombs_at_a_time_leave_room_for_small_bodies(
    running: tuple[Collector, Agent, Honest],
) -> None:
    """Eight senders of bombs: each is told 413, or 503 to come again, and the honest client keeps getting 204."""
    collector, agent, honest = running
    head, body = bomb()
    answers: list[int] = []

    def attack() -> None:
        answers.extend(request(agent.http, head, body) for _ in range(8))

    threads = [threading.Thread(target=attack, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(answers) == 64
    assert set(answers) <= {413, 503}
    honest.go_on("64 bombs, eight at a time")
    honest.unhurt(collector)


def test_oversized_bodies_are_refused_claimed_or_not(running: tuple[Collector, Agent, Honest]) -> None:
    """Over 16 MiB: 413 by its Content-Length before a byte is sent, and in chunks as soon as it is too much."""
    collector, agent, honest = running
    for length in (17 << 20, 1 << 40, 2**63):
        assert request(agent.http, f"POST /write HTTP/1.1\r\nContent-Length: {length}") == 413
        honest.go_on(f"a claim of {length} bytes")
    chunk = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
    head = "POST /write HTTP/1.1\r\nTransfer-Encoding: chunked"
    assert request(agent.http, head, chunk * 17 + b"0\r\n\r\n") == 413
    honest.go_on("17 MiB in chunks")
    counted(agent, "http", {"rejected_limit": 4})
    honest.unhurt(collector)


def refused(agent: Agent, honest: Honest, lines: list[bytes]) -> None:
    """Send each line over HTTP and over TCP: 400, and ERR, while the honest clients go on."""
    for line in lines:
        shown = repr(line[:60])
        head = f"POST /write HTTP/1.1\r\nContent-Length: {len(line)}"
        assert request(agent.http, head, line) == 400, shown
        honest.go_on(f"{shown} over HTTP")
        answer = exchange(agent.tcp, b"ACK\n" + line + b"\n")
        assert answer.startswith(b"ERR 1 "), shown
        honest.go_on(f"{shown} over TCP")


def test_a_bad_line_is_refused_alone(running: tuple[Collector, Agent, Honest]) -> None:
    """400 over HTTP and ERR over TCP, counted once each under its cause."""
    collector, agent, honest = running
    wanted: dict[str, int] = {}
    for cause, lines in BAD_LINES.items():
        refused(agent, honest, lines)
        wanted[cause] = len(lines)
        counted(agent, "http", wanted)
        counted(agent, "tcp", wanted)
    honest.unhurt(collector)


def test_nan_and_infinity_in_a_line_are_counted_as_not_finite(
    running: tuple[Collector, Agent, Honest],
) -> None:
    """NaN and Inf are numbers to a sender; the operator reads under not finite why they aren't stored."""
    _, agent, honest = running
    refused(agent, honest, [b"bad,device=x v=NaN", b"bad,device=x v=Inf"])
    counted(agent, "http", {"rejected_not_finite": 2})
    counted(agent, "tcp", {"rejected_not_finite": 2})


def test_a_bad_payload_is_confirmed_and_counted(running: tuple[Collector, Agent, Honest]) -> None:
    """MQTT 3.1.1 can't say no: PUBACK, no sample, and a count under its cause."""
    collector, agent, honest = running
    wanted: dict[str, int] = {}
    for cause, payloads in BAD_PAYLOADS.items():
        for payload in payloads:
            shown = repr(payload[:60])
            body = b"\x00\x0bbad/x/value\x00\x07" + payload
            length = bytes([len(body) & 0x7F | 0x80, len(body) >> 7])
            with socket.create_connection(("127.0.0.1", agent.mqtt), timeout=PATIENCE) as link:
                link.sendall(CONNECT + b"\x32" + length + body)
                with link.makefile("rb") as answers:
                    assert answers.read(8) == CONNACK + b"\x40\x02\x00\x07", shown
            honest.go_on(shown)
        wanted[cause] = len(payloads)
        counted(agent, "mqtt", wanted)
    honest.unhurt(collector)


def test_broken_mqtt_closes_its_own_connection_only(running: tuple[Collector, Agent, Honest]) -> None:
    """Truncated packets, lengths of five bytes, packets that can't be: closed, and the next client is served."""
    collector, agent, honest = running
    for what, data in BAD_BEGINNINGS.items():
        answer = exchange(agent.mqtt, data)
        # An unknown protocol may be told so; nobody is let in.
        assert not answer.startswith(CONNACK), what
        honest.go_on(what)
    for what, data in BAD_PACKETS.items():
        assert exchange(agent.mqtt, CONNECT + data) == CONNACK, what
        honest.go_on(what)
    until("all of them are gone", lambda: connections(agent) == 1)
    honest.unhurt(collector)


def connections(agent: Agent) -> int:
    """Return the MQTT port's open connections; an honest client has one."""
    return int(next(one for one in agent.status()["inputs"] if one["name"] == "mqtt")["connections"])


@pytest.mark.parametrize("begun", [False, True], ids=["before CONNECT", "after CONNECT"])
def test_broken_mqtt_is_counted_by_cause(running: tuple[Collector, Agent, Honest], *, begun: bool) -> None:
    """A length of five bytes appears among the port's refusals in the agent's status."""
    _, agent, _ = running
    data = b"\x30" + FIVE_BYTE_LENGTH
    exchange(agent.mqtt, CONNECT + data if begun else data)
    counted(agent, "mqtt", {"rejected_syntax": 1})
