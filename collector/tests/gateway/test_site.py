"""The door over a real mosquitto: it comes and goes, and the collector says so and goes on."""

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from free_ports import free_port
from gateway.conftest import Core
from reference_agent import T0, ReferenceAgent, defined, samples
from reference_mqtt import MqttAgent, SessionLost
from telemetryx.errors import GatewayRefused
from telemetryx.gateway import site
from telemetryx.gateway.server import Config, Gateway
from telemetryx.wire.payload import Payload

TOKEN = "the-token-of-every-agent"


@dataclass
class Mosquitto:
    """A broker on a port of its own; `stop` and `start` keep the port."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None
    lines: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Start it."""
        config = self.folder / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
        with (self.folder / "mosquitto.log").open("ab") as log:
            self.process = subprocess.Popen(["mosquitto", "-c", str(config)], stdout=log, stderr=log)  # noqa: S607

    def stop(self) -> None:
        """Kill it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(60)
            self.process = None


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """Give a broker; whoever connects tries until it listens."""
    broker = Mosquitto(tmp_path, free_port())
    broker.start()
    yield broker
    broker.stop()


async def until(core: Core, connected: bool) -> None:  # noqa: FBT001 - the state that is waited for
    """Wait for the broker's state as the collector sees it."""
    assert core.gateway.site is not None
    async with asyncio.timeout(60):
        while core.gateway.site.connected is not connected:
            await asyncio.sleep(0.02)


@dataclass
class Link:
    """An agent's own connection to the broker."""

    client: paho.Client
    agent: MqttAgent
    presence: list[bytes]


async def join(mosquitto: Mosquitto, name: str, token: bytes | None) -> Link:
    """Connect an agent: subscribed before it says hello."""
    loop = asyncio.get_running_loop()
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name)
    subscribed = asyncio.Event()
    presence: list[bytes] = []

    async def publish(payload: bytes) -> None:
        client.publish(f"telemetryx/v1/up/{name}", payload, qos=1)
        await asyncio.sleep(0)

    agent = MqttAgent(ReferenceAgent(name), publish, token)

    def message(_client: paho.Client, _data: object, got: paho.MQTTMessage) -> None:
        if got.topic.endswith("/collector"):
            presence.append(got.payload)
        else:
            loop.call_soon_threadsafe(agent.inbox.put_nowait, got.payload)

    client.on_message = message
    client.on_subscribe = lambda *_: loop.call_soon_threadsafe(subscribed.set)
    await asyncio.to_thread(client.connect, "127.0.0.1", mosquitto.port)
    client.loop_start()
    client.subscribe([(f"telemetryx/v1/down/{name}", 1), ("telemetryx/v1/collector", 1)])
    async with asyncio.timeout(60):
        await subscribed.wait()
    return Link(client, agent, presence)


def leave(link: Link) -> None:
    """Disconnect it."""
    link.client.disconnect()
    link.client.loop_stop()


def cut(agent: MqttAgent, number: int) -> None:
    """Cut a batch of one reading."""
    agent.agent.cut(Payload(samples({1: [(T0 + number, float(number))]})), defined("temp"))


def config(mosquitto: Mosquitto, token_file: Path | None) -> Config:
    """Point the gateway at the broker."""
    mqtt = site.Config(f"mqtt://127.0.0.1:{mosquitto.port}")
    return Config(port=0, token_file=token_file, mqtt=mqtt)


@pytest.mark.parametrize("token", [TOKEN, None], ids=["signed", "unsigned on loopback"])
async def test_batches_come_through_a_broker_that_restarts(
    mosquitto: Mosquitto, tmp_path: Path, token: str | None
) -> None:
    """What is acknowledged over the broker is stored; the broker dies and comes back, and it goes on, each batch once."""
    token_file = None
    if token is not None:
        token_file = tmp_path / "token"
        token_file.write_text(token)
        token_file.chmod(0o600)
    core = await Core.start(tmp_path / "t.db", config(mosquitto, token_file))
    try:
        await until(core, connected=True)
        link = await join(mosquitto, "pump", token.encode() if token else None)
        for number in (1, 2, 3):
            cut(link.agent, number)
        await link.agent.drain()
        assert [row.peer for row in await core.store.connections()] == [f"mqtt:127.0.0.1:{mosquitto.port}"]
        assert link.presence == [b"online"]

        mosquitto.stop()
        await until(core, connected=False)
        async with asyncio.timeout(60):
            while core.gateway.sessions:
                await asyncio.sleep(0.02)
        leave(link)
        mosquitto.start()
        await until(core, connected=True)
        again = await join(mosquitto, "pump", token.encode() if token else None)
        again.agent.agent = link.agent.agent
        for number in (4, 5):
            cut(again.agent, number)
        await again.agent.drain()
        assert (await core.store.samples([1], 0, 1 << 62)).values.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
        await core.gateway.close(2)
        async with asyncio.timeout(60):
            while again.presence[-1] != b"offline":
                await asyncio.sleep(0.02)
        leave(again)
    finally:
        await core.stop()


async def test_a_broker_that_is_away_keeps_nobody_else_out(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """The collector starts without it, agents come over gRPC, and the broker's arrival needs no restart."""
    mosquitto.stop()
    core = await Core.start(tmp_path / "t.db", config(mosquitto, None))
    try:
        agent = ReferenceAgent("by-grpc")
        async with agent.session(core.gateway.port) as link:
            await link.send(agent.cut(Payload(samples({1: [(T0, 1.0)]})), defined("temp")))
            await link.acked()
        assert core.gateway.site is not None
        assert not core.gateway.site.connected
        mosquitto.start()
        await until(core, connected=True)
    finally:
        await core.stop()


async def test_a_wrong_token_gets_no_answer(mosquitto: Mosquitto, tmp_path: Path) -> None:
    """An agent with another token is counted, stored nowhere, and told nothing."""
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN)
    token_file.chmod(0o600)
    core = await Core.start(tmp_path / "t.db", config(mosquitto, token_file))
    try:
        await until(core, connected=True)
        link = await join(mosquitto, "pump", b"some other token")
        link.agent.patience_s = 0.5
        with pytest.raises(SessionLost, match="silence"):
            await link.agent.open()
        assert core.gateway.site is not None
        # The agent may have heard nothing for so long before its frame came.
        async with asyncio.timeout(60):
            while core.gateway.site.counters.dropped["signature"] != 1:
                await asyncio.sleep(0.02)
        assert await core.store.connections() == []
        leave(link)
    finally:
        await core.stop()


@pytest.mark.parametrize(
    ("url", "tokens", "says"),
    [
        ("mqtt://broker.site:1883", TOKEN, "without TLS"),
        ("mqtts://broker.site", None, "set token_file"),
        ("http://127.0.0.1", TOKEN, "not a broker's address"),
        ("mqtts://me:secret@127.0.0.1", TOKEN, "password_file"),
        ("mqtt://127.0.0.1", "sha256:" + "0" * 64, "digests alone"),
    ],
)
async def test_an_unguarded_broker_is_refused(
    core: Core, tmp_path: Path, url: str, tokens: str | None, says: str
) -> None:
    """Before anything is opened, with what to change."""
    token_file = None
    if tokens is not None:
        token_file = tmp_path / "token"
        token_file.write_text(tokens)
        token_file.chmod(0o600)
    with pytest.raises(GatewayRefused, match=says):
        Gateway(core.store, core.ingest, Config(port=0, token_file=token_file, mqtt=site.Config(url)))
