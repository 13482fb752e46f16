"""`packaging/install.sh`: which package it takes on which system, and what it says where there is none."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.harness.processes import PATIENCE
from tests.harness.stack import ROOT

INSTALL = ROOT / "packaging/install.sh"
SYSTEMS = {
    "debian": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    "ubuntu": 'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\nPRETTY_NAME="Ubuntu 24.04 LTS"\n',
    "fedora": 'ID=fedora\nVERSION_ID=42\nPRETTY_NAME="Fedora Linux 42"\n',
    "rocky": 'ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.5"\nPRETTY_NAME="Rocky Linux 9.5"\n',
    "suse": 'ID="opensuse-leap"\nID_LIKE="suse opensuse"\nPRETTY_NAME="openSUSE Leap 15.6"\n',
    "alpine": 'ID=alpine\nVERSION_ID=3.21\nPRETTY_NAME="Alpine Linux v3.21"\n',
}
JOINS = "txe1.secret.fingerprint"
PACKAGES = (
    "telemetryx-agent_0.9.0-1_amd64.deb",
    "telemetryx-agent_0.10.0-1_amd64.deb",
    "telemetryx-agent_0.10.0-1_arm64.deb",
    "telemetryx-agent_0.10.0-1_armhf.deb",
    "telemetryx-agent-0.10.0-1.x86_64.rpm",
    "telemetryx-agent-0.10.0-1.aarch64.rpm",
    "telemetryx-collector_0.10.0-1_amd64.deb",
)


@pytest.fixture(name="shop")
def _shop(tmp_path: Path) -> Path:
    """Give a folder with a package of each kind, and their sums."""
    folder = tmp_path / "shop"
    folder.mkdir()
    sums = ""
    for name in PACKAGES:
        (folder / name).write_text(name)
        sums += f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n"
    (folder / "SHA256SUMS").write_text(sums)
    return folder


@pytest.fixture(name="address")
def _address(shop: Path) -> Iterator[str]:
    """Serve the folder over HTTP."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=shop))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def install(
    tmp_path: Path,
    *arguments: str | Path,
    system: str = "debian",
    machine: str = "x86_64",
    token: str | None = None,
) -> tuple[int, str]:
    """Ask the installer what it would do on such a system, with this token in the environment."""
    release = tmp_path / "os-release"
    release.write_text(SYSTEMS[system])
    done = subprocess.run(
        ["/bin/sh", INSTALL, "--dry-run", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={
            **{name: value for name, value in os.environ.items() if name != "TELEMETRYX_ENROLL_TOKEN"},
            **({} if token is None else {"TELEMETRYX_ENROLL_TOKEN": token}),
            "TELEMETRYX_OS_RELEASE": str(release),
            "TELEMETRYX_MACHINE": machine,
        },
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("system", "machine", "package"),
    [
        ("debian", "x86_64", "telemetryx-agent_0.10.0-1_amd64.deb"),
        ("ubuntu", "aarch64", "telemetryx-agent_0.10.0-1_arm64.deb"),
        ("debian", "armv7l", "telemetryx-agent_0.10.0-1_armhf.deb"),
        ("fedora", "x86_64", "telemetryx-agent-0.10.0-1.x86_64.rpm"),
        ("rocky", "aarch64", "telemetryx-agent-0.10.0-1.aarch64.rpm"),
        ("suse", "x86_64", "telemetryx-agent-0.10.0-1.x86_64.rpm"),
    ],
)
def test_it_takes_the_newest_package_of_the_system_and_the_architecture(
    tmp_path: Path, shop: Path, system: str, machine: str, package: str
) -> None:
    """0.10 is newer than 0.9. Where the family's programs are missing it says that instead."""
    code, said = install(tmp_path, "--from", shop, system=system, machine=machine)
    if system in {"fedora", "rocky", "suse"} and not any(map(shutil.which, ("dnf", "yum", "zypper", "rpm"))):
        assert "neither dnf" in said
    else:
        assert code == 0, said
    assert f"installing {package} on" in said


def test_it_fetches_from_an_address_what_the_sums_vouch_for(tmp_path: Path, shop: Path, address: str) -> None:
    """A package that was changed on the way is not installed."""
    code, said = install(tmp_path, "--from", address)
    assert code == 0, said
    assert "telemetryx-agent_0.10.0-1_amd64.deb" in said

    (shop / "telemetryx-agent_0.10.0-1_amd64.deb").write_text("changed")
    code, said = install(tmp_path, "--from", address)
    assert code == 1
    assert "Nothing was installed" in said
    assert "would run" not in said


def test_it_enrols_when_a_collector_is_given(tmp_path: Path, shop: Path) -> None:
    """With the token of the collector's command, before the service starts with what that brought."""
    code, said = install(
        tmp_path,
        "--from",
        shop,
        "--collector",
        "https://c.example:8420",
        "--token",
        "txe1.T-1.F",
        "--name",
        "gw7",
    )
    assert code == 0, said
    assert "would run: telemetryx-agent enroll https://c.example:8420 --name gw7 --if-needed\n" in said, (
        "run again, it upgrades"
    )
    assert "T-1" not in said
    again = install(
        tmp_path, f"--from={shop}", "--collector=https://c.example:8420", "--token=txe1.T-1.F", "--name=gw7"
    )
    assert again == (code, said), "an option may have its value behind a ="
    assert said.index("apt-get install") < said.index("enroll https")


def test_it_opens_a_collector_to_other_machines_when_told_to(tmp_path: Path, shop: Path) -> None:
    """Both doors of the config file that the package ships listen on all addresses; nothing else in it changes."""
    code, said = install(tmp_path, "collector", "--open", "--from", shop)
    assert code == 0, said
    script = re.search(r"would run: sed -i (s/.*/) /etc/telemetryx/collector.toml\n", said)
    assert script is not None, said
    shipped = (ROOT / "packaging/collector.toml").read_text()
    opened = subprocess.run(
        ["sed", script[1]], input=shipped, check=True, capture_output=True, text=True
    ).stdout
    before, after = tomllib.loads(shipped), tomllib.loads(opened)
    assert (after["api"]["listen"], after["gateway"]["listen"]) == ("0.0.0.0:8420", "0.0.0.0:8421")
    before["api"]["listen"], before["gateway"]["listen"] = "0.0.0.0:8420", "0.0.0.0:8421"
    assert after == before


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        ('[api]\nlisten = "0.0.0.0:8420"\n[gateway]\nlisten = "[::]:8421"\n', ""),
        ("api.listen = '0.0.0.0:8420'\ngateway = {listen = '10.0.0.1:8421'}\n", ""),
        ("[api]\n  listen='127.0.0.1:8420'\n[gateway]\nlisten = '0.0.0.0:8421'\n", "[api] listen "),
        ('[api]\n"listen" = "localhost:8420"\n[gateway]\n', "[api] listen [gateway] listen "),
        ("", "[api] listen [gateway] listen "),
    ],
)
def test_it_sees_which_doors_of_a_config_file_are_not_open(tmp_path: Path, text: str, closed: str) -> None:
    """However the line is written: the edit changes the one that the package ships, and the rest is said to a person."""
    code = re.search(r"^closed_doors='\n(.*?)^'\n", INSTALL.read_text(), re.DOTALL | re.MULTILINE)
    assert code is not None
    file = tmp_path / "collector.toml"
    file.write_text(text)
    said = subprocess.run(
        [sys.executable, "-c", code[1], file], check=True, capture_output=True, text=True
    ).stdout
    assert said == closed


