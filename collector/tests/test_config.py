"""The configuration: what is wrong is said with its line and the nearest key; the reference can't go stale."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ByteSize

from telemetryx import config
from telemetryx.api.times import format_duration
from telemetryx.config import ranges, tables
from telemetryx.documented import attributes

REFERENCE = Path(__file__).parents[2] / "docs/reference/collector-config.md"


def problems(text: str) -> list[str]:
    """Read a text that can't be used."""
    with pytest.raises(config.ConfigError) as caught:
        config.parse(text, "c.toml")
    return caught.value.problems


def test_an_empty_file_gives_the_defaults() -> None:
    """Nothing has to be configured."""
    assert config.parse("", "c.toml") == config.Settings()


def test_the_example_with_every_default_uncommented_gives_the_defaults() -> None:
    """The example says the truth about defaults, and every key in it can be uncommented."""
    lines = config.example().splitlines()
    unset = {
        line.split(" = ")[0][2:]
        for line, told in zip(lines[1:], lines, strict=False)
        if told.endswith("Not set by default.")
    }
    assert {"tls_cert_file", "token_file", "url"} <= unset
    keep = []
    for line in lines:
        bare = line.removeprefix("# ")
        if "[[" in line or "notify" in line:
            break
        if line.startswith("["):
            keep.append(line)
        elif " = " in bare and bare.split(" = ")[0].isidentifier() and bare.split(" = ")[0] not in unset:
            keep.append(bare)
    assert len(keep) > 25
    assert config.parse("\n".join(keep), "example") == config.Settings()


def test_every_key_in_the_example_is_described() -> None:
    """A key without a description teaches nobody."""
    for section in (
        tables.Collector,
        tables.Api,
        tables.Gateway,
        tables.SiteBroker,
        tables.Store,
        tables.Rules,
        tables.Webhook,
    ):
        told = attributes(section)
        for name in section.model_fields:
            assert told.get(name), f"{section.__name__}.{name}"


def test_the_reference_page_is_fresh() -> None:
    """docs/reference/collector-config.md is what `telemetryx config reference --markdown` prints."""
    assert REFERENCE.read_text() == config.reference()


def test_numbers_and_brackets_without_end_are_refused_in_our_words() -> None:
    """Python's own are advice to a programmer, or a traceback."""
    (said,) = problems(f"[api]\nmax_body = {5_000 * '1'}\n")
    assert said == "c.toml: not valid TOML: a number of 5,000 digits (at line 2): nothing takes one"
    (said,) = problems(f"a = {5_000 * '['}{5_000 * ']'}")
    assert "it nests too deep" in said


def test_relative_paths_are_told_but_for_those_within_the_data_directory() -> None:
    """Started in another folder, as a service is, a collector would have other data."""
    assert config.warnings(config.Settings()) == []
    settings = config.parse(
        '[collector]\ndata_dir = "here"\n[api]\ntls_cert_file = "a"\ntls_key_file = "/b"\n[store]\npath = "x.db"\n'
        '[rules]\nfiles = ["/x.yaml", "y.yaml"]\n',
        "c.toml",
    )
    told = [warning.partition(" is relative")[0] for warning in config.warnings(settings)]
    assert told == ["collector.data_dir = 'here'", "api.tls_cert_file = 'a'", "rules.files = 'y.yaml'"]


def test_an_unknown_key_is_refused_with_its_line_and_the_nearest() -> None:
    """A typo is found at once."""
    assert problems('[collector]\nlog_level = "info"\n\n[api]\nlisen = "x"\n') == [
        "c.toml:5: unknown key `api.lisen`; did you mean `listen`?"
    ]


def test_an_unknown_table_is_refused_with_its_line() -> None:
    """A misspelt table isn't ignored with all that is in it."""
    assert problems("\n[gatway]\n") == ["c.toml:2: unknown key `gatway`; did you mean `gateway`?"]


def test_a_value_of_the_wrong_type_is_shown() -> None:
    """The message has the value and what is expected."""
    (problem,) = problems('[api]\nmax_live_clients = "many"\n')
    assert problem.startswith("c.toml:2: `api.max_live_clients`: ")
    assert "'many'" in problem


def test_every_problem_is_named_not_only_the_first() -> None:
    """One run shows all there is to mend."""
    assert len(problems('[api]\nx = 1\nquery_timeout = "soon"\n[store]\nreaders = 0\n')) == 3


