"""Publishers that keep count: three that never send anything again (MQTT QoS 1, HTTP, TCP), one that completes every handshake.

Every message is a number of its own, so that what is stored can be compared one by one with what was acknowledged.
"""

import http.client
import itertools
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

import paho.mqtt.client as mqtt

from tests.harness.processes import PATIENCE

#: Messages that may wait for their acknowledgement.
IN_FLIGHT = 1_000
#: Readings in one HTTP request.
LINES = 5
#: A client that was held up for longer connects anew, and goes on.
KEEPALIVE_S = 10
#: What is to be completed has so long at the end, from one handshake to the next.
COMPLETES_S = 120.0


class _Publisher(threading.Thread):
    def __init__(self, port: int, topic: str, per_second: float) -> None:
        super().__init__(name=topic, daemon=True)
        self.port = port
        self.topic = topic
        self._per_second = per_second
        self._end = threading.Event()
        self.sent = 0
        #: Which numbers were acknowledged; of QoS 2, completed.
        self.acked: set[int] = set()
        self.device = topic.split("/")[1]
        #: What the agreed rate asked for while there was a connection to send on, or a client that queues.
        self.asked = 0

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._end.set()
        self.join(4 * COMPLETES_S)
        assert not self.is_alive(), f"the publisher of {self.topic} did not end"

    def _paced(self) -> Iterator[None]:
        """Yield at the agreed rate until stopped. What a busy machine held up is caught up with, what an outage did is not."""
        began, before, given = time.monotonic(), self.asked, 0
        while not self._end.is_set():
            due = int((time.monotonic() - began) * self._per_second)
            self.asked = before + due
            if given < due:
                given += 1
                yield
            else:
                self._end.wait(1 / self._per_second)


class KeepsReleases(mqtt.Client):
    """paho, but for a defect: it forgets a PUBREL it has sent when one try to connect fails before its PUBCOMP.

    paho 2.1 and 2.2 then send the PUBLISH anew, without DUP and after its release, which MQTT forbids ([MQTT-4.3.3-6] in 3.1.1:
    the sender must not send the PUBLISH again once it has sent the PUBREL). No broker can tell that from a new message.
    """

    def _messages_reconnect_reset_out(self) -> None:
        with self._out_message_mutex:
            for message in self._out_messages.values():
                if message.state == mqtt.mqtt_ms_resend_pubrel:
                    message.state = mqtt.mqtt_ms_wait_for_pubcomp
        super()._messages_reconnect_reset_out()


def _answered(numbers_of: Mapping[int, list[int]], answers: list[int]) -> set[int]:
    """Return what the answers were for: a packet id is used again once it was answered, so its answers come in order."""
    return {
        number for packet, count in Counter(answers).items() for number in numbers_of.get(packet, [])[:count]
    }


class NeverResends(_Publisher):
    """QoS 1 with a clean session; a lost connection takes what was not acknowledged with it."""

    def __init__(self, port: int, topic: str, per_second: float) -> None:
        """Publish 0, 1, 2, … at a rate."""
        super().__init__(port, topic, per_second)

    def run(self) -> None:
        """Connect anew after each loss, with new messages only."""
        numbers = itertools.count()
        while not self._end.is_set():
            self._session(numbers)

    def _session(self, numbers: "itertools.count[int]") -> None:
        lost = threading.Event()
        numbers_of: defaultdict[int, list[int]] = defaultdict(list)
        acked: list[int] = []
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, clean_session=True)
        client.max_inflight_messages_set(IN_FLIGHT)
        client.on_disconnect = lambda *_: lost.set()
        client.on_publish = lambda _client, _data, mid, *_: acked.append(mid)
        try:
            client.connect("127.0.0.1", self.port, keepalive=KEEPALIVE_S)
        except OSError:
            time.sleep(0.02)
            return
        client.loop_start()
        for _ in self._paced():
            if lost.is_set():
                break
            number = next(numbers)
            info = client.publish(self.topic, str(number), qos=1)
            numbers_of[info.mid].append(number)
            self.sent += 1
        if not lost.is_set():
            end = time.monotonic() + 30
            while (
                len(acked) < sum(map(len, numbers_of.values()))
                and time.monotonic() < end
                and not lost.is_set()
            ):
                time.sleep(0.02)
        client.disconnect()
        client.loop_stop()
        self.acked |= _answered(numbers_of, acked)


