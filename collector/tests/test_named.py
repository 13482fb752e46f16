"""The files that a configuration names are looked at beforehand, each with the key that names it."""

import os
from pathlib import Path

import pytest

from certificates import make_ca
from telemetryx import config, named

TOKEN = "tx_0123456789abcdef0123"
SECRETS = ("api.tokens", "agents.tokens", "client", "otel", "headers", "db", "redis", "broker", "hook")


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    """Give a folder with all that the configuration names."""
    make_ca(tmp_path)
    for name in SECRETS:
        path = tmp_path / name
        path.touch(mode=0o600)
        path.write_text(f"X-Key: {TOKEN}\n" if name == "headers" else f"{TOKEN}\n")
    (tmp_path / "rules.yaml").write_text("rules: []\n")
    return tmp_path


def problems(folder: Path) -> list[str]:
    """What is found in a configuration that names a file at every key that can."""
    pair = f'tls_cert_file = "{folder}/server.pem"\ntls_key_file = "{folder}/server.key"\n'
    broker = f'cert_file = "{folder}/server.pem"\nkey_file = "{folder}/server.key"\n'
    text = f"""
[api]
listen = "0.0.0.0:8420"
token_file = "{folder}/api.tokens"
{pair}
[api.oidc]
issuer = "https://login.example"
client_id = "tx"
client_secret_file = "{folder}/client"
ca_file = "{folder}/ca.pem"
viewers = ["*"]
[gateway]
token_file = "{folder}/agents.tokens"
{pair}
[gateway.mqtt]
url = "mqtts://broker.example"
user = "tx"
password_file = "{folder}/broker"
ca_file = "{folder}/ca.pem"
{broker}
[store]
url = "postgresql://tx@db.example/tx?sslmode=verify-full"
password_file = "{folder}/db"
[hot]
url = "rediss://redis.example"
password_file = "{folder}/redis"
ca_file = "{folder}/ca.pem"
[rules]
files = ["{folder}/rules.yaml"]
[[notify.webhook]]
url = "https://hook.example"
token_file = "{folder}/hook"
[tracing]
endpoint = "https://otel.example"
token_file = "{folder}/otel"
headers_file = "{folder}/headers"
ca_file = "{folder}/ca.pem"
"""
    return named.problems(config.parse(text, "collector.toml"))


def test_nothing_is_said_of_files_that_are_as_they_must_be(folder: Path) -> None:
    """At every key that names one."""
    assert problems(folder) == []


@pytest.mark.parametrize("name", [*SECRETS, "server.pem", "server.key", "ca.pem"])
def test_a_file_that_is_not_there_is_named_with_its_table_and_key(folder: Path, name: str) -> None:
    """Once for each key, and not again by what would read it."""
    (folder / name).unlink()
    said = problems(folder)
    assert said
    assert all(one.startswith("[") for one in said), said
    assert all(
        one.endswith(f"_file: {folder}/{name} can't be read: No such file or directory") for one in said
    )


def test_a_pipe_and_a_folder_are_no_files_and_nobody_waits_for_one(folder: Path) -> None:
    """A pipe would wait for who writes to it."""
    (folder / "hook").unlink()
    os.mkfifo(folder / "hook")
    (folder / "db").unlink()
    (folder / "db").mkdir()
    (folder / "broker").write_text("")
    assert sorted(problems(folder)) == [
        f"[gateway.mqtt] password_file: {folder}/broker is empty",
        f"[notify.webhook.1] token_file: {folder}/hook is no file",
        f"[store] password_file: {folder}/db is no file",
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("ca.pem", "[agent]\n", "holds no certificate in PEM"),
        ("server.key", "nonsense\n", "can't be used with"),
        ("api.tokens", "short\n", "at least 16 are needed"),
        ("agents.tokens", "a b c\n", "this one has 3 words"),
        ("headers", "no header\n", "is no `Name: value`"),
        ("otel", "two\nlines\n", "must hold one token"),
        ("client", "\n", "is empty"),
        ("rules.yaml", "rules: 7\n", "the rules can't be used"),
    ],
)
def test_what_a_file_holds_is_judged_by_what_reads_it(
    folder: Path, name: str, content: str, said: str
) -> None:
    """As at the collector's start, or when the file is first needed; each time all of it is named."""
    (folder / name).write_text(content)
    found = problems(folder)
    assert found
    assert all(said in one for one in found), found


@pytest.mark.parametrize("name", ["api.tokens", "agents.tokens", "client", "otel", "headers"])
def test_a_secret_that_others_can_read_is_told_where_the_collector_refuses_it(
    folder: Path, name: str
) -> None:
    """With what to do."""
    (folder / name).chmod(0o644)
    (found,) = problems(folder)
    assert "can be read by others" in found
    assert f"chmod 600 {folder}/{name}" in found
