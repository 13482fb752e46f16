"""`telemetryx convert`: what `telemetryx-agent spool export` wrote (NDJSON) as Parquet, a file a kind.

samples.parquet (time, name, site, device, labels, unit, value, flags) · windows.parquet (start, length, …, count, sum, min,
max, first, first_time, last, last_time, bins) · events.parquet (time, source, severity, body, attributes). Labels, attributes
and bins are JSON texts. The columns are those of `telemetryx sql`, and at the end of each file boot and since_boot (of windows
first_since_boot and last_since_boot too): where nobody knew when a host's boot was, the times are null, and counted from that
boot. It streams: memory doesn't grow with the file.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.output import count
from telemetryx.cli.targets import needs_folder, of_disk
from telemetryx.cli.text import printable

KINDS: Final = ("sample", "window", "event")


def run(source: str, folder: Path, *, force: bool) -> None:
    """Read, sort by kind, write; a kind that doesn't occur gets no file."""
    try:
        import polars as pl
    except ImportError as error:
        raise CliError(
            "`telemetryx convert` needs Polars, which isn't installed",
            "pip install 'telemetryx[sql]'",
            Exit.USAGE,
        ) from error
    if source != "-":
        _readable(source)
    needs_folder(folder)
    targets = {kind: folder / f"{kind}s.parquet" for kind in KINDS}
    there = [str(path) for path in targets.values() if path.exists()]
    if there and not force:
        raise CliError(
            f"{', '.join(there)} would be overwritten", "name another folder, or give --force", Exit.USAGE
        )
    try:
        folder.mkdir(exist_ok=True)
        with _file(source, folder) as path:
            lines = pl.scan_ndjson(path, schema=_schema(pl))
            written = {kind: _write(pl, lines, kind, target) for kind, target in targets.items()}
    except (OSError, pl.exceptions.PolarsError) as error:
        failed = of_disk(error)
        if failed is not None:
            raise CliError(
                f"{source} can't be converted into {folder}: {failed.strerror or failed}",
                "free some space there, or name another folder",
            ) from error
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CliError(
            f"{source} is not what `telemetryx-agent spool export` writes: {printable(first)}",
            "a file that was cut short misses the end of its last line",
        ) from error
    rows = [f"{count(rows, kind)} in {targets[kind]}" for kind, rows in written.items() if rows]
    if not rows:
        raise CliError(f"{source} holds no reading")
    sys.stdout.write("\n".join(rows) + "\n")


def _readable(source: str) -> None:
    """Name what isn't there or may not be read, before a folder is made for it."""
    try:
        with Path(source).open("rb"):
            pass
    except OSError as error:
        raise CliError(
            f"{source} can't be read: {error.strerror or error}",
            "name what `telemetryx-agent spool export` wrote, or - for standard input",
        ) from error


@contextmanager
def _file(source: str, folder: Path) -> Iterator[Path]:
    """Give the source as a file: standard input is copied first, since it is read once for each kind."""
    if source != "-":
        yield Path(source)
        return
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".convert-", suffix=".ndjson") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        copy.flush()
        yield Path(copy.name)


def _schema(pl: Any) -> dict[str, Any]:  # noqa: ANN401  Polars is untyped here
    """Every key of every kind. Floats are read as text: JSON has no NaN and no infinity, which are texts in it."""
    text, whole = pl.String, pl.Int64
    edge = pl.Struct({"time_ns": whole, "since_boot_ns": whole, "value": text})
    return {
        **dict.fromkeys(("kind", "name", "labels", "unit", "value", "sum", "min", "max", "bins"), text),
        **dict.fromkeys(("source", "severity", "body", "attributes", "boot"), text),
        **dict.fromkeys(("time_ns", "start_ns", "length_ns", "since_boot_ns", "flags"), whole),
        "count": pl.UInt64,
        "first": edge,
        "last": edge,
    }


def _write(pl: Any, lines: Any, kind: str, target: Path) -> int:  # noqa: ANN401
    """Write one kind's rows beside the target, then give the file its name; return how many."""
    fresh = target.with_name(f".{target.name}.new")
    try:
        lines.filter(pl.col("kind") == kind).select(_columns(pl, kind)).sink_parquet(fresh)
        rows = int(pl.scan_parquet(fresh).select(pl.len()).collect().item())
        if rows:
            fresh.replace(target)
        return rows
    finally:
        fresh.unlink(missing_ok=True)


def _columns(pl: Any, kind: str) -> list[Any]:  # noqa: ANN401
    def time(name: str) -> Any:  # noqa: ANN401
        return pl.col(name).cast(pl.Datetime("ns", "UTC"))

    def span(column: Any) -> Any:  # noqa: ANN401
        return column.cast(pl.Duration("ns"))

    def floats(column: Any) -> Any:  # noqa: ANN401
        return column.cast(pl.Float64)

    boot = ["boot", span(pl.col("since_boot_ns")).alias("since_boot")]

    label = pl.col("labels").str.json_path_match
    series = [
        "name",
        label("$.site").alias("site"),
        label("$.device").alias("device"),
        "labels",
        "unit",
    ]
    if kind == "sample":
        return [
            time("time_ns").alias("time"),
            *series,
            floats(pl.col("value")),
            pl.col("flags").cast(pl.UInt8),
            *boot,
        ]
    if kind == "event":
        return [time("time_ns").alias("time"), "source", "severity", "body", "attributes", *boot]
    return [
        time("start_ns").alias("start"),
        span(pl.col("length_ns")).alias("length"),
        *series,
        "count",
        *(floats(pl.col(name)) for name in ("sum", "min", "max")),
        *(
            column
            for name in ("first", "last")
            for column in (
                floats(pl.col(name).struct.field("value")).alias(name),
                pl.col(name).struct.field("time_ns").cast(pl.Datetime("ns", "UTC")).alias(f"{name}_time"),
            )
        ),
        "bins",
        *boot,
        *(
            span(pl.col(name).struct.field("since_boot_ns")).alias(f"{name}_since_boot")
            for name in ("first", "last")
        ),
    ]
