"""A fleet that returns at once: everyone gets a turn, in order, and the load never exceeds the rate."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from telemetryx.gateway.admission import BURST_S, EARLY_S, Admission
from telemetryx.gateway.credit import LEAST, Pool


@dataclass
class Watch:
    """A clock that the test moves."""

    now: float = 1_000.0

    def __call__(self) -> float:
        """Read it."""
        return self.now


@given(
    st.integers(1, 200),
    st.floats(1.0, 100.0),
    st.lists(st.tuples(st.integers(0, 199), st.floats(0.0, 0.5)), max_size=300),
)
def test_any_pattern_of_hellos_stays_within_the_rate(
    agents: int, rate: float, hellos: list[tuple[int, float]]
) -> None:
    """Whoever knocks how often: by any moment no more have entered than there were turns until then."""
    watch = Watch()
    book = Admission(rate, watch)
    entered: list[float] = []
    for agent, later in hellos:
        watch.now += later
        if book.wait_s(f"agent-{agent % agents}") == 0.0:
            entered.append(watch.now)
    for count, moment in enumerate(entered, start=1):
        assert count <= rate * (moment - 1_000.0 + BURST_S + EARLY_S) + 1


def test_a_fleet_that_obeys_is_in_after_its_number_over_the_rate() -> None:
    """200 agents at once, 50 a second: each that comes when it was told enters at once, and nobody earlier than whoever came before."""
    watch = Watch()
    book = Admission(50.0, watch)
    begun = watch.now
    told = [(book.wait_s(f"agent-{number}"), number) for number in range(200)]
    waiting = [(wait, number) for wait, number in told if wait > 0]
    assert len(told) - len(waiting) == 50
    assert waiting == sorted(waiting)
    for wait, number in waiting:
        watch.now = begun + wait
        assert book.wait_s(f"agent-{number}") == 0.0
    assert watch.now - begun <= 150 / 50 + 0.1


def test_who_knocks_again_and_again_gains_nothing() -> None:
    """An agent that comes early keeps its time; one that came before it enters first."""
    watch = Watch()
    book = Admission(1.0, watch)
    assert book.wait_s("first") == 0.0
    quiet, loud = book.wait_s("quiet"), book.wait_s("loud")
    assert 0 < quiet < loud
    for _ in range(100):
        assert book.wait_s("loud") == loud
    watch.now += quiet
    assert book.wait_s("quiet") == 0.0
    assert book.wait_s("loud") == loud - quiet


def test_a_missed_turn_is_not_kept_for_ever() -> None:
    """Long after its time an agent queues again like everyone."""
    watch = Watch()
    book = Admission(1.0, watch)
    book.wait_s("first")
    due = book.wait_s("late")
    watch.now += due + 60
    assert book.wait_s("other") == 0.0
    assert book.wait_s("late") > 0


@given(st.integers(1, 10_000))
def test_credit_of_all_fits_the_pool_until_each_has_its_least(sessions: int) -> None:
    """With few agents each has the most; with many, together no more than the pool or the least of each."""
    pool = Pool(64 << 20, 4 << 20, lambda: sessions)
    share = pool.share()
    assert LEAST <= share <= 4 << 20
    assert share == LEAST or share * sessions <= 64 << 20
    if sessions <= 16:
        assert share == 4 << 20
