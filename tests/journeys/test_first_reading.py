"""The main job: a reading goes from a sensor to where the operator reads it."""

import subprocess
import time

from tests.harness import Stack, until


def test_a_line_over_http_is_read_back_through_the_api(stack: Stack) -> None:
    """A line that got 204 is stored with its labels, its field and its own time."""
    collector = stack.collector()
    agent = stack.agent(collector)
    measured = time.time_ns() - 60_000_000_001
    assert agent.write(f"m,site=a v=1 {measured}") == 204
    found = until("the series", lambda: collector.latest('m.v{site="a"}'))
    assert found[0]["agent"] == "edge"
    assert found[0]["latest"] == {"time_ns": measured, "value": 1.0, "special": None}


def test_a_mosquitto_publish_is_read_back_with_site_device_and_metric(stack: Stack) -> None:
    """`mosquitto_pub -q 1 -t plant1/pump7/temperature -m 21.5` needs no configuration."""
    collector = stack.collector()
    agent = stack.agent(collector)
    subprocess.run(
        ["mosquitto_pub", "-p", str(agent.mqtt), "-q", "1", "-t", "plant1/pump7/temperature", "-m", "21.5"],
        check=True,
        timeout=120,
    )
    found = until("the series", lambda: collector.latest('temperature{site="plant1",device="pump7"}'))
    assert found[0]["latest"]["value"] == 21.5
