"""`/metrics`: names, bounds and definitions as vLLM and OpenTelemetry publish them, and the server's own wiring."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mockllm.building import build_engine
from mockllm.deployment import Deployment, load_profile
from mockllm.profile import Profile
from mockllm.server.app import create_app
from mockllm.server.histograms import Histogram, one_two_five
from mockllm.server.ledger import Entry, Ledger
from mockllm.server.metrics import Metrics
from mockllm.server.observations import latencies
from tests.laws.load import BATCHED
from tests.mockllm.exposition import Exposed, HistogramSeries, lint
from tests.mockllm.fake_endpoint import http_client

LABELS = {"model_name": "m", "engine": "0"}

# Copied from vllm/v1/metrics/loggers.py and from OpenTelemetry's gen-ai-metrics.md, as printed there.
FIRST = "0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0"
VLLM_FIRST = FIRST + ", 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0"
TOKEN = "0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5"
VLLM_TOKEN = TOKEN + ", 5.0, 7.5, 10.0, 20.0, 40.0, 80.0"
VLLM_REQUEST = (
    "0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, "
    "1920.0, 7680.0"
)
GEN_AI_REQUEST = "0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92"
TOKENS_TO_8192 = "1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000"

BOUNDS = {
    "vllm:time_to_first_token_seconds": VLLM_FIRST,
    "vllm:inter_token_latency_seconds": VLLM_TOKEN,
    "vllm:time_per_output_token_seconds": VLLM_TOKEN,
    "vllm:request_time_per_output_token_seconds": VLLM_TOKEN,
    "vllm:e2e_request_latency_seconds": VLLM_REQUEST,
    "vllm:request_queue_time_seconds": VLLM_REQUEST,
    "vllm:request_inference_time_seconds": VLLM_REQUEST,
    "vllm:request_prefill_time_seconds": VLLM_REQUEST,
    "vllm:request_decode_time_seconds": VLLM_REQUEST,
    "vllm:request_prompt_tokens": TOKENS_TO_8192,
    "vllm:request_generation_tokens": TOKENS_TO_8192,
    "gen_ai_server_request_duration_seconds": GEN_AI_REQUEST,
    "gen_ai_server_time_to_first_token_seconds": FIRST,
    "gen_ai_server_time_per_output_token_seconds": TOKEN,
}


def metrics(profile: Profile | None = None) -> tuple[Metrics, Ledger]:
    found = profile or load_profile("h100-8b").model_copy(update={"max_model_len": 8192})
    ledger = Ledger(monotonic_origin=0.0)
    engine = build_engine(Deployment(name="m", seed=0, profiles={"m": found}), every_token=True)
    return Metrics(engine, ledger), ledger


def entry(**changes: Any) -> Entry:
    """A stream of four writes with five tokens, closed well."""
    return Entry(
        **{
            "request_id": "r",
            "client_request_id": None,
            "protocol": "openai-chat",
            "model": "m",
            "stream": True,
            "received_at": 1.0,
            "submitted_at": 1.0,
            "planned_at": [1.5, 1.53, 1.6, 1.606],
            "written_at": [1.5, 1.53, 1.6, 1.606],
            "num_tokens": [1, 1, 2, 1],
            "finished_at": 1.606,
            "num_prompt_tokens": 100,
            "num_output_tokens": 5,
            "finish_reason": "length",
            "queue_s": 0.2,
            "status": 200,
            "outcome": "ok",
            **changes,
        }
    )


def scraped(*entries: Entry) -> Exposed:
    what, ledger = metrics()
    for each in entries:
        ledger.close(each)
    return Exposed(what.exposition(2.0))


def of_histogram(exposed: Exposed, name: str) -> HistogramSeries:
    return exposed.histograms(name)[frozenset(LABELS.items())]


def test_bounds_are_the_published_ones() -> None:
    exposed = scraped(entry())
    for name, bounds in BOUNDS.items():
        (series,) = exposed.histograms(name).values()
        assert [float(bound) for bound in series.buckets] == [*map(float, bounds.split(", ")), float("inf")], name


def test_the_names_are_these_and_no_others() -> None:
    exposed = scraped(entry())
    assert lint(exposed) == []
    assert set(exposed.kinds) - set(BOUNDS) == {
        "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
        "vllm:prefix_cache_queries", "vllm:prefix_cache_hits", "vllm:num_preemptions", "vllm:prompt_tokens",
        "vllm:generation_tokens", "vllm:request_success", "vllm:cache_config_info", "mock_requests",
        "mock_emit_lateness_seconds", "DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
        "DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_FB_FREE", "DCGM_FI_DEV_FB_USED", "DCGM_FI_PROF_GR_ENGINE_ACTIVE",
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "DCGM_FI_PROF_DRAM_ACTIVE",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "count", "total"),
    [
        ("vllm:time_to_first_token_seconds", 1, 0.5),
        ("vllm:inter_token_latency_seconds", 3, 0.106),  # three gaps, though the third write had two tokens
        ("vllm:time_per_output_token_seconds", 3, 0.106),
        ("vllm:request_time_per_output_token_seconds", 1, 0.106 / 4),
        ("vllm:e2e_request_latency_seconds", 1, 0.606),
        ("vllm:request_queue_time_seconds", 1, 0.2),
        ("vllm:request_prefill_time_seconds", 1, 0.3),
        ("vllm:request_decode_time_seconds", 1, 0.106),
        ("vllm:request_inference_time_seconds", 1, 0.406),
        ("vllm:request_prompt_tokens", 1, 100),
        ("vllm:request_generation_tokens", 1, 5),
    ],
)
def test_a_finished_stream_by_hand(name: str, count: int, total: float) -> None:
    series = of_histogram(scraped(entry()), name)
    assert series.num == count
    assert series.total == pytest.approx(total)


def test_queue_prefill_and_decode_make_the_whole() -> None:
    exposed = scraped(entry(), entry(queue_s=0.01, received_at=0.7))
    sums = [
        of_histogram(exposed, f"vllm:{name}_seconds").total
        for name in ("request_queue_time", "request_prefill_time", "request_decode_time", "e2e_request_latency")
    ]
    assert sum(sums[:3]) == pytest.approx(sums[3])


def test_the_gaps_fall_under_their_bounds() -> None:
    series = scraped(entry()).histograms("vllm:inter_token_latency_seconds")[frozenset(LABELS.items())]
    assert [series.buckets[bound] for bound in ("0.01", "0.025", "0.05", "0.075", "+Inf")] == [1, 1, 2, 3, 3]


@pytest.mark.parametrize(
    ("changes", "prompt", "output", "first", "finished"),
    [
        ({}, 100, 5, 1, 1),
        ({"outcome": "cancelled", "status": None, "finish_reason": None}, 100, 5, 1, 0),  # vllm-project/vllm#55634
        ({"outcome": "cut", "finish_reason": None}, 100, 5, 1, 0),
        ({"outcome": "refused", "status": 429, "planned_at": [], "written_at": [], "num_tokens": [],
          "num_output_tokens": None}, 0, 0, 0, 0),
        ({"outcome": "cancelled", "planned_at": [], "written_at": [], "num_tokens": [], "num_output_tokens": 0},
         0, 0, 0, 0),
        ({"stream": False, "planned_at": [1.606], "written_at": [1.606], "num_tokens": [5]}, 100, 5, 0, 1),
    ],
)  # fmt: skip
def test_what_counts_where(changes: dict[str, Any], prompt: int, output: int, first: int, finished: int) -> None:
    exposed = scraped(entry(**changes))
    assert exposed.value("vllm:prompt_tokens_total", **LABELS) == prompt
    assert exposed.value("vllm:generation_tokens_total", **LABELS) == output
    assert of_histogram(exposed, "vllm:time_to_first_token_seconds").num == first
    assert of_histogram(exposed, "vllm:e2e_request_latency_seconds").num == finished
    success = exposed.series("vllm:request_success_total")
    assert {dict(labels)["finished_reason"] for labels in success} == {"stop", "length", "abort"}
    assert exposed.value("vllm:request_success_total", **LABELS, finished_reason="length") == finished
    assert sum(success.values()) == finished


def test_the_writes_of_several_choices_are_no_gaps() -> None:
    exposed = scraped(entry(num_choices=2))
    assert of_histogram(exposed, "vllm:inter_token_latency_seconds").num == 0
    assert of_histogram(exposed, "vllm:time_to_first_token_seconds").num == 1


def test_errors_have_a_type_and_answers_have_none() -> None:
    exposed = scraped(
        entry(),
        entry(protocol="anthropic-messages"),
        entry(protocol="openai-completions", outcome="cut"),
        entry(protocol="openai-embeddings", stream=False),
        entry(outcome="refused", status=503, planned_at=[], written_at=[], num_tokens=[], finished_at=1.0),
        entry(outcome="cancelled", finished_at=1.9),
    )
    base = {"gen_ai_request_model": "m", "gen_ai_response_model": "m"}

    def labelled(operation: str, provider: str, **more: str) -> frozenset[tuple[str, str]]:
        both = {"gen_ai_operation_name": operation, "gen_ai_provider_name": provider}
        return frozenset((base | both | more).items())

    duration = exposed.histograms("gen_ai_server_request_duration_seconds")
    assert {labels: round(series.total, 6) for labels, series in duration.items()} == {
        labelled("chat", "openai"): 0.606,
        labelled("chat", "anthropic"): 0.606,
        labelled("text_completion", "openai", error_type="cut"): 0.606,
        labelled("embeddings", "openai"): 0.606,
        labelled("chat", "openai", error_type="503"): 0.0,
        labelled("chat", "openai", error_type="cancelled"): 0.9,
    }
    of_success = {labelled("chat", "openai"), labelled("chat", "anthropic")}
    assert exposed.histograms("gen_ai_server_time_to_first_token_seconds").keys() == of_success
    assert exposed.histograms("gen_ai_server_time_per_output_token_seconds").keys() == of_success


def test_names_that_clients_make_up_are_no_series() -> None:
    """Under `*` every name is served; its series is the deployment's."""
    engine = build_engine(
        Deployment(name="any", seed=0, profiles={"m": load_profile("golden"), "*": load_profile("hosted")}),
        every_token=True,
    )
    ledger = Ledger(monotonic_origin=0.0)
    what = Metrics(engine, ledger)
    size = len(what.exposition(1.0))
    for number in range(200):
        ledger.close(entry(model=f"gpt-{number}"))
    ledger.close(entry())
    text = what.exposition(1.0)
    exposed = Exposed(text)
    assert "gpt-" not in exposed.text
    assert exposed.value("vllm:prompt_tokens_total", model_name="*", engine="0") == 20_000
    assert exposed.value("vllm:prompt_tokens_total", **LABELS) == 100
    assert len(text) < size + 20_000


