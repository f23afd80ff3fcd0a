"""The load that a command line asks for: a workload file, a trace, or conversations at a steady rate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.mixture import mixture_plan
from harness.pacing import Piece
from harness.plan import LoadPlan, cut_at
from harness.tokens import token_counter
from harness.traces import trace_plan
from harness.workload import AZURE_CONVERSATION_OUTPUT, AZURE_CONVERSATION_PROMPT, SyntheticPlan
from harness.workload_file import read_workload

__all__ = ["Load", "asked_load"]


@dataclass(frozen=True)
class Load:
    """A plan, what it is called, and the models that it names itself.

    A trace is called as the scenario that replays it over HTTP, so that its requests have the same ids there, and the
    same luck.
    """

    plan: LoadPlan
    scenario: str
    models: frozenset[str] = frozenset()


def asked_load(
    *,
    workload: Path | None,
    trace: Path | None,
    window: tuple[float, float] | None,
    speed: float | None,
    rate: float | None,
    duration_s: float | None,
    seed: int,
) -> Load:
    """Raises UsageError for options that do not go together, WorkloadError and TraceError for their files."""
    if workload is not None and trace is not None:
        raise UsageError("say what to send: either --workload FILE or --trace FILE")
    if trace is None and (window is not None or speed is not None):
        raise UsageError("--window and --speed are for a trace; give one with --trace FILE")
    if trace is not None:
        if rate is not None:
            raise UsageError(f"--rate {rate:g} has no meaning here: the rate is the trace's own; use --speed")
        replay = trace_plan(trace, window=window, speed=1.0 if speed is None else speed, seed=seed)
        return Load(replay if duration_s is None else cut_at(replay, duration_s), "trace_replay")
    if workload is not None:
        found = read_workload(workload)
        plan = mixture_plan(found, rate=rate, duration_s=duration_s, seed=seed, count=token_counter)
        models = frozenset(name for keys in found.classes for name in keys.model or ())
        return Load(plan, workload.stem, models)
    if rate is None or duration_s is None:
        raise UsageError("say how much for how long, as --rate 20/s --for 10m; or give --workload FILE or --trace FILE")
    pieces = [Piece(0.0, duration_s, rate, "steady")]
    azure = AZURE_CONVERSATION_PROMPT, AZURE_CONVERSATION_OUTPUT
    return Load(SyntheticPlan(pieces, "poisson", *azure, seed), "sustained")