class CompletesAll(_Publisher):
    """QoS 2 with a persistent session: what is not completed is sent again until it is."""

    def __init__(self, port: int, topic: str, per_second: float) -> None:
        """Publish 0, 1, 2, … at a rate."""
        super().__init__(port, topic, per_second)

    def run(self) -> None:
        """One client over all connections; it ends when every handshake is complete."""
        client = KeepsReleases(
            mqtt.CallbackAPIVersion.VERSION2, client_id=self.topic.replace("/", "-"), clean_session=False
        )
        # Without a limit: at a reconnect paho forgets of messages beyond it that they were sent.
        client.max_inflight_messages_set(0)
        client.max_queued_messages_set(0)
        client.reconnect_delay_set(min_delay=1, max_delay=1)
        # The agent may be struck before this thread has begun: then the client connects as it does after any other loss.
        client.connect_async("127.0.0.1", self.port, keepalive=KEEPALIVE_S)
        numbers_of: defaultdict[int, list[int]] = defaultdict(list)
        done: list[int] = []
        client.on_publish = lambda _client, _data, mid, *_: done.append(mid)
        client.loop_start()
        for number, _ in enumerate(self._paced()):
            # While it is disconnected the client queues the message, and says so by an error code that is none.
            numbers_of[client.publish(self.topic, str(number), qos=2).mid].append(number)
            self.sent += 1
        # On a busy machine much has gathered in the client: it has time as long as it gets on.
        seen, end = len(done), time.monotonic() + COMPLETES_S
        while len(done) < self.sent and time.monotonic() < end:
            if len(done) > seen:
                seen, end = len(done), time.monotonic() + COMPLETES_S
            time.sleep(0.02)
        self.acked = _answered(numbers_of, done)
        client.disconnect()
        client.loop_stop()


class Posts(_Publisher):
    """HTTP line protocol, a few lines a request; what is not answered 204 is given up."""

    def __init__(self, port: int, device: str, per_second: float) -> None:
        """Post 0, 1, 2, … at a rate of requests."""
        super().__init__(port, f"load/{device}/n", per_second)

    def run(self) -> None:
        """One connection, opened anew after each loss."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        for _ in self._paced():
            numbers = range(self.sent, self.sent + LINES)
            body = "\n".join(f"n,site=load,device={self.device} value={number}i" for number in numbers)
            self.sent += LINES
            try:
                link.request("POST", "/write", body)
                answer = link.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                link.close()
                self._end.wait(0.02)
                continue
            if answer.status == http.client.NO_CONTENT:
                self.acked.update(numbers)
        link.close()


class Groups(_Publisher):
    """TCP line protocol with `ACK`; lines beyond the last `OK` of a lost connection are given up."""

    def __init__(self, port: int, device: str, per_second: float) -> None:
        """Write 0, 1, 2, … at a rate of lines."""
        super().__init__(port, f"load/{device}/n", per_second)

    def run(self) -> None:
        """One connection after the other."""
        while not self._end.is_set():
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as link:
                    self._session(link)
            except OSError:
                self._end.wait(0.02)

    def _session(self, link: socket.socket) -> None:
        link.sendall(b"ACK\n")
        first = self.sent
        answers = link.makefile("rb")
        for _ in self._paced():
            link.sendall(f"n,site=load,device={self.device} value={self.sent}i\n".encode())
            self.sent += 1
            settled = answers.readline().split()
            if settled[:1] != [b"OK"]:
                return
            self.acked.update(range(first, first + int(settled[1])))
