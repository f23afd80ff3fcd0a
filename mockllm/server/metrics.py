"""`/metrics`: read off the engine and the ledger when somebody scrapes. Outcomes are the engine's."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from mockllm.engine.engine import Engine
from mockllm.server.ledger import LATENESS_BUCKETS, Ledger

__all__ = ["exposition"]


class _Collector:
    """Prometheus families under vLLM's names, and `mock_…` for what only a mock has."""

    def __init__(self, engine: Engine, ledger: Ledger) -> None:
        self._engine, self._ledger = engine, ledger

    def collect(self) -> Iterator[Metric]:
        counts = self._engine.counts
        yield CounterMetricFamily("vllm:prompt_tokens", "Prompt tokens received.", counts.num_prompt_tokens)
        yield CounterMetricFamily("vllm:generation_tokens", "Output tokens produced.", counts.num_output_tokens)
        running = GaugeMetricFamily("vllm:num_requests_running", "Requests in the batch.", labels=["model_name"])
        waiting = GaugeMetricFamily("vllm:num_requests_waiting", "Requests in the queue.", labels=["model_name"])
        for name, model in self._engine.models.items():
            running.add_metric([name], model.replica.num_running)
            if model.replica.num_waiting is not None:
                waiting.add_metric([name], model.replica.num_waiting)
        yield running
        yield waiting
        yield self._outcomes()
        yield self._lateness()

    def _outcomes(self) -> Metric:
        counts = self._engine.counts
        family = CounterMetricFamily("mock_requests", "Requests by what became of them.", labels=["outcome"])
        for outcome in ("submitted", "finished", "refused", "cut", "cancelled"):
            family.add_metric([outcome], getattr(counts, f"num_{outcome}"))
        return family

    def _lateness(self) -> Metric:
        cumulative, total = [], 0
        for bound, num in zip([*map(str, LATENESS_BUCKETS), "+Inf"], self._ledger.lateness_buckets, strict=True):
            total += num
            cumulative.append((bound, total))
        text = "Seconds between the planned and the real write of a chunk: the mock's own error."
        return HistogramMetricFamily(
            "mock_emit_lateness_seconds", text, buckets=cumulative, sum_value=self._ledger.lateness_sum
        )


def exposition(engine: Engine, ledger: Ledger) -> bytes:
    """The metrics in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(engine, ledger))
    return generate_latest(registry)
