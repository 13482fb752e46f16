"""The state machine against a point-by-point model of it, and its rules one by one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from telemetryx.rules.comparison import Comparison
from telemetryx.rules.machine import INACTIVE, Episode, Machine, Phase, Terms, run

TERMS = Terms(Comparison(">", 1.0), Comparison("<", 0.5), for_ns=20, gap_ns=30)


def feed(
    terms: Terms, points: list[tuple[int, float]], start: Machine = INACTIVE, before: int = -(10**6)
) -> Machine:
    """Run points and return the last state."""
    times, values = np.array([p[0] for p in points], np.int64), np.array([p[1] for p in points])
    return run(terms, start, before, times, values).final


def stepwise(terms: Terms, points: list[tuple[int, float]]) -> tuple[Machine, list[Episode]]:
    """Do the same one point at a time."""
    machine, before, ended = INACTIVE, -(10**6), []
    for time, value in points:
        when = value > terms.when.threshold
        if machine.phase is Phase.FIRING:
            recover = terms.recover_when
            if (value < recover.threshold) if recover else not when:
                ended.append(Episode(machine.started_ns, machine.value, machine.fired_ns, time))
                machine = INACTIVE
        elif not when:
            machine = INACTIVE
        else:
            if machine.phase is Phase.INACTIVE or time - before > terms.gap_ns:
                machine = Machine(Phase.PENDING, time, 0, value)
            if time - machine.started_ns >= terms.for_ns:
                machine = Machine(Phase.FIRING, machine.started_ns, time, value)
        before = time
    return machine, ended


@given(
    st.lists(st.tuples(st.integers(1, 60), st.sampled_from([0.2, 0.7, 1.0, 1.5, 2.0])), max_size=60),
    st.sampled_from([0, 20, 45]),
    st.integers(0, 1),
    st.integers(0, 60),
)
def test_jumping_equals_stepping_and_a_run_can_be_cut_anywhere(
    steps: list[tuple[int, float]],
    for_ns: int,
    hysteresis: int,
    cut: int,
) -> None:
    """Whole, in two pieces, or point by point: states and episodes are the same."""
    terms = Terms(TERMS.when, TERMS.recover_when if hysteresis else None, for_ns, max(30, for_ns))
    times = np.cumsum([step[0] for step in steps], dtype=np.int64)
    values = np.array([step[1] for step in steps], np.float64)
    whole = run(terms, INACTIVE, -(10**6), times, values)
    assert (whole.final, whole.ended) == stepwise(
        terms, list(zip(times.tolist(), values.tolist(), strict=True))
    )
    cut = min(cut, len(times))
    first = run(terms, INACTIVE, -(10**6), times[:cut], values[:cut])
    before = int(times[cut - 1]) if cut else -(10**6)
    second = run(terms, first.final, before, times[cut:], values[cut:])
    assert second.final == whole.final
    assert first.ended + second.ended == whole.ended
    every = list(range(len(times)))
    assert whole.after(every) == first.after(every[:cut]) + second.after(list(range(len(times) - cut)))


def test_it_fires_when_the_condition_has_held_for_long_enough() -> None:
    """The alert begins where the condition did, and fires where `for` had passed."""
    assert feed(TERMS, [(0, 2.0), (10, 2.0)]) == Machine(Phase.PENDING, 0, 0, 2.0)
    assert feed(TERMS, [(0, 2.0), (10, 2.0), (20, 3.0)]) == Machine(Phase.FIRING, 0, 20, 3.0)


def test_without_for_it_fires_at_once() -> None:
    """No pending in between."""
    assert feed(Terms(TERMS.when, None, 0, 30), [(0, 2.0)]) == Machine(Phase.FIRING, 0, 0, 2.0)


def test_between_the_two_thresholds_it_keeps_firing() -> None:
    """Hysteresis: it ends by recover_when alone."""
    firing = [(0, 2.0), (20, 2.0), (30, 0.7), (40, 0.6)]
    assert feed(TERMS, firing).phase is Phase.FIRING
    assert feed(TERMS, [*firing, (50, 0.4)]) == INACTIVE


def test_a_pause_of_any_length_leaves_a_firing_alert_as_it_is() -> None:
    """Silence is no recovery, and what comes after it doesn't start a second alert."""
    assert feed(TERMS, [(0, 2.0), (20, 2.0), (10**9, 2.0)]) == Machine(Phase.FIRING, 0, 20, 2.0)


def test_a_long_pause_starts_a_pending_alert_anew() -> None:
    """`for` claims only what was seen."""
    assert feed(TERMS, [(0, 2.0), (10, 2.0), (41, 2.0)]) == Machine(Phase.PENDING, 41, 0, 2.0)
    assert feed(TERMS, [(0, 2.0), (30, 2.0)]).phase is Phase.FIRING
