"""Lists that are longer than one answer: the command line goes on from the answer's place."""

import json
from typing import Any, cast

import pytest

from telemetryx.cli import listing, quarantine
from telemetryx.cli.client import Client
from telemetryx.cli.output import Format


class Fleet:
    """Answers /agents as the API does: at most 1,000 rows, behind a name."""

    def __init__(self, count: int) -> None:
        """Have so many agents."""
        self.names = [f"a{number:05d}" for number in range(count)]
        self.asked: list[dict[str, Any]] = []

    def get(self, path: str, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page."""
        assert path == "/agents"
        assert params["limit"] <= 1_000
        self.asked.append(params)
        left = [name for name in self.names if name > params.get("after", "")]
        page = left[: params["limit"]]
        counts = {"live": len(self.names), "catching_up": 0, "silent": 0}
        more = page[-1] if len(page) < len(left) else None
        return {
            "agents": [{"name": name} for name in page],
            "total": len(self.names),
            "counts": counts,
            "next": more,
        }


def listed(fleet: Fleet, limit: int, capsys: pytest.CaptureFixture[str], how: Format) -> tuple[str, str]:
    """Print the list; return what stands on stdout and stderr."""
    listing.agents(cast("Client", fleet), {"sort": "rate", "limit": limit}, how)
    told = capsys.readouterr()
    return told.out, told.err


def test_a_fleet_over_a_thousand_is_listed_page_by_page(capsys: pytest.CaptureFixture[str]) -> None:
    """As one list, up to --limit; JSON says where it goes on."""
    fleet = Fleet(2_500)
    out, err = listed(fleet, 100_000, capsys, Format.NDJSON)
    assert [json.loads(row)["name"] for row in out.splitlines()] == fleet.names
    assert [one.get("after") for one in fleet.asked] == [None, "a00999", "a01999"]
    assert err == ""
    out, err = listed(fleet, 1_500, capsys, Format.JSON)
    assert (len(json.loads(out)["agents"]), json.loads(out)["next"]) == (1_500, "a01499")
    _, err = listed(fleet, 3, capsys, Format.NDJSON)
    assert "there are 2,500, 3 are shown" in err


class Numbered:
    """Answers /series and /quarantine as the API does: at most 1,000 rows, behind an id."""

    def get(self, path: str, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page."""
        assert params["limit"] <= 1_000
        first = params.get("after", 0) + 1
        page = list(range(first, min(first + params["limit"], 2_501)))
        row = {"name": "m", "labels": {}, "agent": "a", "unit": "", "latest": None}
        more = page[-1] if page[-1] < 2_500 else None
        return {path[1:]: [{"id": number, **row} for number in page], "total": 2_500, "next": more}


@pytest.mark.parametrize("show", [listing.series, quarantine.ls])
def test_series_and_batches_kept_apart_are_listed_page_by_page(
    show: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """More than the API gives at once, and what is left is told."""
    show(cast("Client", Numbered()), {"limit": 2_100}, Format.NDJSON)
    told = capsys.readouterr()
    assert [json.loads(row)["id"] for row in told.out.splitlines()] == list(range(1, 2_101))
    assert "there are 2,500, 2,100 are shown" in told.err
    assert "up to 100000" in told.err
