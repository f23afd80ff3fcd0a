"""A run of which everything is known, so that its page has every section; every text that comes from outside is given by a function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from harness.costs.bill import Bill, Line, Saving
from harness.dictionary.figures import Figure, ToolFigures
from harness.gpu.samples import GpuReport, GpuSample, GpuSeries, ServerSample
from harness.judgement.measures import Measured
from harness.judgement.results import Alert, Answer, NotWatched, ObjectiveResult, StageResult
from harness.metrics.breakdown import DIMENSIONS, Breakdown, Group
from harness.metrics.infinite import Unanswered
from harness.metrics.steady import Steady
from harness.quantiles import distribution
from harness.summary import RunData, Summary, load_run, summarize
from tests.gpu.builders import gpu, server, write_readings
from tests.harness.builders import HEADER, bare_record, write_run
from tests.reports.runs import answered

Text = Callable[[str], str]


def whole(path: Path, text: Text) -> tuple[RunData, Summary]:
    """Run and summary. `text` is asked for every text, by what it is."""
    directory = _directory(path, text)
    write_readings(path, _readings(text))
    run = load_run(directory)
    summary = summarize(run)
    fields: dict[str, Any] = {
        "objectives": _objectives(text),
        "budgets": [
            StageResult(stage=text("stage"), percent=95.0, budget_s=0.02, actual_s=0.01, answer="PASS", why=text("why")),
            StageResult(stage="connect", percent=95.0, budget_s=0.02, actual_s=None, answer="INCONCLUSIVE", why=""),
        ],
        "alerts": [
            Alert(kind="error_rate", from_s=2.0 * n, to_s=2.0 * n + 1, worst=0.2, limit=0.02, text=text("alert"))
            for n in range(4)
        ],
        "not_watched": [NotWatched(kind=text("kind"), why=text("why"), fail=True)],
        "unanswered": {
            "ttft": Unanswered(num=402, num_infinite=12, percentiles={"50": 0.3, "90": 0.31, "95": 0.32, "99": "inf"}),
        },
        "breakdowns": [_breakdown(dimension, text) for dimension in DIMENSIONS],
        "steady": Steady(
            state="steady", why=text("why"), from_s=2.0, to_s=18.0, num=300, num_warmup=40, num_drain=50,
            metrics={"ttft": summary.metrics["ttft"]}, output_rate=321.0,
        ),
        "bill": _bill(text),
        "gpu": _gpu(text),
        "dictionary": [_tool(text), _tool(text)],
        "conclusion": [text("conclusion")],
    }  # fmt: skip
    for name, value in fields.items():
        setattr(summary, name, value)
    return run, summary


def _directory(path: Path, text: Text) -> Any:
    records = [
        answered(
            number,
            phase=text("phase") if number % 20 == 0 else "step",
            class_name=text("class"),
            tenant=text("tenant"),
            feature=text("feature"),
            model=text("model") if number % 50 == 0 else "assistant",
            model_served=text("model") if number % 50 == 1 else ("small", "large")[number % 2],
            cache_outcome=text("cache outcome") if number % 100 == 3 else ("hit", "miss")[number % 2],
            replica=text("replica") if number % 40 == 5 else f"r-{number % 3}",
            finish_reason=text("finish reason"),
            queue_s=0.01 + number % 7 / 100,
            num_cached_tokens=number // 2 % 4 * 10,
            cost_usd=0.001 * (1 + number % 5),
        )
        for number in range(390)
    ]
    records += [
        bare_record(number, intended_at=number * 0.05, sent_at=number * 0.05, done_at=number * 0.05 + 0.03, outcome="failed",
                    error_kind=text("error kind"), error_text=text("error"), phase="step", model="assistant")
        for number in range(390, 402)
    ]  # fmt: skip
    directory = write_run(
        path,
        [records],
        duration_s=20.1,
        run_id=text("run"),
        scenario=text("scenario"),
        target=text("target"),
        model=text("model"),
        command=["harness", "run", text("argument")],
        options={"name": text("option"), text("option"): text("option")},
        plan={"arrivals": text("plan"), "pieces": [[0, 1, text("plan")]]},
        versions={"python": text("version")},
        machine={"host": text("host")},
        labels={"commit": text("label")},
        prices={"source": text("prices"), "version": text("prices"), "models": {}},
        ended_how=text("end"),
        warmup_s=0.5,
    )
    directory.write_atomically("ledger.jsonl", _ledger(text))
    directory.write_atomically("stack.json", msgspec.json.encode(_stack(text)))
    return directory


def _ledger(text: Text) -> bytes:
    header = {"kind": "header", "boot_id": HEADER.boot_id, "monotonic_origin": HEADER.origin_monotonic}
    entry = {
        "client_request_id": "run-1-3", "stream": True, "planned_at": [], "written_at": [], "num_output_tokens": 1,
        "outcome": "failed", "received_at": 4.0, "finished_at": 5.0, "notes": [f"faults: {text('fault')}"],
    }  # fmt: skip
    return b"\n".join(map(msgspec.json.encode, (header, entry))) + b"\n"


def _stack(text: Text) -> dict[str, Any]:
    stage = {"name": text("stage"), "does": text("does"), "state": {"counts": {text("count"): 4, "never": 0}}}
    change = {"at": 3.0, "from": 1, "to": 2, "why": text("why")}
    replica = {"name": "r-1", "busy_s": 4.0, "prefix_hit_rate": 0.5, "preemptions": 2}
    state = {
        "run_s": 20.0, "stages": [stage], "faults": [],
        "models": [{"name": "large", "replicas": [replica], "pool": {"changes": [change]}}],
    }  # fmt: skip
    return {"state": state, "clients": {"num_waited": {}, "waited_s": {}, "saved_usd": {}}}


def _objectives(text: Text) -> list[ObjectiveResult]:
    latency = Measured(name="ttft_p99", unit="s", better="lower", value=0.7, low=0.6, high=None, num=390)
    rate = Measured(
        name="error_rate", unit="share", better="lower", value=0.03, low=0.015, high=0.05, num=402, num_over=12
    )
    gone = Measured(name="cost", unit="usd", better="lower", value=None, why=text("why"))
    late = Measured(name="e2e_p99", unit="s", better="lower", value=None, infinite=True, low=1.0, num=402)
    found: list[tuple[str | None, Answer, Measured]] = [
        (None, "PASS", latency), (text("class"), "FAIL", rate), (None, "INCONCLUSIVE", gone), (None, "FAIL", late),
    ]  # fmt: skip
    return [
        ObjectiveResult(
            text=text("objective"), class_name=name, answer=answer, measured=each, bound=1.0, why=text("why")
        )
        for name, answer, each in found
    ]


def _breakdown(dimension: str, text: Text) -> Breakdown:
    metrics = {name: distribution(_numbers()) for name in ("ttft", "tpot", "e2e")}
    none = {name: distribution(_numbers()[:0]) for name in ("ttft", "tpot", "e2e")}
    groups = [
        Group(name=text(dimension), num=200, outcomes={"ok": 195, "failed": 5}, metrics=metrics, num_prompt=5, num_cached=None,
              num_output=1000, cost_usd=0.25),
        Group(name=None, num=3, outcomes={"failed": 3}, metrics=none, num_prompt=None, num_cached=None, num_output=None,
              cost_usd=None),
    ]  # fmt: skip
    return Breakdown(dimension=dimension, groups=groups, num_more=7)


def _numbers() -> Any:
    import numpy as np

    return np.linspace(0.1, 0.9, 100)


def _bill(text: Text) -> Bill:
    def line(usd: float) -> Line:
        return Line(name=text("line"), usd=usd, num_requests=10, num_tokens=1000)

    saving = Saving(kind=text("saving"), usd=0.2, without_usd=1.2, num_requests=5, why=text("why"))
    loss = Saving(kind="provider cache", usd=-0.05, without_usd=0.95, num_requests=5, why="")
    return Bill(
        usd=1.0, source=text("prices"), num_priced=390, num_unknown=12, per_request=1.0 / 390, per_1k=1000 / 390,
        by_kind=[line(0.25), line(0.75)], by_tenant=[line(0.5)], by_feature=[line(0.5)], by_model=[line(1.0)],
        by_day=[line(1.0)], savings=[saving, loss], gpu_usd=2.5, gpu_usd_per_hour=4.0, gpu_why=text("why"), notes=[text("note")],
        energy_j=7200.0, energy_j_per_output_token=0.5, month_requests=1e6, month_usd=2564.1, month_why=text("why"),
    )  # fmt: skip


def _gpu(text: Text) -> GpuReport:
    series = GpuSeries(
        gpu=text("gpu"), name=text("gpu"), mig=text("gpu"), num_samples=4, mean={"utilization": 0.5, "power_w": 300.0},
        maximum={"utilization": 0.9, "power_w": 400.0}, energy_j=7200.0,
    )  # fmt: skip
    servers = {text("model"): {"num_running_mean": 3.0}}
    return GpuReport(source=text("source"), gpus=[series], energy_j=7200.0, servers=servers, notes=[text("note")])


def _readings(text: Text) -> list[GpuSample | ServerSample]:
    name, model = text("gpu"), text("model")
    return [
        *(gpu(float(at), gpu=name, utilization=at / 20, power_w=300.0 + at, memory_used=2.0**34) for at in range(20)),
        *(
            server(float(at), model=model, num_running=3.0, num_waiting=float(at), kv_cache_usage=at / 40)
            for at in range(20)
        ),
    ]


def _tool(text: Text) -> ToolFigures:
    figures = [
        Figure(name=name, value=380.0, unit="ms", ours=400.0, formula=text("formula"), why=text("why"))
        for name in (text("figure"), "TTFT mean")
    ]
    return ToolFigures(tool=text("tool"), version=text("version"), figures=figures)
