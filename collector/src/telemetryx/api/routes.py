"""Every endpoint of the API, in the order of the documentation."""

from typing import Final

from telemetryx.api import openapi, session
from telemetryx.api.rest import (
    agents,
    aggregate,
    alerts,
    audit,
    care,
    collector,
    enroll,
    events,
    quarantine,
    series,
    silences,
    tokens,
    users,
)
from telemetryx.api.route import Route

ROUTES: Final[tuple[Route, ...]] = (
    *agents.ROUTES,
    *series.ROUTES,
    *aggregate.ROUTES,
    *events.ROUTES,
    *alerts.ROUTES,
    *silences.ROUTES,
    *quarantine.ROUTES,
    *enroll.ROUTES,
    *care.ROUTES,
    *collector.ROUTES,
    *session.ROUTES,
    *users.ROUTES,
    *tokens.ROUTES,
    *audit.ROUTES,
)


def document() -> dict[str, object]:
    """Describe them as OpenAPI."""
    return openapi.document(ROUTES)
