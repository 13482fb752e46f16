"""Remote care in one session: frames to and from what care/links.py understands, with the limits of link.proto checked.

What it has to send waits here until the session writes: the newest configuration alone, and requests, of which links.py bounds how
many are under way.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from telemetryx.care.links import Guest, Links, Part
from telemetryx.store.care import MAX_REASON, ConfigState, Kind, Phase, Request
from telemetryx.wire._pb2 import link_pb2 as pb

_PHASES: Final = {
    pb.CONFIG_NONE: Phase.NONE,
    pb.CONFIG_TRIAL: Phase.TRIAL,
    pb.CONFIG_APPLIED: Phase.APPLIED,
    pb.CONFIG_FAILED: Phase.FAILED,
    pb.CONFIG_DECLINED: Phase.DECLINED,
}
_MOST: Final = (1 << 63) - 1
DIGEST: Final = 32


class Tending:
    """One session's part in remote care. `wake` tells the session that there is something to write."""

    def __init__(self, links: Links, agent: str, session: int, wake: asyncio.Event) -> None:
        """Belong to the session of this number in the log."""
        self._links = links
        self._agent = agent
        self._session = session
        self._wake = wake
        self._requests = False
        self._config: tuple[int, str, bytes] | None = None
        self._asked: list[pb.Request] = []
        self._guest: Guest | None = None

    def enter(self, hello: pb.Hello, labels: Mapping[str, str]) -> None:
        """Begin, once the agent was greeted."""
        self._requests = hello.requests
        said = self._read(hello.config) if hello.HasField("config") else None
        if said is None:
            said = ConfigState(self._agent, self._session, phase=Phase.UNSUPPORTED, requests=hello.requests)
        self._guest = self._links.enter(self._agent, labels, said, self)

    async def leave(self) -> None:
        """End."""
        if self._guest is not None:
            await self._links.leave(self._guest)

    def state(self, frame: pb.ConfigState) -> None:
        """Take what the agent says of its configuration."""
        if self._guest is None:
            return
        said = self._read(frame)
        if said is None:
            self._links.reject(self._guest, "malformed", "a state of a configuration that can't be")
        else:
            self._links.said(self._guest, said)

    async def answer(self, frame: pb.Answer) -> None:
        """Take a part of an answer."""
        if self._guest is not None:
            part = Part(frame.id, frame.offset, frame.data, frame.done, text(frame.error))
            await self._links.answered(self._guest, part)

    # --- what links.py has to say

    def configure(self, version: int, toml: str, digest: bytes) -> None:
        """Send a configuration; one that is still to be sent is out of date."""
        # The text is the same object for all sessions; a frame has its own copy of it, so it is made when it is written.
        self._config = version, toml, digest
        self._wake.set()

    def ask(self, request: Request) -> None:
        """Send a request."""
        frame = pb.Request(id=request.mark)
        if request.kind is Kind.LOG_LEVEL:
            frame.log_level.CopyFrom(
                pb.LogLevel(filter=str(request.args["level"]), for_s=int(str(request.args["for_s"])))
            )
        else:
            frame.diagnostics.SetInParent()
        self._asked.append(frame)
        self._wake.set()

    def frames(self) -> list[pb.FromCollector]:
        """Return what is to be sent now."""
        config, self._config = self._config, None
        asked, self._asked = self._asked, []
        out = []
        if config is not None:
            version, toml, digest = config
            out.append(pb.FromCollector(config=pb.PushedConfig(version=version, toml=toml, digest=digest)))
        return out + [pb.FromCollector(request=one) for one in asked]

    def written(self) -> None:
        """Hear that what `frames` gave is written."""
        if self._guest is not None and self._config is None:
            self._links.written(self._guest)

    def _read(self, frame: pb.ConfigState) -> ConfigState | None:
        """Read a state; None for one that can't be."""
        phase = _PHASES.get(frame.phase)
        if (
            phase is None
            or max(frame.version, frame.in_force) > _MOST
            or len(frame.digest) not in {0, DIGEST}
            or (frame.version != 0 and not frame.digest)
        ):
            return None
        return ConfigState(
            self._agent,
            self._session,
            frame.version,
            frame.digest if frame.version else b"",
            phase,
            text(frame.reason),
            frame.in_force,
            frame.at_ns,
            self._requests,
        )


def text(said: str) -> str:
    """Keep an agent's words for a person: not too many of them, and without what no database takes."""
    return said[:MAX_REASON].replace("\0", "\ufffd")
