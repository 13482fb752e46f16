"""One message as a webhook: the JSON that Prometheus's Alertmanager sends (version 4), with our fields beside it.

Whatever accepts Alertmanager's webhook accepts this. `telemetryx` in each alert has what that form can't say: the state in
our words, when it was detected, whether its data came late. The same message is sent byte for byte at each attempt, under one
`Idempotency-Key`, so a receiver that keeps keys acts on it once.
"""

import asyncio
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import orjson

from telemetryx import __version__
from telemetryx.errors import unread
from telemetryx.store.alerts import OPEN, Alert, Delivery
from telemetryx.traces.context import trace_id

#: What is read of an answer, for the error message.
_ANSWER: Final = 300
_TOKEN_BYTES: Final = 64 << 10
#: Answers that a later attempt may change; other refusals are final.
_PASSING: Final = frozenset({408, 409, 421, 423, 425, 429})
_NEVER: Final = "0001-01-01T00:00:00Z"


class SendError(Exception):
    """A message didn't arrive. `final`: no attempt will do better. `after_ns`: the receiver asked for this pause."""

    def __init__(self, message: str, *, final: bool = False, after_ns: int = 0) -> None:
        """Keep what to do about it."""
        super().__init__(message)
        self.final = final
        self.after_ns = after_ns


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """Where to post, and how."""

    name: str
    url: str = field(repr=False)
    token_file: Path | None = None
    timeout_ns: int = 10_000_000_000

    @classmethod
    def of(
        cls, url: str, token_file: Path | None = None, timeout_ns: int = 10_000_000_000
    ) -> "WebhookTarget":
        """Name a target after its host and a digest of its URL: stable over restarts, and no secret of the URL is shown."""
        host = urlsplit(url).netloc.rpartition("@")[2]
        return cls(f"{host}#{hashlib.sha256(url.encode()).hexdigest()[:6]}", url, token_file, timeout_ns)


class Webhook:
    """Posts messages to one address. The session is the caller's, who closes it."""

    def __init__(self, target: WebhookTarget, session: aiohttp.ClientSession, external_url: str = "") -> None:
        """Take the target; `external_url` is where people reach the console."""
        self._target = target
        self._session = session
        self._external_url = external_url

    @property
    def name(self) -> str:
        """Return the receiver's name in the outbox."""
        return self._target.name

    async def send(self, delivery: Delivery, traceparent: str = "") -> None:
        """Post one message, or raise SendError. The receiver may go on with the trace."""
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"TelemetryX/{__version__}",
            "Idempotency-Key": delivery.key,
        }
        if traceparent:
            headers["traceparent"] = traceparent
        token = await asyncio.to_thread(self._token)
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        body = orjson.dumps(message(self.name, delivery, self._external_url))
        timeout = aiohttp.ClientTimeout(total=self._target.timeout_ns / 1e9)
        try:
            async with self._session.post(
                self._target.url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                if 200 <= answer.status < 300:  # noqa: PLR2004 - the class of success
                    return
                text = (await answer.content.read(_ANSWER)).decode("utf-8", "replace")
                raise SendError(
                    f"webhook {self.name} answered {answer.status} {text!r}; look at the receiver and at url, token_file in [[notify.webhook]]",
                    final=answer.status < 500 and answer.status not in _PASSING,  # noqa: PLR2004
                    after_ns=_retry_after(answer.headers),
                )
        except TimeoutError as error:
            raise SendError(
                f"webhook {self.name} didn't answer within {self._target.timeout_ns / 1e9:g} s; is it up? `timeout` can be raised"
            ) from error
        except aiohttp.InvalidURL as error:
            raise SendError(
                f"webhook {self.name}: its url can't be used; correct it in [[notify.webhook]]", final=True
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise SendError(f"webhook {self.name} can't be reached: {error}") from error

    def _token(self) -> str | None:
        """Read the token anew each time, so that a changed file needs no restart."""
        path = self._target.token_file
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                text = file.read(_TOKEN_BYTES).decode("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SendError(
                f"webhook {self.name}: token_file {path} can't be read: {unread(error)}"
            ) from error
        if not text or not text.isprintable() or not text.isascii():
            raise SendError(f"webhook {self.name}: token_file {path} must hold one token: ASCII, on one line")
        return text


def message(receiver: str, delivery: Delivery, external_url: str = "") -> dict[str, Any]:
    """Write a message in Alertmanager's form, version 4."""
    alerts = [_alert(alert, external_url) for alert in delivery.alerts]
    firing = any(alert["status"] == "firing" for alert in alerts)
    return {
        "version": "4",
        "groupKey": f"telemetryx/{receiver}",
        "truncatedAlerts": delivery.omitted,
        "status": "firing" if firing else "resolved",
        "receiver": receiver,
        "groupLabels": {},
        "commonLabels": _common([alert["labels"] for alert in alerts]),
        "commonAnnotations": _common([alert["annotations"] for alert in alerts]),
        "externalURL": external_url,
        "alerts": alerts,
        "telemetryx": {
            "key": delivery.key,
            "created_at": _time(delivery.created_ns),
            "late": sum(alert.late for alert in delivery.alerts),
        },
    }


def fingerprint(alert: Alert) -> str:
    """Name what the alert is about: all alerts of one rule and group share it, as Alertmanager expects."""
    return hashlib.sha256(f"{alert.rule}\0{alert.group}".encode()).hexdigest()[:16]


def _alert(alert: Alert, external_url: str) -> dict[str, Any]:
    firing = alert.state in OPEN
    if firing:
        ends = _NEVER
    else:
        ends = _time(alert.resolved_ns if alert.resolved_ns is not None else alert.changed_ns)
    annotations = {"summary": alert.summary, **alert.annotations}
    return {
        "status": "firing" if firing else "resolved",
        "labels": {**alert.labels, "alertname": alert.rule, "severity": alert.severity},
        "annotations": annotations,
        "startsAt": _time(alert.started_ns),
        "endsAt": ends,
        "generatorURL": f"{external_url}/alerts/{alert.id}" if external_url else "",
        "fingerprint": fingerprint(alert),
        "telemetryx": {
            "id": alert.id,
            "state": str(alert.state),
            "value": alert.value if alert.value is None or math.isfinite(alert.value) else str(alert.value),
            "threshold": alert.threshold,
            "fired_at": None if alert.fired_ns is None else _time(alert.fired_ns),
            "detected_at": _time(alert.detected_ns),
            "late": alert.late,
            "revision": alert.revision,
            **({"trace_id": trace} if (trace := trace_id(alert.trace)) else {}),
        },
    }


def _common(parts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return what all have alike."""
    if not parts:
        return {}
    return {
        key: value for key, value in parts[0].items() if all(part.get(key) == value for part in parts[1:])
    }


def _time(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"


def _retry_after(headers: Mapping[str, str]) -> int:
    text = headers.get("Retry-After", "")
    return int(text) * 1_000_000_000 if text.isascii() and text.isdigit() and len(text) < 7 else 0  # noqa: PLR2004
