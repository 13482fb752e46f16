"""What paho-mqtt does with a QoS 2 message that it has released, when its connection goes: seen on the wire, by a broker of our own.

docs/how-to/mqtt.md warns of it. A test here that fails with a newer paho-mqtt says that the warning is out of date.
"""

import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.fault.publishers import KeepsReleases
from tests.harness import Stack, free_port, until
from tests.harness.agent_tools import ask, lines

PUBLISH, PUBREC, PUBREL = 3, 5, 6
DUP = 8


class Broker:
    """One connection at a time, packet by packet."""

    def __init__(self, port: int = 0) -> None:
        """Listen."""
        # One that stays ours while nobody listens on it.
        self._listener = socket.create_server(("127.0.0.1", port or free_port()))
        self._listener.settimeout(60)
        self.port: int = self._listener.getsockname()[1]
        self._peer = socket.socket()

    def accept(self, *, present: bool) -> None:
        """Take a connection, and answer its CONNECT."""
        self._peer, _ = self._listener.accept()
        self._peer.settimeout(60)
        kind, _, _ = self.next()
        assert kind == 1
        self._peer.sendall(bytes([0x20, 2, int(present), 0]))

    def next(self) -> tuple[int, int, int]:
        """Return the next packet's type, flags and packet id."""
        header, length = self._exactly(2)
        body = self._exactly(length)
        at = 2 + struct.unpack("!H", body[:2])[0] if header >> 4 == PUBLISH else 0
        return header >> 4, header & 15, int.from_bytes(body[at : at + 2], "big")

    def received(self, packet_id: int) -> None:
        """Send PUBREC."""
        self._peer.sendall(bytes([PUBREC << 4, 2]) + struct.pack("!H", packet_id))

    def hang_up(self) -> None:
        """End the connection, and take another."""
        self._peer.close()

    def close(self) -> None:
        """Be gone: a try to connect is refused."""
        self._listener.close()
        self._peer.close()

    def _exactly(self, count: int) -> bytes:
        read = b""
        while len(read) < count:
            piece = self._peer.recv(count - len(read))
            assert piece, "the client is gone"
            read += piece
        return read


class Released:
    """A client that has released a message when its broker goes, and tries in vain to return so many times before it is there again."""

    def __init__(self, kind: type[mqtt.Client], failures: int) -> None:
        """Play that."""
        broker = Broker()
        self.client = kind(CallbackAPIVersion.VERSION2, client_id="sensor", clean_session=False)
        self.client.reconnect_delay_set(min_delay=1, max_delay=1)
        failed = threading.Semaphore(0)
        self.client.on_connect_fail = lambda *_: failed.release()
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        broker.accept(present=False)
        self.client.publish("plant1/pump7/temperature", "21.5", qos=2)
        assert broker.next()[:2] == (PUBLISH, 4)
        broker.received(1)
        assert broker.next() == (PUBREL, 2, 1)
        if failures:
            broker.close()
            for _ in range(failures):
                assert failed.acquire(timeout=60)
            self.broker = Broker(broker.port)
        else:
            broker.hang_up()
            self.broker = broker
        self.broker.accept(present=True)

    def close(self) -> None:
        """End both."""
        self.client.disconnect()
        self.broker.close()
        self.client.loop_stop()


@pytest.fixture
def released(request: pytest.FixtureRequest) -> Iterator[Released]:
    """Give one."""
    made = Released(*request.param)
    yield made
    made.close()


@pytest.mark.parametrize(
    "released",
    [(mqtt.Client, 0), (KeepsReleases, 0), (KeepsReleases, 1), (KeepsReleases, 2)],
    indirect=True,
)
def test_a_released_message_is_released_again(released: Released) -> None:
    """As MQTT has it; paho itself does so while no try to connect has failed, and with a few lines of remedy always."""
    assert released.broker.next() == (PUBREL, 2, 1)


@pytest.mark.parametrize("released", [(mqtt.Client, 1), (mqtt.Client, 2)], indirect=True)
def test_paho_sends_a_released_message_as_a_new_one_once_a_try_to_connect_has_failed(
    released: Released,
) -> None:
    """Without DUP, after its PUBREL: no broker can tell that from a reading of the same value (up to paho-mqtt 2.2)."""
    kind, flags, packet_id = released.broker.next()
    assert (kind, packet_id) == (PUBLISH, 1)
    assert not flags & DUP, "paho-mqtt marks it now: mend docs/how-to/mqtt.md"


@pytest.mark.parametrize("kind", [mqtt.Client, KeepsReleases])
def test_what_paho_publishes_over_restarts_is_stored_as_often_as_it_says(
    stack: Stack, kind: type[mqtt.Client]
) -> None:
    """Over a restart of the agent a QoS 2 publisher loses nothing; with the remedy nothing is stored twice either."""
    agent = stack.agent(stack.collector(start=False))
    client = kind(CallbackAPIVersion.VERSION2, client_id="sensor", clean_session=False)
    client.max_inflight_messages_set(0)
    client.reconnect_delay_set(min_delay=1, max_delay=1)
    client.connect("127.0.0.1", agent.mqtt)
    client.loop_start()
    try:
        said = [client.publish("plant1/pump7/temperature", str(number), qos=2) for number in range(500)]
        assert agent.process is not None
        agent.process.kill()
        agent.start()
        for info in said:
            info.wait_for_publish(120)
            assert info.is_published()
        until("all of it is in batches", agent.in_batches)
        stored = Counter(row["value"] for row in lines(ask("spool", "export", "--config", agent.config)))
        assert set(stored) == set(map(float, range(500)))
        assert kind is mqtt.Client or set(stored.values()) == {1}
    finally:
        client.disconnect()
        client.loop_stop()
