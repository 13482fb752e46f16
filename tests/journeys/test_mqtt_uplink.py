"""A site whose agents reach the collector through its broker alone: each reading is stored exactly once, whatever dies."""

import json
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from telemetryx.gateway import envelope
from telemetryx.gateway.envelope import Direction
from telemetryx.wire._pb2 import link_pb2 as pb
from tests.fault.proxy import Proxy
from tests.harness import Agent, Collector, Stack, until
from tests.harness.mosquitto import Mosquitto
from tests.harness.stack import AGENT
from tests.journeys.test_enrolment import MUTUAL, enroll, stranger, telemetryx

#: An hour ago: younger than what the store keeps raw, and no year makes it older.
BEGIN = time.time_ns() - 3_600_000_000_000
TOKEN = "the-token-of-this-site"  # noqa: S105 - made up


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """Give a running broker without TLS."""
    made = Mosquitto(tmp_path / "broker")
    made.start()
    yield made
    made.kill()


@pytest.fixture
def tls_broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """Give a running broker with TLS."""
    made = Mosquitto(tmp_path / "broker", tls=True)
    made.start()
    yield made
    made.kill()


def token_file(folder: Path) -> Path:
    """Write the token that both sides know."""
    path = folder / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return path


def collector_on(
    stack: Stack, broker: Mosquitto, *, token: Path | None = None, ca: Path | None = None
) -> Collector:
    """Start a collector that is on the broker too."""
    tokens = f'token_file = "{token}"\n' if token is not None else ""
    authority = f'ca_file = "{ca}"\n' if ca is not None else ""
    return stack.collector(f'{tokens}[gateway.mqtt]\nurl = "{broker.url}"\n{authority}')


def agent_by(stack: Stack, collector: Collector, uplink: str) -> Agent:
    """Start an agent with this [uplink]."""
    agent = stack.agent(collector, start=False)
    text = agent.config.read_text()
    usual = f'url = "http://127.0.0.1:{collector.grpc}"\n'
    assert usual in text
    agent.config.write_text(text.replace(usual, uplink))
    agent.start()
    return agent


def send(agent: Agent, first: int, count: int) -> None:
    """Hand the agent readings, each with its number as its value."""
    for start in range(first, first + count, 50):
        lines = [f"r n={n}i {BEGIN + n}" for n in range(start, min(start + 50, first + count))]
        assert agent.write("\n".join(lines)) == 204


def exactly_once(collector: Collector, count: int) -> None:
    """Compare the store with 1 … count."""
    found = Counter(collector.values("r.n", start="0")[0])
    assert set(found) == {float(n) for n in range(1, count + 1)}
    assert max(found.values()) == 1


def link_is(agent: Agent, transport: str) -> None:
    """Wait until the agent's link is up over this transport."""
    until(
        f"the link is up over {transport}",
        lambda: (link := agent.status()["link"])["connected"] and link["transport"] == transport,
    )


