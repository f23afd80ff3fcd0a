"""Load as the sum of its clients: merged in order, each its own, and ServeGen's table by its own statistics."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from harness.arrivals.gaps import GapLaw
from harness.arrivals.pacing import Piece
from harness.errors import TraceError, UsageError
from harness.plan import Arrival, LoadPlan, Shard
from harness.workloads.clients import Client, SumOfClients, clients_plan
from harness.workloads.synthetic import Lognormal

_HEAD = (
    "workload,client,mean_rate_rps,peak_rate_rps,active_windows,rate_weighted_cv,gamma_windows,weibull_windows,exp_windows,"
    "in_mean,in_p50,in_p90,in_p99,out_mean,out_p50,out_p90,out_p99,other_field,other_mean\n"
)
_CHAT = "chat,0,2.0,5,100,1.5,60,40,0,300,200,500,1000,60,50,100,200,,\n"
_CODE = "chat,1,0.5,5,50,4.0,10,40,0,900,800,1500,3000,20,10,30,100,,\n"


def _users(plan: LoadPlan) -> dict[str, list[Arrival]]:
    found = defaultdict(list)
    for arrival in plan.arrivals():
        assert arrival.ask is not None
        assert arrival.ask.user is not None
        found[arrival.ask.user].append(arrival)
    return found


def _table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "clients.csv"
    path.write_text(text)
    return path


def _client(name: str, rate: float, cv: float, start_s: float = 0.0) -> Client:
    return Client(
        name, (Piece(start_s, 100.0, rate, "x"),), GapLaw("gamma", cv), Lognormal(50, 0.5, 500), Lognormal(20, 0.5, 90)
    )


_SUM = SumOfClients([_client("a", 2, 0.5), _client("b", 1, 4), _client("c", 3, 1, start_s=60)], 100.0, 5, "chat")


# -- the sum ---------------------------------------------------------------------------------------------


def test_all_clients_are_merged_in_order_of_time() -> None:
    arrivals = list(_SUM.arrivals())
    assert [a.index for a in arrivals] == list(range(_SUM.num_arrivals))
    assert all(before.at_s <= after.at_s for before, after in pairwise(arrivals))
    assert {a.class_name for a in arrivals} == {"chat"}
    assert list(_SUM.arrivals()) == arrivals
    users = _users(_SUM)
    assert min(a.at_s for a in users["c"]) >= 60.0
    assert {a.key for a in arrivals} == {str(number) for number in range(len(arrivals))}  # words of their own each


def test_to_change_a_client_moves_no_request_of_another() -> None:
    def told(plan: SumOfClients, user: str) -> list[tuple[float, int, int | None]]:
        return [(a.at_s, a.num_prompt_tokens, a.num_output_tokens) for a in _users(plan)[user]]

    other = replace(_SUM, clients=[_client("a", 9, 2.0), *_SUM.clients[1:]])
    alone = replace(_SUM, clients=_SUM.clients[1:2])
    assert told(other, "b") == told(alone, "b") == told(_SUM, "b")
    assert told(other, "c") == told(_SUM, "c")
    assert told(other, "a") != told(_SUM, "a")


def test_shares_of_workers_are_the_whole() -> None:
    shares = [a for index in range(3) for a in Shard(index, 3).take(_SUM.arrivals())]
    assert sorted(shares, key=lambda a: a.index) == list(_SUM.arrivals())


def test_the_sum_has_the_mean_and_variance_of_its_parts() -> None:
    """Independent parts: their variances add up; for one as long as this, Var N = CV² · rate · t (Cox 1962)."""
    counts = np.array([replace(_SUM, seed=seed, clients=_SUM.clients[:2]).num_arrivals for seed in range(600)])
    mean, variance = 300.0, 0.5**2 * 200 + 4**2 * 100
    assert abs(counts.mean() - mean) < 4 * sqrt(variance / 600)
    assert counts.var() == pytest.approx(variance, rel=0.3)


def test_one_bursty_client_makes_the_sum_bursty() -> None:
    def dispersion(cv: float) -> float:
        calm = [_client(f"calm {n}", 1, 1.0) for n in range(4)]
        at = [a.at_s for a in SumOfClients([*calm, _client("one", 4, cv)], 100.0, 2).arrivals()]
        counts = np.histogram(at, np.arange(0, 101))[0]
        return float(counts.var() / counts.mean())

    assert dispersion(8.0) > 3 > 1.5 > dispersion(1.0)


# -- a table ---------------------------------------------------------------------------------------------


def test_a_table_by_hand(tmp_path: Path) -> None:
    plan = clients_plan(_table(tmp_path, _HEAD + _CHAT + _CODE), workload=None, duration_s=600.0, seed=3)
    always = next(client for client in plan.clients if client.name == "client-0")
    assert always.pieces == (Piece(0.0, 600.0, 2.0, "clients"),)  # in all of the windows, so in all of ours
    assert always.gaps == GapLaw("gamma", 1.5)
    assert always.prompt_tokens.median == 200
    assert always.prompt_tokens.at(0.99) == pytest.approx(1000, abs=1)
    assert always.output_tokens.at(0.99) == pytest.approx(200, abs=1)
    assert plan.describe()["workload"] == "chat"
    assert {a.class_name for a in plan.arrivals()} == {"chat"}


def test_a_client_is_active_in_its_share_of_the_windows(tmp_path: Path) -> None:
    path = _table(tmp_path, _HEAD + _CHAT + _CODE)
    plan = clients_plan(path, workload="chat", duration_s=600.0 * 400, seed=3)
    half = next(client for client in plan.clients if client.name == "client-1")
    assert half.gaps == GapLaw("weibull", 4.0)  # it fitted more of its windows
    active = sum(piece.rate > 0 for piece in half.pieces)
    assert {piece.rate for piece in half.pieces} == {0.0, 0.5}
    assert stats.binomtest(active, 400, 0.5).pvalue > 1e-3


def test_a_rate_scales_all_alike_and_moves_no_lot(tmp_path: Path) -> None:
    path = _table(tmp_path, _HEAD + _CHAT + _CODE)
    plain = clients_plan(path, workload="chat", duration_s=1500.0, seed=4)
    scaled = clients_plan(path, workload="chat", duration_s=1500.0, seed=4, rate=7.0)
    assert scaled.describe()["expected_count"] == pytest.approx(7.0 * 1500)
    factors = {
        round(after.rate / before.rate, 9)
        for one, other in zip(plain.clients, scaled.clients, strict=True)
        for before, after in zip(one.pieces, other.pieces, strict=True)
        if before.rate
    }
    assert len(factors) == 1


def test_clients_without_lengths_have_the_middle_ones(tmp_path: Path) -> None:
    bare = "chat,2,1.0,5,100,1.0,1,0,0,,,,,,,,,,\n"
    plan = clients_plan(_table(tmp_path, _HEAD + _CHAT + _CODE + bare), workload=None, duration_s=60.0, seed=3)
    found = next(client for client in plan.clients if client.name == "client-2")
    assert found.prompt_tokens.median == 500  # between 200 and 800
    assert found.output_tokens.median == 30


def test_pictures_without_prompt_lengths_have_their_mean_of_text(tmp_path: Path) -> None:
    rows = (
        "pic,0,1.0,5,10,1.0,1,0,0,,,,,9,0,20,30,text_tokens,80\npic,1,1.0,5,10,1.0,1,0,0,,,,,9,5,20,30,text_tokens,40\n"
    )
    plan = clients_plan(_table(tmp_path, _HEAD + rows), workload=None, duration_s=60.0, seed=3)
    assert {client.prompt_tokens for client in plan.clients} == {Lognormal(60, 0, 60)}
    assert plan.clients[0].output_tokens.median == 1  # a table that says 0 tokens means short ones
    assert plan.clients[0].output_tokens.at(0.99) == 30


def test_a_cv_beyond_measure_is_cut_and_who_never_came_is_left_out(tmp_path: Path) -> None:
    rows = (
        "chat,0,2.0,5,100,172.8,60,40,0,300,200,500,1000,60,50,100,200,,\n"
        "chat,1,0.0,0,0,,0,0,0,300,200,500,1000,60,50,100,200,,\n"
    )
    (client,) = clients_plan(_table(tmp_path, _HEAD + rows), workload=None, duration_s=60.0, seed=3).clients
    assert client.gaps == GapLaw("gamma", 15.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", ":1: is no table of clients: it has no column workload, client"),
        (_HEAD, "holds no client that was ever active"),
        (_HEAD + _CHAT.replace("2.0", "fast"), ":2: column mean_rate_rps: 'fast' is not a number from 0 to 1e+09"),
        (_HEAD + _CHAT + _CODE.replace("4.0", "-4"), ":3: column rate_weighted_cv: '-4' is not a number"),
        (_HEAD + _CHAT.replace("1000", "inf"), ":2: column in_p99: 'inf' is not a number"),
        (_HEAD + _CHAT.replace("1000", "1e308"), ":2: column in_p99: '1e308' is not a number"),
        (_HEAD + "chat,0,2.0,5,0.5,1.0,6,4,0,300,200,500,1000,60,50,100,200,,\n", "no client that was ever active"),
        (_HEAD + "chat,2,1.0,5,100,1.0,1,0,0,,,,,9,5,20,30,,\n", "no client of chat has prompt lengths"),
        (_HEAD + "chat,2,1.0,5,100,1.0,1,0,0,9,5,20,30,,,,,,\n", "no client of chat has answer lengths"),
    ],
)
def test_a_table_that_cannot_be_read_says_where(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(TraceError) as caught:
        clients_plan(_table(tmp_path, text), workload=None, duration_s=60.0, seed=0)
    assert words in str(caught.value)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"nowhere\.csv: cannot be read"):
        clients_plan(tmp_path / "nowhere.csv", workload=None, duration_s=60.0, seed=0)


def test_several_workloads_must_be_chosen_from(tmp_path: Path) -> None:
    path = _table(tmp_path, _HEAD + _CHAT + _CODE.replace("chat", "code"))
    with pytest.raises(UsageError, match="say which: chat, code"):
        clients_plan(path, workload=None, duration_s=60.0, seed=0)
    with pytest.raises(UsageError, match="no workload 'poems'; it holds chat, code"):
        clients_plan(path, workload="poems", duration_s=60.0, seed=0)


# -- ServeGen's own --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def servegen(shared_data: Path) -> Path:
    return shared_data / "servegen" / "servegen_clients.csv"


@pytest.mark.parametrize(
    "workload", ["language/m-large", "language/m-mid", "language/m-small", "multimodal/mm-image", "reason/deepseek-r1"]
)
def test_every_workload_of_servegen_can_be_played(servegen: Path, workload: str) -> None:
    plan = clients_plan(servegen, workload=workload, duration_s=300.0, seed=1, rate=10.0)
    assert plan.describe()["expected_count"] == pytest.approx(3000)
    assert plan.num_arrivals > 1000
    at = np.array([a.at_s for a in plan.arrivals()])
    counts = np.histogram(at, np.arange(0, 301))[0]
    assert counts.var() / counts.mean() > 1.5  # burstier than Poisson, the finding of the paper


def test_the_rate_of_m_large_is_the_publications(servegen: Path) -> None:
    """196 requests per second over the two weeks; here the mean of many drawn windows."""
    with servegen.open() as file:
        rows = [row for row in csv.DictReader(file) if row["workload"] == "language/m-large"]
    span = max(int(row["active_windows"]) for row in rows)
    expected = sum(float(row["mean_rate_rps"]) * int(row["active_windows"]) / span for row in rows)
    assert expected == pytest.approx(196, rel=0.005)
    plan = clients_plan(servegen, workload="language/m-large", duration_s=600.0 * 2000, seed=1)
    drawn = plan.describe()["expected_count"]
    assert isinstance(drawn, float)
    assert drawn / (600 * 2000) == pytest.approx(196, rel=0.03)


def test_a_tenth_of_the_clients_of_m_large_has_three_quarters_of_the_traffic(servegen: Path) -> None:
    plan = clients_plan(servegen, workload="language/m-large", duration_s=600.0 * 60, seed=1, rate=2.0)
    counts = Counter({user: len(arrivals) for user, arrivals in _users(plan).items()})
    top = sum(num for _, num in counts.most_common(16))
    assert top / counts.total() == pytest.approx(0.74, abs=0.08)
