"""The bill is a fold: its parts are sums over records, whatever the records are."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.costs.bill import Bill
from harness.costs.fold import bill
from harness.costs.replicas import replica_usd_of
from harness.errors import RunError
from harness.objectives import parse_objective
from harness.prices import Prices, priced
from harness.records import Outcome, RequestRecord
from harness.table import tabulate
from tests.costs.runs import PRICES, bill_of, costed
from tests.harness.builders import LAW, bare_record, manifest, record

_TOKENS = st.none() | st.integers(0, 3000)


@st.composite
def _record(draw: st.DrawFn, number: int) -> RequestRecord:
    prompt, output = draw(_TOKENS), draw(_TOKENS)
    cached = draw(st.none() | st.integers(0, prompt or 0))
    written = draw(st.none() | st.integers(0, (prompt or 0) - (cached or 0)))
    outcome = draw(st.sampled_from([*get_args(Outcome), *["ok"] * 9]))  # most shall be billed
    return record(
        number,
        outcome=outcome,
        sent_at=draw(st.sampled_from([None, 1.0, 1.0, 1.0])),
        status=draw(st.sampled_from([None, 200, 200, 200, 200, 200, 302, 500])),
        finish_reason=draw(st.sampled_from([None, "stop"])),
        error_kind=draw(st.sampled_from([None, "unreachable"])) if outcome == "failed" else None,
        protocol=draw(st.sampled_from([None, "openai-chat", "openai-batch", "openai-embeddings"])),
        model=draw(st.sampled_from([None, "large", "small", "unknown"])),
        model_served=draw(st.sampled_from([None, "large", "small", "large-2026-10-01", "other"])),
        cache_outcome=draw(st.sampled_from([None, None, "miss", "hit", "stale"])),
        tenant=draw(st.sampled_from([None, "ada", "bob"])),
        feature=draw(st.sampled_from([None, "search"])),
        num_prompt_tokens=prompt,
        num_cached_tokens=cached,
        num_cache_write_tokens=written,
        num_cache_write_1h_tokens=draw(st.none() | st.integers(0, written or 0)),
        num_output_tokens=output,
        num_reasoning_tokens=draw(st.none() | st.integers(0, output or 0)),
        intended_at=draw(st.floats(0, 200_000)),
    )


_RECORDS = st.integers(0, 6).flatmap(lambda num: st.tuples(*(_record(number) for number in range(num))))


@LAW
@given(records=_RECORDS)
def test_the_parts_of_a_bill_add_up_to_the_costs_of_the_records(records: tuple[RequestRecord, ...]) -> None:
    table = costed(records)
    known = [each for each in records if each.cost_usd is not None]
    found = bill(table, manifest(prices={"source": "a test", "models": PRICES.plain()}), objectives={}, gpu=None)
    if not known:
        assert found is None
        return
    assert found is not None
    total = sum(each.cost_usd or 0.0 for each in known)
    assert found.usd == pytest.approx(total, rel=1e-12)
    assert found.num_priced == len(known)
    for lines in (found.by_kind, found.by_model, found.by_day, found.by_tenant, found.by_feature):
        if lines:
            assert sum(line.usd for line in lines) == pytest.approx(total, rel=1e-9, abs=1e-15)
    assert "other" not in {line.name for line in found.by_kind}  # in real time tokens explain everything
    if total:
        assert found.by_kind
    if any(each.tenant for each in records):
        _check_tenants(found, known)


def _check_tenants(found: Bill, known: list[RequestRecord]) -> None:
    sums: dict[str, list[float]] = defaultdict(list)
    for each in known:
        sums[each.tenant or "(none)"].append(each.cost_usd or 0.0)
    assert {line.name: line.num_requests for line in found.by_tenant} == {name: len(usd) for name, usd in sums.items()}
    for line in found.by_tenant:
        assert line.usd == pytest.approx(sum(sums[line.name]), rel=1e-12)
    assert [line.usd for line in found.by_tenant] == sorted((line.usd for line in found.by_tenant), reverse=True)


@LAW
@given(records=_RECORDS)
def test_each_saving_is_the_bill_of_the_same_requests_without_it(records: tuple[RequestRecord, ...]) -> None:
    """Record by record, by the rule of one record: with the means undone, less with it."""
    undone: dict[str, list[float]] = defaultdict(list)
    table = costed(records)
    for each in records:
        if each.cost_usd is None:
            continue
        for kind, fields in _without(each).items():
            other = PRICES.cost(msgspec.structs.replace(each, **fields))
            assert other is not None
            undone[kind].append(other - each.cost_usd)
    found = bill(table, manifest(prices={"source": "a test", "models": PRICES.plain()}), objectives={}, gpu=None)
    savings = {} if found is None else {each.kind: each for each in found.savings}
    for kind in ("provider cache", "reply cache", "route", "batch"):
        expected = sum(undone[kind])
        assert (savings[kind].usd if kind in savings else 0.0) == pytest.approx(expected, rel=1e-9, abs=1e-12)
        if kind in savings:
            assert savings[kind].num_requests == len(undone[kind])


def _without(each: RequestRecord) -> dict[str, dict[str, Any]]:
    """The fields by which a record would differ without the means, for each that it was answered with."""
    fields: dict[str, dict[str, Any]] = {}
    itemised = PRICES.cost(msgspec.structs.replace(each, cache_outcome=None))
    billed = each.outcome == "ok" or (each.outcome == "failed" and each.finish_reason is not None)
    if itemised is None or not billed or each.sent_at is None or each.error_kind or (each.status or 0) >= 300:
        return {}
    if each.cache_outcome in ("hit", "stale"):
        return {"reply cache": {"cache_outcome": None}} if each.cache_outcome == "hit" else {}
    if (each.num_cached_tokens or 0) + (each.num_cache_write_tokens or 0):
        fields["provider cache"] = {"num_cached_tokens": 0, "num_cache_write_tokens": 0}
    if each.model in PRICES.models and each.model_served in PRICES.models and each.model != each.model_served:
        fields["route"] = {"model_served": each.model}
    if each.protocol == "openai-batch":
        fields["batch"] = {"protocol": "openai-chat"}
    return fields


def test_figures_by_request_and_token_by_hand() -> None:
    """Two answers of 'large' at 1,000 + 100 tokens (6 thousandths of a dollar each), one of them late; one that failed after it was
    billed, one cut, one throttled."""
    answered = [
        record(number, model="large", num_prompt_tokens=1000, num_output_tokens=100, first_token_at=number * 0.5 + late)
        for number, late in enumerate((0.1, 2.0))
    ]
    failed = record(
        2, model="large", outcome="failed", finish_reason="stop", num_prompt_tokens=1000, num_output_tokens=100
    )
    cut, throttled = record(3, model="large", outcome="cut"), record(4, outcome="throttled", status=429)
    kept_back = bare_record(5, outcome="refused")
    table = costed([*answered, failed, cut, throttled, kept_back])
    found = bill_of(table, objectives={"": parse_objective("ttft<1s")}, month_requests=1e6)
    assert found.usd == pytest.approx(0.018)
    assert (found.num_priced, found.num_unknown) == (4, 1)
    assert found.per_request == pytest.approx(0.009)
    assert found.per_1k == pytest.approx(9.0)
    assert found.per_mtok == pytest.approx(0.018 / 2200 * 1e6)
    assert found.per_output_mtok == pytest.approx(90.0)
    assert found.per_good == pytest.approx(0.018)
    assert found.month_usd == pytest.approx(9000.0)
    assert found.month_why == "1,000,000 requests a month: each at what an answered one of this run cost"
    assert found.notes == ["1 requests have no known cost: their model has no price, or they ended without usage"]


def test_answers_of_unknown_cost_are_not_counted_as_free() -> None:
    known = record(0, model="large", num_prompt_tokens=1000, num_output_tokens=0)
    unknown = record(1, model="no-such-model")
    found = bill_of(costed([known, unknown]), objectives={"": parse_objective("ttft<1s")})
    assert found.per_request == pytest.approx(0.004)
    assert found.per_good == pytest.approx(0.004)
    assert found.num_unknown == 1


def test_a_hit_saves_its_own_tokens_and_a_stale_answer_nothing() -> None:
    asked = {"model": "large", "num_prompt_tokens": 1000, "num_output_tokens": 100}
    table = costed(
        [record(n, cache_outcome=each, **asked) for n, each in enumerate(("hit", "hit", "stale", "miss", None))]
    )
    found = bill_of(table)
    (saving,) = found.savings
    assert (saving.kind, saving.num_requests) == ("reply cache", 2)
    assert saving.usd == saving.without_usd == pytest.approx(2 * 0.006)
    assert found.usd == pytest.approx(2 * 0.006)
    assert found.num_priced == 5


def test_a_route_is_another_model_than_was_asked_for() -> None:
    tokens = {"num_prompt_tokens": 1000, "num_output_tokens": 100}
    served = ("small", "large", "large-2026-10-01", None)
    found = bill_of(costed([record(n, model="large", model_served=each, **tokens) for n, each in enumerate(served)]))
    (saving,) = found.savings
    assert (saving.kind, saving.num_requests) == ("route", 1)
    assert saving.without_usd == pytest.approx(0.006)
    assert saving.usd == pytest.approx(0.006 - (1000 * 0.5 + 100 * 2) / 1e6 - 0.001)
    dearer = bill_of(costed([record(0, model="small", model_served="large", **tokens)]))
    assert dearer.savings[0].usd == pytest.approx(-saving.usd)
    assert dearer.savings[0].why.endswith(", which is cheaper")


def test_a_cache_that_is_written_and_not_read_costs_more_and_that_is_said() -> None:
    asked = record(0, model="large", num_prompt_tokens=1000, num_cache_write_tokens=800, num_output_tokens=0)
    (saving,) = bill_of(costed([asked])).savings
    assert saving.usd == pytest.approx(-800 * 1e-6)
    assert saving.without_usd == pytest.approx(0.004)
    assert saving.why.endswith("and 800 written to it; compared with the full price of input for all of them: writing cost more than "
                               "reading saved")  # fmt: skip


def test_a_day_is_one_of_the_clock_of_the_run() -> None:
    """A run that begins a quarter to midnight, UTC."""
    begins = 1_795_218_300.0  # 2026-11-20T23:45:00Z
    records = [
        record(n, model="large", num_prompt_tokens=n + 1, num_output_tokens=0, intended_at=n * 600.0) for n in range(4)
    ]
    found = bill_of(costed(records), started_wall=begins)
    assert [(line.name, line.num_requests) for line in found.by_day] == [("2026-11-20", 2), ("2026-11-21", 2)]
    assert found.by_day[0].usd == pytest.approx(3 * 4e-6)
    assert len(bill_of(costed(records), started_wall=begins - 7200).by_day) == 1


def test_the_largest_twenty_have_a_line_and_the_rest_one_together() -> None:
    records = [
        record(n, model="large", num_prompt_tokens=n, num_output_tokens=0, tenant=f"user-{n}") for n in range(1, 31)
    ]
    lines = bill_of(costed(records)).by_tenant
    assert [line.name for line in lines[:3]] == ["user-30", "user-29", "user-28"]
    assert len(lines) == 21
    assert (lines[-1].name, lines[-1].num_requests) == ("(10 more)", 10)
    assert lines[-1].usd == pytest.approx(55 * 4e-6)


def test_tokens_that_were_thought_have_a_line_and_a_price_of_their_own() -> None:
    asked = record(0, model="small", num_prompt_tokens=1000, num_output_tokens=500, num_reasoning_tokens=400)
    lines = {line.name: line for line in bill_of(costed([asked])).by_kind}
    assert list(lines) == ["prompt", "output", "reasoning", "request"]
    assert (lines["output"].num_tokens, lines["reasoning"].num_tokens) == (100, 400)
    assert lines["output"].usd == pytest.approx(100 * 2e-6)
    assert lines["reasoning"].usd == pytest.approx(400 * 3e-6)
    assert lines["request"].usd == pytest.approx(0.001)
    assert lines["request"].num_requests == 1


def test_a_model_without_a_price_that_answers_for_another_is_said() -> None:
    hostile = "x</script>\x1b[2J\u202e"
    found = bill_of(costed([record(n, model="large", model_served=hostile) for n in range(3)]))
    (note,) = found.notes
    assert note.startswith("3 answers came from 'x</script>\\x1b[2J\\u202e', without a price of their own")
    assert bill_of(costed([record(0, model="large", model_served="openai/large-2026-10-01")])).notes == []


def test_a_good_request_is_paid_for_by_the_classes_that_can_have_some() -> None:
    records = [
        record(n, class_name="chat" if n < 4 else "batch", model="large", num_prompt_tokens=1000) for n in range(9)
    ]
    table = costed(records)
    found = bill_of(table, objectives={"chat": parse_objective("ttft<1h")})
    assert found.per_good == pytest.approx(float(table["cost_usd"][:4].mean()))
    unpriced = tabulate([msgspec.structs.replace(each, cost_usd=None) for each in records])
    hours = bill_of(unpriced, None, objectives={"chat": parse_objective("ttft<1h")}, gpu_price_per_hour=9.0)
    assert hours.gpu_usd is not None
    assert hours.per_good == pytest.approx(hours.gpu_usd * 4 / 9 / 4)


def test_what_replicas_cost_by_the_hour_is_said_to_be_in_no_figure(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text('{"state": {"models": [{"pool": {"cost_usd": 50.05}}, {"pool": null}, {}]}}')
    assert replica_usd_of(tmp_path / "stack.json") == 50.05
    assert replica_usd_of(tmp_path / "none.json") == 0.0
    table = costed([record(0, model="large")])
    found = bill(table, manifest(prices=priced(PRICES)), objectives={}, gpu=None, replica_usd=50.05)
    assert found is not None
    assert found.notes == ["replicas cost $50.05 besides, by the hour: that is in none of these figures"]


def test_nothing_is_known_without_prices() -> None:
    table = tabulate([record(0), record(1)])
    assert bill(table, manifest(), objectives={}, gpu=None) is None
    assert (
        bill(tabulate([]), manifest(prices={"source": "x", "models": PRICES.plain()}), objectives={}, gpu=None) is None
    )
    nobodys = Prices({}, "a list that knows none of the models")
    assert bill(costed([record(0)], nobodys), manifest(), objectives={}, gpu=None) is None


def test_an_old_run_whose_prices_nobody_kept_has_a_total() -> None:
    table = costed([record(0, model="large", num_prompt_tokens=1000, num_output_tokens=0)])
    found = bill_of(table, None)
    assert found.usd == pytest.approx(0.004)
    assert not found.by_kind
    assert not found.savings
    assert found.source == "the records; nobody kept the prices"


@pytest.mark.parametrize(
    "kept",
    [{}, {"source": "x"}, {"source": "x", "models": 5}, {"source": "x", "models": {"m": {"inptu": 1.0}}},
     {"source": "x", "models": {"m": {"input": 1.0, "above": {"many": {"input": 2.0}}}}}, {"source": "x", "models": {"m": None}}],
)  # fmt: skip
def test_prices_of_a_manifest_that_cannot_be_read_are_an_error(kept: dict[str, Any]) -> None:
    with pytest.raises(RunError, match="the manifest's prices cannot be read"):
        bill(costed([record(0)]), manifest(prices=kept), objectives={}, gpu=None)


def test_a_bill_is_plain_json() -> None:
    found = bill_of(costed([record(0, model="large", tenant="ada")]), month_requests=1e6)
    again = msgspec.json.decode(msgspec.json.encode(found), type=Bill)
    assert again == found
    assert json.loads(msgspec.json.encode(found))["gpu_usd"] is None
