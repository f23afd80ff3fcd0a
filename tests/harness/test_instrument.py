"""The instrument judges itself: what makes a run VALID, DEGRADED or INVALID."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.delivery import measure_delivery
from harness.instrument import Instrument, judge_instrument
from harness.records import RecordFile, RequestRecord
from harness.store import Sample
from harness.table import tabulate
from tests.harness.builders import LAW, bare_record, manifest, record


def _sample(**fields: Any) -> Sample:
    return Sample(**({"at": 1.0, "cpu": 0.4, "loop_lag_s": 0.001, "num_in_flight": 3} | fields))


def _judge(
    records: Sequence[RequestRecord],
    *,
    samples: Sequence[Sample] = (),
    files: Sequence[RecordFile] = (),
    num_planned: int | None = None,
    num_missing: int = 0,
    **manifest_fields: Any,
) -> Instrument:
    planned = len(records) if num_planned is None else num_planned
    asked = manifest(num_planned=planned, max_in_flight=100, **manifest_fields)
    table = tabulate(records)
    return judge_instrument(table, asked, files, samples, num_missing, delivery=measure_delivery(table, asked))


def _on_time(num: int = 10) -> list[RequestRecord]:
    return [record(number) for number in range(num)]


def _late(num: int, late_s: float, of: int = 10) -> list[RequestRecord]:
    """`num` of `of` requests sent late."""
    return [record(n, intended_at=n * 0.5, sent_at=n * 0.5 + (late_s if n < num else 0.0)) for n in range(of)]


def _refused(num: int, of: int) -> list[RequestRecord]:
    return [bare_record(n, outcome="refused") if n < num else record(n) for n in range(of)]


_GOOD = [_sample(), _sample(at=2.0)]

_SITUATIONS: dict[str, tuple[Callable[[], Instrument], str, str]] = {
    "all as planned": (lambda: _judge(_on_time(), samples=_GOOD), "VALID", ""),
    "no samples": (lambda: _judge(_on_time()), "VALID", ""),
    "9 ms late": (lambda: _judge(_late(1, 0.009), samples=_GOOD), "VALID", ""),
    "12 ms late": (lambda: _judge(_late(1, 0.012), samples=_GOOD), "DEGRADED", "the worst 12.0 ms"),
    "a few of a thousand late": (lambda: _judge(_late(9, 0.5, of=1000), samples=_GOOD), "VALID", ""),
    "two percent late": (
        lambda: _judge(_late(20, 0.5, of=1000), samples=_GOOD),
        "DEGRADED",
        "p99 500.0 ms",
    ),
    "seconds late": (lambda: _judge(_late(5, 2.5), samples=_GOOD), "INVALID", "sent 2.50 s late"),
    "loop lag of 20 ms": (lambda: _judge(_on_time(), samples=[_sample(loop_lag_s=0.020)]), "VALID", ""),
    "loop lag of 80 ms": (
        lambda: _judge(_on_time(), samples=[_sample(loop_lag_s=0.080)]),
        "DEGRADED",
        "for up to 80 ms",
    ),
    "a busy core": (
        lambda: _judge(_on_time(), samples=[_sample(), _sample(cpu=0.97)]),
        "DEGRADED",
        "used 97% of a core",
    ),
    "a core at 85 %": (lambda: _judge(_on_time(), samples=[_sample(cpu=0.85)]), "VALID", ""),
    "loop lag of 80 ms, arrivals stamped by the kernel": (
        lambda: _judge([record(n, read_lag_s=0.07) for n in range(10)], samples=[_sample(loop_lag_s=0.080)]),
        "DEGRADED",
        "for up to 80 ms; arrivals have the kernel's stamps, sends were late",
    ),
    "bytes that lay in the kernel for 200 ms": (lambda: _judge([record(0, read_lag_s=0.2)]), "VALID", ""),
    "a busy machine": (
        lambda: _judge(_on_time(), samples=[_sample(machine_cpu=0.99), _sample(machine_cpu=0.3)]),
        "DEGRADED",
        "in 1 of 2 seconds the machine's processors were busy, 99% in the worst of them",
    ),
    "a machine that was busy for a moment": (
        lambda: _judge(_on_time(), samples=[_sample(machine_cpu=0.99), *[_sample(machine_cpu=0.5)] * 9]),
        "VALID",
        "",
    ),
    "a process that was not run": (
        lambda: _judge(_on_time(), samples=[_sample(cpu_wait=0.3)]),
        "DEGRADED",
        "a load process waited for a processor, 30% of the worst of them",
    ),
    "a process that was woken often": (lambda: _judge(_on_time(), samples=[_sample(cpu_wait=0.07)]), "VALID", ""),
    "a machine whose processors went to others": (
        lambda: _judge(_on_time(), samples=[_sample(stolen_cpu=0.2)]),
        "DEGRADED",
        "the hypervisor gave processors to others, 20%",
    ),
    "two doubtful samples of a hundred": (
        lambda: _judge([record(n, doubt="late_send,late_read" if n < 2 else None) for n in range(100)]),
        "DEGRADED",
        "the times of 2.0% of the requests are doubtful: late_send 2, late_read 2",
    ),
    "one doubtful sample of a hundred": (
        lambda: _judge([record(n, doubt="merged_first_token" if n < 1 else None) for n in range(100)]),
        "VALID",
        "",
    ),
    "merged reads": (
        lambda: _judge([record(n, num_chunks=10, num_merged_chunks=1) for n in range(10)]),
        "DEGRADED",
        "10.0% of the chunks",
    ),
    "few merged reads": (
        lambda: _judge([record(n, num_chunks=10, num_merged_chunks=int(n < 4)) for n in range(10)]),
        "VALID",
        "",
    ),
    "missing records": (
        lambda: _judge(_on_time(99), num_planned=100, num_missing=1),
        "INVALID",
        "1 of 100 planned requests left no record",
    ),
    "no record at all": (
        lambda: _judge([], num_planned=100, num_missing=100),
        "INVALID",
        "100 of 100 planned requests left no record",
    ),
    "a tenth held back": (
        lambda: _judge(_refused(10, of=100)),
        "INVALID",
        "only 90 of 100 planned requests were sent",
    ),
    "some held back": (
        lambda: _judge(_refused(2, of=100)),
        "DEGRADED",
        "2 requests were held back by the harness itself",
    ),
    "a damaged file": (
        lambda: _judge(_on_time(), files=[RecordFile(Path("r"), problems=["r has no footer: its writer was killed"])]),
        "INVALID",
        "r has no footer",
    ),
    "failures of the server": (
        lambda: _judge([record(n, outcome="failed", error_kind="http_500") for n in range(10)], samples=_GOOD),
        "VALID",
        "",
    ),
}


@pytest.mark.parametrize("name", _SITUATIONS)
def test_state(name: str) -> None:
    judge, state, words = _SITUATIONS[name]
    instrument = judge()
    assert instrument.state == state
    assert words in "; ".join(instrument.reasons)
    assert bool(instrument.reasons) == (state != "VALID")


def test_what_makes_it_invalid_comes_first() -> None:
    instrument = _judge(_late(5, 0.5), samples=[_sample(cpu=1.0)], num_planned=11, num_missing=1)
    assert instrument.state == "INVALID"
    assert [reason.split()[0] for reason in instrument.reasons] == ["1", "only", "50%", "requests", "a"]


def test_numbers() -> None:
    files = [RecordFile(Path("a"), num_torn=1), RecordFile(Path("b"), num_torn=1)]
    samples = [_sample(cpu=0.2, loop_lag_s=0.001), _sample(cpu=0.6, loop_lag_s=0.003)]
    instrument = _judge(_late(1, 0.004), samples=samples, files=files)
    assert instrument.num_torn_lines == 2
    assert instrument.cpu_mean == pytest.approx(0.4)
    assert instrument.cpu_max == 0.6
    assert instrument.loop_lag.maximum == 0.003
    assert instrument.send_lag.num == 10
    assert instrument.send_lag.maximum == pytest.approx(0.004)
    assert instrument.merged_share == 0.0


def test_what_the_records_say() -> None:
    records = [
        record(0, read_lag_s=0.002, doubt="late_send"),
        record(1, read_lag_s=0.004),
        record(2),
        _refused(1, 1)[0],
    ]
    instrument = _judge(records, samples=[_sample(machine_cpu=0.2, cpu_wait=0.01), _sample(machine_cpu=0.4)])
    assert instrument.doubts == {"late_send": 1}
    assert instrument.doubted_share == pytest.approx(1 / 3)  # of those that were sent
    assert instrument.stamped_share == pytest.approx(2 / 3)
    assert instrument.read_lag is not None
    assert (instrument.read_lag.num, instrument.read_lag.maximum) == (2, 0.004)
    assert instrument.machine_cpu == pytest.approx(0.3)
    assert (instrument.cpu_wait, instrument.stolen_cpu) == (0.01, None)


def test_nothing_is_none_and_not_zero() -> None:
    instrument = _judge([])
    missing = (instrument.cpu_mean, instrument.cpu_max, instrument.merged_share, instrument.max_in_flight)
    assert missing == (None, None, None, None)
    assert instrument.send_lag.num == 0
    about_records = (instrument.doubted_share, instrument.stamped_share, instrument.machine_cpu, instrument.cpu_wait)
    assert about_records == (None, None, None, None)


def test_a_request_that_was_not_sent_has_no_lag() -> None:
    assert _judge(_refused(3, of=10)).send_lag.num == 7


def test_requests_that_were_never_sent_are_not_delivered() -> None:
    """Killed before the first byte left: outcome incomplete, no `sent_at`."""
    records = [record(n) if n < 80 else bare_record(n, outcome="incomplete") for n in range(100)]
    assert _judge(records).state == "INVALID"


@pytest.mark.parametrize(
    ("spans", "most"),
    [
        ([(0.0, 1.0)], 1),
        ([(0.0, 1.0), (1.0, 2.0)], 1),
        ([(0.0, 1.1), (1.0, 2.0)], 2),
        ([(0.0, None), (1.0, 2.0), (3.0, 4.0)], 2),
        ([(0.0, 9.0), (1.0, 2.0), (1.5, 8.0), (3.0, 4.0)], 3),
    ],
)
def test_most_in_flight(spans: list[tuple[float, float | None]], most: int) -> None:
    records = [bare_record(n, sent_at=sent, done_at=done) for n, (sent, done) in enumerate(spans)]
    assert _judge(records).max_in_flight == most


@LAW
@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0.001, 50)), min_size=1, max_size=30))
def test_most_in_flight_by_counting(spans: list[tuple[float, float]]) -> None:
    ends = [(sent, sent + length) for sent, length in spans]
    most = max(sum(sent <= at < done for sent, done in ends) for at, _ in ends)
    records = [bare_record(n, sent_at=sent, done_at=done) for n, (sent, done) in enumerate(ends)]
    assert _judge(records).max_in_flight == most


def test_a_run_that_was_stopped_says_so_instead_of_missing_records() -> None:
    """An orderly stop: what was not sent has no record, and nothing was lost."""
    stopped = _judge(_on_time(), num_planned=100, num_missing=90, ended_how="stopped early", ended_at=8.2)
    assert stopped.state == "INVALID"
    assert stopped.reasons == ["the run was stopped after 8 s: 90 of 100 planned requests were not sent"]


def test_a_run_that_was_stopped_says_why() -> None:
    fields: dict[str, Any] = {"ended_how": "stopped early", "stop_reason": "the budget is spent", "ended_at": 8.2}
    stopped = _judge(_on_time(), num_planned=100, num_missing=90, **fields)
    assert stopped.reasons == [
        "the run was stopped after 8 s (the budget is spent): 90 of 100 planned requests were not sent"
    ]
    assert _judge(_on_time(), **fields).state == "VALID"  # by then everything was sent
    reactive = _judge(_on_time(), reactive=True, **fields)  # nobody knows what would have followed
    assert (reactive.state, reactive.reasons) == ("INVALID", ["the run was stopped after 8 s (the budget is spent)"])


def test_a_plan_that_goes_on_from_answers_needs_an_end() -> None:
    assert _judge(_on_time(), reactive=True, ended_how="complete").state == "VALID"
    killed = _judge(_on_time(), reactive=True)
    assert (killed.state, killed.reasons) == ("INVALID", ["the run has no end: the process that led it was killed"])


def test_lost_workers_are_named_first() -> None:
    lost = "worker 1 (load-2, pid 7) fell silent 3.0 s into the run; its records lie on load-2 in /x"
    judged = _judge(_on_time(), num_planned=100, num_missing=90, ended_how="workers were lost", lost_workers=[lost])
    assert judged.state == "INVALID"
    assert judged.reasons[:2] == [lost, "90 of 100 planned requests left no record"]


def test_a_stopped_run_with_a_killed_writer_may_have_lost_records() -> None:
    damaged = RecordFile(Path("records-1.jsonl"), problems=["records-1.jsonl has no footer: its writer was killed"])
    stopped = _judge(
        _on_time(), files=[damaged], num_planned=100, num_missing=90, ended_how="stopped early", ended_at=8.2
    )
    assert "90 of 100 planned requests left no record" in stopped.reasons
