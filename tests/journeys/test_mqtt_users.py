"""Who may use the agent's MQTT port, changed in its file: SIGHUP is enough, and a file that can't be used changes nothing."""

import json
import os
import signal
import subprocess
from queue import Queue

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.harness import Agent, Stack, until
from tests.harness.stack import AGENT

PASSWORD = "a long password"  # noqa: S105 - made up
NOT_AUTHORIZED = 0x87


def _run(*words: object, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [AGENT, *map(str, words)], input=given, capture_output=True, text=True, timeout=60, check=False
    )


def _user(name: str, password_hash: str) -> str:
    return (
        f'[[input.mqtt.user]]\nname = "{name}"\npassword_hash = "{password_hash}"\n'
        'write = ["plant1/%u/#"]\nread = ["plant1/#"]\n'
    )


def _reload(agent: Agent) -> None:
    assert agent.process is not None
    os.kill(agent.process.pid, signal.SIGHUP)


def _connect(agent: Agent, name: str, told: Queue[int]) -> paho.Client:
    """Connect; `told` gets the reason of CONNACK, then that of DISCONNECT."""
    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv5, reconnect_on_failure=False
    )
    client.username_pw_set(name, PASSWORD)
    client.on_connect = lambda *words: told.put(int(words[3].value))
    client.on_disconnect = lambda *words: told.put(int(words[3].value))
    client.connect("127.0.0.1", agent.mqtt)
    client.loop_start()
    return client


def test_a_user_who_is_taken_out_is_cut_at_sighup_and_a_file_that_cannot_be_used_cuts_nobody(
    stack: Stack,
) -> None:
    """The one who stays isn't disturbed; the one who is gone is told why, and doesn't come in again."""
    password_hash = _run("hash-password", given=PASSWORD).stdout.strip()
    agent = stack.agent(stack.collector())
    whole = agent.config.read_text()
    pump, press = _user("pump", password_hash), _user("press", password_hash)
    agent.config.write_text(whole + pump + press)
    assert agent.process is not None
    agent.process.kill()
    agent.start()
    reasons: dict[str, Queue[int]] = {"pump": Queue(), "press": Queue()}
    clients = {name: _connect(agent, name, told) for name, told in reasons.items()}
    assert [told.get(timeout=60) for told in reasons.values()] == [0, 0]

    agent.config.write_text(whole + pump.replace("pbkdf2", "argon"))
    _reload(agent)
    until("the refusal is told", lambda: agent.status()["config"]["refused"] is not None)
    assert all(client.is_connected() for client in clients.values())

    agent.config.write_text(whole + pump)
    _reload(agent)
    assert reasons["press"].get(timeout=60) == NOT_AUTHORIZED
    again = _connect(agent, "press", reasons["press"])
    assert reasons["press"].get(timeout=60) != 0
    sent = clients["pump"].publish("plant1/pump/temperature", "21.5", qos=1)
    sent.wait_for_publish(60)
    assert clients["pump"].is_connected()
    rejects = _run("status", "--rejects", "--config", agent.config).stdout
    assert "its user was taken out or revoked" in rejects, rejects
    for client in (*clients.values(), again):
        client.disconnect()
        client.loop_stop()


def test_a_network_that_needs_no_password_is_warned_of_by_check_status_and_doctor(stack: Stack) -> None:
    """Who opens the port to a network without passwords hears of it wherever they look."""
    agent = stack.agent(stack.collector(), start=False)
    port = f'listen = "127.0.0.1:{agent.mqtt}"\n'
    opened = f'listen = "0.0.0.0:{agent.mqtt}"\nplaintext = true\n'
    agent.config.write_text(agent.config.read_text().replace(port, opened))
    checked = _run("check", "--config", agent.config)
    assert checked.returncode != 0
    assert "anonymous_from" in checked.stderr, checked.stderr
    named = opened + 'anonymous_from = ["10.0.0.0/8"]\n'
    agent.config.write_text(agent.config.read_text().replace(opened, named))
    checked = _run("check", "--config", agent.config)
    assert checked.returncode == 0, checked.stderr
    assert "warning: input.mqtt: anonymous_from lets every host of 10.0.0.0/8 in" in checked.stdout
    assert json.loads(_run("check", "--json", "--config", agent.config).stdout)["warnings"]
    agent.start()
    shown = _run("status", "--config", agent.config).stdout
    assert "WARNING: input.mqtt: anonymous_from" in shown, shown
    assert "anonymous_from" in _run("doctor", "--config", agent.config).stdout
