"""Rule files: what is read, and that each mistake is named with file, line and what to write."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetryx.rules import RulesError, check_text, load_rules
from telemetryx.rules.comparison import Comparison
from telemetryx.rules.model import LinkRule, MetricRule

GOOD = """\
rules:
  - name: pump hot
    select: temperature{device=~"pump.*"}
    window: 1m
    when: "> 80"
    for: 2m
    recover_when: "< 75"
    severity: critical
    labels: {team: water}
    summary: "{{ labels.device }} has {{ value }}"
"""


def problems(text: str) -> list[str]:
    """Return what is wrong with a file."""
    return check_text(text, "my.yaml")[1]


def test_a_rule_is_read_with_its_defaults() -> None:
    """Durations become nanoseconds, comparisons operators and thresholds."""
    (rule,), wrong = check_text(GOOD, "my.yaml")
    assert wrong == []
    assert isinstance(rule, MetricRule)
    assert (rule.window, rule.for_, rule.interval) == (60 * 10**9, 120 * 10**9, 10 * 10**9)
    assert rule.when == Comparison(">", 80.0)
    assert (rule.agg, rule.group_by, rule.enabled) == ("avg", None, True)


def test_the_default_rules_load() -> None:
    """Agent silent and host metric anomalous work out of the box."""
    rules = load_rules([]).rules
    assert set(rules) == {"agent silent", "host metric anomalous"}
    silent, anomalous = rules["agent silent"], rules["host metric anomalous"]
    assert isinstance(silent, LinkRule)
    assert silent.after == 120 * 10**9
    assert isinstance(anomalous, MetricRule)
    assert str(anomalous.recover_when) == "< 0.8"


@pytest.mark.parametrize(
    ("change", "line", "says"),
    [
        (("window: 1m", "windw: 1m"), 4, "did you mean `window`?"),
        (("    window: 1m\n", ""), 2, "`window` is missing"),
        (("window: 1m", "window: 60"), 4, "is not a duration: write a number and a unit"),
        (("window: 1m", "window: 5s"), 2, "shorter than the interval"),
        (('when: "> 80"', 'when: "hot"'), 5, "a comparison is an operator"),
        (('when: "> 80"', "when: > 80"), 5, 'must stand in quotes: when: "> 80"'),
        (('recover_when: "< 75"', 'recover_when: "< 85"'), 2, "can be true at once"),
        (("severity: critical", "severity: fatal"), 8, "'info', 'warning' or 'critical'"),
        (("team: water", "severity: water"), 2, "is set by the alert itself"),
        (("labels.device", "label.device"), 10, "means nothing here"),
        (('device=~"pump.*"', 'device=~"pump(*"'), 3, "regular expression"),
        (('device=~"pump.*"', "device=pump"), 3, "in quotes"),
        (("for: 2m", "kind: metrik"), 6, "write metric or link"),
        (("name: pump hot", "name: pump hot\n    name: again"), 3, "stands here twice"),
        (("labels: {team: water}", "labels: &a {team: water}\n    annotations: *a"), 10, "aliases"),
        (("rules:", "rule:"), 1, "did you mean `rules`?"),
        (("rules:\n  - name", "rules:\n    name"), 1, "`rules` must be a list"),
        (("for: 2m", "group_by: [model_version]"), 2, "new version of the model"),
        (("for: 2m", "group_by: ['a b']"), 6, "group_by.0"),
    ],
)
def test_each_mistake_is_named_with_its_line_and_the_fix(
    change: tuple[str, str], line: int, says: str
) -> None:
    """An operator reads one sentence and knows what to write."""
    text = GOOD.replace(*change)
    assert text != GOOD
    found = problems(text)
    assert found
    assert found[0].startswith(f"my.yaml:{line}: ")
    assert says in found[0]


def test_all_problems_of_all_files_come_at_once(tmp_path: Path) -> None:
    """Two files, a missing one, and a name that is used twice: four problems."""
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(GOOD.replace("window", "wimdow"))
    two.write_text(GOOD + GOOD.removeprefix("rules:\n"))
    with pytest.raises(RulesError) as caught:
        load_rules([one, two, tmp_path / "none.yaml"])
    assert len(caught.value.problems) == 4
    assert any("can't be read" in problem for problem in caught.value.problems)
    assert any("is already in" in problem for problem in caught.value.problems)


def test_a_bomb_is_refused_before_it_grows() -> None:
    """Aliases that expand to billions, depth without end, a huge file."""
    assert "aliases" in problems("a: &a [x, x]\nb: &b [*a, *a]\nrules: [*b, *b]\n")[0]
    assert problems("rules: " + "[" * 3_000)
    assert problems("rules: " + "[" * 500 + "]" * 500)
    assert "MiB" in problems("#" * (2 << 20))[0]


@given(st.text(max_size=200))
def test_no_text_makes_the_reader_fail(text: str) -> None:
    """It returns problems, whatever it is given."""
    check_text(text, "x")
    check_text("rules:\n  - " + text, "x")
    check_text(GOOD.replace("pump hot", text), "x")


@given(
    st.sampled_from([">", ">=", "<", "<=", "==", "!="]),
    st.sampled_from([">", ">=", "<", "<=", "==", "!="]),
    st.integers(-3, 3),
    st.integers(-3, 3),
)
def test_overlap_is_found_exactly(one: str, other: str, left: int, right: int) -> None:
    """Two comparisons overlap when some number meets both."""
    a, b = Comparison.parse(f"{one} {left}"), Comparison.parse(f"{other} {right}")
    fine = np.arange(-40, 41) / 8
    assert a.overlaps(b) == bool(np.any(a.holds(fine) & b.holds(fine)))
