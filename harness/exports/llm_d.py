"""llm-d's benchmark report, version 0.2.1: `llm-d/llm-d-benchmark`, `benchmark-report/llmd_benchmark_report/schema_v0_2.py` and its
`br_v0_2_1_json_schema.json`. Numbers are by our definitions, as in the summary."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np

from harness.dictionary.sight import both, rate, span_s, total
from harness.exports.measured import TOOL, Measured
from harness.metrics.latencies import latency
from harness.quantiles import nearest_rank, samples_needed
from harness.table import Floats, Mask, Table

__all__ = ["VERSION", "benchmark_report"]

VERSION = "0.2.1"

_PERCENTILES = {
    "p0p1": 0.1, "p1": 1.0, "p5": 5.0, "p10": 10.0, "p25": 25.0, "p50": 50.0,
    "p75": 75.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99p9": 99.9,
}  # fmt: skip
_DEFINITIONS = {
    "time_to_first_token": "first content chunk - intended time",
    "time_per_output_token": "(last - first content chunk) / (output tokens - 1), by request",
    "inter_token_latency": "gap between content chunks / tokens of the later one, by token",
    "normalized_time_per_output_token": "request latency / output tokens",
    "request_latency": "end of the answer - intended time",
    "percentiles": "nearest rank, left out where the samples do not support them",
    "requests": "latencies, lengths and rates are of requests that were answered in order",
}


def benchmark_report(run: Measured) -> dict[str, Any]:
    """The report, ready for JSON; what is not known is left out."""
    return {
        "version": VERSION,
        "run": _run(run),
        "scenario": _without_none({"stack": _stack(run), "load": _load(run)}),
        "results": {"request_performance": {"aggregate": _aggregate(run.table)}},
    }


def _run(run: Measured) -> dict[str, Any]:
    manifest = run.manifest
    ended = run.started + timedelta(seconds=run.ended_s)
    fields = {
        "uid": manifest.uid or manifest.run_id,
        "time": {
            "start": run.started.isoformat(),
            "end": ended.isoformat(),
            "duration": f"PT{run.ended_s:.6f}S",
        },
        "description": f"{manifest.run_id}: {manifest.scenario}",
        "keywords": [f"{name}={value}" for name, value in manifest.labels.items()] or None,
    }
    return _without_none(fields)


def _stack(run: Measured) -> list[dict[str, Any]]:
    """What was asked, as far as a client knows it: an address and a model."""
    config = {"target": run.manifest.target, "model": run.manifest.model}
    standardized = {"kind": "generic", "tool": "endpoint", "tool_version": "unknown"}
    if run.manifest.model is not None:
        standardized["model"] = run.manifest.model
    return [
        {
            "metadata": {"label": "target", "cfg_id": _identity(config)},
            "standardized": standardized,
            "native": {"config": config},
        }
    ]


def _load(run: Measured) -> dict[str, Any] | None:
    """The load; None where not even one prompt's length is known, which the schema demands."""
    manifest, table = run.manifest, run.table
    prompt = _lengths(
        np.where(np.isnan(planned := table["planned_prompt_tokens"]), table["num_prompt_tokens"], planned)
    )
    if prompt is None:
        return None
    answers = table["planned_output_tokens"]  # where some are as long as they like, no law can be stated
    standardized = {
        "tool": TOOL,
        "tool_version": run.tool_version,
        "parallelism": max(1, manifest.num_workers),
        "source": "unknown",
        "input_seq_len": prompt,
        "output_seq_len": None if np.isnan(answers).any() else _lengths(answers),
        "rate_qps": run.asked_rate or None,
        "concurrency": manifest.max_in_flight if manifest.reactive else None,
    }
    return {
        "metadata": {"cfg_id": _identity([manifest.scenario, manifest.plan]), "description": manifest.scenario},
        "standardized": _without_none(standardized),
        "native": {"args": manifest.options, "config": {"plan": manifest.plan, "definitions": _DEFINITIONS}},
    }


def _lengths(tokens: Floats) -> dict[str, Any] | None:
    """Prompt or answer lengths as the schema wants a law stated: fixed, or any other by its mean and limits."""
    known = tokens[~np.isnan(tokens)]
    if not len(known) or known.max() < 1:
        return None
    low, high = int(known.min()), int(known.max())
    return {"distribution": "fixed" if low == high else "other", "value": float(known.mean()), "min": low, "max": high}


def _aggregate(table: Table) -> dict[str, Any]:
    ok = table.is_outcome("ok")
    sent = ~np.isnan(table["sent_at"]) & ~table.is_outcome("left") & ~table.is_outcome("refused")
    broken_off = table.is_outcome("incomplete") & sent
    requests = {
        "total": int(sent.sum()),
        "failures": int((sent & ~ok & ~broken_off).sum()),
        "incomplete": int(broken_off.sum()),
        "input_length": _statistics(table["num_prompt_tokens"][ok], "count"),
        "output_length": _statistics(table["num_output_tokens"][ok], "count"),
    }
    return {
        "requests": _without_none(requests),
        "latency": _without_none(_latencies(table, ok)),
        "throughput": _without_none(_throughput(table, ok)),
    }


def _latencies(table: Table, ok: Mask) -> dict[str, Any]:
    chosen = np.repeat(ok, np.diff(table.gap_start))
    gaps, tokens = table.gaps[chosen], table.gap_tokens[chosen]
    output = table["num_output_tokens"][ok]
    e2e = latency(table, "e2e")[ok]
    return {
        "time_to_first_token": _statistics(latency(table, "ttft")[ok], "s"),
        "normalized_time_per_output_token": _statistics(e2e / np.where(output > 0, output, np.nan), "s/token"),
        "time_per_output_token": _statistics(latency(table, "tpot")[ok], "s/token"),
        "inter_token_latency": _statistics(np.repeat(gaps / tokens, tokens), "s/token"),
        "request_latency": _statistics(e2e, "s"),
    }


def _throughput(table: Table, ok: Mask) -> dict[str, Any]:
    """Rates are one number of a run, so that each is a mean without a spread."""
    seconds = span_s(table["sent_at"][ok], table["done_at"][ok])
    prompt, output = total(table["num_prompt_tokens"][ok]), total(table["num_output_tokens"][ok])
    rates = {
        "input_token_rate": (rate(prompt, seconds), "tokens/s"),
        "output_token_rate": (rate(output, seconds), "tokens/s"),
        "total_token_rate": (rate(both(prompt, output), seconds), "tokens/s"),
        "request_rate": (rate(int(ok.sum()), seconds), "queries/s"),
    }
    return {name: None if value is None else {"units": units, "mean": value} for name, (value, units) in rates.items()}


def _statistics(values: Floats, units: str) -> dict[str, Any] | None:
    ordered = np.sort(values[~np.isnan(values)])
    num = len(ordered)
    if not num:
        return None
    supported = {name: percent for name, percent in _PERCENTILES.items() if num >= samples_needed(percent)}
    return {
        "units": units,
        "mean": float(ordered.mean()),
        "stddev": float(ordered.std()),
        "min": float(ordered[0]),
        **{name: float(ordered[nearest_rank(percent, num)]) for name, percent in supported.items()},
        "max": float(ordered[-1]),
    }


def _identity(config: Any) -> str:
    """A hash of a configuration, as the schema asks for."""
    return hashlib.sha256(msgspec.json.encode(config, order="sorted")).hexdigest()


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
