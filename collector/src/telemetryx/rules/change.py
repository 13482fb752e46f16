"""From a verdict to what changes: which alerts stand now, which were never true, which are told under another start."""

from collections.abc import Iterable, Mapping

from telemetryx.rules import template
from telemetryx.rules.judge import Verdict
from telemetryx.rules.machine import Episode, ongoing
from telemetryx.rules.model import MetricRule
from telemetryx.store.alerts import Alert, AlertChange, AlertState, ChangeKind


def known_from(verdict: Verdict) -> int:
    """Return the start of the first alert that a rerun may change: the one it began in the middle of, if any."""
    going = ongoing(verdict.start)
    return going.started_ns if going else verdict.from_ns + 1


def changes(
    rule: MetricRule,
    key: str,
    labels: Mapping[str, str],
    verdict: Verdict,
    known: Iterable[Alert],
    now_ns: int,
) -> list[AlertChange]:
    """Compare what stands with what was known (`known` is only needed after a rerun), oldest first."""
    stands = {episode.started_ns: episode for episode in verdict.episodes}
    before = {alert.started_ns: alert for alert in known if _touched(alert, verdict)}
    going = ongoing(verdict.start)
    old = set(before) | ({going.started_ns} if going else set())
    found: list[AlertChange] = []
    for started in sorted(old - set(stands)):
        alert = before.get(started)
        kind = (
            ChangeKind.MOVED
            if alert is not None and _covered(alert, stands.values())
            else ChangeKind.WITHDRAWN
        )
        found.append(AlertChange(kind, rule.name, key, started, now_ns))
    last = verdict.episodes[-1] if verdict.episodes else None
    for _, episode in sorted(stands.items()):
        if episode is last and verdict.upto_ns is not None and episode.resolved_ns is None:
            continue  # it goes on where the run met what was known, so its fate is known (also that it never fired)
        if episode == going and not verdict.rerun:
            continue  # nothing happened to it
        found.append(_stands(rule, key, labels, episode, now_ns))
    return found


def _touched(alert: Alert, verdict: Verdict) -> bool:
    if alert.state in {AlertState.RETRACTED, AlertState.CLOSED}:
        return False
    return verdict.upto_ns is None or alert.started_ns <= verdict.upto_ns


def _covered(alert: Alert, episodes: Iterable[Episode]) -> bool:
    """Whether an alert that stands overlaps the time of one that doesn't any more."""
    if alert.fired_ns is None:
        return False
    end = alert.resolved_ns
    return any(
        episode.fired_ns is not None
        and (end is None or episode.started_ns < end)
        and (episode.resolved_ns is None or episode.resolved_ns > alert.started_ns)
        for episode in episodes
    )


def _stands(
    rule: MetricRule, key: str, labels: Mapping[str, str], episode: Episode, now_ns: int
) -> AlertChange:
    every = {**labels, **rule.labels}
    threshold = rule.when.threshold

    def text(source: str) -> str:
        return template.render(source, every, episode.value, threshold, rule.name, rule.severity)

    if episode.resolved_ns is not None:
        state = AlertState.RESOLVED
    else:
        state = AlertState.PENDING if episode.fired_ns is None else AlertState.FIRING
    default = f"{rule.name}: {template.number(episode.value)} (the condition is {rule.when})"
    return AlertChange(
        kind=ChangeKind.STANDS,
        rule=rule.name,
        group=key,
        started_ns=episode.started_ns,
        at_ns=now_ns,
        state=state,
        severity=rule.severity,
        labels=every,
        annotations={name: text(value) for name, value in rule.annotations.items()},
        summary=text(rule.summary) if rule.summary else default,
        value=episode.value,
        threshold=threshold,
        fired_ns=episode.fired_ns,
        resolved_ns=episode.resolved_ns,
    )
