"""What is wrong with a body is said in the API's own words, the same on every door."""

import json
from typing import Any

import pytest

from api.test_live import connect
from running import Running


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("[]", "the body: it must be an object"),
        ("5", "the body: it must be an object"),
        ("{", "the body is no JSON"),
        ('{"match": {"site": "s"}}', "field 'match': it must be a text"),
        ('{"match": "m", "comment": 5}', "field 'comment': it must be a text (got '5')"),
        ('{"match": "m", "comment": ["x"]}', "field 'comment': it must be a text"),
        ('{"matc": "m"}', "there is no field 'matc'; did you mean 'match'?"),
    ],
)
async def test_a_wrong_silence_is_told_what_each_field_must_be(api: Running, body: str, said: str) -> None:
    """In no words of a library's."""
    async with api.client.post(
        "/api/v1/silences", data=body, headers={"Content-Type": "application/json"}
    ) as answer:
        assert answer.status == 400
        found = (await answer.json())["error"]["message"]
    assert found.startswith(said)
    assert "Input" not in found


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"subscribe": {}, "max_hz": 10}, "field 'max_hz': it must be at most 4 (got '10')"),
        ({"subscribe": 1}, "field 'subscribe': it must be an object (got '1')"),
        (
            {"subscribe": {"agents": "perhaps"}},
            "field 'subscribe.agents': it must be true or false (got 'perhaps')",
        ),
        ({"subscribe": {"series": ["a"]}}, "field 'subscribe.series.0': it must be a whole number (got 'a')"),
        ({"subscribe": {"series": "a"}}, "field 'subscribe.series': it must be a list (got 'a')"),
        ({"subscribe": {"series": [1] * 1_001}}, "field 'subscribe.series': it has more than 1000 items"),
        (
            {"subscribe": {"matches": "x"}},
            "there is no field 'subscribe.matches'; did you mean 'subscribe.match'?",
        ),
        ([], "the message: it must be an object"),
        ({}, "field 'subscribe' is missing"),
    ],
)
async def test_a_wrong_subscription_is_told_so_in_the_same_words(
    api: Running, message: Any, said: str
) -> None:
    """A live client reads what one of REST does."""
    stream = await connect(api)
    await stream.socket.send_str(json.dumps(message))
    assert (await stream.hear("error"))["error"]["message"] == said
