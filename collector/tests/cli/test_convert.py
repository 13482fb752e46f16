"""`telemetryx convert`: NDJSON of an agent's spool as Parquet, value for value."""

import io
import json
import math
import os
import random
import struct
import threading
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from telemetryx.cli import convert
from telemetryx.cli.errors import CliError, Exit

#: Values at which a reader that isn't exact shows.
HARD = [0.1 + 0.2, 5e-324, 2.2250738585072011e-308, 1.7976931348623157e308, 1e22, 9007199254740993.0]


def sample(value: float | str, at: int = 1_700_000_000_123_456_789) -> dict[str, Any]:
    """Give a sample's line."""
    labels = {"device": "pump 7", "site": 'a"b'}
    return {
        "kind": "sample", "time_ns": at, "name": "temperature", "labels": labels, "unit": "Cel", "value": value, "flags": 1,
    }  # fmt: skip


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    """Write NDJSON."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def bits(values: list[float]) -> list[bytes]:
    """Give floats as their bytes, so that -0.0 and 0.0 differ."""
    return [struct.pack("<d", value) for value in values]


def test_samples_come_out_as_they_were_to_the_bit(tmp_path: Path) -> None:
    """Hard values and two thousand random bit patterns, with times to the nanosecond and labels."""
    noise = random.Random(3)
    patterns = [struct.unpack("<d", noise.randbytes(8))[0] for _ in range(2_000)]
    values = [-0.0, *HARD, *(value for value in patterns if math.isfinite(value))]
    source = write(
        tmp_path / "x.ndjson",
        [sample(value, 1_700_000_000_000_000_000 + at) for at, value in enumerate(values)],
    )
    convert.run(str(source), tmp_path / "out", force=False)
    frame = pl.read_parquet(tmp_path / "out/samples.parquet")
    columns = ["time", "name", "site", "device", "labels", "unit", "value", "flags", "boot", "since_boot"]
    assert frame.columns == columns
    assert (frame["boot"].null_count(), frame["since_boot"].null_count()) == (len(values), len(values))
    assert bits(frame["value"].to_list()) == bits(values)
    assert frame["time"].cast(pl.Int64).to_list() == [
        1_700_000_000_000_000_000 + at for at in range(len(values))
    ]
    row = frame.row(0, named=True)
    assert (row["name"], row["site"], row["device"], row["unit"], row["flags"]) == (
        "temperature",
        'a"b',
        "pump 7",
        "Cel",
        1,
    )
    assert json.loads(row["labels"]) == {"device": "pump 7", "site": 'a"b'}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["samples.parquet"]


def test_what_json_cannot_say_comes_as_text_and_becomes_a_number_again(tmp_path: Path) -> None:
    """NaN and both infinities."""
    source = write(tmp_path / "x.ndjson", [sample("NaN"), sample("Infinity"), sample("-Infinity")])
    convert.run(str(source), tmp_path, force=False)
    nan, up, down = pl.read_parquet(tmp_path / "samples.parquet")["value"].to_list()
    assert math.isnan(nan)
    assert (up, down) == (math.inf, -math.inf)


def test_windows_and_events_get_files_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All fields, from standard input."""
    window = {
        "kind": "window", "start_ns": 10, "length_ns": 60_000_000_000, "name": "t", "labels": {}, "unit": "", "count": 2, "sum": 3.5,
        "min": 1.0, "max": 2.5, "first": {"time_ns": 11, "value": 1.0}, "last": {"time_ns": 12, "value": "Infinity"},
        "bins": {"positive": [[1, 2]], "negative": [], "zero": 0},
    }  # fmt: skip
    event = {
        "kind": "event", "time_ns": 7, "source": "app", "severity": "warn", "body": 'say "hi"\nthere', "attributes": {"n": 3, "t": "x"},
    }  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in (window, event))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    convert.run("-", tmp_path, force=False)
    row = pl.read_parquet(tmp_path / "windows.parquet").row(0, named=True)
    assert (row["count"], row["sum"], row["min"], row["max"], row["first"], row["last"]) == (
        2,
        3.5,
        1.0,
        2.5,
        1.0,
        math.inf,
    )
    assert row["length"].total_seconds() == 60
    assert json.loads(row["bins"]) == window["bins"]
    row = pl.read_parquet(tmp_path / "events.parquet").row(0, named=True)
    assert (row["source"], row["severity"], row["body"]) == ("app", "warn", event["body"])
    assert json.loads(row["attributes"]) == {"n": 3, "t": "x"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.parquet", "windows.parquet"]


def test_times_of_a_boot_that_nobody_knows_are_kept_as_counted_from_it(tmp_path: Path) -> None:
    """Samples, events and windows, with the times of their first and last: what is needed to place them once it is known."""
    boot = "0f0e0d0c-0b0a-0908-0706-050403020100"
    since = {"boot": boot, "since_boot_ns": 5_000_000_001}
    edges = [
        {"time_ns": None, "boot": boot, "since_boot_ns": 5_000_000_000 + at, "value": 1.0} for at in (2, 3)
    ]
    window = {
        "kind": "window", "start_ns": None, **since, "length_ns": 10, "name": "t", "labels": {}, "unit": "", "count": 2, "sum": 3.5,
        "min": 1.0, "max": 2.5, "first": edges[0], "last": edges[1], "bins": {"positive": [], "negative": [], "zero": 2},
    }  # fmt: skip
    event = {
        "kind": "event", "time_ns": None, **since, "source": "app", "severity": "warn", "body": "x", "attributes": {},
    }  # fmt: skip
    lines = [{**sample(1.0), "time_ns": None, **since}, sample(2.0), window, event]
    convert.run(str(write(tmp_path / "x.ndjson", lines)), tmp_path, force=False)
    for kind, time in ("samples", "time"), ("windows", "start"), ("events", "time"):
        frame = pl.read_parquet(tmp_path / f"{kind}.parquet").with_columns(
            pl.col("since_boot").cast(pl.Int64)
        )
        row = frame.row(0, named=True)
        assert (row[time], row["boot"], row["since_boot"]) == (None, boot, 5_000_000_001)
    known = pl.read_parquet(tmp_path / "samples.parquet").row(1, named=True)
    assert known["time"] is not None
    assert (known["boot"], known["since_boot"]) == (None, None)
    frame = pl.read_parquet(tmp_path / "windows.parquet")
    ends = [frame[f"{name}_since_boot"].cast(pl.Int64).item() for name in ("first", "last")]
    assert ends == [5_000_000_002, 5_000_000_003]
    assert frame["first_time"].item() is None


def test_files_that_are_there_stay_unless_forced(tmp_path: Path) -> None:
    """The second run is refused and changes nothing; with force it replaces."""
    source = write(tmp_path / "x.ndjson", [sample(1.0)])
    convert.run(str(source), tmp_path, force=False)
    write(source, [sample(2.0)])
    with pytest.raises(CliError, match="overwritten"):
        convert.run(str(source), tmp_path, force=False)
    assert pl.read_parquet(tmp_path / "samples.parquet")["value"].to_list() == [1.0]
    convert.run(str(source), tmp_path, force=True)
    assert pl.read_parquet(tmp_path / "samples.parquet")["value"].to_list() == [2.0]


def test_the_folder_is_made_and_what_it_lies_in_is_not(tmp_path: Path) -> None:
    """A path that was mistyped makes none."""
    source = write(tmp_path / "x.ndjson", [sample(1.0)])
    convert.run(str(source), tmp_path / "made", force=False)
    assert (tmp_path / "made/samples.parquet").exists()
    with pytest.raises(CliError, match=r"folder .*no isn't there"):
        convert.run(str(source), tmp_path / "no/made", force=False)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("name", ["missing", ""], ids=["missing", "a folder"])
def test_a_source_that_cannot_be_read_is_named_and_no_folder_is_made(tmp_path: Path, name: str) -> None:
    """It is the source that is wrong, not the room on the disk."""
    with pytest.raises(CliError, match="can't be read") as refused:
        convert.run(str(tmp_path / name), tmp_path / "made", force=False)
    assert str(tmp_path) in str(refused.value)
    assert not (tmp_path / "made").exists()


EVENT = {"kind": "event", "time_ns": 7, "source": "app", "severity": "warn", "body": "x", "attributes": {}}
GOOD = json.dumps(sample(1.0))


@pytest.mark.parametrize(
    ("content", "said", "remedy"),
    [
        ("", "holds no reading", "spool ls"),
        ("no json\n", r"line 1 is not JSON: Expecting value at column 1", "spool export"),
        (f"{GOOD}\n\nno json\n{GOOD}\n", r"line 3 is not JSON", "mend that line"),
        (f'{GOOD}\n{{"kind":"sam', "line 2 stops in the middle of a record: the file was cut short", "again"),
        ("cpu,host=a usage=1 17\n", "line protocol; .* reads NDJSON", "without --format line"),
        ('[{"kind":"sample"}]', "a JSON array", "jq"),
        ("PAR1\0", "Parquet file already", "no conversion"),
        ("5\n", "line 1: 5 is no object", "spool export"),
        ('{"agent":"a"}\n', 'line 1: no "kind"; records have sample, window and event', "spool export"),
        (f'{GOOD}\n{{"kind":"trace"}}\n', 'line 2: there is no kind of record "trace"', "mend"),
        (
            GOOD.replace("1700000000123456789", '"soon"'),
            '"time_ns" is "soon": a whole number',
            "spool export",
        ),
        (GOOD.replace('"value": 1.0', '"value": "abc"'), '"value" is "abc": a number', "spool export"),
        (
            GOOD.replace('"value": 1.0', f'"value": -{5_000 * "1"}'),
            "line 1: a number of 5,000 digits is no reading's",
            "spool export",
        ),
        (GOOD.replace('"value": 1.0', '"value": NaN'), 'written as a text: "NaN"', "spool export"),
        (GOOD.replace('"flags": 1', '"flags": 300'), '"flags" is 300: .*from 0 to 255', "spool export"),
        (GOOD.replace('"name"', '"nome"'), 'no "name": a text is needed', "spool export"),
        (
            f"{GOOD}\n" + json.dumps(EVENT | {"severity": "loud"}),
            'line 2: "severity" is "loud": one of trace, .* and fatal',
            "mend",
        ),
        (
            json.dumps(EVENT | {"severity": "\x1b[31m" + 9_000 * "x"}),
            r"u001b\[31mx+… \([\d,]+ characters\)",
            "",
        ),
    ],
)
def test_what_is_no_export_is_refused_with_line_and_remedy_and_leaves_nothing(
    tmp_path: Path, content: str, said: str, remedy: str
) -> None:
    """Empty, cut short, malformed, or of another kind: the words are about that, no reader's own, and the folder is gone again."""
    source = tmp_path / "x.ndjson"
    source.write_text(content)
    with pytest.raises(CliError, match=said) as refused:
        convert.run(str(source), tmp_path / "out", force=False)
    assert remedy in refused.value.hint
    assert ("cut short" in refused.value.message) == ("cut short" in said)
    assert "TapeError" not in refused.value.message
    assert not (tmp_path / "out").exists()


def test_no_kind_is_replaced_when_another_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files get their names together."""
    source = write(tmp_path / "x.ndjson", [sample(1.0)])
    convert.run(str(source), tmp_path / "out", force=False)
    columns = convert._columns

    def full(polars: Any, kind: str) -> list[Any]:
        if kind == "event":
            raise OSError(28, "No space left on device")
        return columns(polars, kind)

    monkeypatch.setattr(convert, "_columns", full)
    write(source, [sample(2.0)])
    with pytest.raises(CliError, match="out can't be written: No space left"):
        convert.run(str(source), tmp_path / "out", force=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["samples.parquet"]
    assert pl.read_parquet(tmp_path / "out/samples.parquet")["value"].to_list() == [1.0]


def test_a_pipe_is_read_as_standard_input_is(tmp_path: Path) -> None:
    """`<(zcat FILE)` of a shell can be read only once."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=write, args=(pipe, [sample(1.0), EVENT]))
    writer.start()
    convert.run(str(pipe), tmp_path / "out", force=False)
    writer.join()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["events.parquet", "samples.parquet"]


def test_a_pipe_that_nobody_writes_into_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For longer than it takes whoever writes to come."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setattr(convert, "PATIENCE_S", 0.0)
    with pytest.raises(CliError, match="nobody writes into") as refused:
        convert.run(str(pipe), tmp_path / "out", force=False)
    assert refused.value.code is Exit.USAGE
    assert not (tmp_path / "out").exists()


def test_a_folder_in_a_files_place_is_left_as_it_is(tmp_path: Path) -> None:
    """Whatever --force says, and before anything is written."""
    source = write(tmp_path / "x.ndjson", [sample(1.0), EVENT])
    (tmp_path / "out/samples.parquet").mkdir(parents=True)
    (tmp_path / "out/samples.parquet/kept").write_text("")
    for force in (False, True):
        with pytest.raises(CliError, match="is a folder, and is left as it is"):
            convert.run(str(source), tmp_path / "out", force=force)
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["samples.parquet", "kept"]


def test_bytes_that_are_no_text_are_not_taken_for_line_protocol(tmp_path: Path) -> None:
    """Whatever they look like: the line that is garbled is named."""
    source = tmp_path / "x"
    for garbled, line in (
        (b"\x01\x02\xff a=1\n", 1),
        (b"\x01\x02 a=1\n", 1),
        (GOOD.encode() + b"\n\x80\xfe\n", 2),
    ):
        source.write_bytes(garbled)
        with pytest.raises(CliError, match=f"line {line} is not (UTF-8 text|JSON)") as refused:
            convert.run(str(source), tmp_path / "out", force=False)
        assert "line protocol" not in refused.value.message


def test_a_program_reads_what_was_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows and files by kind."""
    source = write(tmp_path / "x.ndjson", [sample(1.0), sample(2.0)])
    convert.run(str(source), tmp_path / "out", force=False, as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "rows": {"sample": 2, "window": 0, "event": 0},
        "files": {"sample": f"{tmp_path}/out/samples.parquet"},
    }


def test_a_file_or_a_device_is_no_folder(tmp_path: Path) -> None:
    """Nothing is said of room on the disk."""
    source = write(tmp_path / "x.ndjson", [sample(1.0)])
    for folder in (source, Path("/dev/full")):
        with pytest.raises(CliError, match="is no folder") as refused:
            convert.run(str(source), folder, force=False)
        assert "name a folder" in refused.value.hint
    with pytest.raises(CliError, match="it is a device"):
        convert.run("/dev/zero", tmp_path / "out", force=False)


def test_a_standard_input_that_is_closed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a service manager or `<&-` leaves it."""
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(CliError, match="standard input is closed"):
        convert.run("-", tmp_path / "out", force=False)
    assert not (tmp_path / "out").exists()
