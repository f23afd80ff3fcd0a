"""How much each request asks for: lengths, their fits, and streams that do not disturb each other."""

from __future__ import annotations

import csv
from dataclasses import replace
from math import log
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.arrivals.curves import bursts
from harness.arrivals.pacing import Piece
from harness.errors import UsageError
from harness.plan import Shard
from harness.streams import stream
from harness.workloads.synthetic import AZURE_CONVERSATION_OUTPUT, AZURE_CONVERSATION_PROMPT, Lognormal, SyntheticPlan
from tests.harness.builders import LAW

_PLAN = SyntheticPlan(
    pieces=bursts(quiet_rate=5.0, factor=6.0, every_s=20.0, for_s=4.0, duration_s=60.0),
    gaps="poisson",
    prompt_tokens=AZURE_CONVERSATION_PROMPT,
    output_tokens=AZURE_CONVERSATION_OUTPUT,
    seed=11,
)


def test_the_same_arguments_give_the_same_plan() -> None:
    assert list(_PLAN.arrivals()) == list(_PLAN.arrivals()) == list(replace(_PLAN).arrivals())
    assert _PLAN.describe() == replace(_PLAN).describe()


def test_another_seed_gives_another_plan() -> None:
    other = list(replace(_PLAN, seed=12).arrivals())
    assert [a.at_s for a in other[:50]] != [a.at_s for a in _PLAN.arrivals()][:50]
    assert [a.num_prompt_tokens for a in other[:50]] != [a.num_prompt_tokens for a in _PLAN.arrivals()][:50]


def test_other_lengths_leave_the_instants_alone() -> None:
    other = replace(_PLAN, output_tokens=Lognormal(5.0, 0.1, 10), prompt_tokens=Lognormal(7.0, 2.0, 99))
    assert [(a.at_s, a.phase) for a in other.arrivals()] == [(a.at_s, a.phase) for a in _PLAN.arrivals()]


def test_other_output_lengths_leave_the_prompts_alone() -> None:
    other = replace(_PLAN, output_tokens=Lognormal(5.0, 0.1, 10))
    assert [a.num_prompt_tokens for a in other.arrivals()] == [a.num_prompt_tokens for a in _PLAN.arrivals()]


def test_other_instants_leave_the_lengths_alone() -> None:
    other = list(replace(_PLAN, gaps="constant").arrivals())
    both = min(len(other), _PLAN.num_arrivals)
    lengths = [(a.num_prompt_tokens, a.num_output_tokens) for a in _PLAN.arrivals()]
    assert [(a.num_prompt_tokens, a.num_output_tokens) for a in other][:both] == lengths[:both]


@LAW
@given(st.integers(0, 2**31), st.floats(0.1, 30), st.floats(0.5, 60), st.integers(1, 7))
def test_the_count_is_that_of_the_arrivals_and_of_all_shares(seed: int, rate: float, end: float, of: int) -> None:
    plan = replace(_PLAN, pieces=[Piece(0.0, end, rate, "steady")], seed=seed)
    arrivals = list(plan.arrivals())
    assert plan.num_arrivals == len(arrivals)
    assert [arrival.index for arrival in arrivals] == list(range(len(arrivals)))
    assert plan.duration_s == end
    shares = [list(Shard(index, of).take(plan.arrivals())) for index in range(of)]
    assert sorted((a for share in shares for a in share), key=lambda a: a.index) == arrivals


# -- lengths ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("median", "sigma"), [(1e5, 0.5), (3e6, 1.2), (5e4, 0.05)])
def test_lengths_are_lognormal(median: float, sigma: float) -> None:
    """Medians so large that rounding to whole tokens does not show."""
    lengths, generator = Lognormal(median, sigma, 10**12), stream(5, "lengths")
    drawn = np.log([lengths.draw(generator) for _ in range(4000)])
    assert stats.kstest(drawn, "norm", args=(log(median), sigma)).pvalue > 1e-3


@LAW
@given(st.floats(0.1, 5000), st.floats(0, 3), st.integers(1, 4000), st.integers(0, 2**31))
def test_lengths_keep_their_bounds(median: float, sigma: float, most: int, seed: int) -> None:
    generator = stream(seed, "bounds")
    for _ in range(20):
        length = Lognormal(median, sigma, most).draw(generator)
        assert isinstance(length, int)
        assert 1 <= length <= most


def test_the_share_beyond_the_bound_is_at_the_bound() -> None:
    lengths, generator = Lognormal(1000.0, 1.0, 2000), stream(9, "clip")
    drawn = np.array([lengths.draw(generator) for _ in range(8000)])
    beyond = stats.norm.sf(log(2000 / 1000))
    assert stats.binomtest(int((drawn == 2000).sum()), len(drawn), beyond).pvalue > 1e-3
    assert stats.binomtest(int((drawn < 1000).sum()), len(drawn), 0.5).pvalue > 1e-3


@pytest.fixture(scope="module")
def azure_tokens(shared_data: Path) -> dict[str, list[int]]:
    with (shared_data / "azure2023" / "AzureLLMInferenceTrace_conv.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [int(row[name]) for row in rows] for name in ("ContextTokens", "GeneratedTokens")}


@pytest.mark.parametrize(
    ("column", "constant"),
    [("ContextTokens", AZURE_CONVERSATION_PROMPT), ("GeneratedTokens", AZURE_CONVERSATION_OUTPUT)],
)
def test_the_constants_are_the_fit_of_the_azure_trace(
    azure_tokens: dict[str, list[int]], column: str, constant: Lognormal
) -> None:
    tokens = azure_tokens[column]
    assert len(tokens) == 19_366
    assert log(constant.median) == pytest.approx(np.log(tokens).mean(), abs=6e-4)
    assert constant.sigma == pytest.approx(np.log(tokens).std(), abs=6e-4)
    assert constant.most == max(tokens)


def test_prompt_and_output_of_the_azure_trace_are_nearly_independent(
    azure_tokens: dict[str, list[int]],
) -> None:
    prompt, output = np.log(azure_tokens["ContextTokens"]), np.log(azure_tokens["GeneratedTokens"])
    assert np.corrcoef(prompt, output)[0, 1] == pytest.approx(0.09, abs=0.005)


@pytest.mark.parametrize(
    ("median", "sigma"), [(0, 1), (-5, 1), (float("nan"), 1), (float("inf"), 1), (5, -1), (5, float("nan"))]
)
def test_numbers_that_make_no_length_are_refused(median: float, sigma: float) -> None:
    with pytest.raises(UsageError, match="cannot be"):
        Lognormal(median, sigma, 100)
