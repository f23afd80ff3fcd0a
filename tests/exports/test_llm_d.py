"""llm-d's benchmark report: the structure of its schema 0.2.1 (written out here from `schema_v0_2.py`), and numbers by SQL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness.exports.command import export
from harness.records import RequestRecord
from tests.exports.runs import query, run
from tests.harness.builders import bare_record, record, write_run

Schema = dict[str, Any]
_TEXT, _COUNT, _NUMBER = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "number"}


def _object(required: Schema, optional: Schema | None = None, *, extra: bool = False) -> Schema:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": extra,
    }


def _statistics(*units: str) -> Schema:
    places = ["min", "p0p1", "p1", "p5", "p10", "p25", "p50", "p75", "p90", "p95", "p99", "p99p9", "max", "mode"]
    optional = {**dict.fromkeys(places, _NUMBER), "stddev": {"type": "number", "minimum": 0}}
    return _object({"units": {"enum": list(units)}, "mean": _NUMBER}, optional)


_TIME, _PER_TOKEN, _QUANTITY = _statistics("ms", "s"), _statistics("ms/token", "s/token"), _statistics("count")
_RATE = _statistics("tokens/s")
_FREE = {"type": "object"}
_LENGTH = _object(
    {"distribution": {"enum": ["fixed", "gaussian", "uniform", "other"]}, "value": {"type": "number", "minimum": 0}},
    {"std_dev": {"type": "number", "minimum": 0}, "min": _COUNT, "max": {"type": "integer", "minimum": 1}},
)
_NATIVE = _object({}, {"args": _FREE, "envars": _FREE, "config": {}})
_COMPONENT = _object(
    {
        "metadata": _object({"label": _TEXT, "cfg_id": _TEXT}, {"schema_version": _TEXT, "description": _TEXT}),
        "standardized": _object({"kind": {"const": "generic"}, "tool": _TEXT, "tool_version": _TEXT}, extra=True),
        "native": _NATIVE,
    }
)
_LOAD = _object({
    "metadata": _object({}, {"schema_version": _TEXT, "cfg_id": _TEXT, "description": _TEXT}),
    "standardized": _object(
        {"tool": _TEXT, "tool_version": _TEXT, "source": {"enum": ["random", "sampled", "unknown"]}, "input_seq_len": _LENGTH},
        {
            "parallelism": {"type": "integer", "minimum": 1},
            "stage": _COUNT,
            "output_seq_len": _LENGTH,
            "rate_qps": {"type": "number", "exclusiveMinimum": 0},
            "concurrency": {"type": "integer", "minimum": 1},
        },
    ),
    "native": _NATIVE,
})  # fmt: skip
_AGGREGATE = _object({}, {
    "requests": _object({"total": _COUNT}, {"failures": _COUNT, "incomplete": _COUNT, "input_length": _QUANTITY, "output_length": _QUANTITY}),
    "latency": _object({}, {
        "time_to_first_token": _TIME,
        "normalized_time_per_output_token": _PER_TOKEN,
        "time_per_output_token": _PER_TOKEN,
        "inter_token_latency": _PER_TOKEN,
        "request_latency": _TIME,
    }),
    "throughput": _object({}, {
        "input_token_rate": _RATE,
        "output_token_rate": _RATE,
        "total_token_rate": _RATE,
        "request_rate": _statistics("queries/s"),
    }),
})  # fmt: skip
_INSTANT = {"type": "string", "format": "date-time"}
_RUN = _object(
    {"uid": _TEXT},
    {
        "eid": _TEXT, "cid": _TEXT, "pid": _TEXT, "user": _TEXT, "description": _TEXT,
        "time": _object({}, {"start": _INSTANT, "end": _INSTANT, "duration": {"type": "string", "format": "duration"}}),
        "keywords": {"type": "array", "items": _TEXT},
    },
)  # fmt: skip
SCHEMA = _object(
    {
        "version": {"const": "0.2.1"},
        "run": _RUN,
        "results": _object({}, {"request_performance": _object({}, {"aggregate": _AGGREGATE})}),
    },
    {"scenario": _object({}, {"stack": {"type": "array", "items": _COMPONENT}, "load": _LOAD})},
)


def report(path: Path) -> dict[str, Any]:
    """The file, checked against the schema."""
    found: dict[str, Any] = json.loads(path.read_bytes())
    checker = jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    assert [f"{error.json_path}: {error.message}" for error in checker.iter_errors(found)] == []
    return found


def aggregate(found: dict[str, Any]) -> dict[str, Any]:
    inner: dict[str, Any] = found["results"]["request_performance"]["aggregate"]
    return inner


def test_numbers_are_those_of_the_records(tmp_path: Path) -> None:
    directory = run(tmp_path / "run-1", labels={"commit": "abc"}, uid="u-1", ended_at=21.5)
    found = report(export(directory.path, "llm-d", None))
    inner = aggregate(found)
    [[total, failures, incomplete]] = query(
        directory,
        "SELECT count(*), count(*) FILTER (outcome IN ('failed', 'cut', 'throttled')),"
        " count(*) FILTER (outcome = 'incomplete') FROM r WHERE sent_at IS NOT NULL AND outcome <> 'left'",
    )
    assert {name: inner["requests"][name] for name in ("total", "failures", "incomplete")} == {
        "total": total,
        "failures": failures,
        "incomplete": incomplete,
    }
    for name, value in {
        "time_to_first_token": "first_token_at - intended_at",
        "request_latency": "done_at - intended_at",
        "time_per_output_token": "(last_token_at - first_token_at) / (num_output_tokens - 1)",
        "normalized_time_per_output_token": "(done_at - intended_at) / num_output_tokens",
    }.items():
        [[mean, p50, p99, low, high, stddev]] = query(
            directory,
            f"SELECT avg(v), quantile_disc(v, 0.5), quantile_disc(v, 0.99), min(v), max(v), stddev_pop(v)"
            f" FROM (SELECT {value} AS v FROM r WHERE outcome = 'ok')",
        )
        for place, want in {"mean": mean, "p50": p50, "p99": p99, "min": low, "max": high, "stddev": stddev}.items():
            assert inner["latency"][name][place] == pytest.approx(want), (name, place)
        assert "p99p9" not in inner["latency"][name]  # it would need 3,688 requests
    [[mean]] = query(
        directory,
        "SELECT sum(gap) / sum(num) FROM (SELECT unnest(token_gaps_s) AS gap, unnest(chunk_tokens[2:]) AS num FROM r WHERE outcome = 'ok')",
    )
    assert inner["latency"]["inter_token_latency"]["mean"] == pytest.approx(mean)
    [[requests, prompt, output]] = query(
        directory,
        "SELECT count(*) / span, sum(num_prompt_tokens) / span, sum(num_output_tokens) / span FROM r,"
        " (SELECT max(done_at) - min(sent_at) AS span FROM r WHERE outcome = 'ok') WHERE outcome = 'ok' GROUP BY span",
    )
    rates = {name: each["mean"] for name, each in inner["throughput"].items()}
    assert rates == pytest.approx(
        {
            "request_rate": requests,
            "input_token_rate": prompt,
            "output_token_rate": output,
            "total_token_rate": prompt + output,
        }
    )


def test_what_the_run_was(tmp_path: Path) -> None:
    directory = run(tmp_path / "run-1", labels={"commit": "abc"}, uid="u-1", ended_at=21.5, num_workers=3)
    found = report(export(directory.path, "llm-d", None))
    assert found["run"] == {
        "uid": "u-1",
        "time": {"start": "2023-11-14T22:13:20+00:00", "end": "2023-11-14T22:13:41.500000+00:00", "duration": "PT21.500000S"},
        "description": "run-1: burst",
        "keywords": ["commit=abc"],
    }  # fmt: skip
    load = found["scenario"]["load"]["standardized"]
    assert (load["parallelism"], load["rate_qps"]) == (3, 397 / 20)
    assert (load["input_seq_len"]["min"], load["input_seq_len"]["max"]) == (90, 96)


@pytest.mark.parametrize(
    ("planned", "law"),
    [([300, 300], {"distribution": "fixed", "value": 300.0, "min": 300, "max": 300}), ([300, None], None)],
)
def test_lengths_of_answers_are_a_law_only_where_all_are_planned(
    tmp_path: Path, planned: list[int | None], law: dict[str, Any] | None
) -> None:
    records = [record(n, planned_output_tokens=num) for n, num in enumerate(planned)]
    found = report(export(write_run(tmp_path / "run-1", [records]).path, "llm-d", None))
    assert found["scenario"]["load"]["standardized"].get("output_seq_len") == law


def test_a_closed_loop_has_a_concurrency_and_no_rate(tmp_path: Path) -> None:
    directory = run(tmp_path / "run-1", reactive=True, max_in_flight=4)
    load = report(export(directory.path, "llm-d", None))["scenario"]["load"]["standardized"]
    assert load["concurrency"] == 4
    assert "rate_qps" not in load


@pytest.mark.parametrize(
    "items",
    [
        [],
        [bare_record(0, outcome="refused", error_kind="cap_in_flight")],
        [bare_record(0, sent_at=0.0, done_at=0.1, outcome="failed", error_kind="http_500")],
        [record(0, num_output_tokens=0, num_prompt_tokens=0, planned_prompt_tokens=0)],
        [record(0, stream=False, first_token_at=None, last_token_at=None, token_gaps_s=None)],
    ],
    ids=["nothing", "nothing sent", "all failed", "no tokens", "not streamed"],
)
def test_what_is_not_known_is_left_out(tmp_path: Path, items: list[RequestRecord]) -> None:
    inner = aggregate(report(export(run(tmp_path / "run-1", items).path, "llm-d", None)))
    assert "time_per_output_token" not in inner["latency"]


def test_the_schema_of_this_test_can_fail(tmp_path: Path) -> None:
    path = export(run(tmp_path / "run-1").path, "llm-d", tmp_path / "report.json")
    found = json.loads(path.read_bytes())
    aggregate(found)["latency"]["request_latency"]["units"] = "minutes"
    path.write_text(json.dumps(found))
    with pytest.raises(AssertionError, match="minutes"):
        report(path)
