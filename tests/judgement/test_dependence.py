"""What dependent samples are worth: known processes, and how often an answer that trusts them is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from harness.judgement.dependence import autocorrelation_time, effective_size, variance_of_mean
from harness.judgement.early_stopping import weigh
from harness.judgement.evidence import evidence
from harness.streams import stream
from harness.table import Floats


def _autoregressive(num: int, phi: float, seed: int) -> Floats:
    noise = stream(seed, "ar").standard_normal(num + 500)
    return np.asarray(lfilter([1], [1, -phi], noise)[500:])


def _times_in_queue(num: int, load: float, seed: int) -> Floats:
    """M/M/1 by Lindley's recursion, after 2,000 requests; the time in the system is exponential with rate 1 - load."""
    draw = stream(seed, "queue")
    gaps, work = draw.exponential(1 / load, num + 2000), draw.exponential(1.0, num + 2000)
    walk = np.concatenate([[0.0], work[:-1] - gaps[1:]]).cumsum()
    return np.asarray((walk - np.minimum.accumulate(walk) + work)[2000:])


@pytest.mark.parametrize(("phi", "expected"), [(0.0, 1.0), (0.5, 3.0), (0.8, 9.0), (0.95, 39.0)])
def test_the_time_of_an_autoregressive_process_is_known(phi: float, expected: float) -> None:
    """(1 + phi) / (1 - phi)."""
    found = np.mean([autocorrelation_time(_autoregressive(50_000, phi, seed)) for seed in range(10)])
    assert found == pytest.approx(expected, rel=0.1)


def test_what_repels_itself_is_not_worth_more_than_there_is() -> None:
    alternating = np.tile([0.0, 1.0], 500)
    assert effective_size(alternating, np.ones(1000)) == 1000


def test_runs_of_ten_count_as_one_each() -> None:
    draw = stream(3, "runs")
    runs = [np.repeat(draw.random(2000) < 0.2, 10).astype(float) for _ in range(20)]
    assert np.mean([effective_size(hits, np.ones(20_000)) for hits in runs]) == pytest.approx(2000, rel=0.1)


def test_gaps_of_one_answer_that_are_all_alike_count_as_one() -> None:
    draw = stream(4, "answers")
    sizes = draw.integers(20, 60, 2000).astype(float)
    hits = (draw.random(2000) < 0.3) * sizes
    # The variance of a ratio of sums, from its definition: 2,000 answers, 300 times over.
    shares = []
    for _ in range(300):
        again = draw.integers(20, 60, 2000)
        shares.append(((draw.random(2000) < 0.3) * again).sum() / again.sum())
    assert variance_of_mean(hits, sizes) == pytest.approx(np.var(shares), rel=0.25)
    assert effective_size(hits, sizes) == pytest.approx(0.21 / np.var(shares), rel=0.25)


@pytest.mark.parametrize("num", [1, 2, 9])
def test_requests_that_do_not_differ_are_worth_as_many_as_there_are(num: int) -> None:
    """However many gaps they have; the last digits of a share are no difference."""
    assert effective_size(np.full(num, 33.0), np.full(num, 1000.0)) == num
    assert effective_size(np.arange(1.0, num + 1), 3 * np.arange(1.0, num + 1)) == num


def test_all_or_none_are_worth_as_many_as_there_are_requests() -> None:
    assert effective_size(np.zeros(7), np.full(7, 5.0)) == 7
    assert effective_size(np.full(7, 5.0), np.full(7, 5.0)) == 7


@pytest.mark.parametrize(
    ("load", "p", "num", "most"), [(0.5, 0.9, 2000, 0.10), (0.5, 0.95, 5000, 0.10), (0.8, 0.9, 10_000, 0.13)]
)
def test_exactly_at_the_bound_of_a_queue_the_answer_is_rarely_wrong(
    load: float, p: float, num: int, most: float
) -> None:
    """Waits in a queue depend on each other. Taken as independent they give a wrong PASS in a quarter of the runs and more."""
    limit = -np.log(1 - p) / (1 - load)
    wrong = {"as they are": [0, 0], "as independent": [0, 0]}
    for seed in range(200):
        over = (_times_in_queue(num, load, seed) > limit).astype(float)
        for name, worth in (("as they are", effective_size(over, np.ones(num)) / num), ("as independent", 1.0)):
            claim = weigh((num - over.sum()) * worth, over.sum() * worth, p)
            wrong[name][0] += claim == "proven"
            wrong[name][1] += claim == "refuted"
    assert max(wrong["as they are"]) <= most * 200
    assert wrong["as independent"][0] > 0.2 * 200


@pytest.mark.parametrize(
    ("load", "p", "num"),
    [
        (0.5, 0.99, 3000),
        (0.8, 0.95, 3000),
        (0.8, 0.99, 3000),
        (0.8, 0.99, 10_000),
        (0.9, 0.95, 3000),
        (0.9, 0.99, 3000),
    ],
)
def test_a_run_that_saw_no_burst_is_not_sure(load: float, p: float, num: int) -> None:
    """Where few or none were over the limit, those that came near it show how requests resemble each other. Without them up to
    0.73 of these runs PASS, and the limit is exactly their percentile."""
    limit = -np.log(1 - p) / (1 - load)
    wrong = {"near": [0, 0], "alone": [0, 0]}
    for seed in range(200):
        times, rows = _times_in_queue(num, load, seed), np.arange(num)
        for name, near in (("near", times > limit / 2), ("alone", None)):
            claim = evidence(times > limit, rows, rows.astype(float), near).claim(p)
            wrong[name][0] += claim == "proven"
            wrong[name][1] += claim == "refuted"
    assert max(wrong["near"]) <= 0.14 * 200  # of 800 runs up to 10 % are, at 80 % and 90 % load and p95
    assert wrong["alone"][0] > 0.10 * 200


def test_who_stays_far_from_the_limit_needs_not_be_independent() -> None:
    """Latency that follows a rate which follows the day, at most a third of the limit: 400 requests prove a p99."""
    at = np.arange(400.0)
    values = 0.2 + 0.1 * np.sin(at / 50)
    found = evidence(values > 1.0, np.arange(400), at, values > 0.5)
    assert (found.effective, found.claim(0.99)) == (400, "proven")
