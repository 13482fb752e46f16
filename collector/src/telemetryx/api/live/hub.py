"""Spreads what was just committed over the live clients. Told by `app.py` after each commit; never waits for anybody."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from telemetryx.api.rest import shapes
from telemetryx.types import Committed


class Listener(Protocol):
    """One live client, as the hub sees it. Its methods return at once."""

    def offer(self, committed: Committed) -> None:
        """Take a commit."""
        ...

    def gap(self, cursor: int) -> None:
        """Hear that some commits before this one were missed."""
        ...

    def tell(self, kind: str, message: dict[str, Any], commit: int = 0) -> None:
        """Take a message to be sent soon, if the client asked for its kind; an event comes with the number of its commit."""
        ...


class Hub:
    """The live clients of this process."""

    def __init__(self) -> None:
        """Begin without clients."""
        self._listeners: set[Listener] = set()
        self.cursor = 0
        self.dropped = 0

    def __len__(self) -> int:
        """Count the clients."""
        return len(self._listeners)

    def join(self, listener: Listener) -> None:
        """Offer it everything from now on."""
        self._listeners.add(listener)

    def leave(self, listener: Listener) -> None:
        """Forget it."""
        self._listeners.discard(listener)

    def committed(self, committed: Committed, _after: int = -1) -> None:
        """Spread a commit: samples at each client's own pace, events soon."""
        self.cursor = max(self.cursor, committed.cursor)
        if not self._listeners:
            return
        for listener in self._listeners:
            listener.offer(committed)
        for message in event_messages(committed):
            for listener in self._listeners:
                listener.tell("event", message, committed.cursor)

    def gap(self, cursor: int) -> None:
        """Say that some commits before this one can't be shown any more one by one."""
        for listener in self._listeners:
            listener.gap(cursor)

    def alerts(self, changed: Sequence[dict[str, Any]]) -> None:
        """Spread alerts that changed."""
        for alert in changed:
            message = {"type": "alert", "alert": alert}
            for listener in self._listeners:
                listener.tell("alert", message)

    def agents(self, message: dict[str, Any]) -> None:
        """Spread a change of the fleet."""
        for listener in self._listeners:
            listener.tell("agents", message)


def event_messages(committed: Committed) -> Iterator[dict[str, Any]]:
    """Make a message of each event of a commit. Its cursor is where one resumes who has heard it: before the commit, but for the last."""
    events = committed.events
    if events is None:
        return
    for at in range(len(events)):
        severity = int(events.severity[at])
        yield {
            "type": "event",
            "cursor": committed.cursor - (at + 1 < len(events)),
            "event": {
                "id": None if events.ids is None else int(events.ids[at]),
                "agent": committed.key.agent,
                "time_ns": int(events.times[at]),
                "severity": shapes.severity_name(severity),
                "severity_number": severity,
                "source": events.source[at],
                "body": events.body[at],
                "attributes": events.attributes[at],
            },
        }
