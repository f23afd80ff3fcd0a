"""What requests cost: bills worked out by hand from the providers' price pages, and genai-prices' own arithmetic."""

from __future__ import annotations

import hashlib
import json
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import StartDateConstraint
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError, UsageError
from harness.price_list import listed_prices, provider_of
from harness.prices import ModelPrice, Prices, deployed_prices, load_prices, priced, prices_said
from harness.records import RequestRecord
from tests.harness.builders import LAW, bare_record, record

_FILE = """\
gpt-5-mini: {input: 0.25, cached_input: 0.025, output: 2, batch: 0.5}
claude: {input: 3, cached_input: 0.3, cache_write: 3.75, output: 15, max_output: 64000}
own-8b: {input: 1, output: 0}
"""
_NOON = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()


@pytest.fixture
def prices(tmp_path: Path) -> Prices:
    path = tmp_path / "prices.yaml"
    path.write_text(_FILE)
    return load_prices(path)


def _asked(
    model: str, prompt: int, output: int, cached: int | None = None, written: int | None = None
) -> RequestRecord:
    return record(
        model=model,
        num_prompt_tokens=prompt,
        num_output_tokens=output,
        num_cached_tokens=cached,
        num_cache_write_tokens=written,
    )


def test_an_openai_bill_by_hand(prices: Prices) -> None:
    """prompt_tokens 2,000, of which cached_tokens 1,024; completion_tokens 300, reasoning among them."""
    # 976 x 0.25 + 1,024 x 0.025 + 300 x 2 = 244 + 25.6 + 600 millionths of a dollar
    assert prices.cost(_asked("gpt-5-mini", 2000, 300, cached=1024)) == pytest.approx(0.0008696, rel=1e-12)


def test_an_anthropic_bill_by_hand(prices: Prices) -> None:
    """input_tokens 50, cache_read_input_tokens 1,000, cache_creation_input_tokens 500; output_tokens 200."""
    # 50 x 3 + 1,000 x 0.3 + 500 x 3.75 + 200 x 15 = 150 + 300 + 1,875 + 3,000 millionths
    assert prices.cost(_asked("claude", 1550, 200, cached=1000, written=500)) == pytest.approx(0.005325, rel=1e-12)


def test_cached_tokens_without_a_price_of_their_own_cost_as_others(prices: Prices) -> None:
    assert prices.cost(_asked("own-8b", 1000, 10, cached=400, written=100)) == pytest.approx(0.001)


def test_a_batch_is_cheaper_only_where_the_file_says_so(prices: Prices) -> None:
    one = _asked("gpt-5-mini", 1000, 1000)
    other = _asked("claude", 1000, 1000)
    assert prices.cost(one) == pytest.approx(0.00225)
    assert prices.cost(other) == pytest.approx(0.018)
    one.protocol = other.protocol = "openai-batch"
    assert prices.cost(one) == pytest.approx(0.001125)
    assert prices.cost(other) == pytest.approx(0.018)


def test_a_batch_may_have_prices_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(
        "gpt-4.1:\n  {input: 2, cached_input: 0.5, output: 8, above: {1000: {input: 4, output: 8}},\n"
        "   batch: {input: 1, cached_input: 0.5, output: 4, above: {1000: {input: 2, output: 4}}}}\n"
    )
    prices = load_prices(path)
    asked = _asked("gpt-4.1", 900, 100, cached=400)
    asked.protocol = "openai-batch"
    # 500 x 1 + 400 x 0.5 + 100 x 4, where half of everything would be 900
    assert prices.cost(asked) == pytest.approx(0.0011)
    asked.num_prompt_tokens, asked.num_cached_tokens = 2000, 0
    assert prices.cost(asked) == pytest.approx(0.0044)
    as_text = json.loads(json.dumps(prices.plain()))  # keys of JSON are text
    assert Prices.of(as_text, prices.source, prices.version) == prices


