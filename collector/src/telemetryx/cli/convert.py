"""`telemetryx convert`: what `telemetryx-agent spool export` wrote (NDJSON) as Parquet, a file a kind.

samples.parquet (time, name, site, device, labels, unit, value, flags) · windows.parquet (start, length, …, count, sum, min,
max, first, first_time, last, last_time, bins) · events.parquet (time, source, severity, body, attributes). Labels, attributes
and bins are JSON texts. The columns are those of `telemetryx sql`, and at the end of each file boot and since_boot (of windows
first_since_boot and last_since_boot too): where nobody knew when a host's boot was, the times are null, and counted from that
boot. It streams: memory doesn't grow with the file.
"""

import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

from telemetryx.cli import exported, frames
from telemetryx.cli.errors import CliError, Exit
from telemetryx.cli.exported import KINDS, SEVERITIES
from telemetryx.cli.output import count, said
from telemetryx.cli.targets import needs_folder, needs_no_file, of_disk, shown, told
from telemetryx.cli.text import printable, shortened

_STDIN: Final = "-"
PATIENCE_S: Final = 5.0
"""How long is waited for whoever writes into a pipe, as the agent does."""
_LOOK_S: Final = 0.02
_NAME_IT: Final = "name what `telemetryx-agent spool export` wrote, or - for standard input"


def run(source: str, folder: Path, *, force: bool, as_json: bool = False) -> None:
    """Read, sort by kind, write; a kind that doesn't occur gets no file."""
    pl = frames.polars("`telemetryx convert`")
    if source == _STDIN and sys.stdin is None:
        raise CliError("standard input is closed", _NAME_IT, Exit.USAGE)
    straight = source != _STDIN and _is_plain(Path(source))
    _refuse_taken(folder, force=force)
    name = "standard input" if source == _STDIN else shown(Path(source))
    with _made(folder), _file(source, folder, straight=straight) as path:
        written = _converted(pl, path, folder, name)
        if not any(written.values()):
            raise CliError(
                f"{name} holds no reading", "was the spool empty? `telemetryx-agent spool ls` says"
            )
    files = {kind: _target(folder, kind) for kind, rows in written.items() if rows}
    said(
        {"rows": written, "files": {kind: str(file) for kind, file in files.items()}},
        "\n".join(f"{count(written[kind], kind)} in {file}" for kind, file in files.items()),
        as_json=as_json,
    )


def _converted(pl: Any, path: Path, folder: Path, name: str) -> dict[str, int]:  # noqa: ANN401  Polars is untyped here
    said: Exception | None = None
    try:
        lines = pl.scan_ndjson(path, schema=_schema(pl))
        if lines.filter(_unsound(pl)).head(1).collect().is_empty():
            return _write(pl, lines, folder)
    except (OSError, pl.exceptions.PolarsError) as error:
        if of_disk(error) is not None:
            with told(folder):
                raise
        said = error
    raise exported.fault(path, name) or _strange(name, said) from said


def _target(folder: Path, kind: str) -> Path:
    return folder / f"{kind}s.parquet"


def _refuse_taken(folder: Path, *, force: bool) -> None:
    """Refuse a place that can't be written or has such files already, before anything is made there."""
    needs_folder(folder)
    needs_no_file(folder)
    with told(folder):
        found = [path for path in (_target(folder, kind) for kind in KINDS) if path.exists()]
        strange = next((path for path in found if not path.is_file()), None)
    if strange is not None:
        # Not even --force means that.
        what = "a folder" if strange.is_dir() else "no file"
        raise CliError(f"{shown(strange)} is {what}, and is left as it is", "name another folder", Exit.USAGE)
    there = [shown(path) for path in found]
    if there and not force:
        raise CliError(
            f"{', '.join(there)} would be overwritten", "name another folder, or give --force", Exit.USAGE
        )


def _is_plain(source: Path) -> bool:
    """Tell whether it can be read more than once; refuse what isn't there or may not be read, before a folder is made for it."""
    try:
        mode = source.stat().st_mode
        # A pipe waits for who writes to it, and is opened only once.
        if not stat.S_ISFIFO(mode):
            with source.open("rb"):
                pass
    except OSError as error:
        raise CliError(
            f"{shown(source)} can't be read: {error.strerror or error}", _NAME_IT, Exit.USAGE
        ) from error
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise CliError(f"{shown(source)} can't be read: it is a device", _NAME_IT, Exit.USAGE)
    return stat.S_ISREG(mode)


