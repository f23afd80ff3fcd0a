"""The bill of a run."""

from __future__ import annotations

import msgspec

__all__ = ["Bill", "Line", "Saving"]


class Line(msgspec.Struct, kw_only=True):
    """A part of the bill: `name` is a kind of token (`prompt`, `cached prompt`, `cache write`, `cache write, 1 h`, `output`,
    `reasoning`), `request` (a fee for each), `other` (what no tokens explain), a tenant, a feature, a model or a day.

    `num_requests` are those whose cost is known, `num_tokens` theirs: prompt and output, or those of the kind."""

    name: str
    usd: float
    num_requests: int | None = None
    num_tokens: int | None = None


class Saving(msgspec.Struct, kw_only=True):
    """What one means has saved: `kind` is `provider cache`, `reply cache`, `route` or `batch`; `without_usd` is what the same requests
    would have cost without it, `usd` the difference; it is negative where the means costs more than it saves. `why` says what is
    compared with what. Each is taken away alone, with all others as they were: savings do not add up."""

    kind: str
    usd: float
    without_usd: float
    num_requests: int
    why: str


class Bill(msgspec.Struct, kw_only=True):
    """USD of a run. A figure that cannot be known is null, never 0; `num_unknown` requests have no known cost.

    `source`: whose prices. `per_*`: per request that was answered, per 1,000 of them, per million output tokens, per million tokens
    of any kind, per good request (one that meets its objective): all that is known to have been paid, also for what failed, over those
    answered requests whose cost is known. Without prices of tokens they are the GPUs'. `by_*`: the largest lines, and one for the rest,
    which together are `usd`; days are UTC. `notes`: what a reader of the figures must know.

    `gpu_usd`: the hours of the GPUs, where a price per hour was given. `energy_*`: from measured power. `month_usd`: at
    `month_requests` a month, by this run's mix; `gpu_month_usd` by whole copies of the target, each as fast as this run was.
    """

    usd: float | None
    source: str | None
    num_priced: int
    num_unknown: int
    per_request: float | None = None
    per_1k: float | None = None
    per_mtok: float | None = None
    per_output_mtok: float | None = None
    per_good: float | None = None
    by_kind: list[Line] = []
    by_tenant: list[Line] = []
    by_feature: list[Line] = []
    by_model: list[Line] = []
    by_day: list[Line] = []
    savings: list[Saving] = []
    gpu_usd: float | None = None
    gpu_usd_per_hour: float | None = None
    gpu_why: str | None = None
    energy_j: float | None = None
    energy_j_per_output_token: float | None = None
    month_requests: float | None = None
    month_usd: float | None = None
    month_why: str | None = None
    gpu_hours: float | None = None
    gpu_month_usd: float | None = None
    notes: list[str] = []