def test_broken_toml_names_the_line() -> None:
    """The parser's own position is kept."""
    (problem,) = problems("[api\n")
    assert problem.startswith("c.toml: not valid TOML")
    assert "line 1" in problem


@pytest.mark.parametrize("address", ["0.0.0.0:8420", "[::]:8420", "192.0.2.1:8420", "example.net:8420"])
def test_off_loopback_there_is_tls_and_agents_show_a_certificate_or_a_token(address: str) -> None:
    """An open door to the network doesn't exist: without files the collector's own certificate is shown."""
    listen = f'listen = "{address}"\n'
    settings = config.parse(f"[api]\n{listen}[gateway]\n{listen}", "c")
    assert settings.api.own_certificate
    assert settings.gateway.own_certificate
    assert settings.gateway.wants_certificates
    with_tokens = config.parse(f'[gateway]\n{listen}token_file = "t"\n', "c").gateway
    assert with_tokens.secure
    assert not with_tokens.wants_certificates
    (problem,) = problems(f'[gateway]\n{listen}client_certificates = "off"\n')
    assert "set token_file too" in problem


def test_agents_with_tokens_have_a_second_address_beside_enrolled_ones() -> None:
    """It needs a token_file, and isn't the first one."""
    both = 'listen = "0.0.0.0:8421"\ntoken_listen = "0.0.0.0:8422"\n'
    gateway = config.parse(f'[gateway]\n{both}token_file = "t"\n', "c").gateway
    assert gateway.wants_certificates
    assert gateway.token_address == ("0.0.0.0", 8422)  # noqa: S104 - a value to compare
    (problem,) = problems(f"[gateway]\n{both}")
    assert "no token_file" in problem
    (problem,) = problems('[gateway]\ntoken_listen = "127.0.0.1:8421"\ntls = "own"\ntoken_file = "t"\n')
    assert "no other address" in problem
    (problem,) = problems('[gateway]\nclient_certificates = "required"\n')
    assert 'set tls = "own"' in problem


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:8420", "localhost:0", "127.9.9.9:8420"])
def test_on_loopback_nothing_is_required(address: str) -> None:
    """A first look needs no certificate."""
    assert config.parse(f'[api]\nlisten = "{address}"\n', "c").api.loopback


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1", ":8420", "127.0.0.1:99999", "http://127.0.0.1:8420", "::1:8420"]
)
def test_an_address_without_a_port_is_refused(address: str) -> None:
    """The message shows how to write one."""
    (problem,) = problems(f'[api]\nlisten = "{address}"\n')
    assert 'write e.g. "127.0.0.1:8420"' in problem


def test_rollups_that_would_go_before_the_raw_data_are_refused() -> None:
    """Queries by minutes read rollups, so they would leave out raw data that is there."""
    (problem,) = problems('[store]\nraw_retention = "10d"\nrollup_retention = "1d"\n')
    assert "rollup_retention (1d) is shorter than raw_retention (10d)" in problem
    kept = config.parse('[store]\nraw_retention = "10d"\nrollup_retention = "10d"\n', "c.toml").store
    assert kept.rollup_retention == kept.raw_retention


