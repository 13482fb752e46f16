"""Which keys may be pushed: the agent's list and the collector's are one, by a file that both languages read."""

import json
from pathlib import Path

import pytest

from telemetryx.care.check import check
from telemetryx.store.care import CareRefused

VECTORS = json.loads((Path(__file__).parents[3] / "proto/vectors/pushed-keys.json").read_text("utf-8"))


@pytest.mark.parametrize("text", VECTORS["texts"], ids=lambda text: text["toml"].replace("\n", " ")[:60])
def test_the_collector_and_the_agent_refuse_the_same_keys(text: dict[str, object]) -> None:
    """Each refusal names them; the agent's test is in crates/agent/src/remote/allowed.rs."""
    refused = text["refused"]
    assert isinstance(refused, list)
    if not refused:
        check(str(text["toml"]))
        return
    with pytest.raises(CareRefused) as said:
        check(str(text["toml"]))
    sentence = str(said.value).removeprefix("a pushed configuration may not set ")
    named = {part.partition(":")[0] for part in sentence.split("; ")}
    assert set(refused) <= named


def test_there_are_enough_of_them() -> None:
    """A file that lost its lines would test nothing."""
    assert len(VECTORS["texts"]) > 40
