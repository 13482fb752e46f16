"""Does the store hold together? The engine's own check, then that ledger, batches and chunks agree."""

from telemetryx.errors import StoreError
from telemetryx.store.tables import chunks, reading
from telemetryx.store.tables.blocks import Correction
from telemetryx.store.tables.database import Database
from telemetryx.store.tables.numbers import Numbers


def verify(connection: Database, numbers: Numbers) -> list[str]:
    """Return the problems found, as sentences."""
    problems = connection.faults()
    problems += _ledger(connection)
    problems += _batches(connection, numbers)
    problems += _chunks(connection)
    return problems


def _ledger(connection: Database) -> list[str]:
    problems = []
    before: tuple[int, int] | None = None
    for epoch, first, last in connection.execute(
        "SELECT epoch_id, first, last FROM ledger ORDER BY epoch_id, first"
    ):
        if last < first or first < 1:
            problems.append(f"ledger: epoch {epoch} has a range {first} to {last}")
        if before is not None and before[0] == epoch and first <= before[1] + 1:
            problems.append(f"ledger: epoch {epoch} has ranges that overlap or touch at {first}")
        before = (epoch, last)
    problems += [
        f"batch row {row[0]} (epoch {row[1]}, seq {row[2]}) isn't in the ledger"
        for row in connection.execute(
            "SELECT id, epoch_id, seq FROM batch WHERE NOT EXISTS (SELECT 1 FROM ledger WHERE ledger.epoch_id = batch.epoch_id "
            "AND first <= seq AND last >= seq)"
        )
    ]
    problems += [
        f"chunk {row[0]} (epoch {row[1]}, seqs {row[2]} to {row[3]}) isn't in the ledger"
        for row in connection.execute(
            "SELECT id, epoch_id, seq_first, seq_last FROM chunk WHERE NOT EXISTS (SELECT 1 FROM ledger WHERE "
            "ledger.epoch_id = chunk.epoch_id AND first <= seq_first AND last >= seq_last)"
        )
    ]
    problems += [
        f"batch row {row[0]} (epoch {row[1]}, seq {row[2]}) is in a chunk too"
        for row in connection.execute(
            "SELECT batch.id, batch.epoch_id, seq FROM batch WHERE EXISTS (SELECT 1 FROM chunk WHERE "
            "chunk.epoch_id = batch.epoch_id AND seq BETWEEN seq_first AND seq_last AND chunk.series_id IN "
            "(SELECT series_id FROM series_number WHERE series_number.epoch_id = batch.epoch_id)) LIMIT 100"
        )
    ]
    return problems


def _batches(connection: Database, numbers: Numbers) -> list[str]:
    problems = []
    for row_id, epoch, offset, uncertain, samples, payload in connection.stream(
        "SELECT id, epoch_id, clock_offset_ns, clock_uncertain, samples, payload FROM batch"
    ):
        try:
            block = reading.batch_samples(
                connection,
                numbers,
                epoch,
                row_id,
                reading.decoded(row_id, payload),
                Correction(offset, bool(uncertain)),
            )
        except StoreError as error:
            problems.append(str(error))
            continue
        if len(block) != samples:
            problems.append(f"batch row {row_id} holds {len(block)} samples, not {samples}")
    return problems


def _chunks(connection: Database) -> list[str]:
    problems = []
    for row_id, t0, t1, count, times, values, flags in connection.stream(
        'SELECT id, t0_ns, t1_ns, count, times, "values", flags FROM chunk'
    ):
        try:
            when, what, _ = chunks.decode(t0, t1, count, times, values, flags)
            sound = len(when) == len(what) == count and int(when[0]) == t0 and int(when[-1]) == t1
        except (ValueError, RuntimeError, TypeError) as error:
            problems.append(f"chunk {row_id} can't be decoded: {error}")
            continue
        if not sound or bool((when[1:] < when[:-1]).any()):
            problems.append(f"chunk {row_id} doesn't hold what its row says")
    return problems