def test_the_cache_is_described_where_memory_is_limited() -> None:
    (labels,) = scraped().series("vllm:cache_config_info")
    found = dict(labels)
    assert found["block_size"] == "16"
    assert found["enable_prefix_caching"] == "True"
    # 79 GiB * .9 less 8,030,261,248 parameters of 2 bytes and 1.5 GiB, over 16 tokens of 131,072 bytes: by hand.
    assert int(found["num_gpu_blocks"]) == pytest.approx(
        (79 * 0.9 * 2**30 - 2 * 8_030_261_248 - 1.5 * 2**30) / 2**21, abs=1
    )
    without, _ = metrics(BATCHED)
    exposed = Exposed(without.exposition(1.0))
    assert not exposed.series("vllm:cache_config_info")
    assert not exposed.series("vllm:kv_cache_usage_perc")
    assert exposed.value("vllm:num_preemptions_total", **LABELS) == 0


def test_a_hosted_model_has_neither_queue_nor_cache() -> None:
    what, ledger = metrics(load_profile("hosted"))
    ledger.close(entry(queue_s=None))
    exposed = Exposed(what.exposition(1.0))
    for name in ("num_requests_waiting", "prefix_cache_hits_total", "num_preemptions_total", "kv_cache_usage_perc"):
        assert not exposed.series(f"vllm:{name}"), name
    assert of_histogram(exposed, "vllm:request_queue_time_seconds").num == 0
    assert of_histogram(exposed, "vllm:e2e_request_latency_seconds").num == 1
    assert "DCGM" not in exposed.text


