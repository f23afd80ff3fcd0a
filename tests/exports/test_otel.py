"""OTLP/JSON: the structure that protobuf's JSON mapping prescribes, the names of the GenAI conventions, numbers by SQL."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from pathlib import Path
from typing import Any

import pytest

from harness.exports.command import export
from harness.records import RequestRecord
from tests.exports.runs import query, run
from tests.harness.builders import bare_record, record

Point = dict[str, Any]

# docs/gen-ai/gen-ai-metrics.md of open-telemetry/semantic-conventions-genai
SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
TOKENS: list[float] = [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864]
INSTRUMENTS: dict[str, tuple[str, list[float]]] = {
    "gen_ai.client.operation.duration": ("s", SECONDS),
    "gen_ai.client.operation.time_to_first_chunk": ("s", SECONDS),
    "gen_ai.client.operation.time_per_output_chunk": ("s", SECONDS),
    "gen_ai.client.token.usage": ("{token}", TOKENS),
}
ATTRIBUTES = {
    "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model", "server.address",
    "server.port", "error.type", "gen_ai.token.type",
}  # fmt: skip


def values(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    """Attributes as OTLP has them: a key once, a value of exactly one kind, integers as text."""
    found: dict[str, Any] = {}
    for item in attributes:
        assert set(item) == {"key", "value"}
        [(kind, value)] = item["value"].items()
        assert kind in ("stringValue", "intValue")
        assert isinstance(value, str)
        assert item["key"] not in found
        found[item["key"]] = int(value) if kind == "intValue" else value
    return found


def points(path: Path) -> dict[str, list[tuple[dict[str, Any], Point]]]:
    """Data points by metric, each with its attributes, after a look at everything around them."""
    body = json.loads(path.read_bytes())
    assert set(body) == {"resourceMetrics"}
    [resource] = body["resourceMetrics"]
    assert values(resource["resource"]["attributes"])["service.name"] == "llm-load-harness"
    [scope] = resource["scopeMetrics"]
    assert scope["scope"]["name"]
    found = {}
    for metric in scope["metrics"]:
        unit, bounds = INSTRUMENTS[metric["name"]]
        assert set(metric) == {"name", "description", "unit", "histogram"}
        assert metric["unit"] == unit
        assert metric["histogram"]["aggregationTemporality"] == 2  # cumulative; OTLP/JSON has enums as numbers
        data = [(values(point["attributes"]), point) for point in metric["histogram"]["dataPoints"]]
        assert data
        assert len({tuple(sorted(each.items())) for each, _ in data}) == len(data)
        for each, point in data:
            assert set(each) <= ATTRIBUTES
            _check_point(point, bounds)
        found[metric["name"]] = data
    return found


def _check_point(point: Point, bounds: list[float]) -> None:
    for name in ("count", "startTimeUnixNano", "timeUnixNano"):
        assert re.fullmatch(r"\d+", point[name])  # 64 bits are text
    assert int(point["startTimeUnixNano"]) <= int(point["timeUnixNano"])
    assert point["explicitBounds"] == bounds
    counts = [int(num) for num in point["bucketCounts"]]
    assert all(isinstance(num, str) for num in point["bucketCounts"])
    assert len(counts) == len(bounds) + 1
    assert sum(counts) == int(point["count"]) > 0
    assert point["min"] <= point["sum"] / int(point["count"]) + 1e-12
    assert point["max"] >= point["sum"] / int(point["count"]) - 1e-12


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run(tmp_path_factory.mktemp("otel") / "run-1", ended_at=21.5)


@pytest.fixture(scope="module")
def found(directory: Any) -> dict[str, list[tuple[dict[str, Any], Point]]]:
    return points(export(directory.path, "otel", None))


def test_all_four_instruments(found: dict[str, Any]) -> None:
    assert set(found) == set(INSTRUMENTS)


_KEY = (
    "CASE protocol WHEN 'openai-completions' THEN 'text_completion' ELSE 'chat' END,"
    " CASE protocol WHEN 'anthropic-messages' THEN 'anthropic' ELSE 'openai' END, model, model_served"
)
_NAMES = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model")


@pytest.mark.parametrize(
    ("metric", "extra", "rows"),
    [
        (
            "gen_ai.client.operation.duration",
            "error.type",
            "SELECT {key}, replace(error_kind, 'http_', ''), done_at - sent_at AS v FROM r WHERE done_at IS NOT NULL AND sent_at IS NOT NULL",
        ),
        (
            "gen_ai.client.operation.time_to_first_chunk",
            "error.type",
            "SELECT {key}, NULL, first_token_at - sent_at AS v FROM r WHERE stream AND first_token_at IS NOT NULL",
        ),
        (
            "gen_ai.client.operation.time_per_output_chunk",
            "error.type",
            "SELECT {key}, NULL, unnest(token_gaps_s) AS v FROM r WHERE stream AND first_token_at IS NOT NULL",
        ),
        (
            "gen_ai.client.token.usage",
            "gen_ai.token.type",
            "SELECT {key}, side, if(side = 'input', num_prompt_tokens, num_output_tokens) AS v FROM r, (VALUES ('input'), ('output')) AS s(side) WHERE token_source = 'server'",
        ),
    ],
)
def test_points_are_those_of_the_records(directory: Any, found: Any, metric: str, extra: str, rows: str) -> None:
    want: dict[tuple[Any, ...], list[float]] = {}
    for *key, value in query(directory, rows.format(key=_KEY)):
        want.setdefault(tuple(key), []).append(value)
    got = {tuple(each.get(name) for name in (*_NAMES, extra)): point for each, point in found[metric]}
    assert set(got) == set(want)
    for group, samples in want.items():
        point = got[group]
        assert int(point["count"]) == len(samples)
        assert point["sum"] == pytest.approx(sum(samples))
        assert (point["min"], point["max"]) == pytest.approx((min(samples), max(samples)))
        buckets = [0] * (len(point["explicitBounds"]) + 1)
        for sample in samples:
            buckets[bisect_left(point["explicitBounds"], round(sample, 9))] += 1
        assert [int(num) for num in point["bucketCounts"]] == buckets


def test_where_and_when(found: dict[str, Any]) -> None:
    for each, point in (pair for pairs in found.values() for pair in pairs):
        assert (each["server.address"], each["server.port"]) == ("127.0.0.1", 8123)
        assert point["startTimeUnixNano"] == "1700000000000000000"
        assert point["timeUnixNano"] == "1700000021500000000"


def test_a_sample_on_a_bound_belongs_below_it(tmp_path: Path) -> None:
    """`(lower, upper]`; 0.02 as a difference of instants is a little more than 0.02."""
    items = [record(0, intended_at=3.3, sent_at=3.3, done_at=3.32, connected_at=None)]
    [(_, point)] = points(export(run(tmp_path / "run-1", items).path, "otel", None))["gen_ai.client.operation.duration"]
    assert point["bucketCounts"][1] == "1"


@pytest.mark.parametrize(
    ("target", "want"),
    [
        ("https://api.example.com/v1", ("api.example.com", 443)),
        ("http://[::1]:9000", ("::1", 9000)),
        ("nonsense", (None, None)),
        ("http://host:port", (None, None)),
    ],
)
def test_the_server_of_a_target(tmp_path: Path, target: str, want: tuple[str | None, int | None]) -> None:
    directory = run(tmp_path / "run-1", [record(0)], target=target)
    [(each, _)] = points(export(directory.path, "otel", None))["gen_ai.client.operation.duration"]
    assert (each.get("server.address"), each.get("server.port")) == want


@pytest.mark.parametrize(
    ("items", "names"),
    [
        ([], set()),
        ([bare_record(0, outcome="refused")], set()),
        (
            [record(0, stream=False, first_token_at=None, token_gaps_s=None, token_source="local")],
            {"gen_ai.client.operation.duration"},
        ),
    ],
)
def test_what_was_not_measured_is_absent(tmp_path: Path, items: list[RequestRecord], names: set[str]) -> None:
    assert set(points(export(run(tmp_path / "run-1", items).path, "otel", None))) == names
