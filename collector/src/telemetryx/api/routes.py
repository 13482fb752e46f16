"""Every endpoint of the API, in the order of the documentation."""

from typing import Final

from telemetryx.api import openapi
from telemetryx.api.rest import agents, alerts, collector, events, quarantine, series
from telemetryx.api.route import Route
from telemetryx.api.session import LOGIN

ROUTES: Final[tuple[Route, ...]] = (
    *agents.ROUTES,
    *series.ROUTES,
    *events.ROUTES,
    *alerts.ROUTES,
    *quarantine.ROUTES,
    *collector.ROUTES,
    LOGIN,
)


def document() -> dict[str, object]:
    """Describe them as OpenAPI."""
    return openapi.document(ROUTES)
