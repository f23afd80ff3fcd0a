"""Record files: what was written is read again, and whatever happened to a file in between shows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import RunError
from harness.records import RecordFile, RecordWriter, RequestRecord, read_record_file
from tests.harness.builders import HEADER, LAW, bare_record, header, record, write_records

_FLOAT = st.floats(allow_nan=False, allow_infinity=False)
_COUNT = st.integers(0, 2**53)
_TEXT = st.text(max_size=30)


def _names(text: str) -> list[str]:
    return text.split()


def _maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


_INSTANTS = _names(
    "sent_at connected_at first_byte_at first_token_at last_token_at done_at throttled_s queue_s read_lag_s cost_usd"
)
_COUNTS = _names(
    "planned_prompt_tokens planned_output_tokens num_chunks num_merged_chunks "
    "num_prompt_tokens num_cached_tokens "
    "num_cache_write_tokens num_cache_write_1h_tokens num_output_tokens num_reasoning_tokens status"
)
_TEXTS = _names(
    "scenario user_class class_name tenant feature phase protocol model "
    "error_kind error_text finish_reason model_served "
    "server_request_id cache_outcome replica doubt"
)

_RECORDS = st.builds(
    RequestRecord,
    request_id=_TEXT,
    stream=st.booleans(),
    intended_at=_FLOAT,
    num_attempts=_COUNT,
    num_stale_sockets=_COUNT,
    outcome=st.sampled_from(["ok", "throttled", "failed", "cut", "incomplete", "refused"]),
    token_source=st.sampled_from([None, "server", "local"]),
    token_gaps_s=_maybe(st.lists(_FLOAT, max_size=5)),
    chunk_tokens=_maybe(st.lists(_COUNT, max_size=5)),
    **{name: _maybe(_FLOAT) for name in _INSTANTS},
    **{name: _maybe(_COUNT) for name in _COUNTS},
    **{name: _maybe(_TEXT) for name in _TEXTS},
)


def _read(path: Path) -> tuple[list[RequestRecord], RecordFile]:
    found = RecordFile(path)
    return list(read_record_file(path, found)), found


def _raw(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "records-raw.jsonl"
    path.write_bytes(content)
    return path


def _lines(tmp_path: Path, num: int = 3) -> list[bytes]:
    """A whole file of `num` records: header, records, footer."""
    path = write_records(tmp_path / "records-whole.jsonl", [record(n) for n in range(num)])
    return path.read_bytes().splitlines(keepends=True)


# -- round trip ------------------------------------------------------------------------------------------


@LAW
@given(st.lists(_RECORDS, max_size=4))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, records: list[RequestRecord]) -> None:
    path = write_records(tmp_path_factory.mktemp("round") / "records-1.jsonl", records)
    read, found = _read(path)
    assert read == records
    assert found.problems == []
    assert found.header == HEADER
    assert found.footer is not None
    assert (found.num_records, found.num_torn) == (len(records), 0)
    assert (found.footer.num_opened, found.footer.num_closed, found.footer.closed_at) == (
        len(records),
        len(records),
        60.0,
    )


def test_the_strategy_above_fills_every_field() -> None:
    covered = {
        *_INSTANTS,
        *_COUNTS,
        *_TEXTS,
        "request_id",
        "stream",
        "intended_at",
        "num_attempts",
        "num_stale_sockets",
        "outcome",
    }
    covered |= {"token_source", "token_gaps_s", "chunk_tokens", "kind"}
    assert set(RequestRecord.__struct_fields__) == covered


def test_a_line_is_one_json_object_with_every_field(tmp_path: Path) -> None:
    path = write_records(tmp_path / "records-1.jsonl", [bare_record(5)])
    head, line, foot = [json.loads(text) for text in path.read_text().splitlines()]
    assert (head["kind"], line["kind"], foot["kind"]) == ("header", "request", "footer")
    fields = _names(
        "request_id scenario user_class class_name tenant feature phase protocol model stream intended_at "
        "sent_at connected_at "
        "first_byte_at first_token_at last_token_at done_at token_gaps_s "
        "num_prompt_tokens num_cached_tokens num_cache_write_tokens "
        "num_output_tokens num_reasoning_tokens token_source num_chunks status "
        "outcome error_kind error_text finish_reason "
        "num_attempts num_stale_sockets throttled_s model_served cache_outcome queue_s replica doubt cost_usd"
    )  # the fields of the design, which other people's scripts read
    assert set(fields) <= set(line)
    missing = {name for name in fields if line[name] is None}
    assert missing == set(fields) - {
        "request_id",
        "stream",
        "intended_at",
        "outcome",
        "num_attempts",
        "num_stale_sockets",
    }


def test_each_write_is_one_line_on_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "records-1.jsonl"
    writer = RecordWriter(path, HEADER)
    for number in range(5):
        assert len(path.read_bytes().splitlines()) == 1 + number
        writer.opened()
        writer.write(record(number, error_text="two\nlines\r\n\u2028"))
    writer.close(1.0)
    assert path.read_bytes().count(b"\n") == 7


# -- damage ----------------------------------------------------------------------------------------------


def test_a_torn_last_line_is_tolerated_and_counted_once(tmp_path: Path) -> None:
    *kept, last, _ = _lines(tmp_path)
    for length in range(1, len(last)):
        records, found = _read(_raw(tmp_path, b"".join(kept) + last[:length]))
        assert records == [record(0), record(1)]
        assert (found.num_torn, found.num_records, found.footer) == (1, 2, None)
        assert found.problems == ["records-raw.jsonl has no footer and its last line is torn: its writer was killed"]


def test_a_file_cut_anywhere_gives_its_whole_records_and_a_problem(tmp_path: Path) -> None:
    lines = _lines(tmp_path)
    whole = b"".join(lines)
    ends = [len(b"".join(lines[: number + 1])) for number in range(len(lines))]
    for length in range(len(whole)):
        records, found = _read(_raw(tmp_path, whole[:length]))
        num_lines = sum(end <= length for end in ends)
        assert records == [record(number) for number in range(max(0, num_lines - 1))]
        assert found.num_torn == (0 if length in (0, *ends) else 1)
        assert found.problems


def test_a_torn_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    lines = _lines(tmp_path)
    for length in (1, 20, 200, len(lines[2]) - 1):
        path = _raw(tmp_path, b"".join([*lines[:2], lines[2][:length], *lines[3:]]))
        with pytest.raises(RunError, match=r"records-raw\.jsonl:3: "):
            _read(path)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"{}\n",
        b"garbage\n",
        b"\x00\x00\x00\n",
        b'{"kind":"request"}\n',
        b'{"kind":"request","request_id":"x"\n',
        b'{"kind":"request","request_id":"x","intended_at":"soon"}\n',
        b'{"kind":"request","request_id":"x","intended_at":1.0,"outcome":"fine"}\n',
        b'{"kind":"request","request_id":"\xff","intended_at":1.0}\n',
        b'{"kind":"sample","at":1.0}\n',
    ],
)
def test_a_corrupt_line_in_the_middle_is_an_error(tmp_path: Path, line: bytes) -> None:
    lines = _lines(tmp_path)
    path = _raw(tmp_path, b"".join([*lines[:2], line, *lines[2:]]))
    with pytest.raises(RunError, match=r"records-raw\.jsonl:3: "):
        _read(path)


@pytest.mark.parametrize(
    "change", [lambda byte: byte ^ 0x01, lambda byte: byte ^ 0x10, lambda byte: 0x0A, lambda byte: 0xFF]
)
def test_no_changed_byte_goes_unnoticed(tmp_path: Path, change: Any) -> None:
    *body, foot = _lines(tmp_path, 2)
    content = b"".join(body)
    unnoticed = []
    for place, byte in enumerate(content):
        if change(byte) == byte:
            continue
        path = _raw(tmp_path, content[:place] + bytes([change(byte)]) + content[place + 1 :] + foot)
        try:
            if not _read(path)[1].problems:
                unnoticed.append(place)
        except RunError:
            pass
    assert unnoticed == []


def test_changed_content_is_detected_by_the_checksum(tmp_path: Path) -> None:
    lines = _lines(tmp_path)
    lines[2] = lines[2].replace(b'"num_output_tokens":10', b'"num_output_tokens":11')
    _, found = _read(_raw(tmp_path, b"".join(lines)))
    assert found.problems == ["records-raw.jsonl was changed after it was written: its checksum differs"]


@pytest.mark.parametrize("swapped", [(0, 2, 1, 3, 4), (1, 0, 2, 3, 4)])
def test_lines_in_another_order_are_detected(tmp_path: Path, swapped: tuple[int, ...]) -> None:
    lines = _lines(tmp_path)
    _, found = _read(_raw(tmp_path, b"".join(lines[number] for number in swapped)))
    assert "checksum" in found.problems[0]


def test_a_missing_line_is_detected(tmp_path: Path) -> None:
    lines = _lines(tmp_path)
    _, found = _read(_raw(tmp_path, b"".join(lines[:2] + lines[3:])))
    assert found.problems == ["records-raw.jsonl holds 2 records, its footer says 3"]


def test_a_missing_footer_is_reported(tmp_path: Path) -> None:
    records, found = _read(_raw(tmp_path, b"".join(_lines(tmp_path)[:-1])))
    assert len(records) == 3
    assert found.problems == ["records-raw.jsonl has no footer: its writer was killed"]


def test_a_missing_header_is_reported(tmp_path: Path) -> None:
    _, found = _read(_raw(tmp_path, b"".join(_lines(tmp_path)[1:])))
    assert "records-raw.jsonl has no header" in found.problems


def test_an_empty_file_is_reported(tmp_path: Path) -> None:
    records, found = _read(_raw(tmp_path, b""))
    assert records == []
    assert found.problems == [
        "records-raw.jsonl has no header",
        "records-raw.jsonl has no footer: its writer was killed",
    ]


def test_a_request_that_left_no_record_is_reported(tmp_path: Path) -> None:
    _, found = _read(write_records(tmp_path / "records-1.jsonl", [record(0)], num_lost=2))
    assert found.problems == ["records-1.jsonl: 2 requests were sent and left no record"]


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(0, id="header"),
        pytest.param(1, id="record"),
        pytest.param(-1, id="footer"),
    ],
)
def test_a_line_after_the_footer_is_detected(tmp_path: Path, number: int) -> None:
    lines = _lines(tmp_path)
    _, found = _read(_raw(tmp_path, b"".join([*lines, lines[number]])))
    assert found.problems


def test_another_schema_is_refused(tmp_path: Path) -> None:
    path = write_records(tmp_path / "records-1.jsonl", [], schema_version=2)
    with pytest.raises(RunError, match="schema 2; this version reads schema 1"):
        _read(path)


# -- writing that fails ----------------------------------------------------------------------------------


def test_an_existing_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "records-1.jsonl"
    path.write_bytes(b"precious\n")
    with pytest.raises(RunError, match=r"cannot write records to .*records-1\.jsonl: File exists"):
        RecordWriter(path, HEADER)
    assert path.read_bytes() == b"precious\n"


def test_a_link_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "records-1.jsonl", tmp_path / "elsewhere"
    path.symlink_to(elsewhere)
    with pytest.raises(RunError, match="File exists"):
        RecordWriter(path, HEADER)
    assert not elsewhere.exists()


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="No such file or directory"):
        RecordWriter(tmp_path / "nowhere" / "records-1.jsonl", HEADER)


def _child(script: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", script, *map(str, arguments), msgspec.json.encode(HEADER).decode()]


_OPEN = """
import resource, sys
import msgspec
from pathlib import Path
from harness.errors import RunError
from harness.records import Header, RecordWriter, RequestRecord
head = msgspec.json.decode(sys.argv[-1], type=Header)
"""

_FULL = (
    _OPEN
    + """
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
written = 0
try:
    writer = RecordWriter(Path(sys.argv[1]), head)
    while True:
        writer.write(RequestRecord(request_id=str(written), intended_at=0.0))
        written += 1
