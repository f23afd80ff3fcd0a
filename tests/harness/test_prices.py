"""What requests cost: bills worked out by hand from the providers' price pages, and genai-prices' own arithmetic."""

from __future__ import annotations

import socket
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from genai_prices import Usage, calc_price
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError, UsageError
from harness.prices import ModelPrice, Prices, listed_prices, load_prices, provider_of
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
)
def test_the_most_is_never_less_than_the_cost(prompt: int, cached: int, written: int, output: int) -> None:
    tiers = {200_000: {"input": 6.0, "output": 22.5}}
    plain = {"input": 3.0, "cached_input": 0.3, "cache_write": 3.75, "output": 15.0, "above": tiers}
    prices = Prices.of({"m": plain}, "a test")
    asked = _asked("m", prompt, output, min(cached, prompt), min(written, prompt - min(cached, prompt)))
    asked.planned_prompt_tokens, asked.planned_output_tokens = prompt, output
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
    again = Prices.of(prices.plain(), prices.source)
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
    [("openai", "gpt-5-mini"), ("anthropic", "claude-sonnet-4-5"), ("google", "gemini-2.5-pro"), ("deepseek", "deepseek-chat")],
)  # fmt: skip
@pytest.mark.parametrize(
    "tokens", [(1000, 0, 0, 100), (2000, 1500, 0, 1), (5000, 1000, 2000, 700), (300_000, 9, 0, 99)]
)
def test_listed_prices_give_the_bill_of_the_list_itself(
    provider: str, model: str, tokens: tuple[int, int, int, int]
) -> None:
    prompt, cached, written, output = tokens
    ours = listed_prices(provider, [model], _NOON).cost(_asked(model, prompt, output, cached, written))
    usage = Usage(input_tokens=prompt, cache_read_tokens=cached, cache_write_tokens=written, output_tokens=output)
    at = datetime.fromtimestamp(_NOON, UTC)
    theirs = calc_price(usage, model, provider_id=provider, genai_request_timestamp=at).total_price
    assert ours == pytest.approx(float(theirs), rel=1e-9)
    assert theirs > Decimal(0)


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