def _strange(name: str, said: Exception | None) -> CliError:
    """Say what Polars said of lines in which nothing is found wrong."""
    first = next(iter(str(said or "").strip().splitlines()), type(said).__name__)
    return CliError(
        f"{name} can't be read as what `telemetryx-agent spool export` writes: {printable(shortened(first))}",
        "export it again, with an agent of this version",
    )


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make the folder where it isn't there; when what is done in it fails, it is gone again."""
    fresh = not folder.exists()
    with told(folder):
        folder.mkdir(exist_ok=True)
    try:
        yield
    except BaseException:
        if fresh:
            with suppress(OSError):  # somebody else's files may be in it by now
                folder.rmdir()
        raise


@contextmanager
def _file(source: str, folder: Path, *, straight: bool) -> Iterator[Path]:
    """Give the source as a file: standard input and pipes are copied first, since it is read once for each kind."""
    if straight:
        yield Path(source)
        return
    with told(folder):
        copy = tempfile.NamedTemporaryFile(dir=folder, prefix=".convert-", suffix=".ndjson")  # noqa: SIM115 - closed below
    with copy:
        with told(folder):
            if source == _STDIN:
                shutil.copyfileobj(sys.stdin.buffer, copy)
            else:
                _drained(Path(source), copy)
            copy.flush()
        yield Path(copy.name)


def _drained(source: Path, into: IO[bytes]) -> None:
    """Copy what somebody writes into a pipe. Without a writer it would be waited for, for ever."""
    with os.fdopen(os.open(source, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as pipe:
        until = time.monotonic() + PATIENCE_S
        # b"" is a pipe that nobody has open to write, None one from which nothing came yet.
        while (first := pipe.read(1)) == b"":
            if time.monotonic() >= until:
                raise CliError(
                    f"nobody writes into {shown(source)}",
                    "start what writes into this pipe first, or name a file",
                    Exit.USAGE,
                )
            time.sleep(_LOOK_S)
        into.write(first or b"")
        os.set_blocking(pipe.fileno(), True)
        shutil.copyfileobj(pipe, into)


def _unsound(pl: Any) -> Any:  # noqa: ANN401
    """Tell rows that lack what their kind must have: what it may not find, `exported.fault` names with its line."""
    kind = pl.col("kind")

    def lacks(*names: str) -> Any:  # noqa: ANN401
        return pl.any_horizontal(pl.col(*names).is_null())

    def no_number(column: Any) -> Any:  # noqa: ANN401
        return column.cast(pl.Float64, strict=False).is_null()

    def no_time(of: Any, name: str) -> Any:  # noqa: ANN401
        return of(name).is_null() & of("since_boot_ns").is_null()

    def edge(name: str) -> Any:  # noqa: ANN401
        def of(key: str) -> Any:  # noqa: ANN401
            return pl.col(name).struct.field(key)

        return no_time(of, "time_ns") | no_number(of("value"))

    numbers = pl.any_horizontal([no_number(pl.col(name)) for name in ("sum", "min", "max")])
    faults = {
        "sample": lacks("name")
        | no_time(pl.col, "time_ns")
        | no_number(pl.col("value"))
        | ~pl.col("flags").fill_null(0).is_between(0, 255),
        "window": lacks("name", "length_ns", "count")
        | no_time(pl.col, "start_ns")
        | numbers
        | edge("first")
        | edge("last"),
        "event": lacks("source", "body")
        | no_time(pl.col, "time_ns")
        | ~pl.col("severity").fill_null("").is_in(list(SEVERITIES)),
    }
    known = [(kind == name) & fault for name, fault in faults.items()]
    return ~kind.is_in(list(KINDS)).fill_null(value=False) | pl.any_horizontal(known).fill_null(value=False)


def _schema(pl: Any) -> dict[str, Any]:  # noqa: ANN401
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


def _write(pl: Any, lines: Any, folder: Path) -> dict[str, int]:  # noqa: ANN401
    """Write every kind's rows beside their targets, then give the files their names, together; return how many of each."""
    fresh = {kind: folder / f".{kind}s.parquet.new" for kind in KINDS}
    written = {}
    try:
        for kind, path in fresh.items():
            lines.filter(pl.col("kind") == kind).select(_columns(pl, kind)).sink_parquet(path)
            written[kind] = int(pl.scan_parquet(path).select(pl.len()).collect().item())
        for kind, rows in written.items():
            if rows:
                fresh[kind].replace(_target(folder, kind))
    finally:
        for path in fresh.values():
            path.unlink(missing_ok=True)
    return written


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
