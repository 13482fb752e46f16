"""What people say about alerts: silences, which keep notifications back for a while, and acknowledgements, which tell who has taken one on.

A silence changes nothing about the alert. What it holds back is told when it ends, as it then stands; of what began and ended inside one nobody
is told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from telemetryx.store import selector
from telemetryx.types import Matcher

SEVERITY: Final = "severity"
RULE: Final = "alertname"
"""What Alertmanager, webhooks and the Prometheus API call the rule of an alert."""
MAX_STANDING: Final = 1_000
"""Silences that may stand or be to come at one time."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Alerts that meet `match` are told to nobody in [starts, ends)."""

    id: int
    match: str
    starts_ns: int
    ends_ns: int
    author: str
    comment: str
    created_ns: int

    def matchers(self) -> list[Matcher]:
        """Read what it is about."""
        return selector.parse(self.match)


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Somebody has taken an alert on."""

    alert_id: int
    at_ns: int
    author: str
    comment: str


def holds(matchers: Sequence[Matcher], rule: str, severity: str, labels: Mapping[str, str]) -> bool:
    """Tell whether an alert meets conditions: `__name__` and `alertname` are its rule, `severity` that of the rule, all else its labels."""
    named = {selector.NAME: rule, RULE: rule, SEVERITY: severity}
    known = {**labels, **named, selector.AGENT: labels.get("agent", "")}
    return all(selector.test(one, known.get(one.name, "")) for one in matchers)
