"""Bills of simulations: the stack counts what it pays and saves by itself, and the fold over the records must find the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from harness.costs.bill import Bill
from harness.costs.fold import bill
from harness.prices import deployed_prices, priced
from harness.store import open_run
from harness.summary import load_run
from harness.virtual import Simulation, asked_load, run_in_virtual_time
from mockllm import load_deployment

_MODELS = """
models:
  - {name: large, profile: frontier-mid, price: {input: 3, cached_input: 0.3, written_5m: 3.75, output: 15}}
  - {name: small, profile: frontier-mid, price: {input: 0.2, output: 0.8, batch: 0.25}}
"""
_WORKLOAD = """
arrivals: {rate: 20/s, for: 20s}
MODEL
answer_tokens: {at_most: 300}
classes:
  - {name: asking, weight: 3, users: 10, feature: search, questions: {num: 20, zipf: 1.0, repeats: 0.6, paraphrases: 0.2}}
  - {name: working, weight: 1, users: 5, batch: true, prompt_tokens: {median: 300, sigma: 0.5, most: 2000}}
"""


def _simulated(tmp_path: Path, stack: str, model: str = "") -> tuple[Bill, dict[str, Any], Path]:
    """The bill, and what the stack says of itself."""
    deployment, workload = tmp_path / "stack.yaml", tmp_path / "load.yaml"
    deployment.write_text(_MODELS + stack)
    workload.write_text(_WORKLOAD.replace("MODEL", model))
    load = asked_load(workload=workload, trace=None, window=None, speed=None, rate=None, duration_s=None, seed=3)
    simulation = Simulation(str(deployment), load.plan, "load", seed=3, models=load.models)
    out = tmp_path / "run"
    run_in_virtual_time(simulation, out, lambda *_: None)
    run = load_run(open_run(out))
    entries = load_deployment(str(deployment)).models
    prices = deployed_prices({name: entry.price for name, entry in entries.items()}, "deployment stack")
    kept = msgspec.structs.replace(run.manifest, prices=priced(prices))
    found = bill(run.table, kept, objectives={}, gpu=None)
    assert found is not None
    return found, json.loads((out / "stack.json").read_text()), out


def _saved(found: Bill) -> dict[str, float]:
    return {each.kind: each.usd for each in found.savings}


def test_the_bill_is_what_the_stack_paid(tmp_path: Path) -> None:
    """Two models, a batch at the deployment's own factors, no policy: tokens explain every cent, batches included."""
    found, stack, _ = _simulated(tmp_path, "", "model: {large: 1, small: 2}")
    assert found.usd == pytest.approx(stack["clients"]["cost_usd"], rel=1e-9)
    assert "other" not in {line.name for line in found.by_kind}
    assert {line.name for line in found.by_model} == {"large", "small"}
    assert _saved(found)["batch"] > 0


def test_a_reply_cache_saves_what_the_stack_says_it_does(tmp_path: Path) -> None:
    found, stack, _ = _simulated(tmp_path, "stack: [exact_cache]\n", "model: small")
    saved = {name: usd for name, usd in stack["clients"]["saved_usd"].items() if usd}
    assert list(saved) == ["exact_cache"]
    assert _saved(found)["reply cache"] == pytest.approx(saved["exact_cache"], rel=1e-9)
    assert found.usd == pytest.approx(stack["clients"]["cost_usd"], rel=1e-9)
    (reply_cache,) = (each for each in found.savings if each.kind == "reply cache")
    assert reply_cache.num_requests == stack["clients"]["cache_outcomes"]["hit"] > 20


def test_a_router_saves_what_the_stack_says_it_does(tmp_path: Path) -> None:
    """Asked of the model that would answer all: what the stack compares with, but for the fee of the router's classifier."""
    stages = "stack: [{route: {by: complexity, below: {0.5: small}, otherwise: large}}]\n"
    found, stack, _ = _simulated(tmp_path, stages, "model: large")
    (stage,) = stack["clients"]["saved_usd"]
    assert _saved(found)["route"] == pytest.approx(stack["clients"]["saved_usd"][stage], rel=1e-6)


def test_what_no_tokens_explain_stands_apart(tmp_path: Path) -> None:
    """A cascade asks the small model first, and pays for the answers that it throws away."""
    stages = "stack: [{cascade: {name: both, models: [{model: small, skill: 0.5}, {model: large, skill: 1.2}], threshold: 0.6}}]\n"
    found, stack, out = _simulated(tmp_path, stages, "model: both")
    assert found.usd == pytest.approx(stack["clients"]["cost_usd"], rel=1e-9)
    other = next(line.usd for line in found.by_kind if line.name == "other")
    assert found.usd is not None
    assert 0 < other < found.usd
    assert sum(line.usd for line in found.by_kind) == pytest.approx(found.usd, rel=1e-9)
    assert np.isfinite(other)
    assert out.exists()


def test_a_deployment_without_prices_has_no_bill(tmp_path: Path) -> None:
    deployment = tmp_path / "free.yaml"
    deployment.write_text("models: [{name: free, profile: frontier-mid}]\n")
    assert deployed_prices({name: e.price for name, e in load_deployment(str(deployment)).models.items()}, "x") is None
    load = asked_load(workload=None, trace=None, window=None, speed=None, rate=5.0, duration_s=4.0, seed=1)
    out = tmp_path / "run"
    run_in_virtual_time(Simulation(str(deployment), load.plan, "load", seed=1), out, lambda *_: None)
    run = load_run(open_run(out))
    # The mock says 0, for it knows no price: nobody may take that for free.
    assert all(each.cost_usd == 0 for each in run.directory.records([]))
    assert np.isnan(run.table["cost_usd"]).all()
    assert bill(run.table, run.manifest, objectives={}, gpu=None) is None
