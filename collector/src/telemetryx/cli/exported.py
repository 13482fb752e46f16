"""What `telemetryx-agent spool export` writes, a record a line, and the first line of a file that is none.

`telemetryx convert` reads with Polars, which tells neither the line nor the fault in words that help. This reads line by line, and
only after something was found wrong: it is a tenth as fast. The records are those of docs/how-to/agent-tools.md.
"""

import codecs
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from telemetryx.cli.errors import CliError
from telemetryx.cli.text import printable, shortened
from telemetryx.types import Severity

KINDS: Final = ("sample", "window", "event")
SEVERITIES: Final = tuple(severity.name.lower() for severity in Severity)

_EXPORT: Final = "name what `telemetryx-agent spool export` writes, without --format line"
_MEND: Final = "mend that line or take it out: `telemetryx-agent spool export` writes none such"
_LONGEST: Final = 16 << 20
"""Bytes of a line; a batch, which holds many records, has 4 MiB at most."""
_MOST_DIGITS: Final = 310
_WHOLE: Final = range(-(1 << 63), 1 << 63)
_FLOAT_TEXTS: Final = frozenset({"NaN", "Infinity", "-Infinity"})
_LINE_PROTOCOL: Final = re.compile(rb'[^\s{"=,]+(,\S+=\S+)* +[^\s{"=,]+=\S')
#: How files of other kinds begin, what they are, and what to do.
_OTHERS: Final = (
    (b"PAR1", "a Parquet file already", "it needs no conversion"),
    (b"\x1f\x8b", "compressed (gzip)", "unpack it: `gunzip -c FILE | telemetryx convert - FOLDER`"),
    (b"\x28\xb5\x2f\xfd", "compressed (Zstandard)", "unpack it: `zstd -dc FILE | telemetryx convert - FOLDER`"),
    (b"BZh", "compressed (bzip2)", "unpack it: `bzip2 -dc FILE | telemetryx convert - FOLDER`"),
    (b"\xfd7zXZ", "compressed (xz)", "unpack it: `xz -dc FILE | telemetryx convert - FOLDER`"),
    (b"\xff\xfe", "UTF-16 text", "export with -o FILE: what a shell writes with > may be in another encoding"),
    (b"\xef\xbb\xbf", "UTF-8 text with a byte order mark", "take the first three bytes off: `tail -c +4`"),
    (b"SQLite format 3\0", "a database", "`telemetryx export` writes what is in a collector's store"),
    (b"[", "a JSON array", "write an object a line: `jq -c '.[]' FILE`"),
)  # fmt: skip


class _FaultError(ValueError):
    """What is wrong in a record."""


def fault(path: Path, source: str) -> CliError | None:
    """Find the first line that holds no record, and say which and why; `None` where all do. `source` is the file's name for people."""
    with path.open("rb") as file:
        kind = _other_kind(file)
        if kind is not None:
            what, remedy = kind
            return CliError(
                f"{source} is {what}; `telemetryx convert` reads NDJSON: an object a line", remedy
            )
        number = 0
        while line := file.readline(_LONGEST):
            number += 1
            if not line.strip():
                continue
            found = _fault_in(line, number, source)
            if found is not None:
                return found
    return None


def _other_kind(file: IO[bytes]) -> tuple[str, str] | None:
    head = file.read(4096).lstrip(b" \t\r\n")
    file.seek(0)
    other = next(((what, remedy) for begins, what, remedy in _OTHERS if head.startswith(begins)), None)
    if other is None and _is_text(head) and _LINE_PROTOCOL.match(head):
        return (
            "line protocol",
            "export it again without --format line: `telemetryx-agent spool export -o FILE`",
        )
    return other