def test_lateness_is_counted_as_before() -> None:
    what, ledger = metrics()
    ledger.close(entry(planned_at=[1.4999, 1.53, 1.6, 1.58]))
    series = Exposed(what.exposition(1.0)).histograms("mock_emit_lateness_seconds")[frozenset()]
    assert series.num == 4
    assert series.total == pytest.approx(0.0261)
    assert series.buckets["0.05"] - series.buckets["0.02"] == 1


def test_an_answer_that_wrote_nothing_ends_when_it_ended() -> None:
    took = latencies(entry(planned_at=[], written_at=[], num_tokens=[], outcome="refused", finished_at=1.25))
    assert took == (0.25, None, None, None)


def test_a_histogram_counts_a_value_on_its_bound_below_it() -> None:
    one_by_one, at_once = Histogram([0.1, 1.0]), Histogram([0.1, 1.0])
    values = [0.05, 0.1, 0.10000001, 1.0, 7.0]
    for value in values:
        one_by_one.observe(value)
    at_once.observe_all(np.array(values))
    at_once.observe_all(np.array([]))
    assert one_by_one.cumulative() == at_once.cumulative() == [("0.1", 2), ("1.0", 4), ("+Inf", 5)]
    assert one_by_one.sum == pytest.approx(8.25000001)
    assert at_once.sum == pytest.approx(8.25000001)


