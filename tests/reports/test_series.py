"""Folds behind the figures, on runs small enough to be counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness.quantiles import PERCENTILES, distribution, samples_needed
from harness.summary import RunData, load_run, metrics, samples
from harness.table import tabulate
from reports import curves, series
from reports.buckets import Buckets, time_buckets
from tests.harness.builders import record, write_run
from tests.reports import runs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunData:
    return load_run(runs.mixed(tmp_path_factory.mktemp("series") / "run"))


def test_the_curves_are_those_of_the_summary(run: RunData) -> None:
    expected = metrics(run.table)
    for name, sample in samples(run.table).items():
        assert distribution(*sample, independent=bool(expected[name].intervals)) == expected[name]
        curve = curves.ecdf(*sample)
        assert curve.num == expected[name].num
        for percent in PERCENTILES:
            if curve.num >= samples_needed(percent):
                assert curve.at(percent) == expected[name].at(percent)


def test_a_thinned_curve_keeps_its_ends() -> None:
    curve = curves.ecdf(np.linspace(1.0, 2.0, 50_000)).thinned(1000)
    assert len(curve.values_s) <= 1000
    assert (curve.values_s[0], curve.values_s[-1]) == (1.0, 2.0)
    assert curve.shares[-1] == 1.0
    assert (np.diff(curve.shares) > 0).all()


def test_an_instant_on_an_edge_belongs_to_the_bucket_that_begins_there() -> None:
    buckets = Buckets(0.0, 0.1, 10)
    instants = np.array([0.0, 0.1, 0.2, 0.3, 0.6, 0.7, 1.0, np.nan])
    assert buckets.counts(instants).tolist() == [1, 1, 1, 1, 0, 0, 1, 1, 0, 1]


@pytest.mark.parametrize("duration_s", [0.5, 10.0, 61.0, 3600.0, 86_400.0, 40 * 86_400.0])
def test_there_are_at_most_sixty_buckets_and_they_cover_the_run(duration_s: float, tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "run", [[record(0, intended_at=duration_s)]], duration_s=duration_s))
    buckets = time_buckets(run)
    assert 1 <= buckets.num <= 60
    assert buckets.start_s <= 0
    assert buckets.end_s >= duration_s


def test_tokens_lie_where_their_chunks_came() -> None:
    # The first content at 1.0 s, then chunks of 2 and 1 tokens 1 s apart: 4 tokens in proportion 1, 2, 1.
    streamed = record(
        0,
        first_token_at=1.0,
        last_token_at=3.0,
        done_at=3.0,
        token_gaps_s=[1.0, 1.0],
        chunk_tokens=[1, 2, 1],
        num_output_tokens=4,
    )
    whole = record(1, stream=False, first_token_at=None, done_at=3.5, token_gaps_s=None, num_output_tokens=7)
    failed = record(2, outcome="failed")
    tokens = series.tokens_over_time(tabulate([streamed, whole, failed]), Buckets(0.0, 1.0, 5))
    assert tokens["tokens"].tolist() == pytest.approx([0, 1, 2, 8, 0])


def test_requests_in_flight_are_carried_over_buckets_without_an_event() -> None:
    records = [record(0, intended_at=0.0, done_at=3.5), record(1, intended_at=0.2, done_at=0.4)]
    load = series.load_over_time(tabulate(records), Buckets(0.0, 1.0, 5))
    assert load["in_flight"].tolist() == [2, 1, 1, 1, 0]
    assert load["sent"].tolist() == [2, 0, 0, 0, 0]


def test_phases_follow_each_other() -> None:
    names = ["quiet", "quiet", "burst", None, "quiet"]
    table = tabulate(record(number, intended_at=float(number), phase=name) for number, name in enumerate(names))
    assert series.phases(table) == [
        series.Phase("quiet", 0.0, 2.0),
        series.Phase("burst", 2.0, 3.0),
        series.Phase("quiet", 4.0, 4.0),
    ]


def test_of_many_requests_the_slowest_are_drawn_in_any_case() -> None:
    slow = {number * 37 % 4000 for number in range(60)}
    table = tabulate(
        record(number, intended_at=float(number), first_token_at=number + (9.0 if number in slow else 1.0))
        for number in range(4000)
    )
    at, ttft = series.latency_points(table, "ttft")
    assert len(at) <= 1600
    assert set(at[ttft > 5].astype(int).tolist()) == slow
    assert (np.diff(at) > 0).all()
