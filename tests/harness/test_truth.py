"""The records against a ledger made by hand, with offsets that are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import RunError
from harness.records import RecordFile
from harness.summary import load_run
from harness.table import tabulate
from harness.truth import against_ledger
from tests.harness.builders import header, record, write_records, write_run

# The mock's clock began 30 s before the run's: 12 s there is -18 s here.
_LEDGER_HEAD = {"kind": "header", "schema": 1, "boot_id": "boot-a", "monotonic_origin": 970.0}
_SHIFT = -30.0


def _entry(request_id: str | None, written_at: list[float], **fields: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "kind": "request",
        "request_id": "chatcmpl-1",
        "client_request_id": request_id,
        "protocol": "openai-chat",
        "model": "mock",
        "stream": True,
        "planned_at": [round(at - 0.0005, 6) for at in written_at],
        "written_at": written_at,
        "num_output_tokens": 10,
        "outcome": "ok",
    }
    return entry | fields


def _ledger(path: Path, entries: list[dict[str, Any]], head: dict[str, Any] | None = None, tail: str = "") -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in [head or _LEDGER_HEAD, *entries]) + tail)
    return path


def _pair(number: int, late_s: float = 0.002, **fields: Any) -> tuple[Any, dict[str, Any]]:
    """A record and its entry: the first content arrived `late_s` after its write, the last twice that."""
    first, last = 40.0 + number, 41.0 + number  # on the mock's clock
    mine = record(number, first_token_at=first + _SHIFT + late_s, last_token_at=last + _SHIFT + 2 * late_s)
    return mine, _entry(f"run-1-{number}", [first, first + 0.25, last], **fields)


def _files(num_records: int, **header_fields: Any) -> list[RecordFile]:
    return [RecordFile(Path("records-1.jsonl"), header=header(**header_fields), num_records=num_records)]


def _compare(tmp_path: Path, records: list[Any], entries: list[dict[str, Any]], **kwargs: Any) -> Any:
    return against_ledger(
        _ledger(tmp_path / "ledger.jsonl", entries, **kwargs), tabulate(records), _files(len(records))
    )


def test_known_errors_are_found(tmp_path: Path) -> None:
    pairs = [_pair(number, late_s) for number, late_s in enumerate([0.001, 0.002, 0.003, 0.004, 0.005, 0.006])]
    truth = _compare(tmp_path, [mine for mine, _ in pairs], [entry for _, entry in reversed(pairs)])
    assert truth is not None
    assert (truth.num_matched, truth.num_records_only, truth.num_ledger_only, truth.num_token_mismatches) == (
        6,
        0,
        0,
        0,
    )
    assert truth.ttft_error.num == truth.last_token_error.num == 6
    assert truth.ttft_error.minimum == pytest.approx(0.001, abs=1e-9)
    assert truth.ttft_error.at(50) == pytest.approx(0.003, abs=1e-9)
    assert truth.ttft_error.mean == pytest.approx(0.0035, abs=1e-9)
    assert truth.ttft_error.maximum == pytest.approx(0.006, abs=1e-9)
    assert truth.last_token_error.at(50) == pytest.approx(0.006, abs=1e-9)
    assert truth.lateness.num == 18
    assert truth.lateness.mean == pytest.approx(0.0005, abs=1e-9)


def test_an_arrival_before_its_write_is_not_hidden(tmp_path: Path) -> None:
    mine, entry = _pair(0, -0.004)
    truth = _compare(tmp_path, [mine], [entry])
    assert truth.ttft_error.minimum == pytest.approx(-0.004, abs=1e-9)


def test_a_clock_that_began_later(tmp_path: Path) -> None:
    mine, entry = _pair(0)
    head = _LEDGER_HEAD | {"monotonic_origin": 1010.0}
    truth = _compare(tmp_path, [mine], [entry], head=head)
    assert truth.ttft_error.mean == pytest.approx(0.002 - 40.0, abs=1e-9)


@pytest.mark.parametrize("boot_id", ["boot-b", None, ""])
def test_another_boot_is_not_compared(tmp_path: Path, boot_id: str | None) -> None:
    mine, entry = _pair(0)
    assert _compare(tmp_path, [mine], [entry], head=_LEDGER_HEAD | {"boot_id": boot_id}) is None


def test_an_unknown_boot_is_not_compared(tmp_path: Path) -> None:
    mine, entry = _pair(0)
    path = _ledger(tmp_path / "ledger.jsonl", [entry], _LEDGER_HEAD | {"boot_id": None})
    assert against_ledger(path, tabulate([mine]), _files(1, boot_id=None)) is None


def test_an_empty_ledger_is_not_compared(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_bytes(b"")
    assert against_ledger(tmp_path / "ledger.jsonl", tabulate([record(0)]), _files(1)) is None


def test_what_only_one_side_knows(tmp_path: Path) -> None:
    (both, entry), (lost, _), (_, unknown) = _pair(0), _pair(1), _pair(2)
    never_sent = record(3, outcome="refused", sent_at=None)
    foreign = _entry(None, [1.0])
    truth = _compare(tmp_path, [both, lost, never_sent], [entry, unknown, foreign])
    assert (truth.num_matched, truth.num_records_only, truth.num_ledger_only) == (1, 1, 1)


def test_whole_answers_and_answers_without_content_have_no_token_times(tmp_path: Path) -> None:
    (one, whole), (two, empty) = _pair(0, stream=False), _pair(1)
    empty |= {"written_at": [], "planned_at": [], "outcome": "refused"}
    truth = _compare(tmp_path, [one, two], [whole, empty])
    assert (truth.num_matched, truth.ttft_error.num) == (2, 0)


def test_a_stream_whose_content_never_arrived_has_no_error(tmp_path: Path) -> None:
    mine, entry = _pair(0)
    mine.first_token_at = mine.last_token_at = None
    truth = _compare(tmp_path, [mine], [entry])
    assert (truth.num_matched, truth.ttft_error.num, truth.last_token_error.num) == (1, 0, 0)


@pytest.mark.parametrize(
    ("counted", "written", "outcome", "mismatches"),
    [
        (10, 10, "ok", 0),
        (10, 11, "ok", 1),
        (9, 10, "ok", 1),
        (10, 11, "cancelled", 0),
        (3, 10, "cut", 0),
        (0, 0, "ok", 0),
    ],
)
def test_token_mismatches(tmp_path: Path, counted: int, written: int, outcome: str, mismatches: int) -> None:
    mine, entry = _pair(0, num_output_tokens=written, outcome=outcome)
    mine.num_output_tokens = counted
    assert _compare(tmp_path, [mine], [entry]).num_token_mismatches == mismatches


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    (one, entry), (two, torn) = _pair(0), _pair(1)
    truth = _compare(tmp_path, [one, two], [entry], tail=json.dumps(torn)[:-20])
    assert (truth.num_matched, truth.num_records_only) == (1, 1)


@pytest.mark.parametrize("bad", ["garbage\n", '{"stream": true}\n', "\n"])
def test_a_corrupt_line_is_named(tmp_path: Path, bad: str) -> None:
    mine, entry = _pair(0)
    with pytest.raises(RunError, match=r"ledger\.jsonl:3: "):
        _compare(tmp_path, [mine], [entry], tail=bad)


@pytest.mark.parametrize("head", ["garbage\n", "[]\n", '{"boot_id": "boot-a"}\n', '{"kind": "head'])
def test_a_corrupt_header_is_an_error_of_the_run(tmp_path: Path, head: str) -> None:
    (tmp_path / "ledger.jsonl").write_text(head)
    with pytest.raises(RunError, match=r"ledger\.jsonl"):
        against_ledger(tmp_path / "ledger.jsonl", tabulate([record(0)]), _files(1))


def test_a_run_with_its_ledger(tmp_path: Path) -> None:
    mine, entry = _pair(0)
    directory = write_run(tmp_path / "run", [[mine]])
    _ledger(directory.path / "ledger.jsonl", [entry])
    truth = load_run(directory).truth
    assert truth is not None
    assert truth.ttft_error.mean == pytest.approx(0.002, abs=1e-9)


def test_a_run_without_a_ledger(tmp_path: Path) -> None:
    assert load_run(write_run(tmp_path / "run", [[record(0)]])).truth is None


def test_each_writer_is_compared_on_its_own_clock(tmp_path: Path) -> None:
    """The second process began 1.5 s after the first: the same instant is 1.5 s less there."""
    (one, first), (two, second) = _pair(0), _pair(1, 0.003)
    assert two.first_token_at is not None
    assert two.last_token_at is not None
    two.first_token_at -= 1.5
    two.last_token_at -= 1.5
    directory = write_run(tmp_path / "run", [[one], []], num_planned=2)
    write_records(directory.path / "records-2.jsonl", [two], origin_monotonic=1001.5)
    _ledger(directory.path / "ledger.jsonl", [second, first])
    truth = load_run(directory).truth
    assert truth is not None
    assert (truth.num_matched, truth.ttft_error.num) == (2, 2)
    assert truth.ttft_error.minimum == pytest.approx(0.002, abs=1e-9)
    assert truth.ttft_error.maximum == pytest.approx(0.003, abs=1e-9)
    assert truth.last_token_error.maximum == pytest.approx(0.006, abs=1e-9)


def test_a_writer_of_another_boot_ends_the_comparison(tmp_path: Path) -> None:
    (one, entry), (two, _) = _pair(0), _pair(1)
    directory = write_run(tmp_path / "run", [[one]], num_planned=2)
    write_records(directory.path / "records-other.jsonl", [two], boot_id="boot-b")
    _ledger(directory.path / "ledger.jsonl", [entry])
    assert load_run(directory).truth is None


def test_a_ledger_without_any_record_file_is_no_error(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "run", [], num_planned=1)
    _ledger(directory.path / "ledger.jsonl", [_pair(0)[1]])
    truth = load_run(directory).truth
    assert truth is None or (truth.num_matched, truth.num_ledger_only) == (0, 1)
