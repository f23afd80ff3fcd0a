"""Run directories: safe names, whole files, and readers that guess nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from harness.errors import RunError, UsageError
from harness.records import RecordFile
from harness.store import RunDirectory, Sample, create_run, machine, next_free, open_run, versions
from tests.harness.builders import LAW, manifest, record, write_records, write_run

# -- names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "burst-20261121T062600Z", "Run_1.2", "0", "a" * 80, "a..b"])
def test_a_run_directory_is_made_with_its_parents(tmp_path: Path, name: str) -> None:
    path = tmp_path / "runs" / "today" / name
    assert create_run(path).path == path
    assert list(path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".hidden",
        "-rf",
        "_x",
        "a" * 81,
        "a b",
        "a\n",
        "a;b",
        "$HOME",
        "`id`",
        "ä",
        "a\x00b",
        "a:b",
        "*",
        "a\\b",
        "~",
        "sub/..",
    ],
)
def test_an_unsafe_name_is_refused_and_nothing_is_made(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="run name"):
        create_run(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", [Path("/"), Path(), Path("..")])
def test_a_path_without_a_name_is_refused(path: Path) -> None:
    with pytest.raises(UsageError, match="run name"):
        create_run(path)


@LAW
@given(st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=8))
def test_only_plain_names_are_taken(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    assume(name != ".")  # the parent itself
    parent = tmp_path_factory.mktemp("names")
    try:
        path = create_run(parent / name).path
    except UsageError:
        return
    assert path.is_dir()
    assert path.resolve().parent == parent.resolve()
    assert set(path.name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")


def test_a_run_is_not_written_over(tmp_path: Path) -> None:
    path = create_run(tmp_path / "run").path
    assert create_run(path).path == path  # still empty
    (path / "manifest.json").write_text("{}")
    with pytest.raises(UsageError, match="exists and is not empty"):
        create_run(path)
    assert (path / "manifest.json").read_text() == "{}"


def test_a_file_in_the_place_of_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(UsageError, match="exists"):
        create_run(tmp_path / "run")
    with pytest.raises(UsageError, match="cannot create"):
        create_run(tmp_path / "run" / "below")
    with pytest.raises(RunError, match="is not a directory"):
        open_run(tmp_path / "run")


def test_open_run(tmp_path: Path) -> None:
    assert open_run(tmp_path).name == tmp_path.name
    with pytest.raises(RunError, match="is not a directory"):
        open_run(tmp_path / "nowhere")


# -- files -----------------------------------------------------------------------------------------------


def test_the_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    written = manifest(
        options={"rate": 2.5, "more": [1, None, "ü"]},
        plan={"pieces": [[0.0, 1.0]]},
        ended_at=3.0,
        ended_how="done",
    )
    directory.write_manifest(written)
    assert directory.manifest() == written
    assert json.loads((tmp_path / "manifest.json").read_text())["options"] == {
        "rate": 2.5,
        "more": [1, None, "ü"],
    }


def test_no_run_directory(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run directory: it has no manifest"):
        RunDirectory(tmp_path).manifest()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"run_id": 5}', b'{"run_id": "half'])
def test_a_manifest_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(RunError, match=r"manifest\.json: "):
        RunDirectory(tmp_path).manifest()


def test_records_of_all_files_are_read(tmp_path: Path) -> None:
    write_records(tmp_path / "records-b.jsonl", [record(2), record(3)])
    write_records(tmp_path / "records-a.jsonl", [record(0), record(1)], num_lost=1)
    (tmp_path / "records.txt").write_text("no record file")
    files: list[RecordFile] = []
    assert [item.request_id for item in RunDirectory(tmp_path).records(files)] == [
        f"run-1-{number}" for number in range(4)
    ]
    assert [(found.path.name, found.num_records, len(found.problems)) for found in files] == [
        ("records-a.jsonl", 2, 1),
        ("records-b.jsonl", 2, 0),
    ]


def test_samples_are_in_order_of_time_without_a_torn_last_line(tmp_path: Path) -> None:
    for name, instants, torn in (("a", (1.0, 3.0), ""), ("b", (0.0, 2.0), '{"kind":"instrument","at":4.0')):
        lines = [
            json.dumps({"kind": "instrument", "at": at, "cpu": 0.5, "loop_lag_s": 0.0, "num_in_flight": 1})
            for at in instants
        ]
        (tmp_path / f"samples-{name}.jsonl").write_text("\n".join(lines) + "\n" + torn)
    expected = [Sample(at=at, cpu=0.5, loop_lag_s=0.0, num_in_flight=1) for at in (0.0, 1.0, 2.0, 3.0)]
    assert RunDirectory(tmp_path).samples() == expected


def test_no_samples(tmp_path: Path) -> None:
    assert RunDirectory(tmp_path).samples() == []


@pytest.mark.parametrize("line", [b"garbage\n", b'{"at": 1.0}\n', b"\n"])
def test_a_corrupt_sample_is_named(tmp_path: Path, line: bytes) -> None:
    good = b'{"kind":"instrument","at":1.0,"cpu":0.5,"loop_lag_s":0.0,"num_in_flight":1}\n'
    (tmp_path / "samples-a.jsonl").write_bytes(good + line + good)
    with pytest.raises(RunError, match=r"samples-a\.jsonl"):
        RunDirectory(tmp_path).samples()


@pytest.mark.parametrize("content", [b"", b"new", b"x" * 3_000_000])
def test_a_file_is_replaced_as_a_whole(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "summary.json").write_bytes(b"old")
    assert RunDirectory(tmp_path).write_atomically("summary.json", content) == tmp_path / "summary.json"
    assert (tmp_path / "summary.json").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_a_file_that_cannot_be_put_in_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "summary.json").mkdir()
    (tmp_path / "summary.json" / "old").write_text("whole")
    with pytest.raises(RunError, match=r"cannot write .*summary\.json"):
        RunDirectory(tmp_path).write_atomically("summary.json", b"new")
    assert (tmp_path / "summary.json" / "old").read_text() == "whole"


def test_a_directory_that_went_away_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="No such file or directory"):
        RunDirectory(tmp_path / "gone").write_atomically("summary.json", b"new")


_FULL = """
import resource, sys
from pathlib import Path
from harness.errors import RunError
from harness.store import RunDirectory
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    RunDirectory(Path(sys.argv[1])).write_atomically("summary.json", b"n" * int(sys.argv[2]))
except RunError as error:
    print(error)
