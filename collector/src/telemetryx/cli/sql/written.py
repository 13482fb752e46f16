"""An answer as texts for programs: times, spans and numbers as the exports write them, so that either can be read by one reader.

Python's own types would cut nanoseconds, which tell two readings apart.
"""

from typing import Any, Final

import polars as pl

from telemetryx.promql.number import texts

_TIME: Final = "%H:%M:%S%.9f"
_MOMENT: Final = f"%Y-%m-%dT{_TIME}"


def written(answer: Any) -> Any:  # noqa: ANN401  Polars is untyped here
    """Write times as RFC 3339 to the nanosecond and spans as seconds, inside lists and structs too."""
    return answer.select(_written(pl.col(name), kind).alias(name) for name, kind in answer.schema.items())


def written_csv(answer: Any) -> Any:  # noqa: ANN401
    """Write numbers as texts besides."""
    return written(answer).with_columns(
        _numbers(column)
        for column in written(answer).get_columns()
        if column.dtype in {pl.Float32, pl.Float64}
    )


def _numbers(column: Any) -> Any:  # noqa: ANN401
    there = column.is_not_null()
    words = [word.decode() for word in texts(column.cast(pl.Float64).fill_null(0.0).to_numpy())]
    return pl.select(
        pl.when(there).then(pl.Series(column.name, words, dtype=pl.String)).alias(column.name)
    ).to_series()


def _written(column: Any, kind: Any) -> Any:  # noqa: ANN401
    if isinstance(kind, pl.Datetime):
        if kind.time_zone is None:
            return column.dt.strftime(_MOMENT)
        return column.dt.convert_time_zone("UTC").dt.strftime(f"{_MOMENT}Z")
    if isinstance(kind, pl.Time):
        return column.dt.strftime(_TIME)
    if isinstance(kind, pl.Duration):
        # NOTE: by a column; by a number Polars divides through its reciprocal, and 60 s become 60.00000000000001.
        nanoseconds = column.dt.total_nanoseconds().cast(pl.Float64)
        return nanoseconds / (nanoseconds * 0.0 + 1e9)
    if isinstance(kind, pl.List):
        return column.list.eval(_written(pl.element(), kind.inner))
    if isinstance(kind, pl.Struct):
        parts = [_written(column.struct.field(one.name), one.dtype).alias(one.name) for one in kind.fields]
        return pl.struct(parts)
    return column