def test_a_certificate_without_its_key_is_refused() -> None:
    """Half a pair is a mistake."""
    (problem,) = problems('[api]\ntls_cert_file = "/a.pem"\n')
    assert "together" in problem


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('url = "http://redis"', "must name a Redis server"),
        ('url = "redis://:s3cret@localhost/0"', "holds a user or a password.*password_file"),
        ('url = "redis://s3cret@localhost/0"', "holds a user or a password"),
        ('url = "redis://redis.example:6379/0"', "without TLS: write rediss://"),
        ('url = "redis://localhost/s3cret"', "the database's number"),
        ('url = "rediss://localhost/0?password=s3cret"', "the database's number"),
        ('url = "unix://"', "must name a Redis server"),
        ('url = "redis://localhost:99999"', "is not an address"),
        ('password_file = "/p"', "and no url"),
        ('url = "redis://localhost"\nuser = "u"', "a user and no password_file"),
        ('url = "redis://localhost"\nnamespace = "a:b"', "namespace"),
    ],
)
def test_a_redis_that_cannot_be_meant_is_refused_without_showing_a_password(lines: str, says: str) -> None:
    """As with the database."""
    with pytest.raises(config.ConfigError, match=says) as refused:
        config.parse(f"[hot]\n{lines}\n", "a.toml")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "lines",
    [
        'url = "rediss://redis.example"',
        'url = "redis://localhost:6380/2"',
        'url = "redis://redis.example/0"\nallow_plaintext = true',
        'url = "unix:///run/redis.sock?db=3"',
    ],
)
def test_redis_may_be_local_or_over_tls_or_in_a_trusted_network(lines: str) -> None:
    """Each form that the how-to names is taken."""
    assert config.parse(f"[hot]\n{lines}\n", "a.toml").hot.url


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('url = "mysql://h/d"', "must name a PostgreSQL database"),
        ('url = "postgresql://h"', "must name a PostgreSQL database"),
        ('url = "postgresql://u:s3cret@localhost/d"', "holds a password.*password_file"),
        ('url = "postgresql://localhost/d?password=s3cret"', "holds a password.*password_file"),
        ('url = "postgresql://u@db.example/d"', r"another machine \(db.example\).*sslmode=verify-full"),
        ('url = "postgresql://u@localhost:x/d"', "not an address"),
        ('password_file = "/p"', "a password_file and no url"),
    ],
)
def test_a_database_that_cannot_be_meant_is_refused_without_showing_a_password(lines: str, says: str) -> None:
    """What it lacks is said; a password in the address is never repeated."""
    with pytest.raises(config.ConfigError, match=says) as failed:
        config.parse(f"[store]\n{lines}\n", "c.toml")
    assert "s3cret" not in str(failed.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@localhost/d",
        "postgres://u@[::1]:5433/d",
        "postgresql:///d?host=/run/postgresql",
        "postgresql://u@db.example/d?sslmode=verify-full",
    ],
)
def test_a_database_here_or_secured_is_taken(url: str) -> None:
    """On this machine nothing more is asked."""
    assert config.parse(f'[store]\nurl = "{url}"\n', "c.toml").store.url == url


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers configure by variables."""
    monkeypatch.setenv("TELEMETRYX_API__LISTEN", "127.0.0.1:9")
    settings = config.parse('[api]\nlisten = "127.0.0.1:8"\nmax_live_clients = 3\n', "c")
    assert (settings.api.port, settings.api.max_live_clients) == (9, 3)


def test_an_unknown_variable_is_refused_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable would otherwise do nothing, silently."""
    monkeypatch.setenv("TELEMETRYX_API__LITSEN", "127.0.0.1:9")
    assert problems("") == [
        "TELEMETRYX_API__LITSEN: unknown setting; did you mean 'listen'?".replace("'", "`")
    ]


def test_a_bad_value_in_the_environment_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file isn't blamed for it."""
    monkeypatch.setenv("TELEMETRYX_STORE__READERS", "0")
    (problem,) = problems("[store]\n")
    assert problem.startswith("TELEMETRYX_STORE__READERS: `store.readers`")


def test_variables_of_the_command_line_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """TELEMETRYX_URL is for `telemetryx query`."""
    monkeypatch.setenv("TELEMETRYX_URL", "http://example.net")
    config.parse("", "c")


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    """The remedy stands in the message."""
    with pytest.raises(config.ConfigError, match="config reference"):
        config.load(tmp_path / "none.toml")


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    """No file makes the reader fail in another way."""
    try:
        config.parse(text, "c.toml")
    except config.ConfigError as error:
        assert error.problems


@pytest.mark.parametrize(
    "lines",
    [
        '[store]\nurl = "postgresql://u:hunter2@db/x"',
        '[store]\nurl = "mysql://u:hunter2@db/x"',
        '[hot]\nurl = "redis://u:hunter2@db/0"',
        '[gateway.mqtt]\nurl = "mqtt://u:hunter2@broker"',
        '[api.oidc]\nissuer = "https://u:hunter2@login.example"\nviewers = ["*"]',
        '[tracing]\nendpoint = "https://u:hunter2@otel"',
        '[tracing]\nendpoint = "ftp://u:hun/ter2@hunter2@otel"',
        '[[notify.webhook]]\nurl = "htp://hooks.example/hunter2"',
    ],
)
def test_a_password_in_an_address_is_not_repeated(lines: str) -> None:
    """What is wrong goes to the log, where more people read than in the file."""
    assert "hunter2" not in "\n".join(problems(lines))


def set_to(key: str, value: str) -> str:
    """Write a file that sets one key, and what it needs beside it."""
    table, _, name = key.rpartition(".")
    head = f'[[{table}]]\nurl = "https://a.example"' if table == "notify.webhook" else f"[{table}]"
    needs = {
        "api.oidc.session_lifetime": 'issuer = "https://a.example"\nviewers = ["*"]\n',
        "store.raw_retention": 'rollup_retention = "36500d"\n',
        "store.rollup_retention": 'raw_retention = "1m"\n',
    }
    return f"{head}\n{needs.get(key, '')}{name} = {value}\n"


