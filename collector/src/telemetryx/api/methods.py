"""Which methods a path takes: what tells "there is nothing here" from "not by this method", for every endpoint alike.

Two routes take every path that no endpoint has (the console's files, and all else under /prometheus); to the router a wrong
method is one of those. So it is looked up here again, without them, when a request has failed: by then the guard has let its sender pass.
"""

from typing import Final

from aiohttp import web

REST: Final = "/{path}"
"""How the routes end, as the router writes them, that take what no endpoint has."""


async def taken(request: web.Request) -> frozenset[str]:
    """Return the methods of the endpoints at a request's path; none when there is no endpoint."""
    found: set[str] = set()
    for resource in request.app.router.resources():
        if not resource.canonical.endswith(REST):
            _, methods = await resource.resolve(request)
            found |= methods
    return frozenset(found)
