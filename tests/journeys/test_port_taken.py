"""A port that another program holds: the agent says so, goes on with the rest, and takes the port when it is free."""

import socket
import subprocess

from tests.harness import Stack, until


def test_an_input_comes_up_when_the_port_it_wants_is_free_at_last(stack: Stack) -> None:
    """Another broker still runs when the agent starts; nobody restarts the agent after it was stopped."""
    collector = stack.collector()
    agent = stack.agent(collector, start=False)
    with socket.create_server(("127.0.0.1", agent.mqtt)), socket.create_server(("127.0.0.1", agent.tcp)):
        agent.start(wait=False)
        until("the agent takes HTTP", lambda: agent.write("m,device=x v=1") == 204)
        told = until("it says what is missing", lambda: _errors(agent.status()))
        assert set(told) == {"mqtt", "tcp"}
        assert f"127.0.0.1:{agent.mqtt}" in told["mqtt"]
        assert "stop the other" in told["mqtt"]
    publish = [
        "mosquitto_pub",
        "-p",
        str(agent.mqtt),
        "-q",
        "1",
        "-t",
        "plant1/pump7/temperature",
        "-m",
        "21.5",
    ]
    until(
        "a publish is taken",
        lambda: subprocess.run(publish, check=False, capture_output=True).returncode == 0,
    )
    until("both inputs are well", lambda: not _errors(agent.status()))
    agent.wait_drained()
    assert collector.values('temperature{site="plant1",device="pump7"}') == [[21.5]]


def _errors(status: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    found = {one["name"]: one["error"] for one in status["inputs"] if one["error"]}
    return found if len(found) != 1 else {}