def test_bounds_for_tokens() -> None:
    assert one_two_five(100) == [1, 2, 5, 10, 20, 50, 100]  # the example in vLLM's own docstring
    assert one_two_five(1) == [1]


@pytest.mark.realtime
def test_the_server_shows_what_its_ledger_says() -> None:
    """The whole application in this process: every dialect, whole and streamed, and one refusal."""

    async def run() -> tuple[bytes, bytes]:
        app = create_app(Deployment(name="any", seed=0, profiles={"*": load_profile("instant")}))
        chat = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 20}
        calls: list[tuple[str, dict[str, Any], dict[str, str]]] = [
            ("/v1/chat/completions", chat, {}),
            ("/v1/chat/completions", {**chat, "stream": True}, {}),
            ("/v1/chat/completions", {**chat, "stream": True, "n": 2}, {}),
            ("/v1/chat/completions", chat, {"x-mock-error": "503"}),
            ("/v1/completions", {"model": "davinci", "prompt": "Once", "max_tokens": 9, "stream": True}, {}),
            ("/v1/messages", {**chat, "model": "claude", "stream": True}, {"anthropic-version": "2023-06-01"}),
            ("/v1/responses", {"model": "gpt-4o", "input": "Hello"}, {}),
            ("/v1/embeddings", {"model": "text-embedding-3-small", "input": "Hello"}, {}),
        ]
        async with http_client(app) as http:
            for path, body, headers in calls:
                answer = await http.post(path, json=body, headers=headers)
                assert answer.status_code == (503 if headers.get("x-mock-error") else 200), answer.text
            return (await http.get("/metrics")).content, (await http.get("/mock/ledger")).content

    text, lines = asyncio.run(run())
    exposed = Exposed(text)
    assert lint(exposed) == []
    entries = [line for line in map(json.loads, lines.splitlines()) if line["kind"] == "request"]
    assert len(entries) == 8
    answered = [line for line in entries if line["outcome"] == "ok"]
    labels = {"model_name": "*", "engine": "0"}
    assert exposed.value("vllm:prompt_tokens_total", **labels) == sum(line["num_prompt_tokens"] for line in answered)
    assert exposed.value("vllm:generation_tokens_total", **labels) == sum(
        line["num_output_tokens"] for line in answered
    )
    assert sum(exposed.series("vllm:request_success_total").values()) == 7
    ttft = exposed.histograms("vllm:time_to_first_token_seconds")[frozenset(labels.items())]
    streamed = [line for line in answered if line["stream"]]
    assert ttft.num == 4
    assert ttft.total == pytest.approx(sum(line["written_at"][0] - line["received_at"] for line in streamed))
    operations = exposed.series("gen_ai_server_request_duration_seconds_count")
    by_kind = {
        (found["gen_ai_operation_name"], found["gen_ai_provider_name"], found.get("error_type")): num
        for found, num in ((dict(labels), num) for labels, num in operations.items())
    }
    assert by_kind == {
        ("chat", "openai", None): 4,
        ("chat", "openai", "503"): 1,
        ("text_completion", "openai", None): 1,
        ("chat", "anthropic", None): 1,
        ("embeddings", "openai", None): 1,
    }


@pytest.mark.parametrize(
    "names",
    [
        {"vllm:num_requests_running"},
        {"vllm:prompt_tokens_total", "vllm:kv_cache_usage_perc", "nobody:has_this"},
        {"vllm:time_to_first_token_seconds_bucket"},
        {"mock_emit_lateness_seconds_count", "mock_requests_total"},
    ],
)
def test_asked_for_by_name_the_page_is_these_families_and_no_others(names: set[str]) -> None:
    what, ledger = metrics()
    ledger.close(entry())
    whole = {each.name: each for each in text_string_to_metric_families(what.exposition(2.0).decode())}
    chosen = {each.name: each for each in text_string_to_metric_families(what.exposition(2.0, names).decode())}
    expected = {name: each for name, each in whole.items() if names & {sample.name for sample in each.samples}}
    assert expected
    assert {name: each.samples for name, each in chosen.items()} == {
        name: each.samples for name, each in expected.items()
    }


def test_gpus_are_shown_to_who_asks_for_them() -> None:
    """Who asks for any of their fields gets all."""
    what, _ = metrics()
    assert b"DCGM_FI_DEV_FB_USED" in what.exposition(1.0)
    assert b"DCGM_FI_DEV_FB_USED" in what.exposition(1.0, {"DCGM_FI_DEV_POWER_USAGE"})
    assert b"DCGM" not in what.exposition(1.0, {"vllm:num_requests_running"})
