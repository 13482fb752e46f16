"""What a paho-mqtt client publishes arrives unchanged and each reading once: both protocol versions, every QoS.

Values and their times are compared in the collector's store, behind a real agent.
"""

import json
import struct
import threading
import time
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.compat.stored import arrived, events, series
from tests.harness import KEEPS_ALL, Agent, Collector, Stack, until

VERSIONS = pytest.mark.parametrize(
    "version", [MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5], ids=["v3.1.1", "v5"]
)

#: Every one has a shortest text that says exactly this float.
VALUES = [
    0.0,
    -0.0,
    21.5,
    -40.25,
    0.1,
    0.30000000000000004,
    1e-7,
    5e-324,
    1.7976931348623157e308,
    9007199254740992.0,
    3.141592653589793,
    *[number / 7 for number in range(1, 90)],
]


class Publisher:
    """A paho client that is connected, and waits for each handshake's end."""

    def __init__(self, agent: Agent, version: MQTTProtocolVersion) -> None:
        """Connect."""
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=version)
        self._connected = threading.Event()
        self.refusals: list[str] = []
        self.client.on_connect = self._on_connect
        self.client.on_publish = self._on_publish
        self.client.connect("127.0.0.1", agent.mqtt, keepalive=30)
        self.client.loop_start()
        assert self._connected.wait(120), "no CONNACK"

    def _on_connect(self, _client: object, _data: object, _flags: object, reason: Any, _more: object) -> None:
        assert not reason.is_failure, str(reason)
        self._connected.set()

    def _on_publish(self, _client: object, _data: object, _mid: int, reason: Any, _more: object) -> None:
        if reason.is_failure:
            self.refusals.append(str(reason))

    def send(self, messages: list[tuple[str, str]], qos: int, *, retain: bool = False) -> None:
        """Publish all, and wait until the agent has confirmed each (QoS 0: until it is on its way)."""
        waiting = [self.client.publish(topic, payload, qos, retain) for topic, payload in messages]
        for info in waiting:
            info.wait_for_publish(120)
            assert info.is_published()
        assert self.refusals == []

    def close(self) -> None:
        """Say goodbye; what was sent before is read before that."""
        self.client.disconnect()
        self.client.loop_stop()


def raw(collector: Collector, name: str) -> list[dict[str, Any]]:
    """Return the series of a name, with every raw sample."""
    return [one for one in series(collector) if one["name"] == name]


def counters(agent: Agent) -> dict[str, Any]:
    """Return the MQTT port's counters."""
    return next(one for one in agent.status()["inputs"] if one["name"] == "mqtt")


@VERSIONS
def test_readings_arrive_unchanged_and_once_at_every_qos(stack: Stack, version: MQTTProtocolVersion) -> None:
    """A bare number a message: bit by bit the same, in the order of sending, at the time of arrival."""
    collector = stack.collector(KEEPS_ALL)
    agent = stack.agent(collector)
    publisher = Publisher(agent, version)
    before = time.time_ns()
    for qos in (0, 1, 2):
        publisher.send([(f"plant1/pump{qos}/temperature", repr(value)) for value in VALUES], qos)
    publisher.close()
    arrived(agent, collector, 3 * len(VALUES))
    after = time.time_ns()
    assert counters(agent)["received"] == 3 * len(VALUES)
    for qos in (0, 1, 2):
        found = [one for one in raw(collector, "temperature") if one["labels"]["device"] == f"pump{qos}"]
        assert [one["labels"] for one in found] == [{"site": "plant1", "device": f"pump{qos}"}]
        packed = struct.pack(f"{len(VALUES)}d", *VALUES)
        assert struct.pack(f"{len(found[0]['values'])}d", *found[0]["values"]) == packed
        times = found[0]["times_ns"]
        assert before <= times[0]
        assert times == sorted(times)
        assert times[-1] <= after


