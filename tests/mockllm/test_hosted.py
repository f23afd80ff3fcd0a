from __future__ import annotations

import pytest

from mockllm import (
    Cut,
    Finished,
    Refused,
    Request,
    Tokens,
    build_engine,
    chunks_of,
    load_deployment,
    simulate,
)
from mockllm.deployment import Deployment
from tests.laws.load import HOSTED


def test_golden_keeps_its_promise_to_the_microsecond() -> None:
    """First token after 200 ms, then one every 20 ms, 48 of them."""
    engine = build_engine(load_deployment("golden"), every_token=True)
    out = list(simulate(engine, [(3.0, Request("r", "k", "golden", 100))]))
    instants = [chunk.at for tokens in out if isinstance(tokens, Tokens) for chunk in chunks_of(tokens)]
    assert instants == pytest.approx([3.2 + 0.02 * n for n in range(48)], abs=1e-9)
    assert isinstance(out[-1], Finished)
    assert (out[-1].reason, out[-1].num_output_tokens) == ("stop", 48)
    assert out[-1].at == pytest.approx(4.14)


def test_faults_come_in_their_shares() -> None:
    engine = build_engine(Deployment(name="x", seed=1, profiles={"h": HOSTED}), every_token=False)
    load = [(0.0, Request(f"r{n}", f"k{n}", "h", 5, max_tokens=30)) for n in range(3000)]
    out = list(simulate(engine, load))
    refused = sum(isinstance(e, Refused) for e in out)
    cut = sum(isinstance(e, Cut) for e in out)
    # Binomial: three standard deviations around 10 % refused and 10 % of the rest cut.
    assert abs(refused - 300) < 3 * (3000 * 0.1 * 0.9) ** 0.5
    assert abs(cut - 270) < 3 * (2700 * 0.1 * 0.9) ** 0.5
    assert all(e.status == 500 for e in out if isinstance(e, Refused))


def test_a_cut_answer_has_fewer_tokens_than_it_would_have() -> None:
    engine = build_engine(Deployment(name="x", seed=1, profiles={"h": HOSTED}), every_token=True)
    out = list(
        simulate(
            engine,
            [(0.0, Request(f"r{n}", f"k{n}", "h", 5, max_tokens=30, ignore_eos=True)) for n in range(300)],
        )
    )
    cuts = [e for e in out if isinstance(e, Cut)]
    assert cuts
    assert all(1 <= e.num_output_tokens < 30 for e in cuts)


def test_a_longer_prompt_waits_longer_by_the_length_term_alone() -> None:
    def ttft(prompt: int) -> float:
        engine = build_engine(load_deployment("hosted"), every_token=True)
        return next(iter(simulate(engine, [(0.0, Request("r", "k", "hosted-70b", prompt))]))).at

    assert ttft(100_000) - ttft(1) == pytest.approx(5.67e-6 * 99_999 + 7.76e-12 * (100_000**2 - 1), rel=1e-9)
