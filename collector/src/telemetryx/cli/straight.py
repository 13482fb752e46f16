"""Remote care without a login, on the collector's machine: the API's own endpoints, run here on its store.

What is pushed, taken back or asked for is a row there, as it is when the API does it; a running collector, or several, look each
second, and whoever has an agent's session sends it. So these ask for no door into that process, and wait for its answer in the store.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from telemetryx.cli import direct
from telemetryx.cli.client import Params, refused

if TYPE_CHECKING:
    from telemetryx.api.route import Route
    from telemetryx.care.service import Care
    from telemetryx.store.audit import Actor

PREFIX: Final = "/api/v1"
ANSWER: Final = re.compile(r"/requests/(\d+)/answer")


@dataclass(frozen=True, slots=True)
class _Here:
    """Who sits at this command line."""

    def actor(self) -> "Actor":
        """Name them for the audit log."""
        return direct.actor()


@dataclass(frozen=True, slots=True)
class _World:
    """What the endpoints use."""

    care: "Care"
    caller: _Here


@dataclass(frozen=True, slots=True)
class Straight:
    """Answers to paths of the API from the store of a configuration. Each call has a connection of its own: people take minutes."""

    config: Path

    def get(self, path: str, params: Params | None = None) -> dict[str, Any]:
        """Run a GET of a path under /api/v1."""
        return self._run("GET", path, params or {}, None)

    def send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Run a method other than GET."""
        return self._run(method, path, {}, body or {})

    def pieces(self, path: str) -> Iterator[bytes]:
        """Give an answer piece by piece, as the store keeps it."""
        found = ANSWER.fullmatch(path)
        if found is None:
            raise LookupError(f"nothing under {path} comes in pieces")
        with direct.care(self.config) as care:
            after = 0
            while (piece := direct.done(care.piece(int(found[1]), after))) is not None:
                yield piece[1]
                after = piece[0] + len(piece[1])

    def _run(self, method: str, path: str, params: Params, body: Mapping[str, Any] | None) -> dict[str, Any]:
        from telemetryx.api.errors import ApiError
        from telemetryx.api.route import body_of, params_of

        route, raw = _route(method, path)
        now = time.time_ns()
        raw |= {name: value for name, value in params.items() if value is not None}
        try:
            arguments = [params_of(route.params, raw, now)]
            if route.body is not None:
                arguments.append(body_of(route.body, json.dumps(body).encode(), now))
            with direct.care(self.config) as care:
                answer = direct.done(_answer(route, _World(care, _Here()), *arguments))
        except ApiError as error:
            raise refused(path, error.status, error.message, error.hint) from error
        if not isinstance(answer, dict):
            raise TypeError(f"{method} {path} answers with {answer!r}")
        return answer


async def _answer(route: "Route", *arguments: object) -> object:
    return await route.handler(*arguments)


def _route(method: str, path: str) -> "tuple[Route, dict[str, Any]]":
    """Find an endpoint of remote care, and what the path says."""
    from telemetryx.api.rest.care import ROUTES

    for route in ROUTES:
        parts = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", route.path)
        if route.method == method and (found := re.fullmatch(parts, PREFIX + path)):
            return route, {name: unquote(value) for name, value in found.groupdict().items()}
    raise LookupError(f"remote care has no {method} {path}")