def metric(collector: Collector, name: str) -> float:
    """Read one number of /metrics."""
    text = str(collector.get("/metrics"))
    return next(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


def test_everything_may_die_and_each_reading_is_stored_once(
    stack: Stack, broker: Mosquitto, tmp_path: Path
) -> None:
    """The broker restarts, collector and agent are killed, while readings come: all are stored, none twice."""
    token = token_file(tmp_path)
    collector = collector_on(stack, broker, token=token)
    agent = agent_by(stack, collector, f'url = "{broker.url}"\ntoken_file = "{token}"\n')
    send(agent, 1, 200)
    agent.wait_drained()
    send(agent, 201, 200)
    broker.kill()
    send(agent, 401, 200)
    until(
        "the collector sees that the broker is gone",
        lambda: metric(collector, "telemetryx_collector_gateway_mqtt_connected") == 0.0,
    )
    assert collector.get("/readyz")["ready"]
    broker.start()
    agent.wait_drained()
    exactly_once(collector, 600)

    send(agent, 601, 200)
    assert collector.process is not None
    collector.process.kill()
    send(agent, 801, 200)
    collector.start()
    agent.wait_drained()
    exactly_once(collector, 1_000)

    send(agent, 1_001, 200)
    assert agent.process is not None
    agent.process.kill()
    agent.start()
    send(agent, 1_201, 200)
    agent.wait_drained()
    exactly_once(collector, 1_400)


@pytest.mark.parametrize("limit", ["message_size_limit 6000", "max_packet_size 6000"])
@pytest.mark.waits(seconds=30)
def test_batches_are_cut_to_what_a_broker_takes(stack: Stack, tmp_path: Path, limit: str) -> None:
    """One that confirms and drops what is too large, and one that ends the connection: all is stored once, and it is said."""
    broker = Mosquitto(tmp_path / "broker", extra=limit)
    broker.start()
    try:
        token = token_file(tmp_path)
        collector = collector_on(stack, broker, token=token)
        agent = agent_by(stack, collector, f'url = "{broker.url}"\ntoken_file = "{token}"\n')
        link_is(agent, "mqtt")
        noise, sent, begin = random.Random(1), dict[int, float](), time.time_ns() - 600_000_000_000
        # Parts grow with the link's measured speed, and meet the limit after some batches.
        for _ in range(100):
            fresh = {begin + len(sent) + n: noise.uniform(-1e9, 1e9) for n in range(4_000)}
            assert agent.write("\n".join(f"r n={value!r} {at}" for at, value in fresh.items())) == 204
            sent |= fresh
            until("all is stored", agent.drained, 120)
            if agent.status()["link"]["broker_limit"] is not None:
                break
        assert Counter(collector.values("r.n")[0]) == Counter(sent.values())
        limit_found = agent.status()["link"]["broker_limit"]
        assert 1_024 <= limit_found["bytes"] <= 6_000
        assert limit_found["told"] == limit.startswith("max_packet_size")
        said = subprocess.run(
            [AGENT, "doctor", "--json", "--config", agent.config],
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        (found,) = [one for one in json.loads(said.stdout)["findings"] if one["check"] == "messages"]
        assert (found["level"], "message_size_limit" in found["remedy"]) == ("warning", True)
        shown = subprocess.run(
            [AGENT, "status", "--config", agent.config],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert "max_packet_size" in shown.stdout
    finally:
        broker.kill()


class Eavesdropper:
    """Somebody else on the broker, who hears everything and may publish anything."""

    def __init__(self, broker: Mosquitto) -> None:
        """Listen."""
        self.heard: Queue[tuple[str, bytes]] = Queue()
        self.client = paho.Client(CallbackAPIVersion.VERSION2)
        subscribed: Queue[None] = Queue()
        self.client.on_subscribe = lambda *_: subscribed.put(None)
        self.client.on_message = lambda _client, _data, message: self.heard.put(
            (message.topic, message.payload)
        )
        self.client.connect("localhost", broker.port)
        self.client.loop_start()
        self.client.subscribe("telemetryx/v1/#", 1)
        subscribed.get(timeout=60)

    def next_batch(self) -> tuple[pb.Envelope, pb.Batch, int]:
        """Wait for a batch; return its envelope, itself, and the last counter that came down in its session."""
        down: dict[bytes, int] = {}
        while True:
            topic, payload = self.heard.get(timeout=60)
            kind = topic.split("/")[2]
            if kind not in {"up", "down"}:
                continue
            sealed = pb.Envelope.FromString(payload)
            if kind == "down":
                down[sealed.session] = sealed.counter
                continue
            frame = pb.FromAgent.FromString(sealed.frame)
            if frame.WhichOneof("frame") == "batch":
                return sealed, frame.batch, down[sealed.session]

    def close(self) -> None:
        """Go."""
        self.client.disconnect()
        self.client.loop_stop()


def test_a_forged_acknowledgement_removes_nothing(stack: Stack, broker: Mosquitto, tmp_path: Path) -> None:
    """Whoever reads along on the broker knows session, counter and keys; without the token its acks are passed over."""
    token = token_file(tmp_path)
    collector = collector_on(stack, broker, token=token)
    spy = Eavesdropper(broker)
    agent = agent_by(stack, collector, f'url = "{broker.url}"\ntoken_file = "{token}"\n')
    try:
        link_is(agent, "mqtt")
        assert collector.process is not None
        # It can't answer: what the agent believes now, somebody else told it.
        collector.process.signal(signal.SIGSTOP)
        send(agent, 1, 50)
        sealed, batch, last = spy.next_batch()
        holdings = pb.Holdings(epoch=batch.epoch, upto=batch.seq + 1_000)
        ack = pb.FromCollector(ack=pb.Ack(holdings=[holdings])).SerializeToString()
        before = agent.status()["link"]["dropped_envelopes"]
        forged = [
            envelope.seal(None, Direction.DOWN, "edge", sealed.session, last + 1, ack),
            envelope.seal(b"some other token", Direction.DOWN, "edge", sealed.session, last + 1, ack),
            # A signature that is genuine, of another frame.
            pb.Envelope(
                session=sealed.session, counter=last + 1, frame=ack, signature=sealed.signature
            ).SerializeToString(),
        ]
        for payload in forged:
            spy.client.publish("telemetryx/v1/down/edge", payload, qos=1).wait_for_publish(60)
        until("the forged ones came", lambda: agent.status()["link"]["dropped_envelopes"] >= before + 3)
        assert agent.status()["spool"]["batches"] > 0
        collector.process.signal(signal.SIGCONT)
        agent.wait_drained()
        exactly_once(collector, 50)
    finally:
        spy.close()


def doctor(agent: Agent) -> tuple[int, dict[str, dict[str, str]]]:
    """Ask the agent's doctor; return the exit code and what it says of the ways to the collector."""
    said = subprocess.run(
        [AGENT, "doctor", "--json", "--config", agent.config],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    ways = ("name", "connection", "certificate", "tls", "session")
    found = {one["check"]: one for one in json.loads(said.stdout)["findings"]}
    return said.returncode, {
        check: one for check, one in found.items() if check.removeprefix("fallback ") in ways
    }


def test_the_doctor_tries_a_session_over_the_broker_and_the_fallback_too(
    stack: Stack, tls_broker: Mosquitto, tmp_path: Path
) -> None:
    """Beside a running agent, whose session goes on; then each thing that can be wrong is told from the others."""
    token = token_file(tmp_path)
    collector = collector_on(stack, tls_broker, token=token, ca=tls_broker.ca)
    uplink = f'url = "{tls_broker.url}"\nca_file = "{tls_broker.ca}"\ntoken_file = "{token}"\n'
    fallback = f'fallback_url = "http://127.0.0.1:{collector.grpc}"\n'
    agent = agent_by(stack, collector, uplink + fallback)
    link_is(agent, "mqtt")
    code, found = doctor(agent)
    assert found.pop("certificate")["level"] == "warning", "the broker's ends in two days"
    assert (code, {one["level"] for one in found.values()}) == (0, {"ok"}), found
    assert "greets over the broker" in found["session"]["found"]
    assert "greets after" in found["fallback session"]["found"]
    assert agent.status()["link"]["sessions"] == 1, "its own session was left alone"
    send(agent, 1, 50)
    agent.wait_drained()

    text = agent.config.read_text()
    agent.config.write_text(text.replace(f"127.0.0.1:{collector.grpc}", "127.0.0.1:1"))
    code, found = doctor(agent)
    assert (code, found["fallback connection"]["level"]) == (0, "warning"), found
    assert "no second way now" in found["fallback connection"]["found"]

    (tmp_path / "other").mkdir()
    other = tmp_path / "other/token"
    other.write_text("not-the-token-of-this-site\n")
    other.chmod(0o600)
    agent.config.write_text(text.replace(str(token), str(other)))
    code, found = doctor(agent)
    assert (code, found["session"]["level"], found["fallback session"]["level"]) == (1, "problem", "problem")
    assert "no collector answered" in found["session"]["found"]
    assert "token" in found["session"]["remedy"]


def test_through_tls_and_back_from_the_fallback(stack: Stack, tls_broker: Mosquitto, tmp_path: Path) -> None:
    """The gateway can't be reached over gRPC, so the agent takes the broker, over TLS; when it can again, it returns."""
    token = token_file(tmp_path)
    collector = collector_on(stack, tls_broker, token=token, ca=tls_broker.ca)
    door = Proxy(collector.grpc)
    door.cut()
    agent = agent_by(
        stack,
        collector,
        f'url = "http://127.0.0.1:{door.port}"\nfallback_url = "{tls_broker.url}"\nfallback_return = "1s"\n'
        f'token_file = "{token}"\nca_file = "{tls_broker.ca}"\n',
    )
    try:
        send(agent, 1, 100)
        link_is(agent, "mqtt")
        agent.wait_drained()
        exactly_once(collector, 100)
        send(agent, 101, 100)
        door.mend()
        link_is(agent, "grpc")
        send(agent, 201, 100)
        agent.wait_drained()
        exactly_once(collector, 300)
    finally:
        door.close()


def test_an_enrolled_host_signs_with_its_key_and_needs_no_token(stack: Stack, broker: Mosquitto) -> None:
    """Through a broker that others use too: its readings come in under its site, a forger's don't, and a revoked host is told."""
    collector = stack.collector(f'{MUTUAL}[gateway.mqtt]\nurl = "{broker.url}"\n')
    agent = stranger(stack, collector)
    agent.name = "pump"
    line = telemetryx(collector, "enroll", "token", "--site", "plant1")
    assert enroll(agent, line, "--name", "pump").returncode == 0
    text = agent.config.read_text()
    assert "[uplink]\n" in text
    agent.config.write_text(text.replace("[uplink]\n", f'[uplink]\nurl = "{broker.url}"\n', 1))
    agent.start()
    link_is(agent, "mqtt")
    send(agent, 1, 100)
    agent.wait_drained()
    exactly_once(collector, 100)
    (shown,) = collector.get("/api/v1/agents")["agents"]
    assert shown["labels"]["site"] == "plant1"

    # Who can publish on the broker, and knows the agent's name and the protocol, still can't speak for it.
    hello = pb.FromAgent(hello=pb.Hello(wire=1, agent="pump", epoch=bytes(16))).SerializeToString()
    stranger_ = paho.Client(CallbackAPIVersion.VERSION2)
    stranger_.connect("127.0.0.1", broker.port)
    stranger_.loop_start()
    for key in (None, b"a-token-that-he-guessed"):
        forged = envelope.seal(key, Direction.UP, "pump", bytes(16), 1, hello)
        stranger_.publish("telemetryx/v1/up/pump", forged, qos=1).wait_for_publish(60)
    until(
        "both forgeries were passed over",
        lambda: metric(collector, 'telemetryx_collector_gateway_mqtt_dropped_total{cause="signature"}') == 2,
    )
    stranger_.disconnect()
    stranger_.loop_stop()

    assert "revoked" in telemetryx(collector, "agents", "revoke", "pump")
    until(
        "the agent hears that it was revoked", lambda: "was revoked" in agent.status()["link"]["last_error"]
    )
    send(agent, 101, 50)
    exactly_once(collector, 100)