def test_what_is_written_for_an_hour_costs_more_than_for_five_minutes() -> None:
    prices = Prices.of({"m": {"input": 3.0, "cache_write": 3.75, "cache_write_1h": 6.0, "output": 15.0}}, "x")
    asked = _asked("m", 1000, 0, written=600)
    assert prices.cost(asked) == pytest.approx((400 * 3 + 600 * 3.75) / 1e6)
    asked.num_cache_write_1h_tokens = 200
    assert prices.cost(asked) == pytest.approx((400 * 3 + 400 * 3.75 + 200 * 6) / 1e6)


def test_thoughts_and_requests_may_have_a_price() -> None:
    prices = Prices.of({"m": {"input": 2.0, "output": 8.0, "reasoning": 3.0, "per_request": 0.005}}, "x")
    asked = _asked("m", 1000, 500)
    asked.num_reasoning_tokens = 400
    assert prices.cost(asked) == pytest.approx((1000 * 2 + 100 * 8 + 400 * 3) / 1e6 + 0.005)
    asked.planned_prompt_tokens, asked.planned_output_tokens = 0, 10
    # the template's 100 tokens, the answer at the dearer of its two prices, the fee
    assert prices.most(asked) == pytest.approx((100 * 2 + 10 * 8) / 1e6 + 0.005)


@pytest.mark.parametrize(("outcome", "usd"), [("hit", 0.0), ("stale", 0.0), ("miss", 0.018), (None, 0.018)])
def test_nobody_bills_what_the_servers_own_cache_answers(prices: Prices, outcome: str | None, usd: float) -> None:
    asked = _asked("claude", 1000, 1000)
    asked.cache_outcome = outcome
    assert prices.cost(asked) == pytest.approx(usd)


def test_the_model_that_answered_is_the_one_that_is_paid(prices: Prices) -> None:
    routed = _asked("claude", 1000, 0)
    routed.model_served = "own-8b"
    assert prices.cost(routed) == pytest.approx(0.001)
    routed.model_served = "claude-2026-10-01"  # a dated name of the model that was asked
    assert prices.cost(routed) == pytest.approx(0.003)


def test_embeddings_have_no_output(prices: Prices) -> None:
    asked = record(model="own-8b", protocol="openai-embeddings", num_prompt_tokens=2000, num_output_tokens=None)
    assert prices.cost(asked) == pytest.approx(0.002)


@pytest.mark.parametrize(
    "free",
    [
        record(model="claude", outcome="throttled", status=429),
        record(model="claude", outcome="failed", status=500),
        record(model="claude", outcome="failed", status=401),
        bare_record(model="claude", outcome="refused"),
        bare_record(model="claude", outcome="failed", sent_at=0.0, error_kind="unreachable"),
    ],
)
def test_what_is_not_billed_costs_nothing(prices: Prices, free: RequestRecord) -> None:
    assert prices.cost(free) == 0.0


@pytest.mark.parametrize(
    "unknown",
    [
        record(model="no-such-model"),
        record(model="claude", outcome="cut"),
        record(model="claude", outcome="incomplete"),
        record(model="claude", outcome="left"),
        record(model="claude", outcome="failed", status=None),  # reset before headers: it may have been answered
        record(model="claude", num_prompt_tokens=None),
        record(model="claude", num_output_tokens=None),
    ],
)
def test_a_cost_that_nobody_knows_is_none_and_not_nothing(prices: Prices, unknown: RequestRecord) -> None:
    assert prices.cost(unknown) is None


