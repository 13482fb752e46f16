"""One connection to a site's broker: a paho client from its first byte to its end.

Its callbacks run in paho's thread and only pass on what they got; everything else happens on the event loop. A connection
has a client of its own because paho sends anew what an old one left over, into sessions that are long ended.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from telemetryx.gateway.address import Address
from telemetryx.gateway.login import Login, Retained
from telemetryx.gateway.transport import LinkBroken

log = structlog.get_logger(__name__)

KEEPALIVE_S: Final = 20
OPEN_TIMEOUT_S: Final = 20.0
"""From the first byte to the broker's word that we are subscribed."""
ANSWER_TIMEOUT_S: Final = 30.0
CHECK_S: Final = 60.0
"""So often the broker is asked for an answer: paho's thread could have died, or the broker be a wreck that takes bytes."""
STOP_S: Final = 5.0
IN_FLIGHT: Final = 1_000
QUEUED: Final = 20_000
"""Publishes that wait for the broker. Each session has one at a time, so this is never reached by honest work."""
REFUSED: Final = 0x80
"""From here on, reason codes of SUBACK are refusals."""


class Connection:
    """`open()`, then `stay()` until it ends; `close()` in any case."""

    def __init__(
        self,
        address: Address,
        login: Login,
        topics: Sequence[str],
        presence: Retained,
        received: Callable[[str, bytes], None],
    ) -> None:
        """Make the client; raises OSError when a file can't be read. `received` is called in paho's thread."""
        self._loop = asyncio.get_running_loop()
        self._address = address
        self._topics = topics
        self._presence = presence
        self._received = received
        self._answer: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._unacked: dict[int, asyncio.Future[None]] = {}
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=login.client_id,
            clean_session=True,
            reconnect_on_failure=False,
        )
        client.max_inflight_messages_set(IN_FLIGHT)
        client.max_queued_messages_set(QUEUED)
        client.will_set(presence.topic, presence.offline, qos=1, retain=True)
        if login.user is not None:
            client.username_pw_set(login.user, login.password())
        if address.tls:
            client.tls_set_context(login.tls())
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message

    async def open(self) -> None:
        """Connect and subscribe, then show that we are there. Raises LinkBroken with the reason."""
        try:
            await asyncio.to_thread(self._client.connect, self._address.host, self._address.port, KEEPALIVE_S)
        except (OSError, ValueError) as error:
            raise LinkBroken(f"{type(error).__name__}: {error}") from error
        self._client.loop_start()
        if not await self._answered(OPEN_TIMEOUT_S):
            raise LinkBroken(
                self._ended.result() if self._ended.done() else f"no answer within {OPEN_TIMEOUT_S:.0f} s"
            )
        self._client.publish(self._presence.topic, self._presence.online, qos=1, retain=True)

    async def stay(self) -> str:
        """Return when it ended, and why."""
        while not self._ended.done():
            await asyncio.wait({self._ended}, timeout=CHECK_S)
            self._answer = self._loop.create_future()
            self._subscribe()
            if not await self._answered(ANSWER_TIMEOUT_S) and not self._ended.done():
                return f"it has answered nothing for {ANSWER_TIMEOUT_S:.0f} s"
        return self._ended.result()

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Give the broker a message and return when it has it. Raises LinkBroken."""
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise LinkBroken(f"the broker takes nothing more: {paho.error_string(info.rc)}")
        done = self._unacked[info.mid] = self._loop.create_future()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await done
        except TimeoutError:
            raise LinkBroken(
                f"the broker did not acknowledge a frame within {ANSWER_TIMEOUT_S:.0f} s"
            ) from None
        finally:
            self._unacked.pop(info.mid, None)

    async def close(self) -> None:
        """End it and its thread."""
        for done in self._unacked.values():
            if not done.done():
                done.set_exception(LinkBroken("the broker is gone"))
        self._client.disconnect()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await asyncio.to_thread(self._client.loop_stop)

    async def _answered(self, seconds: float) -> bool:
        """Wait for an answer, the end, or so long."""
        waiting: set[asyncio.Future[Any]] = {self._answer, self._ended}
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return self._answer.done()

    def _subscribe(self) -> None:
        self._client.subscribe([(topic, 1) for topic in self._topics])

    # --- on the loop, called from the thread

    def _subscribed(self) -> None:
        if not self._answer.done():
            self._answer.set_result(None)

    def _end(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)

    def _taken(self, mid: int) -> None:
        """Note a PUBACK. It can't overtake `publish`, which notes the number in the same step of the loop."""
        done = self._unacked.get(mid)
        if done is not None and not done.done():
            done.set_result(None)

    # --- in paho's thread; its types of these arguments differ by protocol version

    def _on_connect(self, _client: paho.Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:  # noqa: ANN401
        if code.is_failure:
            self._loop.call_soon_threadsafe(self._end, f"it refuses us: {code}")
        else:
            self._subscribe()

    def _on_subscribe(
        self,
        _client: paho.Client,
        _data: Any,  # noqa: ANN401
        _mid: int,
        codes: Any,  # noqa: ANN401
        _properties: Any,  # noqa: ANN401
    ) -> None:
        if any(code.value >= REFUSED for code in codes):
            topics = " and ".join(self._topics)
            self._loop.call_soon_threadsafe(
                self._end, f"it does not let us subscribe to {topics}: allow it in the broker's ACL"
            )
        else:
            self._loop.call_soon_threadsafe(self._subscribed)

    def _on_disconnect(
        self,
        _client: paho.Client,
        _data: Any,  # noqa: ANN401
        _flags: Any,  # noqa: ANN401
        code: Any,  # noqa: ANN401
        _properties: Any,  # noqa: ANN401
    ) -> None:
        self._loop.call_soon_threadsafe(self._end, f"the connection ended: {code}")

    def _on_publish(self, _client: paho.Client, _data: Any, mid: int, _code: Any, _properties: Any) -> None:  # noqa: ANN401
        self._loop.call_soon_threadsafe(self._taken, mid)

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:  # noqa: ANN401
        try:
            self._received(message.topic, bytes(message.payload))
        except Exception:
            # It would end paho's thread, and with it every session.
            log.exception("gateway.message_failed")
