"""Whatever lies in a run directory in the place of a file: one line that names it, no traceback, no waiting."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from harness.errors import RunError
from harness.run_files import read_whole
from harness.store import RunDirectory
from harness.summary import load_run
from tests.harness.builders import manifest, record, write_run

_PLACED: dict[str, Callable[[Path], object]] = {
    "a directory": Path.mkdir,
    "a pipe that nobody writes to": os.mkfifo,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "nested without end": lambda path: path.write_bytes(b'{"a":' * 100_000),
    "no UTF-8": lambda path: path.write_bytes(b'{"kind":"header","host":"\xff"}\n'),
}
_FILES = ("manifest.json", "records-1.jsonl", "samples-1.jsonl", "gpu.jsonl", "ledger.jsonl")


@pytest.mark.parametrize("placed", _PLACED)
@pytest.mark.parametrize("name", _FILES)
def test_what_is_no_file_of_a_run_is_an_error_in_one_line(tmp_path: Path, name: str, placed: str) -> None:
    directory = write_run(tmp_path / "run", [[record(number) for number in range(12)]])
    path = directory.path / name
    path.unlink(missing_ok=True)
    _PLACED[placed](path)
    if name != "manifest.json" and placed == "nested without end":
        path.write_bytes(path.read_bytes() + b"\n")  # a line, not a torn one
    if path.is_symlink() and name == "ledger.jsonl":
        return  # leads nowhere: there is no ledger
    with pytest.raises(RunError, match=name.partition("-")[0]) as found:
        load_run(directory)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("schema_version", 99, "schema 99"),
        ("duration_s", 0.0, "more than 0"),
        ("duration_s", -3.0, "more than 0"),
        ("warmup_s", 1e9, "shorter than the run"),
        ("started_wall", 1e308, "since 1970"),
        ("num_planned", -1, "0 or more"),
    ],
)
def test_a_manifest_that_no_run_can_have_is_refused(tmp_path: Path, field: str, value: float, rule: str) -> None:
    fields = msgspec.to_builtins(manifest()) | {field: value}
    (tmp_path / "manifest.json").write_bytes(msgspec.json.encode(fields))
    with pytest.raises(RunError, match=rule):
        RunDirectory(tmp_path).manifest()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"x: No such file"):
        read_whole(tmp_path / "x")
