"""`/metrics`: what the engine knows now, what the ledger's closed entries add up to, and the GPUs.

Three vocabularies for three kinds of reader: vLLM's (`vllm:…`, one engine "0" a model), OpenTelemetry's for generative
AI as its Prometheus exporter writes it (`gen_ai_server_…`), and dcgm-exporter's (`DCGM_FI_…`). `mock_…` is for what only
a mock has. Models are named as the deployment serves them, whatever name a client asked for.

Not there, because it would be made up: `vllm:iteration_tokens_total` (vLLM books a whole prompt to the step that ends
it; steps here know only what they compute), `gen_ai_client_…` (the client's to measure), server.address and otel_scope.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from itertools import chain

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from mockllm.engine.batching import BatchedReplica
from mockllm.engine.engine import Serving
from mockllm.server.dcgm import dcgm_text
from mockllm.server.histograms import Histogram
from mockllm.server.ledger import LATENESS_BUCKETS, Entry, Ledger
from mockllm.server.observations import GenAiFold, GenAiKey, VllmFold, latencies
from mockllm.stack.stack import Stack

__all__ = ["Metrics"]

_ANY = "*"
_ENGINE = ("model_name", "engine")

# vLLM's name, its help, the field of the fold.
_HISTOGRAMS = (
    ("time_to_first_token_seconds", "Time to first token; streams only.", "first_token"),
    ("inter_token_latency_seconds", "Time between two content writes; streams only.", "gap"),
    ("time_per_output_token_seconds", "Old name of vllm:inter_token_latency_seconds.", "gap"),
    ("request_time_per_output_token_seconds", "Decode time over output tokens but the first.", "tpot"),
    ("e2e_request_latency_seconds", "Time from arrival to the last token.", "e2e"),
    ("request_queue_time_seconds", "Time spent in WAITING phase.", "queue"),
    ("request_inference_time_seconds", "Time spent in RUNNING phase: all but the queue.", "inference"),
    ("request_prefill_time_seconds", "Time spent in PREFILL phase: to the first token, but for the queue.", "prefill"),
    ("request_decode_time_seconds", "Time spent in DECODE phase: first to last token.", "decode"),
    ("request_prompt_tokens", "Number of prefill tokens processed.", "prompt_tokens"),
    ("request_generation_tokens", "Number of generation tokens processed.", "output_tokens"),
)
_GEN_AI = (
    ("gen_ai_server_request_duration_seconds", "Generative AI server request duration.", "duration"),
    ("gen_ai_server_time_to_first_token_seconds", "Time to generate first token; streams only.", "first_token"),
    ("gen_ai_server_time_per_output_token_seconds", "Time per output token after the first; streams only.", "tpot"),
)


class Metrics(Collector):
    """All metrics of one mock: watches its ledger, and reads its engine when somebody scrapes."""

    def __init__(self, engine: Serving, ledger: Ledger) -> None:
        self._engine, self._ledger = engine, ledger
        self._vllm = {name: VllmFold(model.length.max_model_len) for name, model in engine.backends.items()}
        self._gen_ai = GenAiFold()
        self._now = 0.0
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ledger.on_close.append(self.observe)

    def observe(self, entry: Entry) -> None:
        """Count an entry that was closed just now."""
        answered = entry.model_served or entry.model
        name = answered if answered in self._vllm else _ANY if _ANY in self._vllm else next(iter(self._vllm))
        took = latencies(entry)
        self._vllm[name].observe(entry, took)
        self._gen_ai.observe(name, entry, took)

    def exposition(self, now: float, names: Set[str] = frozenset()) -> bytes:
        """Everything in Prometheus' text format; `now` is on the clock that drives the engine.

        `names`: only the families of these samples, as Prometheus' own clients take `name[]`. Who asks every second for a few
        gauges then does not hold up tokens for the milliseconds that all the histograms take.
        """
        self._now = now
        if not names:
            return generate_latest(self._registry) + dcgm_text(self._engine.backends, now).encode()
        chosen = CollectorRegistry(auto_describe=False)
        chosen.register(_Chosen(self, names))
        gpus = dcgm_text(self._engine.backends, now) if any(name.startswith("DCGM_") for name in names) else ""
        return generate_latest(chosen) + gpus.encode()

    def collect(self) -> Iterator[Metric]:
        yield from self.counted()
        yield from self.distributions()

    def distributions(self) -> Iterator[Metric]:
        """The histograms."""
        for name, text, field in _HISTOGRAMS:
            pairs = [(_engine_labels(model), getattr(fold, field)) for model, fold in self._vllm.items()]
            yield _histogram(f"vllm:{name}", text, pairs)
        for name, text, field in _GEN_AI:
            folds: dict[GenAiKey, Histogram] = getattr(self._gen_ai, field)
            yield _histogram(name, text, [(_gen_ai_labels(key), histogram) for key, histogram in folds.items()])
        yield self._lateness()

    def counted(self) -> Iterator[Metric]:
        """Gauges and counters."""
        yield from self._gauges()
        yield from self._cache()
        yield from self._counters()
        yield self._outcomes()
        yield from self._stack()

    def _gauges(self) -> Iterator[Metric]:
        running = GaugeMetricFamily("vllm:num_requests_running", "Requests in the batch.", labels=_ENGINE)
        waiting = GaugeMetricFamily("vllm:num_requests_waiting", "Requests in the queue.", labels=_ENGINE)
        for name, model in self._engine.backends.items():
            for part, replica in model.replica.parts():
                running.add_metric([name, part], replica.num_running)
                if replica.num_waiting is not None:
                    waiting.add_metric([name, part], replica.num_waiting)
        yield running
        yield waiting

    def _cache(self) -> Iterator[Metric]:
        """Of replicas with a scheduler; usage and size only where memory is limited."""
        usage = GaugeMetricFamily("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent.", labels=_ENGINE)
        queries = CounterMetricFamily("vllm:prefix_cache_queries", "Tokens looked up in the cache.", labels=_ENGINE)
        hits = CounterMetricFamily("vllm:prefix_cache_hits", "Tokens found in the cache.", labels=_ENGINE)
        preemptions = CounterMetricFamily("vllm:num_preemptions", "Preemptions.", labels=_ENGINE)
        # The model's name is ours: two models with equal caches would be one series twice.
        config = ("num_gpu_blocks", "block_size", "enable_prefix_caching")
        info = GaugeMetricFamily("vllm:cache_config_info", "The KV cache's sizes.", labels=(*_ENGINE, *config))
        replicas = ((name, *part) for name, model in self._engine.backends.items() for part in model.replica.parts())
        for name, part, replica in replicas:
            if not isinstance(replica, BatchedReplica):
                continue
            queries.add_metric([name, part], replica.num_queried_tokens)
            hits.add_metric([name, part], replica.num_hit_tokens)
            preemptions.add_metric([name, part], replica.num_preemptions)
            kv = replica.kv
            if kv.num_blocks is not None:
                usage.add_metric([name, part], kv.usage)
                info.add_metric([name, part, str(kv.num_blocks), str(kv.block_size), str(kv.prefix_caching)], 1)
        yield from (usage, queries, hits, preemptions, info)

    def _counters(self) -> Iterator[Metric]:
        prompt = CounterMetricFamily("vllm:prompt_tokens", "Prompt tokens of closed requests.", labels=_ENGINE)
        output = CounterMetricFamily("vllm:generation_tokens", "Output tokens of closed requests.", labels=_ENGINE)
        success = CounterMetricFamily(
            "vllm:request_success", "Requests that were answered.", labels=(*_ENGINE, "finished_reason")
        )
        for name, fold in self._vllm.items():
            prompt.add_metric([name, "0"], fold.num_prompt_tokens)
            output.add_metric([name, "0"], fold.num_output_tokens)
            for reason, num in fold.num_finished.items():
                success.add_metric([name, "0", reason], num)
        yield from (prompt, output, success)

    def _outcomes(self) -> Metric:
        counts = self._engine.counts
        family = CounterMetricFamily("mock_requests", "Requests by what became of them.", labels=["outcome"])
        for outcome in ("submitted", "finished", "refused", "cut", "cancelled"):
            family.add_metric([outcome], getattr(counts, f"num_{outcome}"))
        return family

    def _stack(self) -> Iterator[Metric]:
        """What the policies of a stack have counted; nothing without one."""
        if not isinstance(self._engine, Stack):
            return
        events = CounterMetricFamily("mock_stage_events", "What a stage of the stack did.", labels=["stage", "event"])
        for stage in self._engine.stages:
            counts = stage.state(self._now).get("counts", {})
            assert isinstance(counts, dict)
            for event, num in counts.items():
                events.add_metric([stage.name, str(event)], num)
        yield events
        yield CounterMetricFamily(
            "mock_model_calls", "Calls to models, retries and copies included.", self._engine.num_calls
        )
        yield CounterMetricFamily("mock_cost_usd", "Price of all calls, in USD.", self._engine.cost_usd)

    def _lateness(self) -> Metric:
        cumulative, total = [], 0
        for bound, num in zip([*map(str, LATENESS_BUCKETS), "+Inf"], self._ledger.lateness_buckets, strict=True):
            total += num
            cumulative.append((bound, total))
        text = "Seconds between the planned and the real write of a chunk: the mock's own error."
        return HistogramMetricFamily(
            "mock_emit_lateness_seconds", text, buckets=cumulative, sum_value=self._ledger.lateness_sum
        )


class _Chosen(Collector):
    """The families of a few samples; the histograms are not even made where no part of one is asked for."""

    def __init__(self, metrics: Metrics, names: Set[str]) -> None:
        self._metrics, self._names = metrics, names

    def collect(self) -> Iterator[Metric]:
        of_histograms = any(name.endswith(("_bucket", "_sum", "_count")) for name in self._names)
        parts = [self._metrics.counted(), *([self._metrics.distributions()] if of_histograms else [])]
        for family in chain.from_iterable(parts):
            if any(sample.name in self._names for sample in family.samples):
                yield family


def _engine_labels(model: str) -> dict[str, str]:
    return {"model_name": model, "engine": "0"}


def _gen_ai_labels(key: GenAiKey) -> dict[str, str]:
    labels = {
        "gen_ai_operation_name": key.operation,
        "gen_ai_provider_name": key.provider,
        "gen_ai_request_model": key.model,
        "gen_ai_response_model": key.model,
    }
    return labels if key.error_type is None else labels | {"error_type": key.error_type}


def _histogram(name: str, text: str, series: Iterable[tuple[Mapping[str, str], Histogram]]) -> Metric:
    """A family whose series may have different labels, which the library's own class does not allow."""
    family = Metric(name, text, "histogram")
    for labels, histogram in series:
        cumulative = histogram.cumulative()
        for bound, num in cumulative:
            family.add_sample(f"{name}_bucket", {**labels, "le": bound}, num)
        family.add_sample(f"{name}_count", dict(labels), cumulative[-1][1])
        family.add_sample(f"{name}_sum", dict(labels), histogram.sum)
    return family
