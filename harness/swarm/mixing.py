"""Plans of scenarios that mix classes of requests: a workload in Python, under the options of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.swarm.options import PlanOptions
from harness.workloads.file import workload_of
from harness.workloads.mixture import MixturePlan, mixture_plan

__all__ = ["mixed"]


def mixed(
    keys: Mapping[str, Any], name: str, options: PlanOptions, *, rate: float = 5.0, duration_s: float = 60.0
) -> MixturePlan:
    """The plan of the keys that a workload file would hold; `name` is the scenario's. `rate` and `duration_s` are for a
    command line without -r and -t. Raises WorkloadError and UsageError for what cannot be."""
    return mixture_plan(
        workload_of(keys, name),
        rate=options.rate or rate,
        duration_s=options.duration_s or duration_s,
        seed=options.seed,
        salt=options.salt,
    )
