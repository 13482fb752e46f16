"""A machine with nothing but Debian 12 and our services: a tree that is booted with a real systemd in namespaces of its own.

What is in `dist/*.deb` is installed; without packages the files are put where a package has them.
"""

import os
import re
import shutil
import site
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.harness.processes import until
from tests.harness.stack import AGENT, ROOT

#: The bare tree is made once and kept here.
WORK = Path(os.environ.get("TELEMETRYX_FIELD_DIR", "/var/tmp/telemetryx-field"))  # noqa: S108 - as packaging/fresh.sh
PACKAGES = "systemd,systemd-sysv,dbus,procps,iproute2,python3,python3-venv,ca-certificates"
BOOT = Path(__file__).with_name("boot.sh")
WRAPPER = """\
#!/bin/sh
PYTHONPATH=/usr/lib/telemetryx/src:/usr/lib/telemetryx/site-packages exec /usr/bin/python3 -m telemetryx "$@"
"""


def bare() -> Path:
    """Return a tree with Debian and nothing of ours; the first time it is made."""
    tree = WORK / "base"
    if not (tree / "usr/lib/systemd/systemd").exists():
        print(f"==> a bare Debian 12 in {tree} (once)")
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir(parents=True)
        mirror = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", tree, mirror],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return tree


def packages() -> list[Path]:
    """Return the newest package of each of both in `dist/`; nothing where one is missing."""
    found = [
        newest
        for name in ("telemetryx-agent", "telemetryx-collector")
        for newest in sorted((ROOT / "dist").glob(f"{name}_*_amd64.deb"))[-1:]
    ]
    return found if len(found) == len(("agent", "collector")) else []


def fresh(name: str) -> Path:
    """Return a tree of this name with Debian and nothing of ours."""
    tree = WORK / name
    subprocess.run(["rm", "-rf", "--one-file-system", tree], check=True)
    _linked(bare(), tree)
    for unit in ("console-getty.service", "getty@tty1.service", "systemd-udevd.service"):
        subprocess.run(["systemctl", "--root", tree, "mask", unit], check=True, capture_output=True)
    return tree


def installed() -> tuple[Path, str]:
    """Return a tree with both services in it, and how they came there."""
    tree = fresh("machine")
    if given := packages():
        for package in given:
            shutil.copy(package, tree / "root")
        names = [f"/root/{package.name}" for package in given]
        subprocess.run(["chroot", tree, "dpkg", "-i", *names], check=True, capture_output=True)
        how = ", ".join(package.name for package in given)
    else:
        _by_hand(tree)
        how = "files put into place by hand: dist/ has no two packages"
    for unit in ("telemetryx-agent.service", "telemetryx-collector.service"):
        subprocess.run(["systemctl", "--root", tree, "disable", unit], check=True, capture_output=True)
    return tree, how


def _linked(source: Path, target: Path) -> None:
    """Copy a tree, by hard links where that can be: what is changed in it is replaced, not written to."""
    if subprocess.run(["cp", "-al", source, target], check=False, capture_output=True).returncode != 0:
        subprocess.run(["rm", "-rf", target], check=True)
        subprocess.run(["cp", "-a", source, target], check=True)


def _by_hand(tree: Path) -> None:
    def put(source: Path, there: str, mode: int = 0o644) -> None:
        target = tree / there
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(mode)

    put(AGENT, "usr/bin/telemetryx-agent", 0o755)
    for name in ("agent", "collector"):
        units = ROOT / "packaging/systemd"
        put(units / f"telemetryx-{name}.service", f"usr/lib/systemd/system/telemetryx-{name}.service")
        put(units / f"telemetryx-{name}.sysusers", f"usr/lib/sysusers.d/telemetryx-{name}.conf")
        put(ROOT / f"packaging/{name}.toml", f"etc/telemetryx/{name}.toml")
    there = tree / "usr/lib/telemetryx"
    there.mkdir(parents=True)
    _linked(Path(site.getsitepackages()[0]), there / "site-packages")
    for ours in (there / "site-packages").glob("telemetryx*"):
        shutil.rmtree(ours) if ours.is_dir() and not ours.is_symlink() else ours.unlink()
    shutil.copytree(ROOT / "collector/src", there / "src")
    command = tree / "usr/bin/telemetryx"
    command.write_text(WRAPPER)
    command.chmod(0o755)


class Machine:
    """A booted tree."""

    def __init__(self, tree: Path, init: int) -> None:
        """Know its first process."""
        self.tree = tree
        self.init = init

    def enter(self, *command: str) -> list[str]:
        """Return the command that runs one inside."""
        return ["nsenter", "-t", str(self.init), *["-m", "-u", "-i", "-n", "-p", "-r", "-w", "--"], *command]

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command inside and return what it prints."""
        done = subprocess.run(
            self.enter(*command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, f"telemetryx-{unit}").strip()

    def pid(self, unit: str) -> int:
        """Return a service's process id, as it is seen from out here."""
        inside, space = self.show(unit, "MainPID"), Path(f"/proc/{self.init}/ns/pid").readlink()
        for process in Path("/proc").glob("[0-9]*"):
            try:
                ids = re.search(r"^NSpid:(.*)$", (process / "status").read_text(), re.MULTILINE)
                if ids and ids[1].split()[-1] == inside and (process / "ns/pid").readlink() == space:
                    return int(process.name)
            except OSError:
                continue
        raise LookupError(unit)

    def answered(self, *words: str) -> list[str]:
        """Return the command that runs a part of `inside.py` in the machine's network."""
        python = str(ROOT / ".venv/bin/python")
        return ["nsenter", "-t", str(self.init), "-n", "--", python, "-m", "tests.field.inside", *words]

    def write(self, path: str, text: str) -> None:
        """Write a file inside, as root."""
        target = self.tree / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = target.stat() if target.exists() else None
        # A file of the bare tree is a link that others have too.
        target.unlink(missing_ok=True)
        target.write_text(text)
        if mode is not None:
            target.chmod(mode.st_mode & 0o7777)
            os.chown(target, mode.st_uid, mode.st_gid)


@contextmanager
def booted(tree: Path) -> Iterator[Machine]:
    """Boot a tree; everything in it ends with this."""
    group = f"telemetryx-field-{os.getpid()}-{tree.name}"
    outer = subprocess.Popen([BOOT, tree, group], stdin=subprocess.DEVNULL)
    try:
        machine = Machine(tree, until("systemd runs", lambda: _init(outer.pid)))
        until("the machine is booted", lambda: _state(machine) == "running")
        yield machine
    finally:
        outer.kill()
        outer.wait()
        for _ in range(50):
            left = list(Path("/sys/fs/cgroup").glob(f"*/{group}"))
            for folder in left:
                subprocess.run(
                    ["find", folder, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"],
                    check=False,
                    capture_output=True,
                )
            if not left:
                break
            time.sleep(0.1)


def _init(outer: int) -> int | None:
    """Find the first process: it was a shell, and had helpers, before it became systemd."""
    for child in Path(f"/proc/{outer}/task/{outer}/children").read_text().split():
        if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
            return int(child)
    return None


def _state(machine: Machine) -> str:
    return machine.run("systemctl", "is-system-running", check=False).strip()
