"""`harness export`: names, errors, and files that are whole or not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import HarnessError, RunError, UsageError
from harness.exports.command import FORMATS, export, reservation
from harness.exports.writing import json_object, write_pieces
from tests.exports.runs import run
from tests.harness.builders import record
from tests.reports.runs import HOSTILE, texts


@pytest.mark.parametrize(
    ("name", "ending"), [("parquet", "parquet"), ("csv", "csv"), ("vllm", "json"), ("llm-d", "json"), ("otel", "json")]
)
def test_the_file_lies_in_the_run_unless_said_otherwise(tmp_path: Path, name: str, ending: str) -> None:
    directory = run(tmp_path / "run-1", [record(0)])
    before = {path.name for path in directory.path.iterdir()}
    assert export(directory.path, name) == directory.path / f"export-{name}.{ending}"
    assert {path.name for path in directory.path.iterdir()} - before == {f"export-{name}.{ending}"}
    assert export(directory.path, name, tmp_path / "mine") == tmp_path / "mine"
    assert (tmp_path / "mine").stat().st_size > 0


def test_a_format_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'xlsx': there are parquet, csv, vllm, llm-d, otel"):
        export(run(tmp_path / "run-1", [record(0)]).path, "xlsx")


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a directory"):
        export(tmp_path / "none", "csv")
    with pytest.raises(RunError, match=r"no manifest\.json"):
        export(tmp_path, "csv")


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_run_without_records_is_not_a_run_of_zeros(tmp_path: Path, name: str) -> None:
    directory = run(tmp_path / "run-1", [record(0)])
    for path in directory.path.glob("records-*.jsonl"):
        path.unlink()
    with pytest.raises(RunError, match="has no records; there is nothing to export"):
        export(directory.path, name)


def test_who_exports_an_invalid_run_is_told(tmp_path: Path) -> None:
    directory = run(tmp_path / "run-1", [record(0)], num_planned=1)
    assert reservation(directory.path) is None
    broken = run(tmp_path / "run-2", [record(0)], num_planned=9)
    assert "run-2 is INVALID: 8 of 9 planned requests" in (reservation(broken.path) or "")


@pytest.mark.parametrize("name", list(FORMATS))
def test_where_it_cannot_be_written(tmp_path: Path, name: str) -> None:
    directory = run(tmp_path / "run-1", [record(0)])
    with pytest.raises(UsageError, match="is a directory"):
        export(directory.path, name, tmp_path)
    with pytest.raises(UsageError, match="there is no directory"):
        export(directory.path, name, tmp_path / "none" / "file")
    records = (directory.path / "records-0.jsonl").read_bytes()
    with pytest.raises(UsageError, match="the run's own files"):
        export(directory.path, name, directory.path / "records-0.jsonl")
    assert (directory.path / "records-0.jsonl").read_bytes() == records


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_failure_leaves_the_old_file(tmp_path: Path, name: str) -> None:
    directory = run(tmp_path / "run-1")
    target = export(directory.path, name)
    old = target.read_bytes()
    path = directory.path / "records-1.jsonl"
    path.write_bytes(path.read_bytes() + b"{}\n")
    with pytest.raises(HarnessError):
        export(directory.path, name)
    assert target.read_bytes() == old
    assert not list(directory.path.glob(".*"))


@pytest.mark.parametrize("name", list(FORMATS))
def test_a_second_export_replaces_the_first(tmp_path: Path, name: str) -> None:
    directory = run(tmp_path / "run-1", [record(0)])
    target = export(directory.path, name)
    whole = target.read_bytes()
    target.write_bytes(b"old")
    export(directory.path, name)
    assert target.read_bytes()[:4] == whole[:4]
    assert target.stat().st_size == len(whole)


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise OSError(28, "No space left on device")

    with pytest.raises(UsageError, match="No space left on device"):
        write_pieces(tmp_path / "out", pieces())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_but_text(tmp_path: Path, text: str) -> None:
    """Names of models, phases, errors and runs from outside, in every format that is JSON."""
    directory = texts(tmp_path / "run-1", text)
    for name in ("vllm", "llm-d", "otel"):
        body = json.loads(export(directory.path, name, tmp_path / name).read_bytes())
        assert text in _strings(body)


def _strings(value: object) -> set[str]:
    if isinstance(value, str):
        return {value}
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set().union(*map(_strings, inner))


def test_long_lists_in_parts() -> None:
    text = b"".join(json_object({"a": 1, "b": iter([[1, [2.5]], [], [None, "x"]]), "c": iter([]), "d": iter([[]])}))
    assert json.loads(text) == {"a": 1, "b": [1, [2.5], None, "x"], "c": [], "d": []}
