"""How the door says no: what was wrong, and over gRPC the status code; `come back later` is the RetryInfo of google.rpc."""

from typing import Any, Final, NoReturn

import grpc
from google.protobuf import any_pb2, duration_pb2

DETAILS: Final = "grpc-status-details-bin"
CAUSE: Final = "telemetryx-cause"
"""The word for a refusal for good, for the agent's doctor: a sentence may change."""
_LENGTH_DELIMITED: Final = 2


class TurnedAway(Exception):  # noqa: N818 - named after what happened
    """An agent can't have a session. `cause` is a word for metrics; `after_ms` says when to come back, 0: as it is, never."""

    def __init__(self, cause: str, message: str, after_ms: int = 0) -> None:
        """Keep word and time beside the sentence."""
        super().__init__(message)
        self.cause = cause
        self.after_ms = after_ms


def _field(number: int, data: bytes) -> bytes:
    size, out = len(data), bytearray([number << 3 | _LENGTH_DELIMITED])
    while size > 0x7F:  # noqa: PLR2004 - a varint's seven bits
        out.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes(out) + bytes([size]) + data


def retry_info(code: int, message: str, after_ms: int) -> bytes:
    """Write google.rpc.Status with a RetryInfo inside (two messages; not worth a dependency)."""
    delay = duration_pb2.Duration(seconds=after_ms // 1000, nanos=after_ms % 1000 * 1_000_000)
    detail = any_pb2.Any(
        type_url="type.googleapis.com/google.rpc.RetryInfo", value=_field(1, delay.SerializeToString())
    )
    return bytes([1 << 3, code]) + _field(2, message.encode()) + _field(3, detail.SerializeToString())


async def later(context: "grpc.aio.ServicerContext[Any, Any]", message: str, after_ms: int) -> NoReturn:
    """End the call with UNAVAILABLE and when to come back."""
    code = grpc.StatusCode.UNAVAILABLE
    details = retry_info(code.value[0], message, after_ms)
    await context.abort(code, message, trailing_metadata=((DETAILS, details),))
    raise AssertionError("abort raises")


async def never(
    context: "grpc.aio.ServicerContext[Any, Any]", code: grpc.StatusCode, message: str, cause: str
) -> NoReturn:
    """End the call for good."""
    await context.abort(code, message, trailing_metadata=((CAUSE, cause),))
    raise AssertionError("abort raises")
