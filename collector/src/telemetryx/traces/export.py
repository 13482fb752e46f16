"""The exporter's task: takes spans in groups and posts them until the receiver has them, or has had its time.

Nobody waits for it. While a receiver is away, one group is tried again, what comes meanwhile fills the tracer's room, and then
spans are dropped and counted.
"""

import asyncio
import contextlib
import random
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import structlog

from telemetryx.errors import unread
from telemetryx.traces.tracer import Span, Tracer

log = structlog.get_logger(__name__)

PATH: Final = "/v1/traces"
#: How long spans wait for company.
EVERY_S: Final = 2.0
#: Spans of one message.
GROUP: Final = 512
#: All tries of one group.
PATIENCE_S: Final = 60.0
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 15.0
#: What is left at the end has so long altogether.
LAST_S: Final = 3.0
MAX_ANSWER: Final = 64 << 10
MAX_FILE: Final = 64 << 10
_LATER: Final = frozenset({429, 502, 503, 504})


class TargetError(Exception):
    """What a receiver is to be shown can't be used; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where spans go, and what is shown there."""

    endpoint: str
    token_file: Path | None = None
    headers_file: Path | None = None
    ca_file: Path | None = None
    timeout_s: float = 10.0

    @property
    def url(self) -> str:
        """Return the address of the service."""
        return self.endpoint.rstrip("/") + PATH

    def headers(self) -> dict[str, str]:
        """Read what the files say. Raises TargetError."""
        found: dict[str, str] = {}
        for number, line in enumerate(_private(self.headers_file).splitlines(), 1):
            if not line.strip():
                continue
            name, colon, value = line.partition(":")
            if not (colon and name.strip().isascii() and value.strip().isprintable()):
                # The line itself may be a secret.
                raise TargetError(f"headers_file {self.headers_file}: line {number} is no `Name: value`")
            found[name.strip()] = value.strip()
        if self.token_file is not None:
            token = _private(self.token_file).strip()
            if not token or not token.isascii() or not token.isprintable():
                raise TargetError(f"token_file {self.token_file} must hold one token: ASCII, on one line")
            found["Authorization"] = f"Bearer {token}"
        found["Content-Type"] = "application/x-protobuf"
        return found

    def tls(self) -> ssl.SSLContext | bool:
        """Return whom to trust. Raises TargetError."""
        if self.ca_file is None:
            return True
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise TargetError(f"ca_file {self.ca_file} can't be used: {error}") from error


def _private(path: Path | None) -> str:
    """Read a file with secrets, which only its owner (or root's group) may read."""
    if path is None:
        return ""
    try:
        with path.open("rb") as file:
            mode, owner = path.stat().st_mode, path.stat().st_uid
            text = file.read(MAX_FILE).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TargetError(f"{path} can't be read: {unread(error)}") from error
    if mode & (0o037 if owner == 0 else 0o077):
        raise TargetError(f"{path} can be read by others: chmod 600 {path}")
    return text


class _Later(Exception):  # noqa: N818 - carries what to do next
    """Not taken now."""

    def __init__(self, why: str, after_s: float | None = None) -> None:
        super().__init__(why)
        self.after_s = after_s


class _Never(Exception):  # noqa: N818 - carries what to do next
    """Not taken, whatever is tried."""


