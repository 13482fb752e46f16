"""What agents say of their spans is shown; what is no number hurts nobody."""

from dataclasses import replace

import pytest

from telemetryx.api.gather import spans_of
from telemetryx.fleet import Agent, AgentState

AGENT = Agent("edge", AgentState.LIVE, "1", True, 0, 0, 0, 0, 0, 0.0, 0.0, 0, 0, 0, {})


def test_an_agent_that_traces_has_its_spans_counted() -> None:
    """By what became of them; one that doesn't trace has none."""
    said = '{"tracing":{"exported":4,"dropped":1,"waiting":2,"trouble":""}}'
    found = spans_of(replace(AGENT, status_json=said))
    assert found == [(("edge", "exported"), 4.0), (("edge", "dropped"), 1.0)]
    assert spans_of(AGENT) == spans_of(replace(AGENT, status_json='{"tracing":null}')) == []


@pytest.mark.parametrize(
    "said",
    [
        '{"tracing":{',
        '["tracing":{}]',
        '{"tracing":{}}',
        '{"tracing":{"exported":"4","dropped":null}}',
        '[{"tracing":{}}]',
        '{"tracing":{"a":' + "[" * 60_000 + "}}",
        '{"tracing":{"exported":1e999,"dropped":[]}}',
    ],
)
def test_anything_else_is_passed_over(said: str) -> None:
    """Also what nests deeper than a reader can follow."""
    assert spans_of(replace(AGENT, status_json=said)) == []
