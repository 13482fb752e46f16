"""The OpenID provider of the collector's own tests, on a port of its own, for a real collector and a real browser."""

import asyncio
import sys
import threading
from typing import Self

from aiohttp import web

from tests.harness.processes import free_port
from tests.harness.stack import ROOT

sys.path.append(str(ROOT / "collector/tests"))

from oidc_provider import CLIENT, SECRET, Provider

__all__ = ["CLIENT", "SECRET", "Running"]


class Running:
    """A provider in a thread."""

    def __init__(self) -> None:
        """Choose a port."""
        self.port = free_port()
        # Another site than the collector's 127.0.0.1, as in the field: what browsers keep from other sites is kept from it.
        self.provider = Provider().called(f"http://localhost:{self.port}")
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        runner = web.AppRunner(self.provider.app())
        self._loop.run_until_complete(runner.setup())
        self._loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", self.port).start())
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
