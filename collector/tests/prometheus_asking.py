"""Asks the Prometheus API as Grafana does."""

from typing import Any
from urllib.parse import urlencode

from running import Running

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


async def ask(api: Running, path: str, status: int = 200, **pairs: Any) -> dict[str, Any]:
    """Ask by GET and by POST, which must answer the same, and return the answer."""
    flat = [(name.replace("match", "match[]"), one) for name, some in pairs.items() for one in _many(some)]
    found = []
    for method in ("GET", "POST"):
        if method == "POST" and path.partition("/")[0] in {"label", "metadata", "status", "rules", "alerts"}:
            continue
        body = urlencode(flat)
        async with api.client.request(
            method,
            f"/prometheus/api/v1/{path}" + (f"?{body}" if method == "GET" else ""),
            data=body if method == "POST" else None,
            headers=FORM if method == "POST" else None,
        ) as answer:
            assert answer.status == status, await answer.text()
            assert answer.content_type == "application/json"
            found.append(await answer.json())
    assert all(one == found[0] for one in found)
    return dict(found[0])


def _many(value: Any) -> list[str]:
    return [str(one) for one in (value if isinstance(value, list) else [value])]
