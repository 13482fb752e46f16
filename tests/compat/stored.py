"""Looks at everything one agent has brought into the store, and waits until enough of it is there."""

from typing import Any

from tests.harness import Agent, Collector, until


def series(collector: Collector) -> list[dict[str, Any]]:
    """Return every series of the agent with each raw sample."""
    known = collector.get("/api/v1/series", agent="edge", limit=1000)["series"]
    if not known:
        return []
    answer = collector.get(
        "/api/v1/query_range",
        series=[one["id"] for one in known],
        start="0",
        end="now",
        agg="raw",
        max_points=100_000,
    )
    assert not answer["truncated"]
    return list(answer["series"])


def events(collector: Collector) -> list[dict[str, Any]]:
    """Return every event of the agent."""
    return list(collector.get("/api/v1/events", agent="edge", start="0", end="now")["events"])


def arrived(agent: Agent, collector: Collector, samples: int, texts: int = 0) -> None:
    """Wait until so many samples and events are stored, and until nothing is left that would make them more."""

    def enough() -> bool:
        found = sum(len(one["values"]) for one in series(collector))
        return found >= samples and len(events(collector)) >= texts

    until(f"{samples} samples and {texts} events in the store", enough)
    agent.wait_drained()
