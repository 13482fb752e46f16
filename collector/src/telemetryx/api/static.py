"""Serves the console's files: read once at start, gzipped once, with ETag, exact types and a strict content policy.

The folder is ours and small, so all of it is kept in memory; a request never touches the file system, and so can't
leave the folder.
"""

import gzip
import hashlib
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from telemetryx.api.errors import Handler
from telemetryx.api.methods import taken

TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".webmanifest": "application/manifest+json",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}
#: Files over it are an accident in the folder.
MAX_FILE: Final = 4 << 20
#: Below it gzip saves no packet.
MIN_GZIP: Final = 1_000
#: uPlot and lit-html set element styles from script, which needs no permission; uPlot's legend has inline style attributes.
POLICY: Final = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
HSTS: Final = "max-age=31536000"
"""A year, renewed with every answer. It holds for all ports of this name, so it doesn't also say so for names below it."""
_HASHED: Final = re.compile(r"[.-][0-9a-f]{8,64}\.")
_PLACEHOLDER: Final = (
    b"<!doctype html><html lang=en><meta charset=utf-8><title>TelemetryX</title><h1>TelemetryX collector</h1>"
    b"<p>This build has no console. The API is described at <a href=/openapi.json>/openapi.json</a>.</p></html>"
)


@dataclass(frozen=True, slots=True)
class File:
    """One file as it is sent."""

    body: bytes
    zipped: bytes | None
    content_type: str
    etag: str
    cache: str


class Static:
    """The folder in memory. Paths that look like a page (no extension) get index.html, so that links into the console work."""

    def __init__(self, folder: Path) -> None:
        """Read the folder; without one, a page says so."""
        self.files: Mapping[str, File] = _read(folder)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer GET and HEAD of any path that no endpoint has."""
        path = request.path.lstrip("/")
        file = self.files.get(path)
        page = file is None and not PurePosixPath(path).suffix and not path.startswith("api/")
        # An endpoint that doesn't take this method is no page.
        if page and not await taken(request):
            file = self.files["index.html"]
        if file is None:
            raise web.HTTPNotFound
        headers = {"ETag": f'"{file.etag}"', "Cache-Control": file.cache, "Vary": "Accept-Encoding"}
        if any(tag.value in {file.etag, "*"} for tag in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        body = file.body
        if file.zipped is not None and "gzip" in request.headers.get("Accept-Encoding", ""):
            body, headers["Content-Encoding"] = file.zipped, "gzip"
        return web.Response(body=body, headers={**headers, "Content-Type": file.content_type})


def secure_headers(*, hsts: bool) -> Middleware:
    """Set on every answer what keeps browsers from guessing, framing and leaking; with `hsts` also from coming without TLS."""

    @web.middleware
    async def headers(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if not response.prepared:
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
            response.headers.setdefault("Content-Security-Policy", POLICY)
            if request.path.startswith("/api/"):
                response.headers.setdefault("Cache-Control", "no-store")
            if hsts and _named(request.host):
                response.headers["Strict-Transport-Security"] = HSTS
        return response

    return headers


def _named(host: str) -> bool:
    """Tell whether a browser would keep it for this host, and may: not for addresses, nor for all that runs on a developer's localhost."""
    name = host.rpartition("]")[0].strip("[") or host.partition(":")[0]
    if name == "localhost" or name.endswith(".localhost"):
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return True
    return False


def _read(folder: Path) -> dict[str, File]:
    files: dict[str, File] = {}
    if folder.is_dir():
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.suffix in TYPES and path.is_file() and path.stat().st_size <= MAX_FILE:
                files[name] = _file(name, path.read_bytes())
    files.setdefault("index.html", _file("index.html", _PLACEHOLDER))
    return files


def _file(name: str, body: bytes) -> File:
    immutable = _HASHED.search(PurePosixPath(name).name) is not None or name.startswith("vendor/")
    zipped = gzip.compress(body, 9, mtime=0) if len(body) >= MIN_GZIP else None
    return File(
        body=body,
        zipped=zipped if zipped is not None and len(zipped) < len(body) else None,
        content_type=TYPES[PurePosixPath(name).suffix],
        etag=hashlib.sha256(body).hexdigest()[:32],
        cache="public, max-age=31536000, immutable" if immutable else "no-cache",
    )
