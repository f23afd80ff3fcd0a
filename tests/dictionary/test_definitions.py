"""Every formula again, request by request and without the columns that the dictionary folds."""

from __future__ import annotations

import json
from statistics import fmean

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.records import RequestRecord
from tests.dictionary.reading import Figures, figures
from tests.dictionary.test_published import AIPERF, GENAI, GUIDELLM, SGLANG, VLLM
from tests.harness.builders import LAW, manifest, record


@st.composite
def answers(draw: st.DrawFn) -> list[RequestRecord]:
    """Requests that were answered: connections new and kept, chunks of one token and of more, tails of any length."""
    found = []
    for number in range(draw(st.integers(1, 30))):
        micro = st.integers(1, 400_000).map(lambda n: n / 1e6)
        late, connect, first, tail = draw(micro), draw(st.none() | micro), draw(micro), draw(micro)
        gaps = draw(st.lists(micro, max_size=6))
        tokens = [draw(st.integers(1, 3)) for _ in range(len(gaps) + 1)]
        at = number * 0.1
        sent = at + late
        opened = None if connect is None else sent + connect
        first_at = (opened or sent) + first
        found.append(
            record(
                number,
                intended_at=at,
                sent_at=sent,
                connected_at=opened,
                first_token_at=first_at,
                last_token_at=first_at + sum(gaps),
                done_at=first_at + sum(gaps) + tail,
                token_gaps_s=gaps,
                chunk_tokens=tokens,
                num_chunks=len(tokens),
                num_output_tokens=sum(tokens),
                planned_output_tokens=sum(tokens) + draw(st.integers(0, 3)),
                num_prompt_tokens=draw(st.integers(1, 50)),
                planned_prompt_tokens=draw(st.none() | st.integers(1, 50)),
            )
        )
    return found


def of(item: RequestRecord, name: str) -> float:
    value = getattr(item, name)
    assert value is not None
    return float(value)


def sent(item: RequestRecord) -> float:
    return of(item, "sent_at")


def opened(item: RequestRecord) -> float:
    return item.connected_at if item.connected_at is not None else sent(item)


def tokens(item: RequestRecord) -> int:
    return int(of(item, "num_output_tokens"))


def span(items: list[RequestRecord]) -> float:
    return max(of(item, "done_at") for item in items) - min(sent(item) for item in items)


def linear(samples: list[float]) -> tuple[float, float, float] | None:
    """Percentiles by their definition: position (n - 1) q, straight lines between the neighbours."""
    if not samples:
        return None
    ordered = sorted(samples)

    def at(q: float) -> float:
        position = (len(ordered) - 1) * q
        low = int(position)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (position - low)

    return fmean(ordered), at(0.5), at(0.99)


