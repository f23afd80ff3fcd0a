"""Faults, alerts and the warm-up: where they come from, and that what cannot be placed on the run's clock is left out."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from harness.judgement.results import Alert
from harness.records import RecordFile
from harness.summary import load_run, summarize
from harness.table import tabulate
from reports.buckets import Buckets
from reports.events import Event, events_of, events_table, ledger_faults, read_stack, stack_faults
from reports.look import timed
from reports.queueing import queue_times
from tests.harness.builders import header, record, write_run


def _ledger(path: Path, entries: list[dict[str, Any]], boot_id: str = "boot-a", torn: bytes = b"") -> Path:
    lines = [{"kind": "header", "boot_id": boot_id, "monotonic_origin": 990.0}, *entries]
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines) + torn)
    return path


def _entry(received_at: float, finished_at: float | None, *notes: str) -> dict[str, Any]:
    return {"kind": "request", "received_at": received_at, "finished_at": finished_at, "notes": [*notes]}


def test_a_fault_lasts_from_the_first_to_the_last_request_that_it_struck(tmp_path: Path) -> None:
    entries = [
        _entry(15.0, 15.5, "cache: miss", "faults: outage (first)"),
        _entry(13.0, 13.2, "faults: outage (first)"),
        _entry(18.0, None, "faults: brownout (slow)", "route: small"),
        _entry(19.0, 20.0, "route: small"),
    ]
    # The mock's clock began at 990 of the machine's, the run at 1000: 10 s later.
    found = ledger_faults(_ledger(tmp_path / "ledger.jsonl", entries), [RecordFile(Path("r"), header=header())])
    assert found == [Event("fault", "outage (first)", 3.0, 5.5), Event("fault", "brownout (slow)", 8.0, 8.0)]


@pytest.mark.parametrize(
    ("boot_id", "torn"), [("boot-b", b""), ("boot-a", b'{"notes": ["faults: outage (first)"], "received_at": 1')]
)
def test_a_ledger_of_another_clock_and_a_torn_line_say_nothing(boot_id: str, torn: bytes, tmp_path: Path) -> None:
    path = _ledger(tmp_path / "ledger.jsonl", [], boot_id, torn)
    assert ledger_faults(path, [RecordFile(Path("r"), header=header())]) == []


@pytest.mark.parametrize("content", [None, b"", b"no json\n", b'{"boot_id": 3}\n'])
def test_a_ledger_that_cannot_be_read_says_nothing(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "ledger.jsonl").write_bytes(content)
    assert ledger_faults(tmp_path / "ledger.jsonl", [RecordFile(Path("r"), header=header())]) == []


def test_faults_of_a_simulated_stack() -> None:
    faults = [
        {"begins_s": 180.0, "ends_s": 300.0, "fault": {"kind": "outage", "model": "first"}},
        {"begins_s": 400.0, "ends_s": None, "fault": {"kind": "brownout", "model": "own", "replica": "own-1"}},
        {"begins_s": None, "fault": {}},
    ]
    assert stack_faults({"state": {"faults": faults}}, 600.0) == [
        Event("fault", "outage of first", 180.0, 300.0),
        Event("fault", "brownout of own of own-1", 400.0, 600.0),
    ]


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{", b"3"])
def test_a_stack_file_that_is_none_is_empty(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "stack.json").write_bytes(content)
    assert read_stack(tmp_path / "stack.json") == {}


def test_all_that_happened_in_order_of_time(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "run", [[record(n) for n in range(20)]], warmup_s=2.0, ended_at=10.0))
    summary = summarize(run)
    summary.alerts = [
        Alert(kind="error_rate", from_s=4.0, to_s=6.0, worst=0.5, limit=0.1, text="half of them failed"),
        Alert(kind="error_rate", from_s=11.0, to_s=12.0, worst=0.5, limit=0.1, text="after the end"),
    ]
    fault = {"begins_s": 3.0, "ends_s": 5.0, "fault": {"kind": "outage", "model": "m"}}
    late = {"begins_s": 30.0, "ends_s": 50.0, "fault": {"kind": "outage", "model": "never met"}}
    found = events_of(run, summary, {"state": {"faults": [fault, late]}})
    assert [(each.kind, each.from_s, each.to_s) for each in found] == [
        ("warm-up", 0.0, 2.0),
        ("fault", 3.0, 5.0),
        ("alert", 4.0, 6.0),
    ]
    assert found[2].text == "error rate: half of them failed"


def test_of_many_events_the_table_has_fifty_and_says_how_many_more() -> None:
    table = events_table([Event("alert", f"number {n}", float(n), n + 1.0) for n in range(73)])
    assert len(table.rows) == 51
    assert table.rows[-1][0] == "and 23 more"


def test_events_and_their_names_do_not_cover_each_other() -> None:
    events = [Event("fault", f"a fault of some length, {n}", 10.0 * n, 10.0 * n + 5) for n in range(9)]
    layout = json.loads(timed("y", Buckets(0.0, 1.0, 100), (), events).to_json())["layout"]
    labelled = [shape for shape in layout["shapes"] if "label" in shape]
    assert 4 <= len(labelled) <= len(events)
    lanes: dict[float, list[tuple[float, float]]] = {}
    for shape in labelled:
        lanes.setdefault(round(shape["y0"], 6), []).append((shape["x0"], shape["x1"]))
    assert len(lanes) <= 4
    for spans in lanes.values():
        assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))
    assert max(shape["y1"] for shape in layout["shapes"]) <= 1.0


def test_queueing_is_the_records_or_the_ledgers(tmp_path: Path) -> None:
    entries = [{"client_request_id": f"run-1-{n}", "queue_s": n / 10} for n in (0, 2, 7)]
    path = _ledger(tmp_path / "ledger.jsonl", entries, torn=b'{"client_request_id": "run-1-1", "queue')
    silent = tabulate(record(n) for n in range(4))
    found = queue_times(silent, path)
    assert np.isnan(found).tolist() == [False, True, False, True]
    assert found[[0, 2]].tolist() == [0.0, 0.2]
    told = tabulate(record(n, queue_s=0.5) for n in range(4))
    assert queue_times(told, path).tolist() == [0.5] * 4
    assert np.isnan(queue_times(silent, tmp_path / "none")).all()
    (tmp_path / "broken").write_bytes(b"no json\n")
    assert np.isnan(queue_times(silent, tmp_path / "broken")).all()
