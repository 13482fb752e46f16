"""Whom a configuration would reach, what these have now, and who of them gets it first."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from telemetryx.store.care import CareRefused, Config, Known, Phase, Stage, Standing, Target

CANARY: Final = re.compile(r"([1-9]\d{0,4})(%?)")
EVERYTHING: Final = 100
_NEWEST: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Reach:
    """What pushing it would do. Agents are named in order."""

    agents: Sequence[str]
    """Those that would get it."""
    offline: int
    """Of them those that aren't connected: they get it when they are."""
    unsupported: Sequence[str]
    """Of those that it is for, those that take none."""
    overruled: Sequence[str]
    """Of those that it is for, those that keep a more specific one."""
    first: Sequence[str]
    """Who gets it first; empty without a canary."""
    replaced: Sequence[tuple[int, int]]
    """What they should have now, as (version, agents), most agents first; version 0 is nothing."""


def reach(target: Target, canary: str, standing: Standing, agents: Sequence[Known]) -> Reach:
    """Say whom it would reach. Raises CareRefused for a canary that can't be."""
    new = Config(_NEWEST, b"", target, Stage.EVERYWHERE, "", "", "", 0)
    after = Standing.of([*standing.configs, new])
    meant = [one for one in agents if target.meets(one.agent, one.labels)]
    takes = [one for one in meant if one.said is None or one.said.takes]
    got = [one for one in takes if after.wanted(one.agent, one.labels) is new]
    names = {one.agent for one in got}
    before = Counter(
        0 if (now := standing.wanted(one.agent, one.labels)) is None else now.version for one in got
    )
    return Reach(
        [one.agent for one in got],
        sum(not one.connected for one in got),
        [one.agent for one in meant if one.said is not None and not one.said.takes],
        [one.agent for one in takes if one.agent not in names],
        first(canary, got) if canary else (),
        sorted(before.items(), key=lambda one: (-one[1], one[0])),
    )


def first(canary: str, got: Sequence[Known]) -> list[str]:
    """Choose who gets it first: such as are connected and known to take configurations, by name."""
    found = CANARY.fullmatch(canary)
    if found is None or (found[2] and int(found[1]) > EVERYTHING):
        raise CareRefused(
            f"{canary[:20]!r} says not how many agents go first", "write a number like 3, or a part like 10%"
        )
    able = [one for one in got if one.said is not None]
    if not able:
        raise CareRefused(
            "no agent that it reaches is known to take configurations, so none can go first",
            "wait until one was connected, or push it without a canary",
            conflict=True,
        )
    wanted = ceil(len(got) * int(found[1]) / EVERYTHING) if found[2] else int(found[1])
    able.sort(key=lambda one: (not one.connected, one.agent))
    return sorted(one.agent for one in able[:wanted])


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a canary: `stage` is CANARY while it isn't decided."""

    stage: Stage
    reason: str = ""


def judge(config: Config, standing: Standing, agents: Sequence[Known]) -> Verdict:
    """Decide a canary by what its first agents said: all of them must have applied it, one that failed stops it."""
    waits = 0
    proven = 0
    # One of its first agents that has a more specific one by now proves nothing.
    for one in agents:
        if one.agent not in config.canary:
            continue
        wanted = standing.wanted(one.agent, one.labels)
        if wanted is None or wanted.version != config.version:
            continue
        match one.phase(config):
            case Phase.FAILED:
                why = one.said.reason if one.said is not None and one.said.reason else "it didn't say why"
                return Verdict(Stage.STOPPED, f"it failed at agent {one.agent}: {why}")
            case Phase.UNSUPPORTED | Phase.DECLINED:
                return Verdict(Stage.STOPPED, f"agent {one.agent} takes no configurations any more")
            case Phase.APPLIED:
                proven += 1
            case _:
                waits += 1
    if waits:
        return Verdict(Stage.CANARY)
    if not proven:
        return Verdict(Stage.STOPPED, "none of its first agents should have it any more")
    return Verdict(Stage.EVERYWHERE)
