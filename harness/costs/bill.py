"""The bill of a run."""

from __future__ import annotations

import msgspec

__all__ = ["Bill", "Line", "Saving"]


class Line(msgspec.Struct, kw_only=True):
    """A part of the bill: `name` is a kind of token (`prompt`, `cached prompt`, `cache write`, `output`, `reasoning`), a tenant, a
    feature, a model or a day."""

    name: str
    usd: float
    num_requests: int | None = None
    num_tokens: int | None = None


class Saving(msgspec.Struct, kw_only=True):
    """What one means has saved: `kind` is `provider cache`, `reply cache`, `route` or `batch`; `without_usd` is what the same requests
    would have cost without it, `usd` the difference. `why` says what is compared with what."""

    kind: str
    usd: float
    without_usd: float
    num_requests: int
    why: str


class Bill(msgspec.Struct, kw_only=True):
    """USD of a run. A figure that cannot be known is null, never 0; `num_unknown` requests have no known cost.

    `source`: whose prices. `per_*`: per request that was answered, per 1,000 of them, per million output tokens, per million tokens
    of any kind, per good request (one that meets its objective). `gpu_usd`: the hours of the GPUs, where a price per hour was given.
    `energy_*`: from measured power. `month_usd`: at `month_requests` a month, by this run's mix.
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
