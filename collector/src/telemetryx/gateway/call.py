"""A gRPC call as a session's transport, and the status codes by which it says no."""

import asyncio
from typing import Any, Final, NoReturn

import grpc

from telemetryx.gateway import refusal
from telemetryx.gateway.refusal import TurnedAway
from telemetryx.gateway.transport import LinkBroken
from telemetryx.wire._pb2 import link_pb2 as pb

_END: Final[object] = grpc.aio.EOF  # type: ignore[attr-defined]  # grpc-stubs lack it
_BROKEN: Final = (grpc.RpcError, grpc.aio.UsageError, grpc.aio.InternalError, asyncio.InvalidStateError)
_CODES: Final = {
    "token": grpc.StatusCode.UNAUTHENTICATED,
    "agent": grpc.StatusCode.PERMISSION_DENIED,
    "certificate": grpc.StatusCode.UNAUTHENTICATED,
    "revoked": grpc.StatusCode.PERMISSION_DENIED,
    "hello": grpc.StatusCode.INVALID_ARGUMENT,
    "version": grpc.StatusCode.FAILED_PRECONDITION,
    "silent": grpc.StatusCode.DEADLINE_EXCEEDED,
}


class Call:
    """The frames of one call."""

    carrier = "grpc"
    answers_status = False

    def __init__(self, context: Any) -> None:  # noqa: ANN401 - Context; grpc's class isn't generic at run time
        """Read and write by this context."""
        self._context = context
        self.ending = ""

    @property
    def peer(self) -> str:
        """The other side's address."""
        return str(self._context.peer())

    def certificate(self) -> bytes | None:
        """Return the certificate that the agent showed, PEM; TLS has checked it. None where none was asked for."""
        shown = self._context.auth_context().get("x509_pem_cert")
        return bytes(shown[0]) if shown else None

    async def read(self) -> pb.FromAgent | None:
        """Return the next frame; HTTP/2 keeps the agent back while nobody asks."""
        try:
            message: pb.FromAgent = await self._context.read()
        except _BROKEN as error:
            raise LinkBroken(str(error)) from error
        if message is _END:
            self.ending = "the agent closed it"
            return None
        return message

    async def write(self, frame: pb.FromCollector) -> None:
        """Send a frame."""
        try:
            await self._context.write(frame)
        except _BROKEN as error:
            raise LinkBroken(str(error)) from error

    async def turn_away(self, why: TurnedAway) -> NoReturn:
        """End the call with the status that the refusal means."""
        if why.after_ms:
            await refusal.later(self._context, str(why), why.after_ms)
        await refusal.never(self._context, _CODES[why.cause], str(why), why.cause)