def written(key: str, amount: float) -> str:
    """Write an amount as the file does."""
    if isinstance(ranges.RANGES[key][0], str):
        return f'"{format_duration(int(amount))}"'
    return str(amount)


@pytest.mark.parametrize("key", ranges.RANGES)
def test_each_amount_is_taken_at_both_ends_of_its_range_and_refused_beyond(key: str) -> None:
    """With the key, its line and the range in the file's own units."""
    least, most = ranges.bounds(key)
    for amount in (least, most):
        config.parse(set_to(key, written(key, amount)), "c.toml")
    step = 1 if isinstance(least, int) else least / 2
    line = set_to(key, "").count("\n")
    # Of the two retentions one bounds the other: what lies beyond both is refused as the other's.
    beyond = {"store.raw_retention": [least - step], "store.rollup_retention": [most + step]}
    amounts = beyond.get(key, [least - step, most + step])
    for value in (*(written(key, amount) for amount in amounts), "-1", "1e300", "inf", str(2**64)):
        said = "\n".join(problems(set_to(key, value)))
        assert said.startswith(f"c.toml:{line}: `{key}`: "), (value, said)
        assert "to" in said, (value, said)


def test_every_amount_of_the_file_has_its_range() -> None:
    """None that is added later is forgotten."""

    def walk(section: type[tables.Section], path: str) -> Iterator[str]:
        for name, field in section.model_fields.items():
            inner = tables.table_of(field.annotation) or field.annotation
            key = f"{path}{name}"
            if isinstance(inner, type) and issubclass(inner, tables.Section):
                yield from walk(inner, f"{key}.")
            elif field.annotation in (int, float, ByteSize):
                yield key

    amounts = [
        key
        for name, field in config.Settings.model_fields.items()
        if isinstance(field.annotation, type)
        for key in walk(field.annotation, f"{name}.")
    ]
    assert sorted(amounts) == sorted(ranges.RANGES)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            "[store]\nraw_retention = 30",
            "c.toml:2: `store.raw_retention`: 30 has no unit: write a number and a unit",
        ),
        ('[[notify.webhook]]\nurl = "https://a"\ntimeout = 5', "`notify.webhook.timeout`: 5 has no unit"),
        ("[gateway]\ncredit = 0", "c.toml:2: `gateway.credit`: 0 is out of range: give 64KiB to 1GiB"),
        ('[api]\nmax_body = "much"', 'this is no size: write "64KiB"'),
        ('[api]\nmax_live_clients = "many"', "this is no whole number; give 1 to 1,000,000"),
        ('[rules]\nfiles = "a"', 'this is no list: write ["a", "b"]'),
        ('[collector]\ndata_dir = "/proc/1"', "belongs to the kernel and holds no data"),
        ('[collector]\ndata_dir = "/dev/null/x"', "/dev/null is a file, not a folder"),
        (f'[collector]\ndata_dir = "/{"x" * 5000}"', "too long a path"),
        ('[api]\ntoken_file = ""', "it is empty: name a file or a folder, or leave the key out"),
        ('[notify]\nexternal_url = "here"', "`notify.external_url`"),
        ('[gateway.mqtt]\nuser = "a\\u001b[31m"', "it holds a control character"),
        ('[enroll]\nnames = ["a", "b\\n"]', "`enroll.names`: it holds a control character"),
    ],
)
def test_what_would_make_the_collector_useless_is_refused_with_what_to_do(lines: str, said: str) -> None:
    """Each names its key; a duration without a unit would be nanoseconds."""
    assert any(said in problem for problem in problems(lines)), problems(lines)


@pytest.mark.parametrize(
    "lines",
    [
        '[api]\nlisten = "LONG"',
        '[collector]\nlog_level = "LONG"',
        '[api]\n"LONG" = 1',
        '[api]\nhsts = "\\u001bLONG"',
    ],
)
def test_of_a_long_value_only_the_beginning_is_repeated_and_nothing_steers_a_terminal(lines: str) -> None:
    """Whatever the file holds."""
    said = "\n".join(problems(lines.replace("LONG", "x" * 5_000)))
    assert len(said) < 900
    assert "\x1b" not in said