@LAW
@given(
    prompt=st.integers(0, 300_000),
    cached=st.integers(0, 100_000),
    written=st.integers(0, 100_000),
    output=st.integers(0, 5000),
    share=st.floats(0, 1),
    protocol=st.sampled_from(["openai-chat", "openai-batch"]),
)
def test_the_most_is_never_less_than_the_cost(
    prompt: int, cached: int, written: int, output: int, share: float, protocol: str
) -> None:
    """`share` of what was written was for an hour, and of what was answered was thought."""
    tiers = {200_000: {"input": 6.0, "output": 22.5, "cache_write_1h": 12.0}}
    plain: dict[str, Any] = {
        "input": 3.0, "cached_input": 0.3, "cache_write": 3.75, "cache_write_1h": 6.0, "output": 15.0, "reasoning": 20.0,
        "per_request": 0.001, "above": tiers, "batch": {"input": 1.0, "output": 5.0, "above": {1000: {"input": 9.0}}},
    }  # fmt: skip
    prices = Prices.of({"m": plain}, "a test")
    asked = _asked("m", prompt, output, min(cached, prompt), min(written, prompt - min(cached, prompt)))
    asked.planned_prompt_tokens, asked.planned_output_tokens, asked.protocol = prompt, output, protocol
    asked.num_cache_write_1h_tokens = int((asked.num_cache_write_tokens or 0) * share)
    asked.num_reasoning_tokens = int(output * share)
    most, cost = prices.most(asked), prices.cost(asked)
    assert most is not None
    assert cost is not None
    assert cost <= most


def test_an_answer_without_a_limit_has_a_bound_only_where_the_file_gives_one(prices: Prices) -> None:
    asked: dict[str, Any] = {"planned_prompt_tokens": 1000, "planned_output_tokens": None}
    assert prices.most(record(model="gpt-5-mini", **asked)) is None
    # (1.5 x 1,000 + 100) x 3.75 + 64,000 x 15
    assert prices.most(record(model="claude", **asked)) == pytest.approx(0.966)
    assert prices.most(record(model="no-such-model")) is None


def test_prices_survive_the_way_to_another_process(prices: Prices) -> None:
    again = Prices.of(prices.plain(), prices.source, prices.version)
    assert again == prices
    tiered = Prices({"m": ModelPrice(input=1, output=2, above={1000: ModelPrice(input=2, output=4)})}, "x")
    text_keys = {"m": {"input": 1.0, "output": 2.0, "above": {"1000": {"input": 2.0, "output": 4.0}}}}
    asked = _asked("m", 1001, 10)
    assert Prices.of(text_keys, "x").cost(asked) == tiered.cost(asked) == pytest.approx(0.002042)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("m: {input: 1, output: 2, ouput: 3}", "prices.yaml:1: m.ouput: is no key that belongs here"),
        ("m: {output: 2}", "prices.yaml:1: m.input: Field required"),
        ("m: {input: -1, output: 2}", "prices.yaml:1: m.input: .*greater than or equal to 0"),
        ("m: {input: '1', output: 2}", "prices.yaml:1: m.input: .*valid number"),
        ("m: {input: .inf, output: 2}", "prices.yaml:1: m.input: .*finite"),
        ("m:\n  input: 1\n  batch: -0.5", "prices.yaml:3: m.batch: .*greater than or equal to 0"),
        ("m:\n  input: 1\n  batch: {input: 1,\n    ouput: 3}", "prices.yaml:4: m.batch.ouput: is no key"),
        ("m:\n  input: 1\n  batch: half", "prices.yaml:3: m.batch: .*valid number"),
        ("m: {input: 1}\nm: {input: 2}", "prices.yaml:2: m: stands twice"),
    ],
)
def test_a_bad_price_file_names_file_line_and_key(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(text)
    with pytest.raises(HarnessError, match=complaint):
        load_prices(path)


# -- the list of genai-prices --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "gpt-5-mini"), ("openai", "gpt-4.1"), ("anthropic", "claude-sonnet-4-5"), ("google", "gemini-2.5-pro"),
     ("deepseek", "deepseek-chat"), ("perplexity", "sonar"), ("perplexity", "sonar-deep-research")],
)  # fmt: skip
@pytest.mark.parametrize(
    "tokens", [(1000, 0, 0, 100), (2000, 1500, 0, 1), (5000, 1000, 2000, 700), (300_000, 9, 0, 99)]
)
def test_listed_prices_give_the_bill_of_the_list_itself(
    provider: str, model: str, tokens: tuple[int, int, int, int]
) -> None:
    prompt, cached, written, output = tokens
    asked = _asked(model, prompt, output, cached, written)
    asked.num_reasoning_tokens = output // 3
    usage = Usage(
        input_tokens=prompt, cache_read_tokens=cached, cache_write_tokens=written, output_tokens=output,
        output_reasoning_tokens=output // 3,
    )  # fmt: skip
    at = datetime.fromtimestamp(_NOON, UTC)
    prices = listed_prices(provider, [model], _NOON)
    for protocol, context in (("openai-chat", None), ("openai-batch", {"processing": "batch"})):
        asked.protocol = protocol
        theirs = calc_price(
            usage, model, provider_id=provider, genai_request_timestamp=at, price_context=context
        ).total_price
        assert prices.cost(asked) == pytest.approx(float(theirs), rel=1e-9)
        assert theirs > Decimal(0)


