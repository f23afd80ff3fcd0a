"""Live totals against the fold of the same records that the summary is made of."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import RunError
from harness.goodput import goodput
from harness.live.histogram import RELATIVE_ERROR
from harness.live.stats import LATENCIES, LiveBoard, LiveStats
from harness.objectives import parse_objective
from harness.quantiles import distribution
from harness.records import RequestRecord
from harness.store import Sample
from harness.summary import samples
from harness.table import tabulate
from tests.harness.builders import LAW, bare_record, record

_OBJECTIVES = {"": parse_objective("ttft<300ms"), "batch": parse_objective("e2e<4s,tpot<50ms")}
_OUTCOMES = ("ok", "ok", "ok", "throttled", "failed", "cut", "incomplete", "refused", "left")


def _record(number: int) -> RequestRecord:
    """Any request: each outcome, streams with several tokens a chunk, answers of one token, whole answers."""
    draw = np.random.default_rng(number)
    outcome = _OUTCOMES[number % len(_OUTCOMES)]
    fields: dict[str, Any] = {
        "intended_at": number * 0.05,
        "outcome": outcome,
        "class_name": [None, "batch", "chat"][int(draw.integers(3))],
        "cost_usd": None if number % 4 == 0 else 0.001 * number,
        "throttled_s": 1.5 if outcome == "throttled" and number % 2 else None,
        "doubt": "late_send,late_read" if number % 11 == 0 else None,
    }
    if outcome in ("refused", "throttled", "failed"):
        sent_at = None if outcome == "refused" else number * 0.05 + 0.001
        return bare_record(number, sent_at=sent_at, **fields)
    num_chunks = int(draw.integers(1, 30))
    tokens = draw.integers(1, 4, num_chunks)
    gaps = np.round(draw.lognormal(-4, 1, num_chunks - 1), 6)
    first = fields["intended_at"] + round(float(draw.lognormal(-1.5, 1)), 6)
    fields |= {
        "sent_at": fields["intended_at"] + round(float(draw.exponential(0.002)), 6),
        "first_token_at": first,
        "last_token_at": first + float(gaps.sum()),
        "done_at": first + float(gaps.sum()) + 0.01,
        "token_gaps_s": gaps.tolist(),
        "chunk_tokens": tokens.tolist() if number % 3 else None,
        "num_output_tokens": int(tokens.sum()) if number % 7 else None,
        "num_chunks": num_chunks,
        "num_merged_chunks": num_chunks // 10,
    }
    return record(number, **fields)


def _stats(records: list[RequestRecord]) -> LiveStats:
    stats = LiveStats(objectives=_OBJECTIVES)
    for each in records:
        stats.add(each)
    return stats


def test_the_latencies_are_those_of_the_summary() -> None:
    records = [_record(number) for number in range(3_000)]
    stats, table = _stats(records), tabulate(records)
    for name in LATENCIES:
        exact, folded = distribution(*samples(table)[name]), getattr(stats, name).distribution()
        assert folded.num == exact.num > 300
        assert folded.mean == pytest.approx(exact.mean, abs=1e-8)
        assert folded.maximum == pytest.approx(exact.maximum)
        for percent, value in exact.percentiles.items():
            near = None if value is None else pytest.approx(value, rel=RELATIVE_ERROR + 1e-6, abs=1e-5)
            assert folded.percentiles[percent] == near


def test_the_counts_are_those_of_the_records() -> None:
    records = [_record(number) for number in range(2_000)]
    stats, table = _stats(records), tabulate(records)
    assert stats.outcomes == {name: sum(each.outcome == name for each in records) for name in set(_OUTCOMES)}
    assert stats.num_ended == len(records)
    assert stats.num_sent == sum(each.sent_at is not None for each in records)
    assert stats.num_refused == stats.num_ended - stats.num_sent
    ok = [each for each in records if each.outcome == "ok"]
    assert stats.num_output_tokens == sum(each.num_output_tokens or 0 for each in ok)
    span = max(each.done_at or 0 for each in ok) - min(each.sent_at or 9e9 for each in ok)
    assert stats.output_rate == pytest.approx(sum(each.num_output_tokens or 0 for each in ok) / span)
    priced = [each.cost_usd for each in records if each.cost_usd is not None]
    assert stats.num_priced == len(priced)
    assert stats.cost_usd == pytest.approx(sum(priced))
    assert stats.throttled_s == 1.5 * stats.num_waited > 0
    assert stats.merged_share == np.nansum(table["num_merged_chunks"]) / np.nansum(table["num_chunks"])
    assert stats.doubts == {"late_send": stats.num_doubted, "late_read": stats.num_doubted}


def test_goodput_is_that_of_the_summary() -> None:
    records = [_record(number) for number in range(2_000)]
    exact = goodput(tabulate(records), _OBJECTIVES, 100.0)
    stats = _stats(records)
    assert exact is not None
    assert (stats.num_judged, stats.num_good, stats.good_share) == (exact.num, exact.num_good, exact.share)
    assert 0 < stats.num_good < stats.num_judged


def test_what_nobody_reported_is_not_zero() -> None:
    stats = LiveStats()
    stats.add(bare_record(outcome="failed", sent_at=0.0))
    assert stats.cost_usd is stats.throttled_s is stats.num_output_tokens is stats.output_rate is None
    assert stats.good_share is stats.merged_share is stats.cpu is stats.worst_loop_lag_s is None
    assert stats.ttft.percentile(50) is None


def test_a_client_that_left_as_planned_is_not_judged() -> None:
    stats = LiveStats(objectives=_OBJECTIVES)
    stats.add(record(outcome="left"))
    stats.add(bare_record(1, outcome="refused"))  # but one that we kept back is
    assert (stats.num_judged, stats.num_good) == (1, 0)


@LAW
@given(st.lists(st.integers(0, 2), max_size=40), st.permutations(range(3)))
def test_workers_together_are_one_process(worker_of: list[int], order: list[int]) -> None:
    records = [_record(number) for number in range(len(worker_of))]
    shares = [[each for each, worker in zip(records, worker_of, strict=True) if worker == index] for index in range(3)]
    board = LiveBoard()
    for index in order:
        board.put(f"worker {index}", _stats(shares[index]))
    total, alone = board.total(), _stats(records)
    assert total.cost_usd == (None if alone.cost_usd is None else pytest.approx(alone.cost_usd))
    assert total.throttled_s == (None if alone.throttled_s is None else pytest.approx(alone.throttled_s))
    total.cost_usd = alone.cost_usd  # a sum of floats depends on its order in the last digit
    total.throttled_s = alone.throttled_s
    assert total == alone


def test_a_snapshot_takes_the_place_of_the_one_before() -> None:
    """Lost, late and doubled messages change nothing in the end."""
    board, stats = LiveBoard(), LiveStats()
    for number in range(30):
        stats.add(_record(number))
        if number % 10 == 9:
            board.put("a", LiveStats.from_bytes(stats.to_bytes()))
            board.put("a", LiveStats.from_bytes(stats.to_bytes()))
            assert board.total().num_ended == number + 1
    before = board.total()
    stats.add(_record(31))
    assert before == board.total()  # a total is not touched by what comes later


@LAW
@given(st.integers(0, 60), st.booleans())
def test_a_snapshot_travels(num: int, has_samples: bool) -> None:
    stats = _stats([_record(number) for number in range(num)])
    if has_samples:
        stats.note_sample(Sample(at=1.0, cpu=0.5, loop_lag_s=0.03, num_in_flight=7))
    data = stats.to_bytes()
    arrived = LiveStats.from_bytes(data)
    assert arrived == stats
    arrived.add(_record(99))  # and can be gone on with
    stats.add(_record(99))
    assert arrived == stats


def test_a_snapshot_of_a_long_run_is_a_few_kilobytes() -> None:
    stats = _stats([_record(number) for number in range(20_000)])
    assert len(stats.to_bytes()) < 12_000


@LAW
@given(st.binary(max_size=200))
def test_bytes_of_a_stranger_are_refused(data: bytes) -> None:
    with pytest.raises(RunError, match="cannot be read"):
        LiveStats.from_bytes(b"\x93" + data)


@pytest.mark.parametrize("changes", [{"num_sent": -1}, {"outcomes": {"ok": -5}}, {"ttft": b"\x01"}, {"ttft": 5}])
def test_a_forged_snapshot_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RunError, match="cannot be read"):
        LiveStats.from_bytes(msgspec.msgpack.encode(changes))


def test_gauges_are_of_the_last_look_and_the_worst_process() -> None:
    one, other, board = LiveStats(), LiveStats(), LiveBoard()
    one.note_sample(Sample(at=1.0, cpu=0.99, loop_lag_s=0.2, num_in_flight=3, cpu_wait=0.5))
    one.note_sample(Sample(at=2.0, cpu=0.10, loop_lag_s=0.001, num_in_flight=4))
    other.note_sample(Sample(at=2.0, cpu=0.30, loop_lag_s=0.002, num_in_flight=5))
    board.put("a", one)
    board.put("b", other)
    total = board.total()
    assert (total.cpu, total.worst_cpu, total.loop_lag_s, total.worst_loop_lag_s) == (0.30, 0.99, 0.002, 0.2)
    assert (total.num_in_flight, total.num_samples, total.num_stalled, total.num_crowded) == (9, 3, 1, 1)