class Exporter:
    """Exports what a tracer keeps; app.py runs run() as a task."""

    def __init__(self, tracer: Tracer, target: Target, resource: Mapping[str, str]) -> None:
        """Take the target; `resource` says whose spans these are."""
        self._tracer = tracer
        self._target = target
        self._resource = dict(resource)
        self.trouble = ""

    async def run(self, stop: asyncio.Event) -> None:
        """Export until `stop` is set, and then give what is left a last chance."""
        # Without a cookie jar: a receiver has no business to keep state here.
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            while not stop.is_set():
                await _within(EVERY_S, stop)
                while not stop.is_set() and (spans := self._tracer.take(GROUP)):
                    await self._deliver(session, spans, stop)
            await self._last(session)

    async def _last(self, session: aiohttp.ClientSession) -> None:
        until = asyncio.get_running_loop().time() + LAST_S
        while spans := self._tracer.take(GROUP):
            try:
                async with asyncio.timeout_at(until):
                    await self._once(session, spans)
            except (_Later, _Never, TimeoutError) as error:
                self._told(str(error) or "no answer in time")
                self._tracer.dropped += len(spans)
                self._tracer.dropped += len(self._tracer.take(self._tracer.waiting))

    async def _deliver(
        self, session: aiohttp.ClientSession, spans: Sequence[Span], stop: asyncio.Event
    ) -> None:
        """Post a group until it is taken, refused or too old."""
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + PATIENCE_S, FIRST_PAUSE_S
        arrived = False
        try:
            while True:
                try:
                    await self._once(session, spans)
                    arrived = True
                    self._told("")
                except _Never as error:
                    self._told(str(error))
                except _Later as later:
                    self._told(str(later))
                    jitter = random.uniform(0.5, 1.0)  # noqa: S311 - jitter is no secret
                    wait = pause * jitter if later.after_s is None else later.after_s
                    pause = min(2 * pause, LONGEST_PAUSE_S)
                    if not stop.is_set() and loop.time() + wait < until:
                        await _within(wait, stop)
                        continue
                return
        finally:
            # Also when the task is cancelled: nothing is neither exported nor counted.
            if not arrived:
                self._tracer.dropped += len(spans)

    async def _once(self, session: aiohttp.ClientSession, spans: Sequence[Span]) -> None:
        """Try once. Raises _Later or _Never."""
        from telemetryx.traces import otlp  # noqa: PLC0415 - some MB that nobody needs without an endpoint

        try:
            # Read each time: a token that was renewed is used, and one that is missing may come.
            headers, tls = await asyncio.to_thread(lambda: (self._target.headers(), self._target.tls()))
            async with session.post(
                self._target.url,
                data=otlp.request(self._resource, spans),
                headers=headers,
                ssl=tls,
                timeout=aiohttp.ClientTimeout(total=self._target.timeout_s),
                allow_redirects=False,
            ) as answer:
                status, after = answer.status, answer.headers.get("Retry-After", "")
                body = await answer.content.read(MAX_ANSWER)
        except TargetError as error:
            raise _Later(str(error)) from error
        except TimeoutError as error:
            raise _Later(f"no answer within {self._target.timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise _Later(str(error) or type(error).__name__) from error
        if status in _LATER:
            raise _Later(f"the receiver answers {status}", _seconds(after))
        if not 200 <= status < 300:  # noqa: PLR2004 - the class of success
            raise _Never(f"the receiver answers {status}{_HINTS.get(status, '')}")
        lost, why = otlp.rejected(body)
        lost = min(lost, len(spans))
        self._tracer.exported += len(spans) - lost
        self._tracer.dropped += lost
        if lost:
            log.warning("traces.rejected", spans=lost, reason=why)

    def _told(self, trouble: str) -> None:
        """Say it once when it begins, and once when it is over."""
        if trouble and not self.trouble:
            log.warning("traces.not_exported", endpoint=self._target.endpoint, reason=trouble)
        elif self.trouble and not trouble:
            log.info("traces.exported_again", endpoint=self._target.endpoint)
        self.trouble = trouble


_HINTS: Final = {
    401: ": give its token with token_file, or its headers with headers_file",
    403: ": give its token with token_file, or its headers with headers_file",
    404: ": is this the base address of an OTLP/HTTP receiver, port 4318?",
    405: ": is this the base address of an OTLP/HTTP receiver, port 4318?",
}


def _seconds(text: str) -> float | None:
    return min(float(text), PATIENCE_S) if text.isascii() and text.isdigit() and len(text) < 7 else None  # noqa: PLR2004


async def _within(seconds: float, event: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
