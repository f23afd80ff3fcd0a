"""Gates to try a gate on: runs whose truth is known, because somebody made it so.

Two kinds. Made-up runs of requests with lognormal times, noise that a whole run shares, and a drift from run to run, in an
order of one's choice. And runs of the mock in virtual time, of h100-8b and of the same server with every step longer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from harness.arrivals.curves import steady
from harness.gate.facts import JudgedRun, RunFacts, facts_of
from harness.gate.rule import DEFAULT_MEASURES
from harness.judgement.measuring import Subject, measure
from harness.store import Manifest
from harness.streams import stream
from harness.summary import load_run
from harness.table import LABELS, OUTCOMES, Labels, Table, tabulate
from harness.virtual import Simulation, run_in_virtual_time
from harness.workloads.synthetic import conversations

__all__ = ["Noise", "Side", "golden_like", "made_up", "served", "slower"]

Side = tuple[list[JudgedRun], list[JudgedRun]]

_REPOSITORY = Path(__file__).parent.parent
_PROFILES = _REPOSITORY / "mockllm" / "profiles"


# -- made-up runs ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Noise:
    """`run` is the standard deviation of the logarithm that all requests of a run share, `drift` what each run is slower than the
    one before, whichever side it is of. `num` requests a run, a fifth of a second apart."""

    run: float = 0.03
    drift: float = 0.01
    num: int = 400


def made_up(number: int, *, change: float, noise: Noise, order: str) -> Side:
    """Candidate and baseline runs of one replay, as measured by the harness, in this order (A the baseline). Every time of a
    candidate's request is longer by `change`."""
    draws = stream(number, "made-up runs")
    sides: dict[str, list[JudgedRun]] = {"A": [], "B": []}
    for place, side in enumerate(order):
        factor = exp(noise.run * draws.standard_normal()) * (1 + noise.drift) ** place
        table = _requests(draws, noise.num, factor * (1 + change if side == "B" else 1))
        sides[side].append(_judged(f"{side}{len(sides[side])}", table, place, number * 1000 + place))
    return sides["B"], sides["A"]


def _requests(draws: np.random.Generator, num: int, factor: float) -> Table:
    """TTFT around 200 ms with sigma 0.4, TPOT around 20 ms with 0.1, 60 tokens with 0.6."""
    ttft = 0.2 * np.exp(0.4 * draws.standard_normal(num)) * factor
    tokens = np.ceil(60 * np.exp(0.6 * draws.standard_normal(num))) + 1
    decode = 0.02 * np.exp(0.1 * draws.standard_normal(num)) * factor * (tokens - 1)
    intended = np.arange(num) * 0.2
    first = intended + ttft
    known = {
        "intended_at": intended,
        "sent_at": intended,
        "first_token_at": first,
        "last_token_at": first + decode,
        "done_at": first + decode,
        "num_output_tokens": tokens,
    }
    unknown = np.full(num, np.nan)
    nobody = Labels(np.full(num, -1, np.int32), ())
    return Table(
        columns={name: np.asarray(known.get(name, unknown), np.float64) for name in tabulate([]).columns},
        labels=dict.fromkeys(LABELS, nobody),
        outcome=np.full(num, OUTCOMES.index("ok"), np.int8),
        stream=np.ones(num, np.bool_),
        counted_by_server=np.ones(num, np.bool_),
        gaps=np.empty(0),
        gap_tokens=np.empty(0, np.int32),
        gap_start=np.zeros(num + 1, np.int64),
        errors=Counter(),
        error_examples={},
        token_sources=Counter(),
    )


def _judged(name: str, table: Table, place: int, seed: int) -> JudgedRun:
    duration_s = len(table) * 0.2
    manifest = Manifest(
        run_id=name, scenario="made up", target="made up", model=None, seed=seed, command=[], options={}, plan={},
        num_planned=len(table), duration_s=duration_s, max_in_flight=None, num_workers=1,
        started_wall=1.7e9 + place * 2 * duration_s, ended_at=duration_s, versions={}, machine={},
    )  # fmt: skip
    subject = Subject(table, duration_s, {})
    facts = RunFacts(
        run_id=name,
        started_wall=manifest.started_wall,
        state="VALID",
        reasons=[],
        num_requests=len(table),
        measures={each: measure(each, subject) for each in DEFAULT_MEASURES},
    )
    return JudgedRun(name, manifest, facts)


# -- runs of the mock --------------------------------------------------------------------------------


def slower(folder: Path, change: float) -> str:
    """A copy of h100-8b in which every step of the engine, and what comes before it, takes longer by `change`; its file."""
    factor = 1 + change
    gpu = _scaled(
        (_PROFILES / "gpus" / "h100-sxm.yaml").read_text(),
        {
            "peak_tflops": 1 / factor,
            "bandwidth_tb_s": 1 / factor,
            "interconnect_gb_s": 1 / factor,
            "layer_latency_s": factor,
        },
    )
    (folder / f"gpu{change:g}.yaml").write_text(gpu)
    profile = (_PROFILES / "h100-8b.yaml").read_text()
    times = ("step_s", "per_sequence_s", "per_prefill_s", "median_s", "stall_min_s", "stall_max_s")
    scaled = _scaled(profile, dict.fromkeys(times, factor))
    path = folder / f"slower{change:g}.yaml"
    path.write_text(scaled.replace("gpu: h100-sxm", f"gpu: {folder / f'gpu{change:g}.yaml'}"))
    return str(path)


def golden_like(folder: Path, change: float) -> str:
    """A copy of golden, whose timings are exactly known, with all of them longer by `change`; its file."""
    path = folder / f"golden{change:g}.yaml"
    text = (_PROFILES / "golden.yaml").read_text()
    path.write_text(_scaled(text, {"floor_s": 1 + change, "tpot_median_s": 1 + change}))
    return str(path)


def _scaled(text: str, factors: dict[str, float]) -> str:
    """The numbers behind these keys, times their factors; comments and sources, which name keys too, have no number there."""
    for key, factor in factors.items():
        head, *tail = re.split(rf"\b({key}: )([0-9.]+(?:e-?\d+)?)\b", text)
        assert tail, f"{key} is not in the profile"
        text = head + "".join(
            f"{name}{float(number) * factor:.12g}{rest}"
            for name, number, rest in zip(tail[::3], tail[1::3], tail[2::3], strict=True)
        )
    return text


def served(
    deployment: str, seeds: Sequence[int], *, rate: float = 6.0, duration_s: float = 70.0
) -> Iterator[JudgedRun]:
    """Runs in virtual time, one a seed, read back from their records as a gate reads them."""
    for seed in seeds:
        plan = conversations(steady(rate, duration_s), "poisson", seed)
        simulation = Simulation(deployment, plan, "sustained", seed=seed, num_with_gaps=0)
        with TemporaryDirectory() as folder:
            directory = run_in_virtual_time(simulation, Path(folder) / f"seed-{seed}", lambda num, at_s: None)
            yield JudgedRun(directory.name, directory.manifest(), facts_of(load_run(directory), DEFAULT_MEASURES))
