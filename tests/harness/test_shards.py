"""Files on their way from a worker: whole and right, or not there."""

from __future__ import annotations

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.cluster import shards
from harness.cluster.shards import Download, ShardFile, describe_file, read_piece, verify_file
from harness.errors import RunError
from tests.harness.builders import LAW

_NAME = "records-4711-0123abcd.jsonl"


def _file(data: bytes, name: str = _NAME) -> ShardFile:
    return ShardFile(name, len(data), hashlib.sha256(data).hexdigest())


@settings(LAW, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60), st.integers(5, 50), st.data())
def test_pieces_that_are_lost_repeated_or_late_make_the_same_file(
    monkeypatch: pytest.MonkeyPatch, content: bytes, size: int, data: st.DataObject
) -> None:
    monkeypatch.setattr(shards, "PIECE_BYTES", size)
    with TemporaryDirectory() as folder:
        here, there = Path(folder) / "here", Path(folder) / "there"
        here.mkdir()
        there.mkdir()
        (there / _NAME).write_bytes(content)
        *_, file = describe_file(there / _NAME)
        assert file == _file(content)
        _fetch(Download(here, file), here, there, data)
        assert (here / _NAME).read_bytes() == content
        assert [path.name for path in here.iterdir()] == [_NAME]
        assert verify_file(here, file) is None


def _fetch(download: Download, here: Path, there: Path, data: st.DataObject) -> None:
    """Ask for pieces until the file is whole, over a network that loses, repeats and mixes up."""
    fates = iter(data.draw(st.lists(st.sampled_from(["lost", "right", "twice", "another"]), max_size=25)))
    while download.offset < download.file.size:
        assert not (here / _NAME).exists()
        fate = next(fates, "right")
        piece = read_piece(there / _NAME, download.offset)
        if fate == "another":
            offset = data.draw(st.integers(0, download.file.size).filter(lambda at: at != download.offset))
            download.take(offset, read_piece(there / _NAME, offset))
        elif fate != "lost":
            offset = download.offset
            download.take(offset, piece)
            if fate == "twice":
                download.take(offset, piece)


def test_what_differs_from_what_was_announced_never_appears(tmp_path: Path) -> None:
    download = Download(tmp_path, _file(b"right"))
    with pytest.raises(RunError, match="the checksum differs"):
        download.take(0, b"wrong")
    assert list(tmp_path.iterdir()) == []


def test_more_than_was_announced_is_refused(tmp_path: Path) -> None:
    download = Download(tmp_path, _file(b"right"))
    with pytest.raises(RunError, match="announced with 5 bytes and is longer"):
        download.take(0, b"right and more")
    download.abandon()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../records-1-0123abcd.jsonl",
            "/etc/passwd",
            "manifest.json",
            "records-1-0123abcd.jsonl/x",
            "",
            ".",
            "records-1",
        ),
        *("records-1-0123ABCD.jsonl", "records-1-0123abcd.jsonl\n", "records-99999999999-0123abcd.jsonl", "a\x00b"),
    ],
)
def test_no_other_name_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="that is no record file"):
        Download(tmp_path, _file(b"x", name))
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_there_at_once(tmp_path: Path) -> None:
    Download(tmp_path, _file(b"", "samples-1-0123abcd.jsonl"))
    assert (tmp_path / "samples-1-0123abcd.jsonl").read_bytes() == b""


def test_a_directory_that_takes_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot write"):
        Download(tmp_path / "missing", _file(b"x")).take(0, b"x")


def test_what_should_be_here_is_looked_at(tmp_path: Path) -> None:
    file = _file(b"12345")
    assert verify_file(tmp_path, file) == f"{_NAME}: No such file or directory"
    (tmp_path / _NAME).write_bytes(b"123")
    assert verify_file(tmp_path, file) == f"{_NAME} holds 3 bytes, its worker wrote 5"
