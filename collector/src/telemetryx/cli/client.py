"""Asks a collector over its HTTP API, and turns its refusals into errors with a remedy."""

import json
import os
import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.text import printable, shortened
from telemetryx.cli.words import told
from telemetryx.errors import unread

if TYPE_CHECKING:
    # With TLS and e-mail's headers, a sixth of what a command's start takes: only those that ask a collector need it.
    import http.client

DEFAULT_URL: Final = "http://127.0.0.1:8420"
TIMEOUT_S: Final = 60.0
#: An answer over it isn't ours.
MAX_ANSWER: Final = 512 << 20
#: The header in which an answer that isn't JSON says what its `warnings` would.
WARNING: Final = "Telemetryx-Warning"
_PIECE: Final = 64 << 10
#: Paths whose commands take --config too.
_STRAIGHT: Final = re.compile(r"/(enroll|configs|requests)(/|$)|/agents/[^/]+/(log-level|diagnostics)$")

_ITS_FORM: Final = "it holds one line, a token as `telemetryx token create` printed it"

Value = str | int | float | None
Params = Mapping[str, Value | Sequence[Value]]


class Asked(Protocol):
    """What answers to paths of the API: a collector, or on its machine its own endpoints over its store (straight.py)."""

    def get(self, path: str, params: Params | None = None) -> dict[str, Any]:
        """GET a path under /api/v1 and return its JSON."""
        ...

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Have something done: a method other than GET, with a JSON body where it takes one."""
        ...

    def pieces(self, path: str) -> Iterator[bytes]:
        """GET a path under /api/v1 and give its content piece by piece, however long it is."""
        ...


@dataclass(frozen=True, slots=True)
class Client:
    """Where the collector is and how to show who asks."""

    url: str
    token: str | None = None
    ca_file: Path | None = None

    def get(self, path: str, params: Params | None = None) -> dict[str, Any]:
        """GET a path under /api/v1 and return its JSON."""
        return self._answer(path, *self._ask(_target(path, params)))

    def pieces(
        self, path: str, params: Params | None = None, warned: Callable[[str], None] | None = None
    ) -> Iterator[bytes]:
        """GET a path under /api/v1 and give its content piece by piece, however long it is; `warned` is told what isn't in it."""
        import http.client

        with self._asked(_target(path, params)) as answer:
            if answer.status != HTTPStatus.OK:
                self._answer(path, answer.status, answer.read(MAX_ANSWER))
            if warned is not None:
                for warning in answer.headers.get_all(WARNING, ()):
                    warned(printable(warning))
            while True:
                try:
                    piece = answer.read(_PIECE)
                except (OSError, http.client.HTTPException) as error:
                    raise CliError(
                        f"{self.url} broke off in the middle: {str(error) or type(error).__name__}",
                        "the collector's log has the cause; try again",
                        Exit.REFUSED,
                    ) from error
                if not piece:
                    return
                yield piece

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Have something done: a method other than GET, with a JSON body where it takes one."""
        status, answer = self._ask(f"/api/v1{path}", method, body)
        return self._answer(path, status, answer)

    def _ask(
        self, target: str, method: str = "GET", body: Mapping[str, Any] | None = None
    ) -> tuple[int, bytes]:
        with self._asked(target, method, body) as answer:
            return answer.status, answer.read(MAX_ANSWER)

    @contextmanager
    def _asked(
        self, target: str, method: str = "GET", body: Mapping[str, Any] | None = None
    ) -> Iterator["http.client.HTTPResponse"]:
        import http.client
        import ssl

        place = Place.of(self.url)
        connection = self._connection(place)
        headers = {"Accept": "application/json", "User-Agent": "telemetryx-cli"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        content = None
        if body is not None:
            content, headers["Content-Type"] = json.dumps(body), "application/json"
        try:
            connection.request(method, place.path + target, content, headers)
            yield connection.getresponse()
        except ssl.SSLCertVerificationError as error:
            raise CliError(
                f"the certificate of {self.url} isn't trusted: {error.verify_message}",
                "give its authority with --ca-file",
                Exit.UNREACHABLE,
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise CliError(
                f"no collector answers at {self.url}: {getattr(error, 'strerror', None) or error}",
                self._instead(error),
                Exit.UNREACHABLE,
            ) from error
        finally:
            connection.close()

    def _instead(self, error: Exception) -> str:
        """Say what to do when nothing of a collector's came back."""
        import http.client
        import ssl

        if isinstance(error, ssl.SSLError):
            return "what answers there speaks no TLS: is it an address with http://, or another port?"
        if isinstance(error, http.client.RemoteDisconnected | http.client.BadStatusLine):
            # The agents' port, or a console that speaks TLS.
            tls = "" if self.url.lower().startswith("https") else "does it speak TLS (write https://)? "
            return f"{tls}Is it the console's port, `listen` in [api], and not the agents'?"
        return "start one with `telemetryx collector`, or name another with --url or TELEMETRYX_URL"

    def _connection(self, place: "Place") -> "http.client.HTTPConnection":
        import http.client
        import ssl

        if place.scheme == "http":
            return http.client.HTTPConnection(place.host, place.port, timeout=TIMEOUT_S)
        try:
            context = ssl.create_default_context(cafile=None if self.ca_file is None else str(self.ca_file))
        except ssl.SSLError as error:
            raise CliError(
                f"--ca-file {self.ca_file} holds no certificate",
                "it is the authority's, in PEM: data_dir/ca/ca.pem on the collector's machine",
                Exit.USAGE,
            ) from error
        except OSError as error:
            raise CliError(
                f"--ca-file {self.ca_file} can't be read: {error.strerror or error}",
                "it is data_dir/ca/ca.pem on the collector's machine: copy that file",
                Exit.USAGE,
            ) from error
        return http.client.HTTPSConnection(place.host, place.port, timeout=TIMEOUT_S, context=context)

    def _answer(self, path: str, status: int, body: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(body)
        except ValueError as error:
            raise CliError(
                f"{self.url} answers {status} with something that is no JSON",
                "is this a TelemetryX collector?",
                Exit.UNREACHABLE,
            ) from error
        if status == HTTPStatus.OK and isinstance(answer, dict):
            return answer
        said = answer.get("error", {}) if isinstance(answer, dict) else {}
        message, hint = str(said.get("message", f"the collector answers {status}")), str(said.get("hint", ""))
        if status == HTTPStatus.UNAUTHORIZED:
            hint = f"give {'another' if self.token else 'a'} token with --token-file or TELEMETRYX_TOKEN_FILE"
            if _STRAIGHT.match(path):
                hint += ", or on the collector's machine its configuration with --config"
        raise refused(path, status, message, hint)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a collector is asked, as an address says it."""

    scheme: str
    host: str
    port: int | None
    path: str

    @classmethod
    def of(cls, url: str) -> "Place":
        """Take an address apart. Raises CliError for what is none; a password in it isn't repeated."""
        why = "is not a collector's address"
        try:
            parts = urllib.parse.urlsplit(url)
            host, port = parts.hostname or "", parts.port
            if "@" in parts.netloc:
                raise CliError(
                    "--url holds a user or a password",
                    "write the address alone, and give a token with --token-file",
                    Exit.USAGE,
                )
            host.encode("idna")
        except ValueError as error:
            said = str(error)
            port, host, parts = None, "", urllib.parse.SplitResult("", "", "", "", "")
            why += "" if "codec" in said else f": {said}"
        known = parts.scheme in {"http", "https"} and not parts.query and not parts.fragment
        if not known or not host or not f"{host}{parts.path}".isprintable() or " " in f"{host}{parts.path}":
            raise CliError(f"--url {shortened(url)!r} {why}", f"write e.g. {DEFAULT_URL}", Exit.USAGE)
        return cls(parts.scheme, host, port, urllib.parse.quote(parts.path.rstrip("/"), safe="/%"))


def refused(path: str, status: int, message: str, hint: str) -> CliError:
    """Say an endpoint's refusal as a command's failure."""
    code = Exit.USAGE if status == HTTPStatus.BAD_REQUEST else Exit.REFUSED
    if status == HTTPStatus.NOT_FOUND:
        code = Exit.NO
    return CliError(printable(told(path, message)), printable(told(path, hint)), code)


def _target(path: str, params: Params | None) -> str:
    """Write a path under /api/v1 with its parameters."""
    pairs: list[tuple[str, str]] = []
    for name, value in (params or {}).items():
        values = value if isinstance(value, list | tuple) else [value]
        pairs += [(name, str(item)) for item in values if item is not None]
    return f"/api/v1{path}" + (f"?{urllib.parse.urlencode(pairs)}" if pairs else "")


def read_token(path: Path | None) -> str | None:
    """Read the first token of a token file, past the name that may stand before it (api/auth.py reads the same files)."""
    if path is None:
        return _sendable(os.environ.get("TELEMETRYX_TOKEN", "").strip(), "TELEMETRYX_TOKEN") or None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(
            f"--token-file {path} can't be read: {unread(error)}", _ITS_FORM, Exit.USAGE
        ) from error
    for line in lines:
        if words := line.partition("#")[0].split():
            return _sendable(words[-1], f"--token-file {path}")
    raise CliError(f"--token-file {path} holds no token", "`telemetryx token new` makes one", Exit.USAGE)


def _sendable(token: str, source: str) -> str:
    """Refuse what can't stand in a request's header; it isn't repeated."""
    if not token.isascii() or not token.isprintable() or " " in token:
        raise CliError(f"{source} holds something that is no token", _ITS_FORM, Exit.USAGE)
    return token
