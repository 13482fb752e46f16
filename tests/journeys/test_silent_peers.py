"""A peer that takes connections and says nothing, no TLS either: whoever waits for it gives up and says so, and comes again."""

import base64
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Agent, Stack, until
from tests.harness.certificates import authority
from tests.harness.stack import AGENT


class Silent:
    """A listener that accepts and never answers; it holds what it accepted."""

    def __init__(self) -> None:
        """Listen."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.accepted: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                self.accepted.append(self._listener.accept()[0])
            except OSError:
                return

    def close(self) -> None:
        """Stop listening, and end what is open."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(30)
        for one in self.accepted:
            one.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    """Give one."""
    made = Silent()
    yield made
    made.close()


def trusting(stack: Stack, folder: Path, uplink: str, extra: str = "") -> Agent:
    """Give a running agent with this [uplink], a token and an authority to trust."""
    token = folder / "token"
    token.write_text("the-token-of-this-site\n")
    token.chmod(0o600)
    authority(folder, "ca")
    agent = stack.agent(stack.collector(start=False), start=False, extra=extra)
    head, found, rest = agent.config.read_text().partition("[uplink]\n")
    assert found
    _url, _, rest = rest.partition("\n")
    keys = f'token_file = "{token}"\nca_file = "{folder / "ca.pem"}"\nconnect_timeout = 1\n'
    agent.config.write_text(f"{head}{found}{uplink}\n{keys}{rest}")
    agent.start()
    return agent


@pytest.mark.parametrize("scheme", ["http", "https", "mqtt", "mqtts"])
@pytest.mark.waits(seconds=20)
def test_an_uplink_gives_a_silent_peer_up_and_tries_again(
    stack: Stack, silent: Silent, tmp_path: Path, scheme: str
) -> None:
    """Over gRPC and a broker, with TLS and without: each attempt ends, status says why, and the doctor ends too."""
    agent = trusting(stack, tmp_path, f'url = "{scheme}://127.0.0.1:{silent.port}"')
    until("it has tried three times", lambda: len(silent.accepted) >= 3, 120)
    until("status says why", lambda: agent.status()["link"]["last_error"] != "")
    said = subprocess.run(
        [AGENT, "doctor", "--json", "--config", agent.config],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    problems = [one["check"] for one in json.loads(said.stdout)["findings"] if one["level"] == "problem"]
    assert said.returncode == 1
    assert {"tls", "session"} & set(problems), problems


@pytest.mark.parametrize("scheme", ["mqtt", "mqtts"])
@pytest.mark.waits(seconds=20)
def test_a_broker_that_says_nothing_is_given_up_by_the_input(
    stack: Stack, silent: Silent, tmp_path: Path, scheme: str
) -> None:
    """The MQTT client input comes again, and other inputs go on meanwhile."""
    authority(tmp_path, "ca")
    section = f'[[input.mqtt_client]]\nurl = "{scheme}://127.0.0.1:{silent.port}"\ntopics = ["a/#"]\n'
    if scheme == "mqtts":
        section += f'ca_file = "{tmp_path / "ca.pem"}"\n'
    agent = stack.agent(stack.collector(start=False), extra=section)
    until("it has tried twice", lambda: len(silent.accepted) >= 2, 120)
    assert agent.write("m v=1") == 204


@pytest.mark.waits(seconds=40)
def test_joining_a_silent_collector_ends_with_a_sentence(stack: Stack, silent: Silent) -> None:
    """Nothing is left half: the host can join another one."""
    agent = stack.agent(stack.collector(start=False), start=False)
    part = base64.urlsafe_b64encode(bytes(32)).decode().rstrip("=")
    said = subprocess.run(
        [AGENT, "enroll", f"https://127.0.0.1:{silent.port}", "--token", f"txe1.{part}.{part}", "--config", agent.config],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert said.returncode == 1
    assert "no answer within 30 s" in said.stderr