except RunError as error:
    print(error)
one_more = RequestRecord(request_id="again", intended_at=0.0)
for again in (lambda: writer.write(one_more), lambda: writer.close(1.0)):
    try:
        again()
    except RunError as error:
        print(error)
print(written)
"""
)


@pytest.mark.realtime
def test_a_full_disk_is_an_error_and_costs_only_the_line_it_met(tmp_path: Path) -> None:
    """The kernel's limit on a file's size stands for the disk: one write is short, the next one fails."""
    path, limit = tmp_path / "records-1.jsonl", 20_000
    result = subprocess.run(_child(_FULL, path, limit), capture_output=True, text=True, check=True, timeout=60)
    short, *failed, written = result.stdout.splitlines()
    assert "bytes of a record went to" in short
    assert "is the disk full?" in short
    assert failed == [short] * 2  # nothing is written behind a torn line: it would spoil the whole file
    assert path.stat().st_size == limit
    records, found = _read(path)
    assert [item.request_id for item in records] == [str(number) for number in range(int(written))]
    assert found.num_torn == 1
    assert found.problems == ["records-1.jsonl has no footer and its last line is torn: its writer was killed"]


_ENDLESS = (
    _OPEN
    + """
writer = RecordWriter(Path(sys.argv[1]), head)
number = 0
while True:
    writer.opened()
    text = "x" * (number * 997 % 9000)
    writer.write(RequestRecord(request_id=str(number), intended_at=0.0, error_text=text))
    print(number, flush=True)
    number += 1
"""
)


@pytest.mark.realtime
@pytest.mark.parametrize("acknowledged", [1, 2, 13, 100, 317, 1000, 2500])
def test_sigkill_loses_no_record_whose_write_returned(tmp_path: Path, acknowledged: int) -> None:
    path = tmp_path / "records-1.jsonl"
    with subprocess.Popen(_child(_ENDLESS, path), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(acknowledged):
            assert process.stdout.readline()
        process.kill()
        rest = [line for line in process.stdout.read().split("\n")[:-1] if line]
    last = int(rest[-1]) if rest else acknowledged - 1
    records, found = _read(path)
    assert len(records) - last - 1 in (
        0,
        1,
    )  # the child may have been killed between a write and its word for it
    assert [item.request_id for item in records] == [str(number) for number in range(len(records))]
    assert found.num_torn <= 1
    assert found.header == header()
    assert len(found.problems) == 1
