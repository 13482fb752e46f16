"""All open alerts, however many, a page at a time."""

from collections.abc import AsyncIterator
from typing import Any, Final

from telemetryx.api.world import Judge

PAGE: Final = 1_000


async def open_alerts(judge: Judge) -> AsyncIterator[list[dict[str, Any]]]:
    """Give the open alerts in the API's shape, newest start first, in pages of 1,000. One that opens or ends meanwhile may be left out."""
    before: tuple[int, int] | None = None
    while page := await judge.alerts("open", before=before, limit=PAGE):
        yield page
        if len(page) < PAGE:
            return
        before = page[-1]["started_ns"], page[-1]["id"]
