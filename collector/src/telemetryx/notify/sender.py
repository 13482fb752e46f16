"""Empties the outbox: one task a receiver claims a message, sends it, and tries again until it arrives or is too old.

At least once: a message leaves the store only after the receiver's answer. In order: the next one waits for it. Several
changes that wait go out together, and those of a backlog wait longer for each other, so a storm after an outage is one
digest (store/alerts.py has the times). A message that can't be delivered for a day is given up, counted and shown.
"""

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Final, Protocol

import structlog

from telemetryx.clock import Clock
from telemetryx.errors import StoreError
from telemetryx.notify.backoff import pause_ns
from telemetryx.notify.webhook import SendError
from telemetryx.store.alerts import AlertStore, Delivery
from telemetryx.traces import OFF, Context, Kind, Span, Tracer, parse

#: A message is given up when it is this old.
GIVE_UP_NS: Final = 86_400_000_000_000
#: A refusal that looks final is believed after so many attempts: a proxy on the way may have spoken.
FINAL_ATTEMPTS: Final = 5
#: Alert changes that one message may stand for.
MAX_CHANGES: Final = 1_000
#: Without a wake-up the outbox is asked this often.
POLL_NS: Final = 2_000_000_000

log = structlog.get_logger("telemetryx.notify")


class Receiver(Protocol):
    """Something that messages can be sent to."""

    @property
    def name(self) -> str:
        """Return its name in the outbox."""
        ...

    async def send(self, delivery: Delivery, traceparent: str = "") -> None:
        """Send one message, or raise SendError; `traceparent`: of its trace, where one is sampled."""
        ...


class Sender:
    """Sends what waits for some receivers. app.py runs run() as a task and calls wake() when alerts changed."""

    def __init__(
        self,
        store: AlertStore,
        clock: Clock,
        receivers: Sequence[Receiver],
        random: Random | None = None,
        tracer: Tracer = OFF,
    ) -> None:
        """Take the receivers; without one, run() returns at once."""
        self._tracer = tracer
        self._store = store
        self._clock = clock
        self._receivers = tuple(receivers)
        self._random = random or Random()  # noqa: S311 - it spreads load, it keeps no secret
        self._wakes = [asyncio.Event() for _ in self._receivers]

    @property
    def names(self) -> list[str]:
        """Return the receivers' names, for RulesService."""
        return [receiver.name for receiver in self._receivers]

    def wake(self, *_changed: object) -> None:
        """Say that something may wait."""
        for wake in self._wakes:
            wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Send until `stop` is set; what is under way is finished or kept for the next start."""
        if not self._receivers:
            return
        async with asyncio.TaskGroup() as tasks:
            for receiver, wake in zip(self._receivers, self._wakes, strict=True):
                tasks.create_task(self._serve(receiver, wake, stop), name=f"notify-{receiver.name}")

    async def _serve(self, receiver: Receiver, wake: asyncio.Event, stop: asyncio.Event) -> None:
        while not stop.is_set():
            wake.clear()
            try:
                if await self.send_next(receiver):
                    continue
                due = await self._store.outbox_next(receiver.name)
            except StoreError as error:
                log.warning("notify_waits_for_store", receiver=receiver.name, error=str(error))
                due = None
            wait = POLL_NS if due is None else min(POLL_NS, due - self._clock.now_ns())
            await _either(wake, stop, max(wait, 10_000_000) / 1e9)

    async def send_next(self, receiver: Receiver) -> bool:
        """Send the message that is due for a receiver; False when none is, or when it failed and waits."""
        delivery = await self._store.outbox_claim(receiver.name, self._clock.now_ns(), MAX_CHANGES)
        if delivery is None:
            return False
        contexts = list(dict.fromkeys(filter(None, (parse(alert.trace) for alert in delivery.alerts))))
        span = self._begin(receiver, delivery, contexts)
        traceparent = span.context if span is not None else contexts[0] if contexts else ""
        try:
            await receiver.send(delivery, str(traceparent))
        except SendError as error:
            self._tracer.end(span, failed=str(error))
            await self._failed(delivery, error)
            return False
        self._tracer.end(span)
        await self._store.outbox_done(delivery.id)
        return True

    def _begin(self, receiver: Receiver, delivery: Delivery, contexts: Sequence[Context]) -> Span | None:
        """Begin the span of one attempt: in the first alert's trace, with links to the others'."""
        if not contexts:
            return None
        span = self._tracer.begin(contexts[0], "notify", kind=Kind.CLIENT, links=contexts[1:])
        if span is not None:
            span.attributes |= {
                "telemetryx.receiver": receiver.name,
                "telemetryx.alerts": len(delivery.alerts),
                "telemetryx.attempt": delivery.attempts + 1,
            }
        return span

    async def _failed(self, delivery: Delivery, error: SendError) -> None:
        now = self._clock.now_ns()
        attempts = delivery.attempts + 1
        if now - delivery.created_ns > GIVE_UP_NS or (error.final and attempts >= FINAL_ATTEMPTS):
            log.error(
                "notification_given_up", receiver=delivery.receiver, attempts=attempts, error=str(error)
            )
            await self._store.outbox_drop(delivery.id, str(error))
            return
        pause = pause_ns(attempts, self._random, error.after_ns)
        log.warning(
            "notification_failed",
            receiver=delivery.receiver,
            attempts=attempts,
            retry_in_s=pause / 1e9,
            error=str(error),
        )
        await self._store.outbox_retry(delivery.id, now + pause, str(error))


async def _either(wake: asyncio.Event, stop: asyncio.Event, seconds: float) -> None:
    """Wait for one of two events, at most so long."""
    waits = [asyncio.create_task(event.wait()) for event in (wake, stop)]
    try:
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
