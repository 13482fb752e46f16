"""A batch that comes in parts, so that fresh batches go in between on a slow link (proto: Part, Taken).

Each session has at most one that isn't whole, no larger than any batch may be.
"""

from google.protobuf.message import DecodeError

from telemetryx.errors import WireError
from telemetryx.gateway.transport import FRAME_ROOM
from telemetryx.wire._pb2 import link_pb2 as pb


class Parts:
    """What came in parts in one session. Parts come in order; offset 0 begins a batch, whatever came of the one before."""

    def __init__(self, max_batch: int) -> None:
        """Take batches of at most so many payload bytes."""
        self._most = max_batch + FRAME_ROOM
        self._came = bytearray()
        self.taken = 0
        """Bytes of all parts so far."""

    def add(self, part: pb.Part) -> pb.Batch | None:
        """Take one; return the batch when it is whole. Raises WireError for what can't be a part of one."""
        if part.size > self._most:
            raise WireError(f"a batch of {part.size} bytes in parts; at most {self._most} are taken")
        if part.offset == 0:
            self._came.clear()
        if part.offset != len(self._came):
            raise WireError(f"a part at {part.offset} came where {len(self._came)} was expected")
        if not part.data or part.offset + len(part.data) > part.size:
            raise WireError(
                f"a part of {len(part.data)} bytes at {part.offset} in a batch of {part.size} bytes"
            )
        self._came += part.data
        self.taken += len(part.data)
        if len(self._came) < part.size:
            return None
        whole, self._came = bytes(self._came), bytearray()
        try:
            return pb.Batch.FromString(whole)
        except DecodeError:
            raise WireError("what came in parts is no batch") from None
