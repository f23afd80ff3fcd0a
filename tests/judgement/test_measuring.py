"""Every measure against SQL over the records as they lie on disk, written without a look at the code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from scipy import stats

from harness.costs.fold import bill as bill_of
from harness.errors import UsageError
from harness.gpu.samples import GpuReport, GpuSeries
from harness.judgement.measures import Measured
from harness.judgement.measuring import Subject, measure, parse_measure
from harness.metrics.latencies import LATENCIES
from harness.objectives import parse_objective
from harness.records import RequestRecord
from harness.summary import load_run
from harness.table import Table, tabulate
from tests.harness.builders import bare_record, manifest, record, write_run

_OBJECTIVES = {"chat": parse_objective("ttft<0.3s"), "": parse_objective("e2e<0.5s,tpot<12ms")}
_DURATION_S = 250.0
_ENDINGS = ("failed", "cut", "incomplete", "throttled", "refused", "left")
_CLASSES = ("chat", "batch", None)


def _request(number: int) -> RequestRecord:
    """Latencies, labels, counts and outcomes that vary with the number, each with another period."""
    at = number * 0.25
    kept = number % 4 == 0
    ending = _ENDINGS[number // 17 % 6] if number % 17 == 3 else "ok"
    labels: dict[str, Any] = {
        "class_name": _CLASSES[number % 3],
        "cache_outcome": (None, "miss", "hit", "miss", "stale")[number % 5],
        "cost_usd": None if number % 29 == 0 else 0.001 * (1 + number % 13),
        "num_prompt_tokens": 50 + number % 211,
        "num_cached_tokens": None if number % 7 else number % 50,
    }
    if ending == "refused":
        return bare_record(
            number, intended_at=at, outcome=ending, error_kind="cap_in_flight", **labels | {"cost_usd": 0.0}
        )
    if ending != "ok":
        done = at + 0.05 if ending != "incomplete" else None
        return bare_record(number, intended_at=at, sent_at=at + 0.002, done_at=done, outcome=ending, **labels)
    first = at + 0.1 + (number * 7919 % 401) / 1000
    gaps = [0.004 + (number * 31 + step * 17) % 23 / 1000 for step in range(number % 9)]
    streams = number % 11 != 0
    fields: dict[str, Any] = {
        "sent_at": at + 0.001 * (number % 6),
        "connected_at": None if kept else at + 0.001 * (number % 6) + 0.003,
        "first_byte_at": first - 0.01 * (number % 3),
        "first_token_at": first if streams else None,
        "last_token_at": first + sum(gaps) if streams else None,
        "done_at": first + sum(gaps) + 0.002,
        "token_gaps_s": gaps if streams else None,
        "chunk_tokens": [1 + (number + step) % 3 for step in range(len(gaps) + 1)] if streams else None,
        "num_output_tokens": 1 + number % 60,
        "queue_s": None if number % 2 else number % 40 / 1000,
        "throttled_s": 0.02 if number % 31 == 0 else None,
    }
    return record(number, **labels | fields | {"intended_at": at})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Table, Path]:
    directory = write_run(tmp_path_factory.mktemp("runs") / "run", [[_request(number) for number in range(1000)]])
    return load_run(directory).table, directory.path


@pytest.fixture(scope="module")
def table(run: tuple[Table, Path]) -> Table:
    return run[0]


Query = Callable[[str], Any]


@pytest.fixture(scope="module")
def sql(run: tuple[Table, Path]) -> Iterator[Query]:
    """One value of the records; `sent` are those that our side neither held back nor left."""
    with duckdb.connect() as connection:
        path = str(run[1] / "records-*.jsonl").replace("'", "''")
        connection.execute(
            f"create table r as select * from read_json('{path}', format='newline_delimited', union_by_name=true, "
            "sample_size=-1) where kind = 'request'"
        )
        connection.execute("create view ok as select * from r where outcome = 'ok'")
        connection.execute("create view sent as select * from r where outcome not in ('refused', 'left')")
        yield lambda query: connection.execute(f"select {query}").fetchone()[0]  # type: ignore[index]


@pytest.fixture
def subject(table: Table) -> Subject:
    return Subject(table, _DURATION_S, _OBJECTIVES)


_SQL_LATENCIES = {
    "ttft": "first_token_at - intended_at",
    "ttft_from_send": "first_token_at - sent_at",
    "tpot": "case when num_output_tokens > 1 then (last_token_at - first_token_at) / (num_output_tokens - 1) end",
    "e2e": "done_at - intended_at",
    "e2e_from_send": "done_at - sent_at",
    "e2e_unthrottled": "done_at - intended_at - coalesce(throttled_s, 0)",
    "queue": "queue_s",
    "send_lag": "sent_at - intended_at",
    "connect": "connected_at - sent_at",
    "first_byte": "first_byte_at - coalesce(connected_at, sent_at)",
    "first_content": "first_token_at - first_byte_at",
    "decode": "last_token_at - first_token_at",
    "tail": "done_at - last_token_at",
}


def test_no_latency_is_left_out_here() -> None:
    assert set(_SQL_LATENCIES) == set(LATENCIES)


def _ranked(source: str, percent: float) -> str:
    """The nearest rank by sorting; a failed request is 1e9 s."""
    return (
        f"x from (select x, row_number() over (order by x) as rank, count(*) over () as num from ({source}) where x is not null) "
        f"where rank = ceil(round({percent} / 100 * num, 9))"
    )


@pytest.mark.parametrize("name", LATENCIES)
@pytest.mark.parametrize("percent", [50, 95])
def test_percentiles(name: str, percent: int, subject: Subject, sql: Query) -> None:
    expression = _SQL_LATENCIES[name]
    answered = measure(f"{name}_p{percent}(ok)", subject)
    assert answered.value == pytest.approx(sql(_ranked(f"select {expression} as x from ok", percent)), abs=1e-9)
    assert answered.num == sql(f"count({expression}) from ok")
    everyone = measure(f"{name}_p{percent}", subject)
    failed = expression if name in ("send_lag", "connect", "queue") else "1e9"  # those stages were over by then
    whole = "stream" if name in ("ttft", "ttft_from_send", "tpot", "first_content", "decode", "tail") else "true"
    source = f"select case when outcome = 'ok' then {expression} when {whole} then {failed} end as x from sent"
    expected = sql(_ranked(source, percent))
    assert everyone.infinite == (expected == 1e9)
    assert everyone.value == (None if everyone.infinite else pytest.approx(expected, abs=1e-9))
    assert everyone.num == sql(f"count(x) from ({source})")


def test_whole_answers_that_failed_have_no_first_token_either() -> None:
    """728 whole answers, of which 129 failed, once gave a TPOT of +∞; nobody had measured one."""
    whole = {"stream": False, "first_token_at": None, "last_token_at": None, "token_gaps_s": None}
    items = [record(n, **whole, outcome="failed" if n % 5 == 0 else "ok", error_kind="http_503") for n in range(100)]
    for name in ("ttft_p50", "tpot_p50", "decode_p50", "tail_p50"):
        assert measure(name, _of(items)).num == 0
    assert measure("e2e_p90", _of(items)).infinite


@pytest.mark.parametrize("percent", [50, 90, 99])
def test_the_interval_of_a_percentile_has_the_ranks_of_the_binomial_distribution(
    percent: int, subject: Subject, table: Table
) -> None:
    found = measure(f"e2e_p{percent}(ok)", subject)
    values = np.sort((table["done_at"] - table["intended_at"])[table.is_outcome("ok")])
    num, p = len(values), percent / 100
    # [x_l, x_u] (ranks from 1) holds the percentile unless fewer than l, or u and more, of the values lie below it.
    low = max(rank for rank in range(1, num) if stats.binom.cdf(rank - 1, num, p) <= 0.025)
    high = min(rank for rank in range(1, num + 1) if stats.binom.sf(rank - 1, num, p) <= 0.025)
    assert (found.low, found.high) == (values[low - 1], values[high - 1])


@pytest.mark.parametrize("name", ["ttft", "e2e", "tpot"])
def test_means_and_maxima(name: str, subject: Subject, sql: Query) -> None:
    expression = _SQL_LATENCIES[name]
    mean = measure(f"{name}_mean", subject)
    assert mean.value == pytest.approx(sql(f"avg({expression}) from ok"))
    reach = 1.96 * sql(f"stddev_samp({expression}) / sqrt(count({expression})) from ok")
    assert mean.value is not None
    assert (mean.low, mean.high) == pytest.approx((mean.value - reach, mean.value + reach))
    assert measure(f"{name}_max(ok)", subject).value == pytest.approx(sql(f"max({expression}) from ok"))
    assert measure(f"{name}_max", subject).infinite


def test_gaps_between_chunks_and_between_tokens(subject: Subject, sql: Query) -> None:
    chunks = "select unnest(token_gaps_s) as gap, unnest(chunk_tokens[2:]) as tokens from ok"
    found = measure("chunk_gap_p95", subject)
    assert found.value == pytest.approx(sql(_ranked(f"select gap as x from ({chunks})", 95)))
    assert found.low is found.high is None  # gaps of one answer are not independent
    tokens = f"select gap / tokens as x, unnest(range(tokens)) from ({chunks})"
    found = measure("itl_p95", subject)
    assert found.value == pytest.approx(sql(_ranked(tokens, 95)))
    assert found.num == sql(f"count(*) from ({tokens})")
    assert measure("itl_mean", subject).value == pytest.approx(sql(f"avg(x) from ({tokens})"))


_SPAN = "(max(done_at) - min(sent_at))"
# Refused by the server, or answered by its own cache: nobody pays for that, also where the record has no cost.
_PRICED = (
    "(cost_usd is not null or sent_at is not null and outcome <> 'refused' and "
    "coalesce(outcome = 'throttled' or status >= 300 or cache_outcome in ('hit', 'stale'), false))"
)
_GOOD = (
    "outcome = 'ok' and case when class_name = 'chat' then coalesce(first_token_at - intended_at <= 0.3 + 1e-9, true) else "
    "done_at - intended_at <= 0.5 + 1e-9 and coalesce(case when num_output_tokens > 1 then "
    "(last_token_at - first_token_at) / (num_output_tokens - 1) <= 0.012 + 1e-9 end, true) end"
)


@pytest.mark.parametrize(
    ("name", "hits", "of"),
    [
        ("error_rate", "outcome in ('failed', 'cut', 'incomplete')", "sent"),
        ("throttle_rate", "outcome = 'throttled'", "sent"),
        ("cache_hit_rate", "cache_outcome <> 'miss'", "(select * from r where cache_outcome is not null)"),
        ("goodput", _GOOD, "(select * from r where outcome <> 'left')"),
        ("goodput(e2e<400ms)", "outcome = 'ok' and done_at - intended_at <= 0.4 + 1e-9", "(select * from r where outcome <> 'left')"),
    ],
)  # fmt: skip
def test_shares(name: str, hits: str, of: str, subject: Subject, sql: Query) -> None:
    found = measure(name, subject)
    num, num_hits = sql(f"count(*) from {of}"), sql(f"count(*) filter ({hits}) from {of}")
    assert 0 < num_hits < num
    assert (found.num, found.num_over, found.value) == (num, num_hits, num_hits / num)
    theirs = stats.binomtest(num_hits, num).proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high))


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("request_rate", f"count(*) / {_SPAN} from ok"),
        ("output_rate", f"sum(num_output_tokens) / {_SPAN} from ok"),
        ("token_rate", f"sum(num_output_tokens + num_prompt_tokens) / {_SPAN} from ok"),
        ("goodput_rate", f"count(*) filter ({_GOOD}) / {_DURATION_S} from r"),
        ("cost", "sum(cost_usd) from r"),
        ("cost_per_request", f"sum(cost_usd) / (select count(*) from ok where {_PRICED}) from r"),
        ("cost_per_1k", f"1000 * sum(cost_usd) / (select count(*) from ok where {_PRICED}) from r"),
        (
            "cost_per_mtok",
            f"1e6 * sum(cost_usd) / (select sum(num_prompt_tokens + num_output_tokens) from ok where {_PRICED}) from r",
        ),
        ("cost_per_good", f"sum(cost_usd) / count(*) filter ({_GOOD} and {_PRICED}) from r"),
        ("cached_share", "sum(num_cached_tokens) / sum(num_prompt_tokens) from r where num_cached_tokens is not null"),
    ],
)
def test_rates_money_and_tokens(name: str, query: str, subject: Subject, sql: Query) -> None:
    found = measure(name, subject)
    assert found.value == pytest.approx(sql(query), rel=1e-12)
    assert found.why is None
    if name.startswith("cost"):
        unknown = sql(f"count(*) from r where sent_at is not null and outcome <> 'refused' and not {_PRICED}")
        dearest, total = sql("max(cost_usd) from r"), sql("sum(cost_usd) from r")
        everything = sql(query.replace(f"where {_PRICED}", "").replace(f"and {_PRICED}", ""))
        assert found.num_unknown == unknown > 0
        assert found.low == pytest.approx(everything)
        assert found.high == pytest.approx(everything * (total + unknown * dearest) / total)


def test_a_class_by_itself(table: Table, sql: Query) -> None:
    rows = table.labels["class_name"].is_("chat")
    subject = Subject(table.select(rows), _DURATION_S, _OBJECTIVES)
    source = "select first_token_at - intended_at as x from ok where class_name = 'chat'"
    assert measure("ttft_p50(ok)", subject).value == pytest.approx(sql(_ranked(source, 50)))
    good = measure("goodput", subject)
    assert good.num_over == sql(f"count(*) filter ({_GOOD}) from r where class_name = 'chat'")
    itl = "select unnest(token_gaps_s) as x from ok where class_name = 'chat'"
    assert measure("chunk_gap_p50", subject).value == pytest.approx(sql(_ranked(itl, 50)))


# -- what cannot be measured ---------------------------------------------------------------------------------


def _of(records: list[RequestRecord], duration_s: float = 10.0, **fields: Any) -> Subject:
    return Subject(tabulate(records), duration_s, fields.pop("objectives", {}), **fields)


@pytest.mark.parametrize(
    ("name", "subject", "why"),
    [
        ("ttft_p99", _of([record(number) for number in range(367)]), "p99 needs 368 samples, there are 367"),
        ("ttft_mean", _of([]), "nothing was measured"),
        ("ttft_max", _of([]), "nothing was measured"),
        ("error_rate", _of([bare_record(outcome="refused")]), "no request was sent"),
        ("cache_hit_rate", _of([record()]), "the server said of no request what its cache did"),
        ("cached_share", _of([record()]), "the server counted no cached tokens"),
        ("goodput", _of([record()]), "no request has an objective"),
        ("goodput(ttft<1s)", _of([]), "no request was sent"),
        ("goodput_rate", _of([record()]), "no request has an objective"),
        ("output_rate", _of([record(num_output_tokens=None)]), "nobody counted the tokens"),
        ("request_rate", _of([record(done_at=0.0)]), "the load lasted no time"),
        ("goodput_rate(ttft<1s)", _of([record()], duration_s=0.0), "the load lasted no time"),
        ("cost", _of([record()]), "the cost is not known: give --prices"),
        ("cost_per_good", _of([record(cost_usd=1.0)]), "no request has an objective"),
        ("cost_per_request", _of([bare_record(outcome="throttled", cost_usd=0.0)]), "there is nothing to divide the cost by"),
        ("cost_per_1k", _of([record(cost_usd=1.0)], replica_usd=50.0), "replicas cost $50"),
        ("gpu_utilization", _of([record()]), "no GPU was measured"),
        ("gpu_energy_per_token", _of([record()], gpu=GpuReport(source="nvml", gpus=[GpuSeries(
            gpu="a", name=None, mig=None, num_samples=2, mean={}, maximum={}, energy_j=None)])), "not measured"),
    ],
)  # fmt: skip
def test_what_is_not_known_has_no_value_and_says_why(name: str, subject: Subject, why: str) -> None:
    found = measure(name, subject)
    assert found.value is None
    assert not found.infinite
    assert found.why is not None
    assert why in found.why


def test_a_good_request_is_paid_for_by_the_classes_that_can_have_some() -> None:
    """Five chats at a cent, two of them late, and five dear batches without an objective."""
    chats = [record(n, class_name="chat", cost_usd=0.01, first_token_at=n + (0.1 if n < 3 else 2.0)) for n in range(5)]
    for number, each in enumerate(chats):
        each.intended_at = float(number)
    batches = [record(5 + n, class_name="batch", cost_usd=1.0) for n in range(5)]
    found = measure("cost_per_good", _of(chats + batches, objectives={"chat": parse_objective("ttft<1s")}))
    assert found.value == pytest.approx(0.05 / 3)


def test_what_our_side_held_back_has_a_cost_and_an_answer_without_usage_is_not_free() -> None:
    refused = [bare_record(number, outcome="refused") for number in range(10)]
    known = [record(number, cost_usd=0.01) for number in range(10, 20)]
    found = measure("cost_per_request", _of(refused + known))
    assert found.value == pytest.approx(0.01)
    assert (found.num_unknown, found.low, found.high) == (0, None, None)
    found = measure("cost_per_request", _of(known + [record(number) for number in range(20, 30)]))
    assert (found.value, found.low, found.high) == pytest.approx((0.01, 0.005, 0.01))
    assert found.num_unknown == 10
    found = measure("cost_per_request", _of([record(0), bare_record(1, outcome="failed", sent_at=0.5, cost_usd=0.01)]))
    assert (found.value, found.why) == (None, "the cost of no answered request is known")


def test_who_answers_late_has_not_the_rate_of_the_plan() -> None:
    """100 requests of 10 tokens in ten seconds, all of them answered by the end of the 50th."""
    late = [record(number, intended_at=number / 10, done_at=0.5 * (number + 1)) for number in range(100)]
    assert measure("output_rate", _of(late)).value == pytest.approx(1000 / 50)
    assert measure("request_rate", _of(late)).value == pytest.approx(100 / 50)


def test_nothing_answered_is_no_rate_at_all_and_a_cost_without_end() -> None:
    subject = _of([bare_record(number, outcome="failed", cost_usd=0.5) for number in range(4)])
    assert measure("output_rate", subject).value == 0.0
    assert measure("request_rate", subject).value == 0.0
    assert measure("cost", subject).value == 2.0
    assert measure("cost_per_request", subject).infinite


def test_failures_stand_at_the_far_end_of_a_percentile() -> None:
    records = [record(number) for number in range(95)] + [
        bare_record(number, outcome="failed") for number in range(95, 100)
    ]
    at = {percent: measure(f"e2e_p{percent}", _of(records)) for percent in (90, 95, 96)}
    assert at[95].value == pytest.approx(0.2)
    assert at[95].high is None  # the interval reaches into the failures
    assert at[96] == Measured(
        name="e2e_p96", unit="s", better="lower", value=None, infinite=True, low=at[96].low, num=100
    )
    assert at[90].value == pytest.approx(0.2)


def test_gpus() -> None:
    gpus = [
        GpuSeries(gpu=name, name=None, mig=None, num_samples=9, mean={"utilization": share}, maximum={}, energy_j=1.0)
        for name, share in (("a", 0.5), ("b", 0.7))
    ]
    subject = _of([record(number) for number in range(5)], gpu=GpuReport(source="nvml", gpus=gpus, energy_j=100.0))
    assert measure("gpu_utilization", subject).value == pytest.approx(0.6)
    assert measure("gpu_energy_per_token", subject).value == pytest.approx(100 / 50)


# -- names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "unit", "better"),
    [
        (" ttft_p99 ", "ttft_p99", "s", "lower"),
        ("ttft_p99.9 (ok)", "ttft_p99.9(ok)", "s", "lower"),
        ("itl_max", "itl_max", "s", "lower"),
        ("goodput( ttft < 1 s, tpot < 60 ms )", "goodput(ttft<1s,tpot<60ms)", "share", "higher"),
        ("goodput_rate", "goodput_rate", "per_s", "higher"),
        ("cost_per_1k", "cost_per_1k", "usd", "lower"),
        ("gpu_energy_per_token", "gpu_energy_per_token", "joule", "lower"),
        ("cache_hit_rate", "cache_hit_rate", "share", "higher"),
    ],
)
def test_names_that_there_are(text: str, name: str, unit: str, better: str) -> None:
    found = parse_measure(text)
    assert (found.name, found.unit, found.better) == (name, unit, better)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "is no measure; there are LATENCY_pN"),
        ("p99", "is no measure"),
        ("ttft", "is no measure"),
        ("ttfb_p99", "is no measure"),
        ("TTFT_p99", "is no measure"),
        ("ttft_p0", "between 0 and 100"),
        ("ttft_p100", "between 0 and 100"),
        ("ttft_p99(failed)", "is no measure"),
        ("goodput()", "is no objective"),
        ("goodput(ttft)", "is no objective"),
        ("goodput(ttft<fast)", "is not a duration"),
        ("error_rate(ok)", "is no measure"),
    ],
)
def test_names_that_there_are_not(text: str, rule: str) -> None:
    with pytest.raises(UsageError, match=rule.replace("(", r"\(")):
        parse_measure(text)


def test_no_more_requests_are_counted_as_ok_than_there_are(table: Table) -> None:
    """The run of these tests has every outcome, and samples enough for its percentiles."""
    assert all(table.is_outcome(name).sum() >= 5 for name in _ENDINGS)
    assert table.is_outcome("ok").sum() > ceil(1000 * 0.9)


def test_where_tokens_have_no_price_the_hours_of_the_gpus_are_the_cost() -> None:
    """Ten requests, from 0 s to 9.25 s, at 3,600 USD an hour: 9.25 USD; eight of them answered. The bill says the same."""
    records = [
        record(n, intended_at=float(n), sent_at=float(n), done_at=n + 0.25, num_output_tokens=50) for n in range(8)
    ]
    records += [
        bare_record(n, outcome="failed", intended_at=float(n), sent_at=float(n), done_at=n + 0.25) for n in (8, 9)
    ]
    subject = _of(records, gpu_usd_per_hour=3600.0)
    assert measure("cost", subject).value == pytest.approx(9.25)
    found = measure("cost_per_1k", subject)
    assert found.value == pytest.approx(9250 / 8)
    assert (found.num_unknown, found.low, found.high) == (0, None, None)
    bill = bill_of(subject.table, manifest(gpu_price_per_hour=3600.0), objectives={}, gpu=None)
    assert bill is not None
    assert found.value == pytest.approx(bill.per_1k)
    assert measure("cost_per_mtok", subject).value == pytest.approx(bill.per_mtok)
    priced = _of([record(0, cost_usd=0.5)], gpu_usd_per_hour=3600.0)
    assert measure("cost", priced).value == 0.5, "a price of tokens comes first"
    assert measure("cost", _of([bare_record(outcome="refused")], gpu_usd_per_hour=3600.0)).value is None
