"""Matched requests: rounds in every way, with one length each."""

from __future__ import annotations

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from harness.arrivals.pacing import Piece
from harness.plan import Shard
from harness.workloads.prompts import PromptBook
from harness.workloads.synthetic import AZURE_CONVERSATION_OUTPUT, AZURE_CONVERSATION_PROMPT, SyntheticPlan
from harness.workloads.ways import Way, WaysPlan
from tests.harness.builders import LAW


def plan(*ways: Way, seed: int = 3) -> WaysPlan:
    azure = AZURE_CONVERSATION_PROMPT, AZURE_CONVERSATION_OUTPUT
    return WaysPlan(SyntheticPlan([Piece(0.0, 20.0, 10.0, "steady")], "poisson", *azure, seed), ways)


@LAW
@given(st.lists(st.sampled_from(["streamed", "whole", "batch"]), min_size=1, max_size=6), st.integers(0, 99))
def test_every_round_has_every_way_with_one_length(ways: list[Way], seed: int) -> None:
    asked = plan(*ways, seed=seed)
    arrivals = list(asked.arrivals())
    assert len(arrivals) == asked.num_arrivals
    assert [arrival.at_s for arrival in arrivals] == [arrival.at_s for arrival in asked.times.arrivals()]
    for begin in range(0, len(arrivals), len(ways)):
        around = arrivals[begin : begin + len(ways)]
        assert [arrival.class_name for arrival in around] == ways[: len(around)]
        assert len({(arrival.num_prompt_tokens, arrival.num_output_tokens) for arrival in around}) == 1
        for arrival in around:
            assert arrival.ask is not None
            assert arrival.ask.num_prompt_tokens == arrival.num_prompt_tokens
            assert arrival.ask.stream is (arrival.class_name == "streamed")
            assert arrival.ask.batch is (arrival.class_name == "batch")


def test_the_shares_of_workers_are_the_plan() -> None:
    asked = plan("streamed", "whole", "batch")
    shares = [arrival for index in range(3) for arrival in Shard(index, 3).take(asked.arrivals())]
    assert sorted(shares, key=lambda arrival: arrival.index) == list(asked.arrivals())


def test_no_two_questions_share_their_words() -> None:
    book = PromptBook(1)
    texts = [book.messages(arrival)[-1][1] for arrival in islice(plan("streamed", "whole").arrivals(), 60)]
    assert len({text[:40] for text in texts}) == 60
