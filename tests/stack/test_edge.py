"""Edge and cloud: who stays at the edge, and what that does to first tokens and cost. `small` is local, `large` the cloud."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockllm import Finished, Refused, Request
from mockllm.passage import Query
from mockllm.stack.stack import Stack
from mockllm.stack.stage import Door
from mockllm.stack.timeline import Timeline
from tests.stack.build import ask, end_of, ends, engine, parts, passage_of, run, stack, stage
from tests.stack.clocks import assert_both_clocks_agree, run_with_cancels
from tests.stack.doors import Outage

RTT_S = 0.1
NETWORK = (
    "network",
    {"rtt": {"median": "100ms", "sigma": 0.0}, "models": ["large"], "pooled": False, "tls": "none"},
)


def hybrid(every_token: bool = False, doors: Mapping[str, Sequence[Door]] = {}, **keys: Any) -> Stack:
    edge = ("edge", {"local": "small", "cloud": "large"} | keys)
    return stack(edge, NETWORK, doors=doors, every_token=every_token)


def models(subject: Stack, load: Sequence[tuple[float, Request]]) -> list[str]:
    out = ends(run(subject, load))
    return [out[f"r{number}"].passage.model for number in range(len(load))]  # type: ignore[union-attr]


def counts(subject: Stack) -> dict[str, int]:
    got = subject.stages[0].state(0.0)["counts"]
    assert isinstance(got, dict)
    return got


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_so_large_a_share_stays_whatever_the_order(share: float) -> None:
    num = 2000
    load = [(float(number), ask(number)) for number in range(num)]
    chosen = models(hybrid(share=share), load)
    local = chosen.count("small")
    assert abs(local - share * num) <= 4 * np.sqrt(num * share * (1 - share))
    backwards = [(float(number), request) for number, (_, request) in enumerate(reversed(load))]
    assert models(hybrid(share=share), backwards) == chosen


def test_the_easy_the_short_and_both() -> None:
    def of(difficulty: float | None, num_tokens: int, number: int) -> Request:
        query = None if difficulty is None else Query("d", difficulty=difficulty)
        return ask(number, query=query, num_prompt_tokens=num_tokens)

    cases = [(0.2, 100), (0.5, 100), (0.5001, 100), (None, 100), (0.2, 500), (0.2, 501), (None, 501)]
    load = [(float(number), of(*case, number)) for number, case in enumerate(cases)]
    easy, short, both = "SSLLSSL", "SSSSSLL", "SSLLSLL"
    for keys, expected in (
        ({"max_difficulty": 0.5}, easy),
        ({"max_prompt_tokens": 500}, short),
        ({"max_difficulty": 0.5, "max_prompt_tokens": 500}, both),
    ):
        assert "".join(model[0].upper() for model in models(hybrid(**keys), load)) == expected


def test_a_full_edge_sends_the_rest_to_the_cloud() -> None:
    subject = hybrid(share=1.0, max_in_flight=3)
    load = [(0.0, ask(number)) for number in range(5)] + [(60.0, ask(5))]
    assert models(subject, load) == ["small"] * 3 + ["large"] * 2 + ["small"]
    assert counts(subject) == {"local": 4, "cloud": 2, "saturated": 2, "failed_over": 0}


@pytest.mark.parametrize("status", [0, 429, 503])
def test_what_fails_at_the_edge_goes_to_the_cloud(status: int) -> None:
    subject = hybrid(share=1.0, doors={"small": [Outage((0.0, 9.0), status=status)]})
    out = run(subject, [(1.0, ask(0))])
    assert end_of(out, 0).at == pytest.approx(1.0 + 2 * RTT_S + 1.0 + 49 * 0.1)
    why = "reset" if status == 0 else str(status)
    assert passage_of(out, 0).notes == ["edge: edge", f"edge: cloud, the edge failed ({why})"]
    assert subject.stages[0].state(9.0)["at_the_edge"] == 0


def test_what_fails_in_the_cloud_stays_failed() -> None:
    out = run(hybrid(share=0.0, doors={"large": [Outage((0.0, 9.0))]}), [(0.0, ask(0))])
    assert isinstance(end_of(out, 0), Refused)
    assert passage_of(out, 0).num_attempts == 1


def test_requests_for_others_pass_by() -> None:
    named = hybrid(share=1.0, name="assistant")
    assert models(named, [(0.0, ask(0, "assistant")), (0.0, ask(1, "large")), (0.0, ask(2, "small"))]) == [
        "small",
        "large",
        "small",
    ]
    assert counts(named)["local"] == 1


def test_the_effect_on_first_tokens_and_cost() -> None:
    """Local: 0.2 s and no network; cloud: 1 s, the round trip and its connection. The mix is what the shares make of it."""
    num = 1000
    load = [(number * 1.0, ask(number, num_answer_tokens=1)) for number in range(num)]
    waits, costs = {}, {}
    for share in (0.0, 0.4):
        subject = hybrid(share=share)
        out = ends(run(subject, load))
        waits[share] = np.array([out[f"r{number}"].at - at for number, (at, _) in enumerate(load)])
        costs[share] = subject.cost_usd
    local = int((waits[0.4] < 0.5).sum())
    cloud_s = 1.0 + 2 * RTT_S
    assert waits[0.0] == pytest.approx(cloud_s)
    assert set(np.round(waits[0.4], 6)) == {0.2, cloud_s}
    assert waits[0.4].mean() == pytest.approx((local * 0.2 + (num - local) * cloud_s) / num)
    cloud_usd, local_usd = (100 * 2.0 + 8.0) / 1e6, (100 * 0.1 + 0.4) / 1e6
    assert costs[0.4] == pytest.approx((num - local) * cloud_usd + local * local_usd)
    assert costs[0.0] == pytest.approx(num * cloud_usd)


def busy(every_token: bool = False) -> Stack:
    doors: dict[str, Sequence[Door]] = {"small": [Outage((5.0, 8.0))]}
    return hybrid(every_token, doors, share=0.7, max_in_flight=2)


LOAD = [(number * 0.3, ask(number, watched=number % 3 != 0)) for number in range(60)]


def test_both_clocks_agree() -> None:
    virtual = assert_both_clocks_agree(busy, LOAD)
    assert min(counts(virtual).values()) > 0


@given(st.lists(st.tuples(st.integers(0, 59), st.floats(0, 4)), max_size=30))
@settings(max_examples=60, deadline=None)
def test_clients_may_go_away_at_any_moment(cancels: list[tuple[int, float]]) -> None:
    subject = busy()
    out = run_with_cancels(subject, LOAD, cancels)
    assert all(isinstance(each, Finished) for each in out if hasattr(each, "passage"))
    assert subject.stages[0].state(1e6)["at_the_edge"] == 0


@pytest.mark.parametrize(
    ("keys", "message"), [({}, "no rule says"), ({"share": 0.5, "cloud": "small"}, "both local and cloud")]
)
def test_settings_that_make_no_sense_are_errors(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stage("edge", {"local": "small", "cloud": "large"} | keys, parts(engine(), "edge", Timeline(), []))


def test_it_says_what_it_does() -> None:
    assert hybrid(share=0.4, max_difficulty=0.5, max_in_flight=8).stages[0].describe() == (
        "small takes 40% of requests and difficulty up to 0.5, 8 at a time; large the rest, and what fails there"
    )
