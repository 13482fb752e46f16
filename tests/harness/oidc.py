"""The OpenID provider of the collector's own tests, on a port of its own, for a real collector and a real browser."""

import asyncio
import ssl
import sys
import threading
from pathlib import Path
from typing import Self

from aiohttp import web

from tests.harness.certificates import authority, signed
from tests.harness.processes import free_port
from tests.harness.stack import ROOT

sys.path.append(str(ROOT / "collector/tests"))

from oidc_provider import CLIENT, SECRET, Provider

__all__ = ["CLIENT", "SECRET", "Running"]


class Running:
    """A provider in a thread."""

    def __init__(self, folder: Path | None = None) -> None:
        """Choose a port. With a folder it speaks TLS, with a certificate of an authority of its own that is kept there."""
        self.port = free_port()
        self.authority: Path | None = None
        self._tls: ssl.SSLContext | None = None
        if folder is not None:
            folder.mkdir(parents=True)
            self.authority, key = authority(folder, "provider")
            self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._tls.load_cert_chain(*signed(folder, (self.authority, key)))
        # Another site than the collector's 127.0.0.1, as in the field: what browsers keep from other sites is kept from it.
        self.provider = Provider().called(f"http{'' if folder is None else 's'}://localhost:{self.port}")
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        runner = web.AppRunner(self.provider.app())
        self._loop.run_until_complete(runner.setup())
        self._loop.run_until_complete(
            web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=self._tls).start()
        )
        self._loop.call_soon(self._up.set)
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        assert self._up.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
