"""/api/v1/audit: who changed what, for admins."""

from typing import Any, Final

from telemetryx.api import models
from telemetryx.api.route import Route
from telemetryx.api.span import ordered
from telemetryx.api.world import World
from telemetryx.store.accounts import Role
from telemetryx.store.audit import Audited, AuditQuery


async def audit(world: World, params: models.AuditParams) -> dict[str, Any]:
    """Return a page of entries, newest first."""
    ordered(params.start, params.end)
    wanted = AuditQuery(
        params.actor, params.action, params.target, params.start, params.end, params.before, params.limit + 1
    )
    rows = await world.store.audited(wanted)
    page = rows[: params.limit]
    return {"audit": [shown(one) for one in page], "next": page[-1].id if len(rows) > len(page) else None}


def shown(one: Audited) -> dict[str, Any]:
    """Return an entry as the API has it."""
    return {
        "id": one.id,
        "at_ns": one.at_ns,
        "actor": one.actor.name,
        "via": one.actor.via,
        "peer": one.actor.peer,
        "action": one.action,
        "target": one.target,
        "before": one.before,
        "after": one.after,
    }


ROUTES: Final = (
    Route(
        "GET",
        "/api/v1/audit",
        audit,
        models.AuditAnswer,
        "Read the audit log",
        "accounts",
        Role.ADMIN,
        models.AuditParams,
    ),
)