@VERSIONS
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_times_that_a_payload_says_are_kept(stack: Stack, version: MQTTProtocolVersion, qos: int) -> None:
    """Seconds, milliseconds, microseconds, nanoseconds, as number or text, and RFC 3339 with an offset."""
    collector = stack.collector(KEEPS_ALL)
    agent = stack.agent(collector)
    moment = 1_709_287_200
    forms: dict[str, object] = {
        "s": moment,
        "ms": moment * 1_000 + 123,
        "us": moment * 1_000_000 + 123_456,
        "ns": moment * 1_000_000_000 + 123_456_789,
        "text": str(moment),
        "rfc": "2024-03-01T12:00:00.123456789+02:00",
        "fraction": moment + 0.25,
    }
    expected = {
        "s": moment * 1_000_000_000,
        "ms": moment * 1_000_000_000 + 123_000_000,
        "us": moment * 1_000_000_000 + 123_456_000,
        "ns": moment * 1_000_000_000 + 123_456_789,
        "text": moment * 1_000_000_000,
        "rfc": moment * 1_000_000_000 + 123_456_789,
        "fraction": moment * 1_000_000_000 + 250_000_000,
    }
    publisher = Publisher(agent, version)
    publisher.send(
        [
            (f"plant1/{form}/level", json.dumps({"time": value, "value": 1.5}))
            for form, value in forms.items()
        ],
        qos,
    )
    publisher.close()
    arrived(agent, collector, len(forms))
    found = raw(collector, "level")
    assert {one["labels"]["device"]: one["times_ns"] for one in found} == {
        form: [when] for form, when in expected.items()
    }
    assert all(one["values"] == [1.5] for one in found)


@VERSIONS
def test_payloads_of_zigbee2mqtt_and_tasmota_come_out_right(
    stack: Stack, version: MQTTProtocolVersion
) -> None:
    """A null is no sample, a state word is 1, availability is an event, Tasmota's own time holds in the input's zone."""
    collector = stack.collector(KEEPS_ALL)
    agent = stack.agent(collector, start=False)
    config = agent.config.read_text()
    zone = '[input.mqtt.mapping]\ntime_zone = "Europe/Berlin"\n'
    agent.config.write_text(config.replace("[input.http]", f"{zone}[input.http]"))
    agent.start()
    publisher = Publisher(agent, version)
    plug = '{"power":null,"voltage":236.95,"state":"ON","linkquality":15}'
    sensor = '{"Time":"2024-03-01T10:00:00","AM2301":{"Temperature":21.5,"Humidity":40},"TempUnit":"C"}'
    publisher.send(
        [
            ("zigbee2mqtt/plug", plug),
            ("zigbee2mqtt/lamp/availability", "online"),
            ("tele/boiler/SENSOR", sensor),
        ],
        qos=1,
    )
    publisher.close()
    arrived(agent, collector, 5, 1)
    found = {
        (one["labels"].get("device"), one["name"]): (one["values"], one["times_ns"])
        for one in series(collector)
    }
    assert {key: value for key, (value, _) in found.items()} == {
        ("plug", "voltage"): [236.95],
        ("plug", "state"): [1.0],
        ("plug", "linkquality"): [15.0],
        ("boiler", "AM2301.Temperature"): [21.5],
        ("boiler", "AM2301.Humidity"): [40.0],
    }
    # Ten o'clock in Berlin's winter is nine in UTC.
    assert found["boiler", "AM2301.Temperature"][1] == [1_709_283_600_000_000_000]
    assert found["boiler", "AM2301.Humidity"][1] == [1_709_283_600_000_000_000]
    assert [(one["body"], one["source"]) for one in events(collector)] == [
        ("online", "zigbee2mqtt/lamp/availability")
    ]
    refused = [cause for cause, _ in counters(agent)["causes"] if cause.startswith("rejected")]
    assert refused == []


@VERSIONS
def test_a_paho_subscriber_gets_what_a_paho_publisher_sends(
    stack: Stack, version: MQTTProtocolVersion
) -> None:
    """Local pub/sub passes payloads on byte by byte, retained values too, while they go to the store as well."""
    collector = stack.collector(KEEPS_ALL)
    agent = stack.agent(collector)
    publisher = Publisher(agent, version)
    publisher.send([("plant1/tank/level", "3.5")], 1, retain=True)
    subscriber = Publisher(agent, version)
    got: list[tuple[str, bytes, bool]] = []
    ready = threading.Event()
    subscriber.client.on_message = lambda _c, _d, message: got.append(
        (message.topic, message.payload, message.retain)
    )
    subscriber.client.on_subscribe = lambda *_: ready.set()
    subscriber.client.subscribe("plant1/#", 2)
    assert ready.wait(120)
    publisher.send([("plant1/pump/flow", "1.25"), ("plant1/pump/flow", "1.50")], 2)
    until("three messages", lambda: len(got) >= 3)
    subscriber.close()
    publisher.close()
    assert got == [
        ("plant1/tank/level", b"3.5", True),
        ("plant1/pump/flow", b"1.25", False),
        ("plant1/pump/flow", b"1.50", False),
    ]
    arrived(agent, collector, 3)
    assert raw(collector, "flow")[0]["values"] == [1.25, 1.5]
