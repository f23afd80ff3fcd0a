"""The steady part of a run: queues whose answer is known, cold starts, and runs that ask for nothing steady."""

from __future__ import annotations

from collections import Counter
from math import log
from typing import Any

import numpy as np
import pytest

from harness.arrivals.gaps import parse_gaps
from harness.arrivals.pacing import Piece
from harness.metrics.steady import Steady, steady
from harness.store import Manifest
from harness.table import Floats, Table
from harness.workloads.synthetic import conversations
from tests.harness.builders import manifest
from tests.metrics.columns import answered, table_of
from tests.metrics.queues import RATE, queue

_DURATION_S = 120.0
_SEEDS = 120


def _plan(duration_s: float = _DURATION_S, **changes: Any) -> Manifest:
    """A plan that asks for one rate throughout."""
    pieces = [[0.0, duration_s, RATE, "steady", None]]
    return manifest(**({"plan": {"pieces": pieces}, "duration_s": duration_s} | changes))


def _steady_queue(kind: str, load: float, seed: int) -> Steady:
    return steady(answered(*queue(kind, load, _DURATION_S, seed)), _plan())


# -- queues ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["D", "M"])
@pytest.mark.parametrize(("load", "state"), [(0.5, "steady"), (0.8, "steady"), (1.2, "drifting")])
def test_a_queue_that_keeps_up_is_steady_and_one_that_does_not_drifts(
    kind: str, load: float, state: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """M/D/1 and M/M/1 from an empty start, two minutes at 20/s."""
    states = Counter(_steady_queue(kind, load, seed).state for seed in range(_SEEDS))
    with capsys.disabled():
        print(f"\n  M/{kind}/1 at {load:.0%}: {dict(states)}")
    assert states[state] >= 0.95 * _SEEDS
    assert states[{"steady": "drifting", "drifting": "steady"}[state]] <= 0.05 * _SEEDS


def test_the_queue_in_the_steady_part_is_that_of_the_theory() -> None:
    """The sojourn in an M/M/1 is exponential with the rate at which service outruns the arrivals. A long queue at the start looks
    like a warm-up, and is left out now and then: the percentiles are a little too low on average, and not by more."""
    found = [_steady_queue("M", 0.5, seed) for seed in range(60)]
    for percent in (50, 99):
        values = [each.metrics["e2e"].at(percent) for each in found if each.state == "steady"]
        expected = log(100 / (100 - percent)) / (RATE / 0.5 - RATE)
        assert np.mean([value for value in values if value is not None]) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("kind", ["D", "M"])
@pytest.mark.parametrize(("load", "slower"), [(0.3, 3.0), (0.5, 3.0)])
def test_a_cold_start_is_found_and_left_out(kind: str, load: float, slower: float) -> None:
    """The first 20 s are slow, and at 150 % load leave a queue. The same arrivals and services without the cold start say
    when it was over: from then on both queues are the same."""
    num_steady = 0
    for seed in range(40):
        arrived, warm = queue(kind, load, 300.0, seed)
        _, took = queue(kind, load, 300.0, seed, cold_s=20.0, slower=slower)
        settled_at = arrived[np.flatnonzero(took > warm + 1e-9)[-1]]
        assert settled_at > 18.0
        found = steady(answered(arrived, took), _plan(300.0))
        if found.state != "steady":
            continue
        num_steady += 1
        assert found.from_s is not None
        assert found.to_s is not None
        assert settled_at - 3.0 < found.from_s < settled_at + 90.0
        assert found.num_warmup == int((arrived < found.from_s).sum())
        inside = (arrived >= found.from_s) & (arrived < found.to_s)
        for percent in (50, 99):
            expected = np.percentile(warm[inside], percent, method="inverted_cdf")
            assert found.metrics["e2e"].at(percent) == pytest.approx(expected, rel=0.03)
    assert num_steady >= 38


# -- the window --------------------------------------------------------------------------------------


def _even(num: int, took_s: Floats | float) -> Table:
    """`num` requests, ten a second."""
    at = np.arange(num) / 10
    return answered(at, np.broadcast_to(np.asarray(took_s, dtype=float), num))


def _noisy(num: int, level_s: float, seed: int = 3) -> Floats:
    return level_s * np.random.default_rng(seed).uniform(0.5, 1.5, num)


def test_what_was_in_flight_when_arrivals_stopped_is_left_out() -> None:
    """Each takes 10 s: of 100 s the last 10 are the drain, and the rate is that of the tokens of the others."""
    found = steady(_even(1000, 10.0), _plan(100.0))
    assert (found.state, found.from_s) == ("steady", 0.0)
    assert found.why.startswith("from the start until 90 s ")
    assert found.to_s == pytest.approx(90.0)
    assert (found.num, found.num_warmup, found.num_drain) == (900, 0, 100)
    assert found.metrics["e2e"].num == 900
    assert found.output_rate == pytest.approx(900 * 20 / 90)


def test_a_run_that_was_stopped_ends_where_it_was_stopped() -> None:
    found = steady(_even(600, 10.0), _plan(100.0, ended_at=60.0))
    assert (found.state, found.num_drain) == ("steady", 100)
    assert found.to_s == pytest.approx(50.0)


def test_failures_stand_among_the_requests_and_not_in_the_metrics() -> None:
    table = _even(1000, _noisy(1000, 1.0))
    kinds = ["failed" if number % 10 == 0 else "ok" for number in range(1000)]
    found = steady(table_of(table.columns, outcomes=kinds), _plan(100.0))
    assert found.state == "steady"
    assert found.metrics["e2e"].num == sum(kinds[number] == "ok" for number in range(found.num))
    assert found.num + found.num_drain == 1000


def test_a_warmup_that_was_given_is_not_looked_for_again() -> None:
    took = _noisy(1000, 1.0)
    took[:200] += 5.0
    table = _even(1000, took)
    alone = steady(table, _plan(100.0))
    assert alone.state == "steady"
    assert 20.0 <= (alone.from_s or 0.0) < 25.0
    assert alone.why.startswith(f"after {alone.from_s:.3g} s of warm-up until ")
    cut = steady(table.select(table["intended_at"] >= 20.0), _plan(100.0, warmup_s=20.0))
    assert (cut.state, cut.from_s, cut.num_warmup) == ("steady", 20.0, 0)
    assert cut.why.startswith("from 20 s on until ")


def test_latency_that_falls_until_the_end_drifts_too() -> None:
    found = steady(_even(1000, np.linspace(4.0, 1.0, 1000) * _noisy(1000, 1.0)), _plan(100.0))
    assert (found.state, found.metrics, found.output_rate) == ("drifting", {}, None)
    assert "fell" in found.why


@pytest.mark.parametrize(
    ("num", "took_s", "why"),
    [
        (0, 1.0, "0 requests"),
        (150, 1.0, "150 requests"),
        (1000, 70.0, "slowest requests take 70 s"),
    ],
)
def test_too_short(num: int, took_s: float, why: str) -> None:
    found = steady(_even(num, took_s), _plan(100.0))
    assert found.state == "too short"
    assert why in found.why


def test_a_warmup_longer_than_half_of_the_run_is_too_short_a_run() -> None:
    took = _noisy(1000, 1.0)
    took[:495] += 3.0
    found = steady(_even(1000, took), _plan(100.0))
    assert (found.state, "had not settled" in found.why) == ("too short", True)


@pytest.mark.parametrize("at", [300, 600, 750])
def test_a_run_in_which_latency_jumps_is_not_steady(at: int) -> None:
    """A replica that was lost: before and after all is well."""
    took = _noisy(1000, 1.0)
    took[at:] *= 1.4
    found = steady(_even(1000, took), _plan(100.0))
    if at < 500:  # what came before is then taken for a warm-up
        assert found.state == "steady"
        assert found.from_s == pytest.approx(at / 10, abs=3.0)
        return
    assert found.state == "drifting"
    assert "grew by" in found.why


def test_a_server_that_answers_ever_later_and_nothing_at_the_end_drifts() -> None:
    """Three times as much as it can do: each waits twice as long as the plan has run; it was cut off at the plan's end."""
    at = np.arange(2000) / 20
    kinds = ["ok" if each * 3 <= 100.0 else "incomplete" for each in at]
    done = np.where(np.array(kinds) == "ok", at * 3 + 0.1, np.nan)
    found = steady(table_of({"intended_at": at, "done_at": done}, outcomes=kinds), _plan(100.0))
    assert found.state == "drifting"


# -- what the plan asks ------------------------------------------------------------------------------


def _pieces(*pieces: Piece) -> dict[str, Any]:
    """A plan as it describes itself."""
    return {"plan": conversations(pieces, parse_gaps("poisson"), 0).describe()}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"reactive": True}, "goes on from answers"),
        ({"plan": {}}, "does not say at what rate"),
        ({"plan": {"arrivals": "sum of 4 clients"}}, "does not say at what rate"),
        ({"plan": {"pieces": [[0.0, 1.0, "<script>"]]}}, "does not say at what rate"),
        ({"plan": {"pieces": []}}, "does not say at what rate"),
        (_pieces(Piece(0, 50, 10, "quiet"), Piece(50, 100, 20, "burst")), "between 10/s and 20/s"),
        (_pieces(Piece(0, 100, 10, "ramp", 20)), "between 10/s and 20/s"),
        (_pieces(Piece(0, 50, 10, "one"), Piece(50, 100, 10, "two")), "2 phases"),
    ],
)
def test_a_plan_without_one_rate_asks_for_nothing_steady(changes: dict[str, Any], why: str) -> None:
    found = steady(_even(1000, 1.0), _plan(100.0, **changes))
    assert (found.state, found.from_s, found.num) == ("not asked", None, 0)
    assert why in found.why


@pytest.mark.parametrize(
    "changes",
    [
        _pieces(Piece(0, 100, 10, "steady")),
        _pieces(Piece(0, 40, 10, "steady"), Piece(40, 100, 10, "steady")),
        _pieces(Piece(0, 100, 10, "steady"), Piece(100, 200, 50, "later")),  # what was cut off was never sent
    ],
)
def test_a_plan_with_one_rate_does(changes: dict[str, Any]) -> None:
    assert steady(_even(1000, _noisy(1000, 1.0)), _plan(100.0, **changes)).state == "steady"
