"""The agent's Debian package, made of the agent under test by the script that makes the real one."""

import os
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import commands
from tests.harness.commands import Command
from tests.harness.processes import PATIENCE
from tests.harness.stack import AGENT, ROOT

BUILD = ROOT / "packaging/build.sh"
THROWAWAY = Path(__file__).with_name("throwaway.sh")
NAME = "telemetryx-agent"

pytestmark = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in ("dh", "lintian", "dpkg-deb")),
    reason="Debian's packaging tools aren't installed: packaging/bootstrap.sh setup test installs them",
)


def run(*arguments: str | Path, timeout: float = PATIENCE) -> str:
    """Run a program that has to succeed, and return what it prints."""
    done = subprocess.run(arguments, check=False, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Make the package, twice, as `--check` does; return it with what the script said."""
    out, work = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("work")
    done = subprocess.run(
        [BUILD, "agent", "--agent", AGENT, "--out", out, "--check"],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
        # Small is for people who download it: this one is fast to make.
        env={**os.environ, "TELEMETRYX_PACKAGE_WORK": str(work), "DPKG_DEB_OPTIONS": "-Zgzip -z1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (package,) = out.glob("*.deb")
    return package, done.stdout


@pytest.fixture(scope="module", name="content")
def _content(built: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the package's files."""
    folder = tmp_path_factory.mktemp("content")
    run("dpkg-deb", "-x", built[0], folder)
    return folder


def leaves(command: Command) -> Iterator[Command]:
    """Give the command and all below it that a person is meant to meet."""
    yield command
    for inner in command.commands.values():
        if not inner.hidden:
            yield from leaves(inner)


def test_it_is_the_same_bytes_twice_lintian_clean_and_its_program_works(built: tuple[Path, str]) -> None:
    """Made from one stage in two places; the packaged program takes readings, and has them after kill -9."""
    package, said = built
    assert f"{package.name}: the same bytes when made again" in said
    assert f"{package.name}: lintian has nothing to say" in said
    assert "all three are there, nothing is damaged" in said


def test_it_says_what_it_needs_and_which_files_are_the_administrators(built: tuple[Path, str]) -> None:
    """The config file survives upgrades as it was changed; the C library is as old as the program allows."""
    package, _ = built
    assert run("dpkg-deb", "-f", package, "Architecture").strip() == "amd64"
    depends = run("dpkg-deb", "-f", package, "Depends")
    assert "libc6 (>= 2." in depends
    assert "systemd-sysusers" in depends or "systemd-standalone-sysusers" in depends
    assert run("dpkg-deb", "-I", package, "conffiles").split() == ["/etc/telemetryx/agent.toml"]


def test_every_command_has_a_man_page_and_every_shell_completes_it(content: Path) -> None:
    """Made of the command line itself; hidden commands are in none."""
    pages = {page.name for page in (content / "usr/share/man/man1").iterdir()}
    expected = list(leaves(commands.agent()))
    assert len(expected) > 8
    assert pages == {f"{command.path.replace(' ', '-')}.1.gz" for command in expected}
    for script in (
        f"bash-completion/completions/{NAME}",
        f"zsh/vendor-completions/_{NAME}",
        f"fish/vendor_completions.d/{NAME}.fish",
    ):
        text = (content / "usr/share" / script).read_text("utf-8")
        assert [command.path for command in expected if command.path.split()[-1] not in text] == []
        assert "Write the man pages" not in text


def test_bash_completes_a_command_and_its_options(content: Path) -> None:
    """As the shell calls it."""
    script = content / f"usr/share/bash-completion/completions/{NAME}"

    def completed(*words: str) -> list[str]:
        line = " ".join(f"'{word}'" for word in words)
        return run(
            "bash",
            "-c",
            f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; set -- $(complete -p {NAME}); "
            f"while [ $1 != -F ]; do shift; done; $2 {NAME} '{words[-1]}' '{words[-2]}'; "
            'echo "${COMPREPLY[@]}"',
        ).split()

    assert completed(NAME, "doc") == ["doctor"]
    assert "--limit" in completed(NAME, "spool", "ls", "--")


def test_the_service_runs_the_installed_program_with_the_installed_config(content: Path) -> None:
    """What unit, config file and package say of folders is the same."""
    (unit,) = content.rglob(f"{NAME}.service")
    text = unit.read_text("utf-8")
    assert f"ExecStart=/usr/bin/{NAME} run --config /etc/telemetryx/agent.toml" in text
    assert "StateDirectory=telemetryx/agent\n" in text
    config = content / "etc/telemetryx/agent.toml"
    assert 'data_dir = "/var/lib/telemetryx/agent"' in config.read_text("utf-8")
    # An address in the file would come before the one that enrolment brings.
    assert "url" not in tomllib.loads(config.read_text("utf-8"))["uplink"]
    run(content / "usr/bin" / NAME, "check", "--config", config)


def test_install_upgrade_remove_and_purge_treat_the_data_as_they_say(built: tuple[Path, str]) -> None:
    """In a throw-away copy of this system: the real dpkg, the real scripts."""
    if os.geteuid() != 0:
        pytest.skip("dpkg installs as root only")
    package, _ = built
    possible = subprocess.run(
        [THROWAWAY, package.parent, "true"], check=False, capture_output=True, text=True, timeout=PATIENCE
    )
    if possible.returncode != 0:
        pytest.skip(f"no overlay above / is possible here: {possible.stderr}")
    said = run(
        THROWAWAY,
        package.parent,
        f"""
        exec 2>&1
        dpkg -i /given/{package.name}
        {NAME} --version
        stat -c 'config %a %U:%G' /etc/telemetryx/agent.toml
        test -L /etc/systemd/system/multi-user.target.wants/{NAME}.service && echo enabled
        stat -c 'data %a %U:%G' /var/lib/telemetryx/agent
        echo reading >/var/lib/telemetryx/agent/spool
        echo '# changed here' >>/etc/telemetryx/agent.toml

        dpkg -i /given/{package.name}
        tail -n 1 /etc/telemetryx/agent.toml

        dpkg -r {NAME}
        echo "after removal: $(cat /var/lib/telemetryx/agent/spool)"
        test ! -e /usr/bin/{NAME}

        dpkg --purge {NAME}
        test ! -e /var/lib/telemetryx
        test ! -e /etc/telemetryx
        echo purged
        """,
        timeout=300,
    )
    lines = said.splitlines()
    assert any(line.startswith(f"{NAME} 0.") for line in lines)
    assert "config 640 root:telemetryx-agent" in lines
    assert "data 700 telemetryx-agent:telemetryx-agent" in lines
    assert "enabled" in lines
    assert "# changed here" in lines
    assert "after removal: reading" in lines
    assert lines[-1] == "purged"
    assert "deleting /var/lib/telemetryx/agent" in said
