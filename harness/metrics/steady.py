"""The steady part of a run: after the system has warmed up, before the load drains away, if there is such a part at all."""

from __future__ import annotations

import msgspec

from harness.quantiles import Distribution

__all__ = ["Steady"]


class Steady(msgspec.Struct, kw_only=True):
    """Requests whose intended time lies in `[from_s, to_s)`, and their metrics (ttft, tpot, e2e; ok requests).

    `state`: `steady`; `drifting` where latency goes on growing or falling until the end, so that a percentile depends on how long
    one looked; `too short`; `not asked` where the plan's rate changes, so that there is nothing steady to find.
    `why` says it in a sentence.
    """

    state: str
    why: str
    from_s: float | None = None
    to_s: float | None = None
    num: int = 0
    num_warmup: int = 0
    num_drain: int = 0
    metrics: dict[str, Distribution] = {}
    output_rate: float | None = None