def repeated(samples: list[tuple[float, int]]) -> tuple[float, float, float] | None:
    """Each value as often as its weight says, written out; percentiles are the first that as many do not exceed."""
    ordered = sorted(value for value, weight in samples for _ in range(weight))
    if not ordered:
        return None
    ranks = [-(-len(ordered) * percent // 100) - 1 for percent in (50, 99)]
    return fmean(ordered), ordered[ranks[0]], ordered[ranks[1]]


def check(found: Figures, tool: str, name: str, want: tuple[float, ...] | None, scale: float = 1e3) -> None:
    got = [found[tool, f"{name} {statistic}"].value for statistic in ("mean", "median", "p99")]
    if want is None:
        assert got == [None, None, None]
    else:
        assert got == pytest.approx([value * scale for value in want], rel=1e-9, abs=1e-9)


@settings(parent=LAW, max_examples=40)
@given(answers())
def test_answered_requests_by_every_definition(items: list[RequestRecord]) -> None:
    found = figures(items)
    check_vllm(found, items)
    check_sglang(found, items)
    check_guidellm(found, items)
    check_aiperf(found, items)
    check_genai_bench(found, items)


def decode(item: RequestRecord) -> float:
    return of(item, "last_token_at") - of(item, "first_token_at")


def from_send(items: list[RequestRecord], name: str) -> tuple[float, ...] | None:
    return linear([of(i, name) - sent(i) for i in items])


def check_vllm(found: Figures, items: list[RequestRecord]) -> None:
    check(found, VLLM, "TTFT", from_send(items, "first_token_at"))
    check(found, VLLM, "E2EL", from_send(items, "last_token_at"))
    check(found, VLLM, "TPOT", linear([decode(i) / (tokens(i) - 1) for i in items if tokens(i) > 1]))
    check(found, VLLM, "ITL", linear([gap for i in items for gap in i.token_gaps_s or []]))
    output, prompt = sum(map(tokens, items)), sum(int(of(i, "num_prompt_tokens")) for i in items)
    assert found[VLLM, "Request throughput"].value == pytest.approx(len(items) / span(items))
    assert found[VLLM, "Output token throughput"].value == pytest.approx(output / span(items))
    assert found[VLLM, "Total token throughput"].value == pytest.approx((output + prompt) / span(items))


def check_sglang(found: Figures, items: list[RequestRecord]) -> None:
    check(found, SGLANG, "TTFT", from_send(items, "first_token_at"))
    check(found, SGLANG, "E2E latency", from_send(items, "done_at"))
    asked = [(i, int(of(i, "planned_output_tokens"))) for i in items]
    each = [(of(i, "done_at") - of(i, "first_token_at")) / (num - 1) for i, num in asked if num > 1]
    check(found, SGLANG, "TPOT", linear(each))
    assert found[SGLANG, "Output token throughput"].value == pytest.approx(sum(num for _, num in asked) / span(items))


def check_guidellm(found: Figures, items: list[RequestRecord]) -> None:
    check(found, GUIDELLM, "TTFT", repeated([(of(i, "first_token_at") - opened(i), 1) for i in items]))
    check(found, GUIDELLM, "Request latency", repeated([(of(i, "done_at") - opened(i), 1) for i in items]), scale=1)
    per_token = [((of(i, "last_token_at") - opened(i)) / tokens(i), tokens(i)) for i in items]
    check(found, GUIDELLM, "TPOT", repeated(per_token))
    check(found, GUIDELLM, "ITL", repeated([(decode(i) / max(1, tokens(i) - 1), tokens(i) - 1) for i in items]))


def check_aiperf(found: Figures, items: list[RequestRecord]) -> None:
    check(found, AIPERF, "Request latency", from_send(items, "last_token_at"))
    each = [decode(i) / (tokens(i) - 1) for i in items if tokens(i) > 1]
    check(found, AIPERF, "ITL, --use-server-token-count", linear(each))
    duration = max(of(i, "last_token_at") for i in items) - min(map(sent, items))
    assert found[AIPERF, "Request throughput"].value == pytest.approx(len(items) / duration)


def check_genai_bench(found: Figures, items: list[RequestRecord]) -> None:
    check(found, GENAI, "E2E latency", from_send(items, "done_at"), scale=1)
    decodes = [((of(i, "done_at") - sent(i)) - (of(i, "first_token_at") - sent(i)), tokens(i)) for i in items]
    check(found, GENAI, "TPOT", linear([s / (n - 1) for s, n in decodes if n > 1 and s >= 0.001]), scale=1)


def test_ours_are_the_numbers_of_the_summary() -> None:
    """400 requests: enough for a p99. Nearest rank and medians as written out here, not as folded there."""
    items = [
        record(n, sent_at=n * 0.5 + 0.001, first_token_at=n * 0.5 + 0.1 + (n * 37 % 400) / 1e4) for n in range(400)
    ]
    ttft = sorted((n * 37 % 400) / 1e4 + 0.1 for n in range(400))
    found = figures(items)
    assert found[VLLM, "TTFT median"].ours == pytest.approx(ttft[199] * 1e3)
    assert found[VLLM, "TTFT p99"].ours == pytest.approx(ttft[395] * 1e3)
    assert found[VLLM, "TTFT mean"].ours == pytest.approx(fmean(ttft) * 1e3)
    assert found[GENAI, "TTFT p99"].ours == pytest.approx(ttft[395])  # its unit is the second
    assert figures(items[:367])[VLLM, "TTFT p99"].ours is None
    assert figures(items[:367])[VLLM, "TTFT p99"].value is not None
    assert found[VLLM, "Output token throughput"].ours == pytest.approx(4000 / (399 * 0.5 + 0.2 - 0.001))


def test_chunks_of_several_tokens() -> None:
    """One gap of 40 ms with four tokens behind it: a chunk's gap to them, 10 ms a token to us."""
    item = record(0, token_gaps_s=[0.04], chunk_tokens=[1, 4], num_chunks=2, num_output_tokens=5, last_token_at=0.14)
    found = figures([item] * 6)
    assert found[VLLM, "ITL median"].value == pytest.approx(40)
    assert found[VLLM, "ITL median"].ours == pytest.approx(10)
    assert found[VLLM, "TPOT mean"].value == pytest.approx(10)


def test_answers_that_were_not_streamed() -> None:
    item = record(0, stream=False, first_token_at=None, last_token_at=None, token_gaps_s=None, num_chunks=None)
    found = figures([item])
    assert found[VLLM, "TTFT mean"].value is None
    assert found[SGLANG, "TTFT mean"].value == pytest.approx(200)  # it takes the whole time for it
    assert found[GUIDELLM, "ITL mean"].value == 0.0  # it takes what is not there for nothing
    assert found[GUIDELLM, "TPOT mean"].value == pytest.approx(199 / 10)
    assert found[AIPERF, "Request count"].value == 1
    assert found[VLLM, "TTFT mean"].why == "No request of this run has such a sample."


def test_failed_requests_stand_in_the_rates_of_guidellm() -> None:
    failed = record(1, outcome="cut", error_kind="reset_mid_answer", num_chunks=4, num_output_tokens=4)
    found = figures([record(0), failed])
    assert found[GUIDELLM, "Requests per second"].value == pytest.approx(2 / 0.7)
    assert found[GUIDELLM, "Output tokens per second (server throughput table)"].value == pytest.approx(14 / 0.7)
    assert found[VLLM, "Request throughput"].value == pytest.approx(1 / 0.7)
    assert found[VLLM, "Request throughput"].ours == pytest.approx(1 / 0.2)


def test_figures_are_finite_and_go_to_json() -> None:
    for items in (
        [record(0, done_at=0.2, sent_at=0.2)],
        [record(0, num_output_tokens=0)],
        [record(0, num_output_tokens=None)],
    ):
        for figure in figures(items).values():
            value = json.loads(msgspec.json.encode(figure))["value"]
            assert value is None or np.isfinite(value)
            assert (figure.value is None) == (value is None)  # NaN would have become null on the way


def test_a_modelled_run_had_no_client() -> None:
    from harness.dictionary.tools import dictionary
    from harness.table import tabulate

    assert dictionary(tabulate([record(0)]), manifest(clock="virtual")) == []
