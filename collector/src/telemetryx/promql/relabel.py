"""label_replace and label_join: labels made of other labels, one regular expression a series."""

import re
from collections.abc import Mapping, Sequence

from telemetryx.promql.data import Labels, changed, value_of
from telemetryx.promql.errors import ExecutionFailed
from telemetryx.store.regex import RegexError, regex

_REFERENCE = re.compile(r"\$(?:(\$)|\{(\w+)\}|(\w+))")


def replace(labels: Sequence[Labels], target: str, template: str, source: str, pattern: str) -> list[Labels]:
    """Set `target` to the template where the whole of label `source` matches."""
    try:
        compiled = regex(pattern)
    except RegexError as error:
        raise ExecutionFailed(f"invalid regular expression in label_replace(): {pattern}: {error}") from error
    _check(target, "label_replace")
    return [_replaced(one, target, template, compiled.groups(value_of(one, source))) for one in labels]


def _replaced(labels: Labels, target: str, template: str, groups: Mapping[str, str] | None) -> Labels:
    if groups is None:
        return labels

    def reference(one: re.Match[str]) -> str:
        return "$" if one[1] else groups.get(one[2] or one[3], "")

    return changed(labels, target, _REFERENCE.sub(reference, template))


def join(labels: Sequence[Labels], target: str, separator: str, sources: Sequence[str]) -> list[Labels]:
    """Set `target` to the values of other labels, joined."""
    _check(target, "label_join")
    return [changed(one, target, separator.join(value_of(one, name) for name in sources)) for one in labels]


def _check(target: str, function: str) -> None:
    if not target:
        raise ExecutionFailed(f'invalid label name "" in {function}()')
