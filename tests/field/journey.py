"""Boots two bare machines with a cable between them, and takes the site on them through its steps."""

import contextlib
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

from tests.field.care import is_cared_for
from tests.field.machine import Machine, booted, fresh, packages
from tests.field.report import said
from tests.field.site import (
    ADDRESSES,
    COLLECTOR,
    HOST,
    SHOP,
    Site,
    agent_is_removed,
    collector_is_removed,
    first_site,
    is_mutual,
    is_revoked,
    upgrades,
)
from tests.harness.stack import ROOT


def site() -> int:
    """Boot both machines and do it all."""
    given = packages()
    if not given:
        said("two machines: not done", why="dist/ has no two packages (just package agent collector)")
        return 0
    with contextlib.ExitStack() as stack:
        trees = {name: _bare(name, given) for name in (COLLECTOR, HOST)}
        machines = {name: stack.enter_context(booted(tree)) for name, tree in trees.items()}
        _cabled(machines)
        both = Site(machines[COLLECTOR], machines[HOST])
        steps = (
            first_site,
            is_mutual,
            is_cared_for,
            is_revoked,
            agent_is_removed,
            upgrades,
            collector_is_removed,
        )
        for step in steps:
            try:
                step(both)
            except (AssertionError, LookupError, OSError, ValueError, subprocess.SubprocessError) as error:
                for name, machine in machines.items():
                    print(f"--- {name}", machine.run("journalctl", "--no-pager", "-n", "40", check=False))
                print(f"field: {step.__name__}: {error}", file=sys.stderr)
                return 1
    return 0


def _bare(name: str, given: list[Path]) -> Path:
    tree = fresh(name)
    shop = tree / SHOP[1:]
    shop.mkdir(parents=True)
    for package in given:
        shutil.copy(package, shop)
    shutil.copy(ROOT / "packaging/install.sh", shop)
    hosts = "".join(f"{address} {host}\n" for host, address in ADDRESSES.items())
    for path, text in (
        ("etc/hostname", f"{name}\n"),
        ("etc/hosts", f"127.0.0.1 localhost\n{hosts}"),
        ("etc/machine-id", f"{uuid.uuid4().hex}\n"),
    ):
        # A link to the bare tree's.
        (tree / path).unlink(missing_ok=True)
        (tree / path).write_text(text)
    return tree


def _cabled(machines: dict[str, Machine]) -> None:
    """Lay a cable between both."""
    one, other = machines[COLLECTOR], machines[HOST]
    ends = [f"tf{os.getpid() % 100_000}{side}" for side in "ab"]
    subprocess.run(
        [
            "ip",
            "link",
            "add",
            ends[0],
            "netns",
            str(one.init),
            "type",
            "veth",
            "peer",
            "name",
            ends[1],
            "netns",
            str(other.init),
        ],
        check=True,
    )
    for name, end in zip((COLLECTOR, HOST), ends, strict=True):
        machines[name].run("ip", "address", "add", f"{ADDRESSES[name]}/24", "dev", end)
        machines[name].run("ip", "link", "set", end, "up")