def _is_text(head: bytes) -> bool:
    """Tell whether this is the beginning of a text: what is garbled may look like anything."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return not any(ord(character) < ord(" ") and character not in "\t\r\n" for character in text)


def _fault_in(line: bytes, number: int, source: str) -> CliError | None:
    where = f"{source}, line {number}"
    # What is wrong from the first line on is another kind of file.
    what_to_do = _EXPORT if number == 1 else _MEND
    ended = line.endswith(b"\n")
    if not ended and len(line) == _LONGEST:
        return CliError(f"{where} is longer than {_LONGEST >> 20} MiB: that is no record", _EXPORT)
    try:
        record = json.loads(line, parse_constant=_constant, parse_int=_integer)
        _check(record)
    except json.JSONDecodeError as error:
        if not ended and line.lstrip().startswith(b"{"):
            return CliError(
                f"{where} stops in the middle of a record: the file was cut short",
                "export it again; `sed '$d'` leaves that line out, and what came after it is missing",
            )
        return CliError(f"{where} is not JSON: {error.msg} at column {error.colno}", what_to_do)
    except UnicodeDecodeError:
        return CliError(f"{where} is not UTF-8 text", what_to_do)
    except RecursionError:
        return CliError(f"{where} is nested too deeply to be a record", what_to_do)
    except ValueError as error:
        return CliError(f"{where}: {error}", what_to_do)
    return None


def _constant(name: str) -> None:
    raise _FaultError(f'{name} is no JSON; it is written as a text: "{name}"')


def _integer(digits: str) -> int:
    # The largest number that there is has 309 digits before the point; of thousands Python reads none.
    if len(digits) > _MOST_DIGITS:
        raise _FaultError(f"a number of {len(digits.lstrip('-')):,} digits is no reading's")
    return int(digits)


def _check(record: object) -> None:
    if not isinstance(record, dict):
        raise _FaultError(f"{_shown(record)} is no object")
    if "kind" not in record:
        raise _FaultError(f'no "kind"; records have {_either(KINDS)}')
    kind = record["kind"]
    if not isinstance(kind, str) or kind not in KINDS:
        raise _FaultError(f"there is no kind of record {_shown(kind)}; there are {_either(KINDS)}")
    for key, check in _KEYS[kind].items():
        check(record, key)


def _text(record: dict[str, object], key: str) -> None:
    if not isinstance(record.get(key), str):
        raise _wrong(record, key, "a text")


def _severity(record: dict[str, object], key: str) -> None:
    given = record.get(key)
    if not isinstance(given, str) or given not in SEVERITIES:
        raise _wrong(record, key, f"one of {_either(SEVERITIES)}")


def _number(record: dict[str, object], key: str) -> None:
    given = record.get(key)
    fits = isinstance(given, int | float) and not isinstance(given, bool)
    if not fits and given not in _FLOAT_TEXTS:
        raise _wrong(record, key, "a number, or NaN, Infinity or -Infinity as a text")


def _whole(record: dict[str, object], key: str) -> None:
    given = record.get(key)
    if not isinstance(given, int) or isinstance(given, bool) or given not in _WHOLE:
        raise _wrong(record, key, "a whole number of 64 bits")


def _counted(record: dict[str, object], key: str) -> None:
    given = record.get(key)
    if not isinstance(given, int) or isinstance(given, bool) or not 0 <= given < 1 << 64:
        raise _wrong(record, key, "a whole number from 0")


def _flags(record: dict[str, object], key: str) -> None:
    given = record.get(key, 0)
    if not isinstance(given, int) or isinstance(given, bool) or not 0 <= given < 1 << 8:
        raise _wrong(record, key, "a whole number from 0 to 255")


def _time(record: dict[str, object], key: str) -> None:
    """Check a time; `null` where it is counted from a boot that nobody knows."""
    _whole(record, key if record.get("since_boot_ns") is None else "since_boot_ns")


def _edge(record: dict[str, object], key: str) -> None:
    given = record.get(key)
    if not isinstance(given, dict):
        raise _wrong(record, key, "an object with time_ns and value")
    _time(given, "time_ns")
    _number(given, "value")


def _wrong(record: dict[str, object], key: str, wanted: str) -> _FaultError:
    if key not in record:
        return _FaultError(f'no "{key}": {wanted} is needed')
    return _FaultError(f'"{key}" is {_shown(record[key])}: {wanted} is needed')


def _shown(value: object) -> str:
    return printable(shortened(json.dumps(value, ensure_ascii=False)))


def _either(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"


_KEYS: Final[dict[str, dict[str, Callable[[dict[str, object], str], None]]]] = {
    "sample": {"name": _text, "time_ns": _time, "value": _number, "flags": _flags},
    "window": {
        "name": _text,
        "start_ns": _time,
        "length_ns": _whole,
        "count": _counted,
        "sum": _number,
        "min": _number,
        "max": _number,
        "first": _edge,
        "last": _edge,
    },
    "event": {"source": _text, "time_ns": _time, "severity": _severity, "body": _text},
}
