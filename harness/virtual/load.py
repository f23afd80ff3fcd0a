"""The load that a command line asks for: a workload file, a trace, or conversations at a steady rate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from harness.arrivals.curves import steady
from harness.errors import UsageError
from harness.plan import Arrival, LoadPlan, cut_at
from harness.streams import keyed_integer
from harness.workloads.file import read_workload
from harness.workloads.mixture import mixture_plan
from harness.workloads.prompts import ask_of
from harness.workloads.synthetic import conversations
from harness.workloads.traces import trace_plan

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


@dataclass(frozen=True)
class WithUsers:
    """A plan that names nobody, with each request from one of `num_users`, drawn by its key. Lengths and ids stay."""

    plan: LoadPlan
    num_users: int
    seed: int

    @property
    def duration_s(self) -> float:
        return self.plan.duration_s

    @property
    def num_arrivals(self) -> int:
        return self.plan.num_arrivals

    def arrivals(self) -> Iterator[Arrival]:
        for arrival in self.plan.arrivals():
            user = f"user-{keyed_integer(self.seed, 'user', arrival.key) % self.num_users}"
            ask = ask_of(arrival)
            yield replace(arrival, ask=ask if ask.user is not None else replace(ask, user=user))

    def describe(self) -> dict[str, object]:
        return {**self.plan.describe(), "users": self.num_users}


def asked_load(
    *,
    workload: Path | None,
    trace: Path | None,
    window: tuple[float, float] | None,
    speed: float | None,
    rate: float | None,
    duration_s: float | None,
    seed: int,
    users: int | None = None,
) -> Load:
    """`users`: so many people ask, each as often as the others; None: nobody in particular, or those of the workload.

    Raises UsageError for options that do not go together, WorkloadError and TraceError for their files."""
    if workload is not None and trace is not None:
        raise UsageError("say what to send: either --workload FILE or --trace FILE")
    if trace is None and (window is not None or speed is not None):
        raise UsageError("--window and --speed are for a trace; give one with --trace FILE")
    if trace is not None:
        if rate is not None:
            raise UsageError(f"--rate {rate:g} has no meaning here: the rate is the trace's own; use --speed")
        replay = trace_plan(trace, window=window, speed=1.0 if speed is None else speed, seed=seed)
        replay = replay if duration_s is None else cut_at(replay, duration_s)
        models: frozenset[str] = getattr(replay, "models", frozenset())
        return Load(replay if users is None else WithUsers(replay, users, seed), "trace_replay", models)
    if workload is not None:
        if users is not None:
            raise UsageError(
                "--from-users has no meaning here: the workload says who asks; write users: 50 into the file"
            )
        found = read_workload(workload)
        plan = mixture_plan(found, rate=rate, duration_s=duration_s, seed=seed)
        return Load(plan, workload.stem, plan.models)
    if rate is None or duration_s is None:
        raise UsageError("say how much for how long, as --rate 20/s --for 10m; or give --workload FILE or --trace FILE")
    steadily = conversations(steady(rate, duration_s), "poisson", seed)
    return Load(steadily if users is None else WithUsers(steadily, users, seed), "sustained")
