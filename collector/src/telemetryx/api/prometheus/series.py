"""Our series as Prometheus knows them: the metric name and the agent are labels, empty labels don't exist.

`agent` is our agent's name. A series' own label of that name becomes `exported_agent`, as Prometheus renames what collides.
"""

from collections.abc import Sequence
from typing import Final

from telemetryx.promql.data import NAME, Labels
from telemetryx.store import selector
from telemetryx.types import Matcher, Series

AGENT: Final = "agent"
EXPORTED: Final = "exported_"


def labels(series: Series) -> Labels:
    """Return a series' labels, ascending."""
    found = {name: value for name, value in series.labels.items() if value}
    if AGENT in found:
        name = EXPORTED + AGENT
        while name in found:
            name = EXPORTED + name
        found[name] = found.pop(AGENT)
    return tuple(sorted({**found, NAME: series.name, AGENT: series.agent}.items()))


def for_store(matchers: Sequence[Matcher]) -> tuple[list[Matcher], list[Matcher]]:
    """Split conditions: those that the store can check, in its words, and those that need the labels above."""
    here: list[Matcher] = []
    there: list[Matcher] = []
    for one in matchers:
        if one.name.startswith(EXPORTED):
            here.append(one)
        elif one.name == AGENT:
            there.append(Matcher(selector.AGENT, one.op, one.value))
        else:
            there.append(one)
    return there, here


def meets(matchers: Sequence[Matcher], found: Labels) -> bool:
    """Check conditions on labels."""
    pairs = dict(found)
    return all(selector.test(one, pairs.get(one.name, "")) for one in matchers)