def test_listed_prices_are_those_of_the_day() -> None:
    """A price that the list has two dates for: what holds is what held when the run began."""
    dated = [
        (m.id, m.prices)
        for m in get_snapshot().find_provider(None, "openai", None).models
        if isinstance(m.prices, list)
    ]
    found = 0
    for model, variants in dated:
        for variant in variants:
            if not isinstance(variant.constraint, StartDateConstraint):
                continue
            start = datetime.combine(variant.constraint.start_date, time(12), UTC)
            for at in (start - timedelta(days=2), start + timedelta(days=2)):
                usage = Usage(input_tokens=1000, output_tokens=100)
                theirs = calc_price(usage, model, provider_id="openai", genai_request_timestamp=at).total_price
                ours = listed_prices("openai", [model], at.timestamp()).cost(_asked(model, 1000, 100))
                assert ours == pytest.approx(float(theirs), rel=1e-9)
            found += 1
    assert found


def test_what_a_manifest_keeps_of_prices_is_what_was_used(prices: Prices) -> None:
    for each in (prices, listed_prices("anthropic", ["claude-sonnet-4-5"], _NOON)):
        kept = json.loads(json.dumps(priced(each)))
        assert prices_said(kept) == each
    assert listed_prices("openai", [], _NOON).version == metadata.version("genai-prices")
    assert prices.version == f"sha256 {hashlib.sha256(_FILE.encode()).hexdigest()[:12]}"
    assert priced(None) is None
    assert prices_said(None) is None


@dataclass(frozen=True)
class _Deployed:
    input: float = 0.0
    output: float = 0.0
    cached_input: float | None = None
    written_5m: float | None = None
    written_1h: float | None = None
    batch: float = 0.5


def test_the_prices_of_a_deployment_bill_as_the_deployment_does() -> None:
    models = {"a": _Deployed(3, 15, 0.3, 3.75), "b": _Deployed(3, 15, None, None, 6.0), "free": _Deployed()}
    found = deployed_prices(models, "deployment x")
    assert found is not None
    assert set(found.models) == {"a", "b"}
    asked = _asked("a", 1000, 100, cached=200, written=300)
    asked.num_cache_write_1h_tokens = 100
    # what is written for an hour is as dear as the prompt where the deployment does not say it
    assert found.cost(asked) == pytest.approx((500 * 3 + 200 * 0.3 + 200 * 3.75 + 100 * 3 + 100 * 15) / 1e6)
    asked.model, asked.protocol = "b", "openai-batch"
    assert found.cost(asked) == pytest.approx((900 * 3 + 100 * 6 + 100 * 15) / 2e6)
    assert deployed_prices({"free": _Deployed()}, "x") is None


def test_the_list_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_socket(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", no_socket)
    assert listed_prices("openai", ["gpt-5-mini", "no-such-model"], _NOON).models.keys() == {"gpt-5-mini"}


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("https://api.openai.com", "openai"),
        ("https://api.anthropic.com/v1", "anthropic"),
        ("https://gateway.example.com", None),
        ("http://127.0.0.1:8000", None),
        ("http://localhost:8000", None),
        ("http://mock:8000", None),
    ],
)
def test_the_provider_of_a_url(url: str, provider: str | None) -> None:
    assert provider_of(url) == provider


def test_a_provider_that_does_not_exist_is_said() -> None:
    with pytest.raises(UsageError, match=r"--prices opnai: there is no such file and no such provider.*openai"):
        listed_prices("opnai", ["gpt-5"], _NOON)
