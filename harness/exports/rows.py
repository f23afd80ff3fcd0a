"""One row a request, as Parquet or CSV: DuckDB reads the record files and writes the table, no record becomes a Python object."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, get_args, get_type_hints

import msgspec

from harness.errors import RunError, UsageError
from harness.exports.writing import replacing
from harness.records import SCHEMA, Header, RequestRecord
from harness.run_files import readable
from harness.store import RunDirectory

__all__ = ["write_csv", "write_parquet"]

_TYPES = {
    str: "VARCHAR",
    float: "DOUBLE",
    int: "BIGINT",
    bool: "BOOLEAN",
    list[float]: "DOUBLE[]",
    list[int]: "BIGINT[]",
}
_SETTINGS = {
    "autoinstall_known_extensions": "false",  # no network, ever
    "autoload_known_extensions": "false",
    "memory_limit": "1GB",
    "threads": "4",  # each has a buffer of 32 MiB to read with
    "temp_directory": "",
}
# What a spreadsheet takes for a formula: at the start of a cell, and after what another separator or quote than ours makes a start.
_FORMULA = r"""(^|[\t\r\n;,|"'])([\x00-\x20\p{Z}]*)([=+\-@＝＋－＠])"""
_BLANK_START = r"^([\t\r])"


def write_parquet(directory: RunDirectory, target: Path) -> None:
    """All fields of the records, gaps as lists, compressed with zstd; last `is_warmup`, of those that stand in no metric. Raises
    RunError when a record cannot be read."""
    _copy(directory, ", ".join(_columns()), target, "FORMAT parquet, COMPRESSION zstd")


def write_csv(directory: RunDirectory, target: Path) -> None:
    """The same, lists as JSON. Text that a spreadsheet would run gets an apostrophe before the sign that makes it a
    formula; all other text comes back as it was: an empty one is `""`, a missing value nothing. Raises RunError as above."""
    columns = _columns()
    cells = [_cell(name, kind) for name, kind in columns.items()]
    quoted = ", ".join(name for name, kind in columns.items() if kind == "VARCHAR" or kind.endswith("[]"))
    _copy(directory, ", ".join(cells), target, f"FORMAT csv, HEADER, FORCE_QUOTE ({quoted})")


def _columns() -> dict[str, str]:
    """The fields of a record and their types in SQL."""
    return {name: _sql_type(hint) for name, hint in get_type_hints(RequestRecord).items() if name != "kind"}


def _sql_type(hint: Any) -> str:
    for kind in (hint, *get_args(hint)):
        if kind in _TYPES:
            return _TYPES[kind]
    return "VARCHAR"  # one of some words


def _cell(name: str, kind: str) -> str:
    if kind.endswith("[]"):
        return f"CAST({name} AS JSON) AS {name}"
    if kind != "VARCHAR":
        return name
    safe = f"regexp_replace({name}, {_quoted(_BLANK_START)}, '''\\1')"
    return f"regexp_replace({safe}, {_quoted(_FORMULA)}, '\\1\\2''\\3', 'g') AS {name}"


def _copy(directory: RunDirectory, selected: str, target: Path, options: str) -> None:
    try:
        import duckdb
    except ImportError:
        raise UsageError("this export needs DuckDB; pip install 'llm-load-harness[report]'") from None
    with _whole_files(directory) as files, replacing(target) as draft:
        connection = duckdb.connect(config={**_SETTINGS})
        try:
            # Columns are those of our own struct, paths are quoted.
            warmup = f"intended_at < {directory.manifest().warmup_s!r} AS is_warmup"
            rows = f"SELECT {selected}, {warmup} FROM {_source(files)}"  # noqa: S608
            connection.execute(f"COPY ({rows}) TO {_quoted(str(draft))} ({options})")
        except duckdb.IOException as error:
            raise UsageError(f"cannot write {target}: {error}; name another file with --out") from error
        except duckdb.Error as error:
            raise RunError(f"{directory.path}: {str(error).splitlines()[0]}") from error
        finally:
            connection.close()


def _source(files: list[Path]) -> str:
    """The lines that are records. A line of no known kind ends the export, as it ends every other reading."""
    columns = ", ".join(f"{name}: '{kind}'" for name, kind in {"kind": "VARCHAR", **_columns()}.items())
    names = ", ".join(_quoted(re.sub(r"([*?\[])", r"[\1]", str(path))) for path in files)
    known = "kind IN ('header', 'footer')"
    unknown = "error('a line of no known kind: ' || coalesce(kind, 'it has none'))"
    return (
        f"read_ndjson([{names}], columns = {{{columns}}})"
        f" WHERE CASE WHEN kind = 'request' THEN true WHEN {known} THEN false ELSE {unknown} END"
    )


@contextmanager
def _whole_files(directory: RunDirectory) -> Iterator[list[Path]]:
    """The record files, those that a killed writer left with half a last line without it."""
    files = sorted(directory.path.glob("records-*.jsonl"))
    if not files:
        raise RunError(f"{directory.path} has no records; there is nothing to export")
    with TemporaryDirectory(prefix="harness-export-") as scratch:
        yield [_whole(path, Path(scratch)) for path in files]


def _whole(path: Path, scratch: Path) -> Path:
    with readable(path), path.open("rb") as file:
        _check_schema(path, file.readline())
        end = file.seek(0, 2)
        begin = _last_line_at(file, end)
    if begin == end:
        return path
    copy = Path(shutil.copyfile(path, scratch / path.name))
    with copy.open("r+b") as file:
        file.truncate(begin)
    return copy


def _last_line_at(file: BinaryIO, end: int) -> int:
    """Where the line that has no end begins; the end of the file when it has one."""
    at = end
    while at:
        step = min(at, 1 << 16)
        file.seek(at - step)
        if (newline := file.read(step).rfind(b"\n")) >= 0:
            return at - step + newline + 1
        at -= step
    return 0


def _check_schema(path: Path, first: bytes) -> None:
    if not (first.startswith(b'{"kind":"header"') and first.endswith(b"\n")):
        return
    with readable(path, 1):
        version = msgspec.json.decode(first, type=Header).schema_version
    if version != SCHEMA:
        raise RunError(f"{path}: schema {version}; this version reads schema {SCHEMA}")


def _quoted(text: str) -> str:
    """A literal in SQL."""
    return "'" + text.replace("'", "''") + "'"