def test_it_hands_the_authority_of_a_console_on(tmp_path: Path, shop: Path) -> None:
    """Before anything is installed it has been looked at."""
    file = tmp_path / "ca.pem"
    file.write_text("-----BEGIN CERTIFICATE-----\n")
    code, said = install(
        *(tmp_path, "--from", shop, "--collector", "https://c/", "--token", JOINS, f"--ca-file={file}")
    )
    assert code == 0, said
    assert f"would run: telemetryx-agent enroll https://c/ --ca-file {file} --if-needed\n" in said


def test_an_upgrade_keeps_a_config_file_that_was_changed_and_asks_nobody(tmp_path: Path, shop: Path) -> None:
    """From a pipe, dpkg's question would be answered by the script's own text."""
    code, said = install(tmp_path, "--from", shop)
    assert code == 0, said
    assert "force-confdef" in said
    assert "force-confold" in said


@pytest.mark.parametrize(
    ("arguments", "system", "machine", "code", "reason"),
    [
        ((), "alpine", "x86_64", 1, "neither of Debian's nor of rpm's family"),
        ((), "debian", "riscv64", 1, "no package for the architecture riscv64"),
        (("collector",), "ubuntu", "x86_64", 1, "Use the wheel"),
        (("collector",), "debian", "aarch64", 1, "Use the wheel"),
        (("--collector", "https://c.example"), "debian", "x86_64", 2, "needs --token"),
        (("--from",), "debian", "x86_64", 2, "--from needs a value"),
        (("--from", "/nowhere"), "debian", "x86_64", 1, "/nowhere is no folder"),
        (("--from", "http://127.0.0.1:9"), "debian", "x86_64", 1, "can't be fetched"),
        (("--open",), "debian", "x86_64", 2, "--open is for the collector"),
        (("--fast",), "debian", "x86_64", 2, "'--fast' is not known"),
        (("--fast=1",), "debian", "x86_64", 2, "'--fast=1' is not known"),
        (("agent", "collector"), "debian", "x86_64", 2, "agent and collector are two installations"),
        (("--collector", ""), "debian", "x86_64", 2, "--collector needs a value"),
        (("--token=",), "debian", "x86_64", 2, "--token needs a value"),
        (("--token", JOINS), "debian", "x86_64", 2, "--token is for joining a collector"),
        (("--name", "gw7"), "debian", "x86_64", 2, "--name is for joining a collector"),
        (("--replace",), "debian", "x86_64", 2, "--replace is for joining a collector"),
        (("collector", "--token", JOINS), "debian", "x86_64", 2, "--token is for an agent"),
        (
            ("--collector", "c.example:8420", "--token", JOINS),
            "debian",
            "x86_64",
            2,
            "write https://HOST:8420",
        ),
        (
            ("--collector", "http://c:8420", "--token", JOINS),
            "debian",
            "x86_64",
            2,
            "write https://HOST:8420",
        ),
        (("--collector", "https://c:8420/#/x", "--token", JOINS), "debian", "x86_64", 2, "without a path"),
        (("--collector", "https://c:8420/a", "--token", JOINS), "debian", "x86_64", 2, "without a path"),
        (
            ("--collector", "https://c", "--token", JOINS, "--name", "a b"),
            "debian",
            "x86_64",
            2,
            "no agent's name",
        ),
        (
            ("--collector", "https://c", "--token", JOINS, "--name", ".."),
            "debian",
            "x86_64",
            2,
            "no agent's name",
        ),
        (
            ("--collector", "https://c", "--token", JOINS, "--name", "a" * 129),
            "debian",
            "x86_64",
            2,
            "at most 128",
        ),
        (
            ("--collector", "https://c", "--token", JOINS, "--ca-file", "/nope"),
            "debian",
            "x86_64",
            2,
            "no file that can be read",
        ),
        (
            ("--collector", "https://c", "--token", JOINS, "--ca-file", str(ROOT / "LICENSE")),
            "debian",
            "x86_64",
            2,
            "holds no certificate",
        ),
        (("--ca-file", "/nope"), "debian", "x86_64", 2, "--ca-file is for joining a collector"),
        (("--collector", "https://c:8420", "--token", "tx_0"), "debian", "x86_64", 2, "no enrolment token"),
    ],
)
def test_what_can_not_be_done_is_said_with_the_way_out(
    tmp_path: Path, arguments: tuple[str, ...], system: str, machine: str, code: int, reason: str
) -> None:
    """Nothing has been done by then."""
    got, said = install(tmp_path, *arguments, system=system, machine=machine)
    assert (got, reason in said) == (code, True), said
    assert "would run" not in said


