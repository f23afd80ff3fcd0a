"""The facts of a run: from its records, and from the file that is left of them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import RunError
from harness.gate.facts import FACTS_FILE, KEPT_MEASURES, RunFacts, facts_of, fresh_facts, read_facts, write_facts
from harness.gate.rule import DEFAULT_MEASURES
from harness.judgement.measuring import parse_measure
from harness.objectives import Objective
from harness.quantiles import nearest_rank
from harness.records import RequestRecord
from harness.store import RunDirectory
from harness.summary import load_run
from tests.harness.builders import bare_record, record, write_run


def _records(num: int) -> list[RequestRecord]:
    """First tokens after 101, 102, 103 … ms, in a mixed order."""
    records = []
    for number in range(num):
        late = 0.101 + 0.001 * (number * 7 % num)
        at = number * 0.01
        records.append(
            record(number, intended_at=at, first_token_at=at + late, last_token_at=at + late + 0.09, done_at=at + 1)
        )
    return records


def _run(path: Path, num: int = 400, **fields: Any) -> RunDirectory:
    return write_run(
        path, [_records(num)], duration_s=4.0, clock="virtual", ended_how="complete", ended_at=5.0, **fields
    )


def _span_s(records: list[RequestRecord]) -> float:
    return max(each.done_at or 0 for each in records) - min(each.sent_at or 0 for each in records)


def test_what_is_measured(tmp_path: Path) -> None:
    facts = facts_of(
        load_run(_run(tmp_path / "run", objectives={"": Objective(ttft_s=0.3)})),
        ("ttft_p50", "ttft_p99", "output_rate", "goodput"),
    )
    late = np.sort([0.101 + 0.001 * each for each in range(400)])
    assert facts.state == "NONE"
    assert facts.num_requests == 400
    found = {name: measured.value for name, measured in facts.measures.items()}
    assert found == {
        "ttft_p50": pytest.approx(late[nearest_rank(50, 400)]),
        "ttft_p99": pytest.approx(late[nearest_rank(99, 400)]),
        "output_rate": pytest.approx(4000 / _span_s(_records(400))),
        "goodput": pytest.approx(0.5),
    }


def test_the_warm_up_does_not_count(tmp_path: Path) -> None:
    facts = facts_of(load_run(_run(tmp_path / "run", warmup_s=2.0)), ("output_rate", "ttft_p50"))
    assert facts.num_requests == 200
    assert facts.measures["output_rate"].value == pytest.approx(2000 / _span_s(_records(400)[200:]))
    second_half = np.sort(
        [each.first_token_at - each.intended_at for each in _records(400)[200:] if each.first_token_at]
    )
    assert facts.measures["ttft_p50"].value == pytest.approx(second_half[99])


def test_a_run_that_lost_requests_is_invalid(tmp_path: Path) -> None:
    facts = facts_of(load_run(_run(tmp_path / "run", num_planned=402)), ())
    assert facts.state == "INVALID"
    assert "2 of 402 planned requests left no record" in facts.reasons


def test_what_is_kept_is_what_a_gate_asks_by_default_and_far_more() -> None:
    assert set(KEPT_MEASURES) >= set(DEFAULT_MEASURES)
    assert len(KEPT_MEASURES) == len(set(KEPT_MEASURES)) > 100
    assert [parse_measure(name).name for name in KEPT_MEASURES] == list(KEPT_MEASURES)


def test_there_and_back(tmp_path: Path) -> None:
    directory = _run(tmp_path / "run")
    written = write_facts(load_run(directory))
    assert written == directory.path / FACTS_FILE
    assert read_facts(directory) == facts_of(load_run(directory))
    assert written.stat().st_size < 60_000


def test_runs_of_nothing_and_of_failures_have_facts(tmp_path: Path) -> None:
    nothing = facts_of(load_run(write_run(tmp_path / "nothing", [[]])))
    known = {name: each.value for name, each in nothing.measures.items() if not each.why}
    assert known == dict.fromkeys(
        ("request_rate", "output_rate", "token_rate"), 0.0
    )  # nobody was answered, and that is no question of what was measured
    failed = [
        bare_record(number, sent_at=number * 0.5, outcome="failed", error_kind="http_500") for number in range(400)
    ]
    run = load_run(write_run(tmp_path / "failed", [failed]))
    facts = facts_of(run)
    assert facts.measures["error_rate"].value == 1.0
    assert facts.measures["ttft_p99"].infinite
    assert facts.measures["ttft_p99(ok)"].value is None
    json.dumps(json.loads(write_facts(run).read_bytes()), allow_nan=False)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "neither records nor facts.json"),
        ("{", "facts.json: "),
        ("{}", "facts.json: "),
        ("later", "schema 99 is not known"),
    ],
)
def test_facts_that_cannot_be_read(tmp_path: Path, content: str | None, why: str) -> None:
    directory = _run(tmp_path / "run")
    path = write_facts(load_run(directory))
    if content == "later":
        content = path.read_text().replace('"schema_version": 1', '"schema_version": 99')
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(RunError, match=why):
        read_facts(directory)


def test_facts_say_which_run_they_are_of(tmp_path: Path) -> None:
    facts: RunFacts = facts_of(load_run(_run(tmp_path / "run", run_id="night-7", started_wall=5.0)), ())
    assert (facts.run_id, facts.started_wall, facts.measures) == ("night-7", 5.0, {})


def test_facts_are_used_as_long_as_nothing_is_younger(tmp_path: Path) -> None:
    directory = _run(tmp_path / "run")
    names = ("ttft_p50", "goodput(ttft<1s)")
    assert fresh_facts(directory, names[:1]) is None  # there are none yet
    path = write_facts(load_run(directory))
    assert fresh_facts(directory, names[:1]) == read_facts(directory)
    assert fresh_facts(directory, names) is None  # nobody asked for such a goodput
    written = path.stat().st_mtime_ns
    for source in ("manifest.json", "records-0.jsonl"):
        os.utime(directory.path / source, ns=(written + 1, written + 1))
        assert fresh_facts(directory, names[:1]) is None
        os.utime(directory.path / source, ns=(written, written))
    (directory.path / "records-0.jsonl").unlink()
    assert fresh_facts(directory, names) == read_facts(directory)  # what it does not have nobody knows any more
