"""The demo's books: whatever step loses or doubles readings, the sums say so."""

from dataclasses import replace
from typing import Any

import pytest

from telemetryx.cli.books import Books, Intake, Kept

#: An earlier run of the same folder, and what this one adds: 100 taken, 10 made by the agent, 8 left out, 102 stored.
BEFORE = {"received": 1_000, "shipped": 1_000, "stored": 1_000}
CUT = {
    "received": 1_100,
    "derived": 10,
    "rejected_syntax": 3,
    "deduplicated": 2,
    "reduced_window": 3,
    "shipped": 1_102,
}
GOOD = Books(
    Kept({"edge": BEFORE}, 1_000, 1_000),
    Intake("edge", 100, CUT, idle=True),
    Kept({"edge": {**CUT, "stored": 1_102}}, 1_102, 1_102),
)


def told(books: Books, **changes: int) -> Books:
    """Change what the collector's ledger says, and what commits say they stored."""
    ledger = {**books.end.ledgers["edge"], **changes}
    return replace(books, end=replace(books.end, ledgers={"edge": ledger}, stored=ledger["stored"]))


def test_good_books_balance() -> None:
    """Every term is this run's alone, and received + derived = rejected + deduplicated + reduced + stored."""
    assert GOOD.faults() == []
    assert (GOOD.received, GOOD.cut("derived"), GOOD.stored) == (100, 10, 102)
    assert [GOOD.cut(kind) for kind in ("rejected", "deduplicated", "reduced")] == [3, 2, 3]
    assert (GOOD.lost, GOOD.duplicated, GOOD.waiting) == (0, 0, 0)


def test_a_batch_that_never_arrived_is_lost() -> None:
    """Though the collector's own numbers agree with each other."""
    less = {cause: count - 40 for cause, count in CUT.items() if cause in {"received", "shipped"}}
    books = told(GOOD, **less, stored=1_062)
    books = replace(books, end=replace(books.end, rows=1_062))
    assert books.faults() == ["40 readings missing between the agent's batches and the collector's ledger"]
    assert (books.lost, books.duplicated) == (40, 0)


def test_a_batch_that_was_acknowledged_and_not_stored_is_lost() -> None:
    """The ledger has its counts, the store says that it stored less."""
    books = replace(told(GOOD, stored=1_100), end=Kept({"edge": {**CUT, "stored": 1_100}}, 1_100, 1_100))
    assert books.faults() == ["2 readings missing between the ledger and what commits stored"]
    assert books.lost == 2


@pytest.mark.parametrize(("rows", "lost", "duplicated"), [(1_099, 3, 0), (1_109, 0, 7)])
def test_rows_are_counted_one_by_one(rows: int, lost: int, duplicated: int) -> None:
    """Rows that are gone from the store, and rows that are there twice, against what commits said."""
    books = replace(GOOD, end=replace(GOOD.end, rows=rows))
    assert (books.lost, books.duplicated, books.stored) == (lost, duplicated, rows - 1_000)
    (fault,) = books.faults()
    assert fault == (
        f"{lost} rows missing in the store" if lost else f"{duplicated} rows too many in the store"
    )


def test_what_the_inputs_took_and_no_batch_has_is_lost_once_the_agent_is_idle() -> None:
    """Until then it waits in the agent."""
    books = replace(GOOD, intake=replace(GOOD.intake, received=105))
    assert books.faults() == ["5 readings missing between the agent's inputs and its batches"]
    assert books.lost == 5
    busy = replace(books, intake=replace(books.intake, idle=False))
    assert (busy.faults(), busy.lost, busy.waiting) == ([], 0, 5)


def test_batches_that_tell_of_more_than_the_inputs_took_are_doubled() -> None:
    """Unless an earlier run is known to have left it in the agent."""
    books = replace(GOOD, intake=replace(GOOD.intake, received=60))
    assert books.duplicated == 40
    left = replace(books, carried=40)
    assert (left.faults(), left.received, left.duplicated) == ([], 100, 0)
    unknown = replace(books, carried=None)
    assert (unknown.faults(), unknown.received, unknown.duplicated) == ([], 100, 0)


def test_what_the_ledger_calls_lost_is_lost_by_its_cause_and_the_books_balance() -> None:
    """An overflow of the spool is no fault of the books."""
    books = replace(
        told(GOOD, stored=1_082, overflowed=20),
        end=Kept({"edge": {**CUT, "stored": 1_082, "overflowed": 20}}, 1_082, 1_082),
    )
    assert books.faults() == []
    assert (books.lost, books.lost_by_cause) == (20, {"overflowed": 20})


def test_the_agents_own_counts_are_held_to_the_equation() -> None:
    """A reading that is in no term between received and shipped shows."""
    cut = {**CUT, "reduced_window": 1}
    books = replace(GOOD, intake=replace(GOOD.intake, cut=cut))
    books = told(books, reduced_window=1, stored=1_102)
    assert books.faults() == [
        "the agent's own counts differ by 2: received + derived = rejected + deduplicated + reduced + shipped"
    ]


def test_other_agents_of_the_collector_count_in_no_term() -> None:
    """Their rows are left out of `stored`, and their ledgers are their own."""
    books = replace(
        GOOD,
        end=Kept({**GOOD.end.ledgers, "other": {"received": 7, "shipped": 7, "stored": 7}}, 1_109, 1_109),
    )
    assert books.faults() == []
    assert books.stored == 102


def test_an_agent_that_had_another_name_in_earlier_runs_is_the_same_agent() -> None:
    """Its batches go on counting, its ledger begins anew."""
    ledger = {cause: count - BEFORE.get(cause, 0) for cause, count in GOOD.end.ledgers["edge"].items()}
    books = replace(
        GOOD,
        start=Kept({"old": BEFORE}, 1_000, 1_000),
        end=Kept({"old": BEFORE, "edge": ledger}, 1_102, 1_102),
    )
    assert (books.faults(), books.received, books.stored) == ([], 100, 102)


def test_a_run_in_which_nothing_came_is_no_good_run() -> None:
    """0 lost of 0 says nothing."""
    books = Books(Kept({}, 0, 0), Intake("edge", 0, {}, idle=True), Kept({}, 0, 0))
    assert books.faults() == ["nothing was received"]


def test_the_status_is_read_as_the_agent_writes_it() -> None:
    """All inputs are added up; anything that is on its way means not idle."""
    fold = {"recovering": False, "behind": 0}
    spool = {"counts": {"received": 9}, "pending": False, "batches": 0, "losses": 0}
    status: dict[str, Any] = {
        "agent": "edge",
        "inputs": [{"received": 4}, {"received": 5}],
        "fold": fold,
        "spool": spool,
    }
    assert Intake.read(status) == Intake("edge", 9, {"received": 9}, idle=True)
    for part, key in (
        ("fold", "recovering"),
        ("fold", "behind"),
        ("spool", "pending"),
        ("spool", "batches"),
    ):
        assert not Intake.read({**status, part: {**status[part], key: 1}}).idle
