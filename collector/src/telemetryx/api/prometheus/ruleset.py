"""Rules and alerts as Prometheus shows them, for Grafana's alert pages: a group a file, and each rule as PromQL."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final

from telemetryx.api.prometheus.params import Params
from telemetryx.api.times import NS, TimeError, format_time, parse_duration
from telemetryx.promql.errors import BadQuery
from telemetryx.rules.service import RuleStatus

_STATES: Final = {"firing": "firing", "unknown": "firing", "pending": "pending"}
_NEVER: Final = "0001-01-01T00:00:00Z"
_OWN: Final = "collector"
_BOOLEANS: Final = {
    "": False,
    **dict.fromkeys(("1", "t", "true"), True),
    **dict.fromkeys(("0", "f", "false"), False),
}


def alerts(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Shape open alerts. One whose data stopped still fires: Prometheus knows no `unknown`."""
    return [_alert(one) for one in found if one["state"] in _STATES]


def _alert(found: Mapping[str, Any]) -> dict[str, Any]:
    value = found.get("value")
    annotations = dict(found["annotations"])
    if found.get("summary"):
        annotations["summary"] = found["summary"]
    return {
        "labels": {**found["labels"], "alertname": found["rule"], "severity": found["severity"]},
        "annotations": annotations,
        "state": _STATES[found["state"]],
        "activeAt": format_time(found["started_ns"]) if found.get("started_ns") else _NEVER,
        "value": f"{math.nan if value is None else float(value):e}",
    }


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rules are asked for: an empty set is all of them."""

    recorded: bool
    """Recording rules alone, of which there are none: all of ours are alerting rules."""
    names: frozenset[str]
    groups: frozenset[str]
    files: frozenset[str]
    with_alerts: bool

    @classmethod
    def read(cls, asked: Params) -> "Wanted":
        """Read Prometheus' filters."""
        kind = asked.get("type").lower()
        if kind not in {"", "alert", "record"}:
            raise BadQuery(f'invalid parameter "type": not supported value {kind!r}')
        without = asked.get("exclude_alerts").lower()
        if without not in _BOOLEANS:
            raise BadQuery(f'invalid parameter "exclude_alerts": {without!r} is neither true nor false')
        names, inside, files = (
            frozenset(asked.all(f"{name}[]")) for name in ("rule_name", "rule_group", "file")
        )
        return cls(kind == "record", names, inside, files, not _BOOLEANS[without])

    def has(self, rule: RuleStatus) -> bool:
        """Whether a rule is asked for."""
        file = rule.file or _OWN
        pairs = ((self.names, rule.name), (self.groups, _group(file)), (self.files, file))
        return not self.recorded and all(not some or one in some for some, one in pairs)


def _group(file: str) -> str:
    return PurePath(file).stem or file


def groups(
    rules: Sequence[RuleStatus], found: Sequence[Mapping[str, Any]], wanted: Wanted
) -> list[dict[str, Any]]:
    """Shape the rules that are asked for; a group none of whose rules is isn't there."""
    open_alerts: dict[str, list[dict[str, Any]]] = {}
    for one in found:
        if one["state"] in _STATES:
            open_alerts.setdefault(str(one["rule"]), []).append(_alert(one))
    by_file: dict[str, list[dict[str, Any]]] = {}
    for rule in filter(wanted.has, rules):
        shaped = _rule(rule, open_alerts.get(rule.name, []))
        shown = shaped if wanted.with_alerts else {**shaped, "alerts": []}
        by_file.setdefault(rule.file or _OWN, []).append(shown)
    return [
        {
            "name": _group(file),
            "file": file,
            "interval": 10,
            "limit": 0,
            "rules": inside,
            "evaluationTime": 0,
            "lastEvaluation": _NEVER,
        }
        for file, inside in by_file.items()
    ]


def _rule(rule: RuleStatus, open_alerts: list[dict[str, Any]]) -> dict[str, Any]:
    definition = rule.definition
    states = {one["state"] for one in open_alerts}
    return {
        "type": "alerting",
        "name": rule.name,
        "query": expression(rule),
        "duration": _seconds(definition.get("for")),
        "keepFiringFor": 0,
        "labels": {**definition.get("labels", {}), "severity": rule.severity},
        "annotations": {
            **definition.get("annotations", {}),
            **({"summary": definition["summary"]} if definition.get("summary") else {}),
        },
        "state": "firing" if "firing" in states else "pending" if "pending" in states else "inactive",
        "alerts": open_alerts,
        "health": {"ok": "ok", "failed": "err"}.get(rule.state, "unknown"),
        "lastError": rule.error,
        "evaluationTime": 0,
        "lastEvaluation": _NEVER,
    }


def expression(rule: RuleStatus) -> str:
    """Write a rule as PromQL: what it would be if each series were judged by itself; a rule about agents as its sentence."""
    definition = rule.definition
    if not {"select", "agg", "window", "when"} <= set(definition):
        return rule.expression
    window = definition["window"]
    # A model's duration is a number of nanoseconds once it is read.
    length = f"{window // 1_000_000}ms" if isinstance(window, int) else window
    return f"{definition['agg']}_over_time({definition['select']}[{length}]) {definition['when']}"


def _seconds(duration: object) -> float:
    if isinstance(duration, int):
        return duration / NS
    try:
        return parse_duration(duration) / NS if isinstance(duration, str) else 0.0
    except TimeError:
        return 0.0