"""


@pytest.mark.realtime
@pytest.mark.parametrize("size", [1001, 50_000, 5_000_000])
def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path, size: int) -> None:
    """The kernel's limit on the size of a file stands for the disk."""
    old = tmp_path / "summary.json"
    old.write_bytes(b"old" * 1000)
    command = [sys.executable, "-c", _FULL, str(tmp_path), str(size)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout == f"cannot write {old}: File too large\n"
    assert old.read_bytes() == b"old" * 1000


def test_a_whole_run(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "run", [[record(0)], [record(1)]])
    files: list[RecordFile] = []
    assert len(list(directory.records(files))) == directory.manifest().num_planned == 2
    assert [found.problems for found in files] == [[], []]


# -- what measured ---------------------------------------------------------------------------------------


def test_versions_name_what_measures() -> None:
    found = versions()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"numpy", "msgspec"} <= set(found)
    assert all(text[0].isdigit() for text in found.values())


def test_the_machine_is_described_in_json() -> None:
    found = machine()
    assert json.loads(json.dumps(found)) == found
    assert found["num_cpus"] >= 1
    assert found["memory_bytes"] > 2**20


def test_the_next_free_name_is_beside_those_that_are_taken(tmp_path: Path) -> None:
    assert next_free(tmp_path / "run") == tmp_path / "run"
    (tmp_path / "run").mkdir()
    assert next_free(tmp_path / "run") == tmp_path / "run"  # empty: nobody has taken it
    for number, name in enumerate(("run", "run-2", "run-3"), start=2):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "manifest.json").touch()
        assert next_free(tmp_path / "run") == tmp_path / f"run-{number}"


def test_a_file_that_cannot_be_written_leaves_no_half_of_itself(tmp_path: Path) -> None:
    script = (
        "import resource, pathlib, sys\n"
        "from harness.errors import RunError\n"
        "from harness.store import RunDirectory\n"
        "directory = RunDirectory(pathlib.Path(sys.argv[1]))\n"
        "directory.write_atomically('summary.json', b'old')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try:\n"
        "    directory.write_atomically('summary.json', b'x' * 1000)\n"
        "except RunError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == f"cannot write {tmp_path / 'summary.json'}: File too large\n"
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
    assert (tmp_path / "summary.json").read_bytes() == b"old"


def test_two_who_write_one_file_do_not_write_into_each_others_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two `harness report` at once: while one has written its draft, the other begins and ends."""
    directory, own = RunDirectory(tmp_path), os.fsync

    def sync(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", own)
        with monkeypatch.context() as other:
            other.setattr(os, "getpid", lambda: 1)
            directory.write_atomically("summary.json", b"short")
        own(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    directory.write_atomically("summary.json", b"the longer one")
    assert (tmp_path / "summary.json").read_bytes() == b"the longer one"
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
