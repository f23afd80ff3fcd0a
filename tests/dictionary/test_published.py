"""The tools' own published numbers: what six of them said of the same server (true TTFT 50 ms, 10 ms between tokens, 16 tokens an
answer, four at a time, 40 requests), and what they make of streams that break."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from harness.records import RequestRecord
from tests.dictionary.reading import Figures, figures
from tests.harness.builders import bare_record, record

VLLM, SGLANG, GUIDELLM, AIPERF, GENAI = (
    "vllm bench serve",
    "sglang.bench_serving",
    "guidellm",
    "aiperf",
    "genai-bench",
)


def closed_loop(
    *, ttft: float, itl: float, wave: float, tail: float = 0.001, tokens: int = 16
) -> Iterator[RequestRecord]:
    """40 requests, four at a time: the next four begin `wave` seconds after the last."""
    for number in range(40):
        at = (number // 4) * wave
        last = at + ttft + 15 * itl
        yield record(
            number,
            intended_at=at,
            sent_at=at,
            connected_at=at,
            first_byte_at=at + 0.002,
            first_token_at=at + ttft,
            last_token_at=last,
            done_at=last + tail,
            token_gaps_s=[itl] * 15,
            num_chunks=16,
            num_prompt_tokens=20,
            num_output_tokens=tokens,
            planned_output_tokens=16,
        )


TRUTH = figures(closed_loop(ttft=0.052, itl=0.01035, wave=0.2083))


@pytest.mark.parametrize(
    ("tool", "name", "said"),
    [
        (VLLM, "TTFT mean", 54.0),
        (VLLM, "ITL mean", 10.5),
        (VLLM, "TPOT mean", 10.5),
        (VLLM, "Output token throughput", 302.0),
        (SGLANG, "TTFT mean", 51.9),
        (SGLANG, "ITL mean", 10.2),
        (SGLANG, "TPOT mean", 10.2),
        (SGLANG, "Output token throughput", 309.8),
        (GUIDELLM, "TTFT mean", 51.7),
        (GUIDELLM, "ITL mean", 10.5),
        (GUIDELLM, "TPOT mean", 13.1),
        (GUIDELLM, "Output tokens per second (server throughput table)", 299.1),
        (GUIDELLM, "Output tokens per second (text metrics table)", 331.6),
        (AIPERF, "TTFT mean", 52.2),
        (GENAI, "TPOT mean", 0.0108),
    ],
)
def test_what_the_tools_said_of_one_server(tool: str, name: str, said: float) -> None:
    """To 5 %: each tool had its own run and its own client."""
    figure = TRUTH[tool, name]
    assert figure.value == pytest.approx(said, rel=0.05)
    assert figure.ours is not None
    assert figure.why.endswith(".")
    assert figure.formula


def test_two_rates_of_guidellm_in_one_report() -> None:
    """Its own run again: 640 tokens in 2.14 s are 299.1 a second in one table and, in the other, which leaves out the time up to the
    first end, a tenth more."""
    own = figures(closed_loop(ttft=0.0517, itl=0.0105, wave=640 / 299.1 / 10, tail=0.0047))
    assert own[GUIDELLM, "Output tokens per second (server throughput table)"].value == pytest.approx(299.1, rel=2e-3)
    assert own[GUIDELLM, "Output tokens per second (text metrics table)"].value == pytest.approx(331.6, rel=3e-3)
    assert own[GUIDELLM, "TPOT mean"].value == pytest.approx(13.1, abs=0.05)
    assert own[GUIDELLM, "ITL mean"].value == pytest.approx(10.5, abs=0.05)


def test_the_seventeenth_token_of_aiperf() -> None:
    """It counted 17 tokens where the server counted 16: with its count come its numbers, with the server's those of vLLM's run."""
    wave, run = 680 / 320.9 / 10, {"ttft": 0.0522, "itl": 0.01044}
    miscounted, counted = (figures(closed_loop(**run, wave=wave, tail=0.001, tokens=n)) for n in (17, 16))
    name = "--use-server-token-count"
    assert miscounted[AIPERF, f"ITL, {name} mean"].value == pytest.approx(9.79, abs=0.01)
    assert miscounted[AIPERF, f"Output token throughput, {name}"].value == pytest.approx(320.9, rel=5e-3)
    assert counted[AIPERF, f"Output token throughput, {name}"].value == pytest.approx(302.0, rel=5e-3)
    assert counted[AIPERF, "Output token throughput"].value is None
    assert "tokenizer" in counted[AIPERF, "Output token throughput"].why


# -- streams that break ------------------------------------------------------------------------------

_HALF: dict[str, Any] = {
    "last_token_at": None,
    "token_gaps_s": [0.01] * 8,
    "num_chunks": 9,
    "num_output_tokens": 9,
    "token_source": "local",
    "planned_output_tokens": 16,
    "finish_reason": None,
}
BROKEN: dict[str, dict[str, Any]] = {
    "error in the body": {**_HALF, "outcome": "failed", "error_kind": "in_band_error"},
    "closed without an end": {**_HALF, "outcome": "cut", "error_kind": "no_end"},
    "reset": {**_HALF, "outcome": "cut", "error_kind": "reset_mid_answer"},
    "error before a word": {
        "outcome": "failed",
        "error_kind": "in_band_error",
        **dict.fromkeys(("first_token_at", "last_token_at", "token_gaps_s", "num_chunks", "num_output_tokens")),
    },
    "empty": {
        "outcome": "failed",
        "error_kind": "empty_answer",
        "first_token_at": None,
        "last_token_at": None,
        "token_gaps_s": None,
        "num_chunks": None,
        "num_output_tokens": 16,
        "planned_output_tokens": 16,
    },
}


def broken(how: str, num: int = 20) -> list[RequestRecord]:
    made = []
    for number in range(num):
        fields = dict(BROKEN[how])
        if fields.get("token_gaps_s"):
            fields["last_token_at"] = number * 0.5 + 0.18
        made.append(record(number, **fields))
    return made


SUCCESSES = {
    VLLM: "Successful requests",
    SGLANG: "Successful requests",
    GUIDELLM: "Successful requests",
    AIPERF: "Request count",
    GENAI: "Completed requests",
}


@pytest.mark.parametrize(
    ("how", "counted"),
    [
        ("error in the body", {VLLM, SGLANG, AIPERF}),
        ("closed without an end", {VLLM, SGLANG, GUIDELLM, AIPERF, GENAI}),
        ("reset", set()),
        ("error before a word", {SGLANG}),
        ("empty", {SGLANG, GUIDELLM}),
    ],
)
def test_who_notices_a_broken_stream(how: str, counted: set[str]) -> None:
    found = figures(broken(how))
    assert {tool for tool, name in SUCCESSES.items() if found[tool, name].value == 20} == counted
    assert all(found[tool, name].value in (0, 20) and found[tool, name].ours == 0 for tool, name in SUCCESSES.items())


@pytest.mark.parametrize("how", ["error in the body", "closed without an end"])
def test_sglang_reports_320_tokens_where_180_came(how: str) -> None:
    found = figures(broken(how))
    seconds = 19 * 0.5 + 0.2
    assert found[SGLANG, "Output token throughput"].value == pytest.approx(320 / seconds)
    assert found[SGLANG, "Output token throughput, usage asked for"].value == pytest.approx(180 / seconds)
    assert found[SGLANG, "Output token throughput"].ours is None


def test_an_empty_stream_has_a_ttft_of_nothing_in_sglang() -> None:
    assert figures(broken("empty"))[SGLANG, "TTFT mean"].value == 0.0


def test_the_responses_clients_of_vllm_and_aiperf_see_what_their_chat_clients_do_not() -> None:
    for how, aiperf in (("error in the body", 0), ("closed without an end", 20)):
        items = broken(how)
        for item in items:
            item.protocol = "openai-responses"
        found = figures(items)
        assert found[VLLM, "Successful requests"].value == 0
        assert found[AIPERF, "Request count"].value == aiperf


def test_genai_bench_says_no_errors_next_to_31_of_67() -> None:
    failed = [
        bare_record(n, sent_at=n * 0.5, done_at=n * 0.5 + 0.1, status=429, outcome="throttled", error_kind="http_429")
        for n in range(31)
    ]
    found = figures([*failed, *(record(n) for n in range(31, 67))])
    assert found[GENAI, "Error requests"].value == 31
    assert found[GENAI, "Error rate"].value == 0.0
    assert found[GENAI, "Error rate"].ours == pytest.approx(31 / 67)
    assert found[AIPERF, "Request error rate"].value == pytest.approx(100 * 31 / 67)


def test_what_the_tools_never_do_is_in_none_of_their_numbers() -> None:
    """Clients that leave as planned, requests kept back and those open at the end have no counterpart there."""
    others = [
        bare_record(1, outcome="refused", error_kind="cap_in_flight"),
        bare_record(2, sent_at=1.0, outcome="incomplete", error_kind="run_ended"),
        record(3, outcome="left", error_kind="client_left"),
    ]
    plain, mixed = figures([record(0)]), figures([record(0), *others])
    assert {key: figure.value for key, figure in plain.items()} == {key: figure.value for key, figure in mixed.items()}


def test_nothing_was_sent() -> None:
    empty: Figures = figures([])
    assert empty == {}
    assert figures([bare_record(0, outcome="refused", error_kind="cap_in_flight")]) == {}
