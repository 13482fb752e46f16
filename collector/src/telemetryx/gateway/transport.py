"""What a session needs of whatever carries its frames: gRPC (call.py) or a site's broker (conversation.py).

Credit, acknowledgements, refusals and holdings are session.py's and know nothing of this; here is only how a frame comes
and goes, and how the other side is told that it can't stay.
"""

from typing import Final, Protocol

from telemetryx.wire._pb2 import link_pb2 as pb

FRAME_ROOM: Final = 2 << 20
"""Of a frame beside its payload, in bytes: definitions, the rest of it, the seal of an envelope."""


class LinkBroken(Exception):  # noqa: N818 - named after what happened
    """A frame can't be written or read any more: the other side is gone. What it wasn't told it will ask for again."""


class Transport(Protocol):
    """One agent's frames, in order."""

    @property
    def carrier(self) -> str:
        """What carries the frames: `grpc` or `mqtt`."""
        ...

    @property
    def peer(self) -> str:
        """Who it is, for the connection log: `ipv4:10.0.0.7:50312`, `mqtt:broker.site:8883`."""
        ...

    @property
    def ending(self) -> str:
        """Why it ended, empty while it goes on."""
        ...

    @property
    def answers_status(self) -> bool:
        """Whether each status is answered with an Ack, because nothing below it notices that we are gone."""
        ...

    async def read(self) -> pb.FromAgent | None:
        """Return the next frame, None when the agent ended the session; raises LinkBroken."""
        ...

    async def write(self, frame: pb.FromCollector) -> None:
        """Send a frame; waits while the other side is slow, raises LinkBroken."""
        ...
