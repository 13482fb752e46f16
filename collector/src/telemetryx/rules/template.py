"""The texts of an alert: `{{ labels.device }}` and `{{ value }}` in a rule's summary and annotations.

A template can only name what an alert has, so a typing error is found when the file is read and rendering can't fail.
Prometheus's spelling with a dollar (`{{ $labels.device }}`, `{{ $value }}`) means the same.
"""

import re
from collections.abc import Mapping
from typing import Final

FIELDS: Final = ("value", "threshold", "rule", "severity")
#: What a rendered text may have at most; labels come from outside.
LONGEST: Final = 1_000

_PLACE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_NAME = re.compile(r"\s*\$?(?:labels\.([A-Za-z_][A-Za-z0-9_.\-]*)|([a-z]+))\s*", re.ASCII)


def check(template: str) -> str:
    """Return the template, or raise ValueError with the placeholder that means nothing."""
    for inner in _PLACE.findall(template):
        match = _NAME.fullmatch(inner)
        if match is None or (match[2] is not None and match[2] not in FIELDS):
            raise ValueError(
                f"{{{{{inner}}}}} means nothing here: write {{{{ labels.NAME }}}}, {{{{ {' }}, {{ '.join(FIELDS)} }}}}"
            )
    return template


def render(
    template: str,
    labels: Mapping[str, str],
    value: float | None,
    threshold: float | None,
    rule: str,
    severity: str,
) -> str:
    """Fill a checked template; a label that the alert lacks is empty."""
    fields = {"value": number(value), "threshold": number(threshold), "rule": rule, "severity": severity}

    def place(match: re.Match[str]) -> str:
        name = _NAME.fullmatch(match[1])
        if name is None:  # refused by check()
            return match[0]
        return labels.get(name[1], "") if name[1] is not None else fields.get(name[2], "")

    return _PLACE.sub(place, template)[:LONGEST]


def number(value: float | None) -> str:
    """Write a number for people: six significant digits."""
    return "" if value is None else f"{value:.6g}"
