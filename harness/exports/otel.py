"""OpenTelemetry metrics as OTLP/JSON: the histograms of a client in the GenAI semantic conventions (status: development), with their
names, units and bucket boundaries; `open-telemetry/semantic-conventions-genai`, `docs/gen-ai/gen-ai-metrics.md`.

OTLP/JSON is protobuf's JSON mapping of `ExportMetricsServiceRequest`: 64-bit integers are text, enums are numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from harness.exports.measured import TOOL, Measured
from harness.table import Floats, Labels, Mask

__all__ = ["DURATION_BOUNDS", "TOKEN_BOUNDS", "otlp_metrics"]

DURATION_BOUNDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKEN_BOUNDS = tuple(float(4**power) for power in range(14))

_CUMULATIVE = 2
_OPERATIONS = {"openai-completions": "text_completion", "openai-embeddings": "embeddings"}
_PROVIDERS = {"openai": "openai", "anthropic": "anthropic"}  # whose format it is; another protocol stands for itself
_MODELS = (("gen_ai.request.model", "model"), ("gen_ai.response.model", "model_served"))


def otlp_metrics(run: Measured) -> dict[str, Any]:
    """One request body for `/v1/metrics`, as of the run's end: a data point for each operation, provider, pair of models and, of
    durations, each kind of error. Operations count from the send, the first chunk is the first with content."""
    table = run.table
    sent, streamed = table["sent_at"], table.stream & ~np.isnan(table["first_token_at"])
    durations = table["done_at"] - sent
    metrics = [
        _duration("gen_ai.client.operation.duration", "GenAI operation duration.", run, durations, ~np.isnan(durations), errors=True),
        _duration(
            "gen_ai.client.operation.time_to_first_chunk", "Time to receive the first chunk with content, from the send.",
            run, table["first_token_at"] - sent, streamed,
        ),
        _per_chunk(run, streamed),
        _tokens(run),
    ]  # fmt: skip
    scope = {"name": TOOL, "version": run.tool_version}
    return {
        "resourceMetrics": [
            {
                "resource": {"attributes": _attributes(_resource(run))},
                "scopeMetrics": [{"scope": scope, "metrics": [metric for metric in metrics if metric is not None]}],
            }
        ]
    }


def _resource(run: Measured) -> dict[str, str | int | None]:
    manifest = run.manifest
    return {
        "service.name": TOOL,
        "service.version": run.tool_version,
        "service.instance.id": manifest.uid or manifest.run_id,
        "harness.run.id": manifest.run_id,
        "harness.scenario": manifest.scenario,
        **{f"harness.label.{name}": value for name, value in manifest.labels.items()},
    }


def _duration(
    name: str, description: str, run: Measured, values: Floats, rows: Mask, *, errors: bool = False
) -> dict[str, Any] | None:
    groups = _groups(run, rows, errors=errors)
    points = [_point(run, values[chosen], DURATION_BOUNDS, attributes) for chosen, attributes in groups]
    return _histogram(name, description, "s", points)


def _per_chunk(run: Measured, rows: Mask) -> dict[str, Any] | None:
    num_gaps = np.diff(run.table.gap_start)
    points = [
        _point(run, run.table.gaps[np.repeat(chosen, num_gaps)], DURATION_BOUNDS, attributes)
        for chosen, attributes in _groups(run, rows & (num_gaps > 0))
    ]
    what = "Time per output chunk after the first, from the end of the one before."
    return _histogram("gen_ai.client.operation.time_per_output_chunk", what, "s", points)


def _tokens(run: Measured) -> dict[str, Any] | None:
    """What the server counted: our own count of an answer is no usage."""
    points = []
    for kind, column in (("input", "num_prompt_tokens"), ("output", "num_output_tokens")):
        counts = run.table[column]
        for chosen, attributes in _groups(run, run.table.counted_by_server & ~np.isnan(counts)):
            points.append(_point(run, counts[chosen], TOKEN_BOUNDS, {**attributes, "gen_ai.token.type": kind}))
    return _histogram("gen_ai.client.token.usage", "Number of input and output tokens used.", "{token}", points)


def _groups(run: Measured, rows: Mask, *, errors: bool = False) -> Iterator[tuple[Mask, dict[str, str | int | None]]]:
    """The rows by what their attributes say, in a fixed order."""
    table = run.table
    names = ("protocol", *(column for _, column in _MODELS), *(("error_kind",) if errors else ()))
    labels = [table.labels[name] for name in names]
    keys = np.zeros(len(table), dtype=np.int64)
    for label in labels:
        keys = keys * (len(label.names) + 1) + label.codes + 1
    for key in np.unique(keys[rows]):
        chosen = rows & (keys == key)
        first = int(chosen.argmax())
        yield chosen, _common(run, {name: _text(label, first) for name, label in zip(names, labels, strict=True)})


def _common(run: Measured, texts: dict[str, str | None]) -> dict[str, str | int | None]:
    protocol = texts["protocol"] or "openai-chat"
    kind = texts.get("error_kind")
    address, port = _server(run.manifest.target)
    return {
        "gen_ai.operation.name": _OPERATIONS.get(protocol, "chat"),
        "gen_ai.provider.name": _PROVIDERS.get(protocol.partition("-")[0], protocol),
        **{attribute: texts[column] for attribute, column in _MODELS},
        "error.type": None if kind is None else kind.removeprefix("http_"),
        "server.address": address,
        "server.port": port,
    }


def _server(target: str) -> tuple[str | None, int | None]:
    try:
        parts = urlsplit(target)
        port = parts.port
    except ValueError:
        return None, None
    if parts.hostname is None:
        return None, None
    return parts.hostname, port or {"http": 80, "https": 443}.get(parts.scheme)


def _text(label: Labels, row: int) -> str | None:
    code = int(label.codes[row])
    return None if code < 0 else label.names[code]


def _histogram(name: str, description: str, unit: str, points: list[dict[str, Any]]) -> dict[str, Any] | None:
    """None where there is no data point: a metric that was not measured is absent."""
    if not points:
        return None
    data = {"aggregationTemporality": _CUMULATIVE, "dataPoints": points}
    return {"name": name, "description": description, "unit": unit, "histogram": data}


def _point(
    run: Measured, values: Floats, bounds: tuple[float, ...], attributes: dict[str, str | int | None]
) -> dict[str, Any]:
    """One histogram; bucket i holds what is above bound i - 1 and not above bound i."""
    buckets = np.bincount(np.searchsorted(bounds, values.round(9)), minlength=len(bounds) + 1)
    return {
        "attributes": _attributes(attributes),
        "startTimeUnixNano": str(_nanoseconds(run.manifest.started_wall)),
        "timeUnixNano": str(_nanoseconds(run.manifest.started_wall + run.ended_s)),
        "count": str(len(values)),
        "sum": float(values.sum()),
        "min": float(values.min()),
        "max": float(values.max()),
        "bucketCounts": [str(num) for num in buckets.tolist()],
        "explicitBounds": list(bounds),
    }


def _nanoseconds(wall: float) -> int:
    return round(wall * 1e6) * 1000


def _attributes(named: dict[str, str | int | None]) -> list[dict[str, Any]]:
    return [
        {"key": name, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}
        for name, value in named.items()
        if value is not None
    ]
