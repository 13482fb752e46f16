"""The site's broker as docs/how-to/uplink.md has it: its files, letter by letter, let agent and collector through and nobody else."""

import re
import subprocess
from pathlib import Path
from queue import Queue

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.harness import Stack, until
from tests.harness.mosquitto import Mosquitto

MANUAL = Path(__file__).parents[2] / "docs/how-to/uplink.md"


def block(first: str) -> str:
    """Return the block of the manual that begins with this line."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", MANUAL.read_text(), re.DOTALL | re.MULTILINE)
    (found,) = [text for text in blocks if text.startswith(first)]
    return str(found)


def secret(folder: Path, name: str, text: str) -> Path:
    """Write a file that only its owner can read."""
    path = folder / name
    path.write_text(text + "\n")
    path.chmod(0o600)
    return path


def as_in_the_manual(folder: Path) -> Mosquitto:
    """Give a broker with the manual's files; only paths and the port are the test's."""
    broker = Mosquitto(folder, tls=True)
    made = dict(line.split(" ", 1) for line in broker.config.read_text().splitlines() if " " in line)
    passwords, access = folder / "passwords", folder / "acl"
    passwords.touch()
    for user in ("edge", "collector", "other"):
        subprocess.run(["mosquitto_passwd", "-b", passwords, user, f"password-of-{user}"], check=True)
    access.write_text(block("# Each agent logs in under its own name."))
    text = block("listener 8883")
    for theirs, ours in {
        "listener 8883": f"listener {broker.port} localhost\nsocket_domain ipv4\nuser root",
        "/etc/mosquitto/ca.pem": str(broker.ca),
        "/etc/mosquitto/broker.pem": made["certfile"],
        "/etc/mosquitto/broker.key": made["keyfile"],
        "/etc/mosquitto/passwords": str(passwords),
        "/etc/mosquitto/acl": str(access),
    }.items():
        assert theirs in text
        text = text.replace(theirs, ours)
    broker.config.write_text(text)
    return broker


@pytest.mark.waits(seconds=10)
def test_the_manuals_broker_serves_those_whom_it_names(stack: Stack, tmp_path: Path) -> None:
    """Readings are stored; another agent's login neither hears the first one's frames nor may send in its place."""
    broker = as_in_the_manual(tmp_path / "broker")
    broker.start()
    try:
        token = secret(tmp_path, "token", "the-token-of-this-site")
        password = secret(tmp_path, "agents-password", "password-of-edge")
        collectors = secret(tmp_path, "collectors-password", "password-of-collector")
        collector = stack.collector(
            f'token_file = "{token}"\n[gateway.mqtt]\nurl = "{broker.url}"\nuser = "collector"\n'
            f'password_file = "{collectors}"\nca_file = "{broker.ca}"\n'
        )
        agent = stack.agent(collector, start=False)
        usual = f'url = "http://127.0.0.1:{collector.grpc}"\n'
        text = agent.config.read_text()
        assert usual in text
        agent.config.write_text(
            text.replace(
                usual,
                f'url = "{broker.url}"\ntoken_file = "{token}"\nmqtt_user = "edge"\n'
                f'mqtt_password_file = "{password}"\nca_file = "{broker.ca}"\n',
            )
        )
        agent.start()
        until("the link is up", lambda: agent.status()["link"]["connected"])

        heard: list[tuple[str, bytes]] = []
        other = paho.Client(CallbackAPIVersion.VERSION2)
        other.username_pw_set("other", "password-of-other")
        other.tls_set(str(broker.ca))
        subscribed: Queue[None] = Queue()
        other.on_subscribe = lambda *_: subscribed.put(None)
        other.on_message = lambda _client, _data, message: heard.append((message.topic, message.payload))
        other.connect("localhost", broker.port)
        other.loop_start()
        other.subscribe("telemetryx/v1/#", 1)
        subscribed.get(timeout=60)
        hints = "telemetryx/v1/collector"
        until("it hears the collector's hint", lambda: (hints, b"online") in heard)
        other.publish("telemetryx/v1/gone/edge", b"", qos=1).wait_for_publish(60)

        assert agent.write("one n=1i") == 204
        agent.wait_drained()
        assert collector.values("one.n", start="-1h") == [[1.0]]
        assert agent.status()["link"]["sessions"] == 1
        assert collector.process is not None
        collector.process.stop()
        # It comes behind what others may not hear.
        until("it hears that the collector went", lambda: (hints, b"offline") in heard)
        assert {topic for topic, _ in heard} == {hints}
        other.disconnect()
        other.loop_stop()
    finally:
        broker.kill()