def test_a_token_in_the_environment_is_never_passed_over_in_silence(tmp_path: Path, shop: Path) -> None:
    """Whoever exported it means to join; a shell that installs the collector first may have it."""
    code, said = install(tmp_path, "--from", shop, token=JOINS)
    assert code == 2, said
    assert "add --collector https://HOST:8420, or `unset TELEMETRYX_ENROLL_TOKEN`" in said
    assert "would run" not in said

    code, said = install(tmp_path, "collector", "--from", shop, token=JOINS)
    assert code == 0, said
    assert "the collector doesn't use it" in said

    code, said = install(tmp_path, "--from", shop, "--collector", "https://c:8420", token=JOINS)
    assert code == 0, said
    assert "enroll https://c:8420" in said

    code, said = install(tmp_path, "--from", shop, token="")
    assert code == 0, "one that is empty is none"


def test_the_scripts_are_plain_sh_and_shellcheck_finds_nothing() -> None:
    """The installer runs in any POSIX shell."""
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck isn't installed: packaging/bootstrap.sh setup test installs it")
    scripts = [*ROOT.glob("packaging/*.sh"), *ROOT.glob("packaging/cross/*.sh")]
    scripts += [
        *ROOT.glob("packaging/debian/*.post*"),
        *ROOT.glob("packaging/debian/*.prerm"),
        Path(__file__).with_name("throwaway.sh"),
    ]
    assert INSTALL.read_text().startswith("#!/bin/sh\n")
    checked = subprocess.run(
        # One warning is about a subshell's variables, which are meant to stay there; one is about -nt, which every sh of ours has.
        ["shellcheck", "--exclude=SC2030,SC2031,SC3013", *scripts],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert checked.returncode == 0, checked.stdout
