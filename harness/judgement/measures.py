"""Figures of a run by name: what an objective bounds, a gate compares and a trend follows.

ttft_p99  tpot_mean  e2e_p50      a latency (harness.metrics.latencies, itl, chunk_gap): pN, mean or max; requests that were not
                                  ok count as +∞ in pN and max, pN(ok) and every mean are of those that were
ttft_p99(ok)
error_rate  throttle_rate         shares of the requests that were sent: failed, cut or incomplete; throttled
goodput  goodput(ttft<1s,tpot<60ms)   share that is good, by the run's objectives or by these
goodput_rate                      good requests a second of the load
request_rate  output_rate  token_rate    ok requests, their output tokens, all their tokens a second, from their first send to their
                                  last end
cost  cost_per_request  cost_per_1k  cost_per_mtok  cost_per_good
cache_hit_rate  cached_share      of requests by the server's reply cache; of prompt tokens by the provider's prompt cache
gpu_utilization  gpu_energy_per_token    as measured
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Better", "Measured", "Unit"]

Unit = Literal["s", "share", "usd", "per_s", "joule"]
Better = Literal["lower", "higher"]


class Measured(msgspec.Struct, kw_only=True):
    """A measure of a run. `low` and `high` are its 95 % interval where there is one; `infinite`: the value is +∞.

    `num` samples are behind it; of a share `num_over` of them count. `why`: why there is no value. `num_unknown`: so many requests
    have a cost that nobody knows; the value is of the others, `low` what it is when these cost nothing, and `high` when each of them
    costs as much as the dearest.
    """

    name: str
    unit: Unit
    better: Better
    value: float | None
    low: float | None = None
    high: float | None = None
    infinite: bool = False
    num: int = 0
    num_over: int | None = None
    why: str | None = None
    num_unknown: int = 0
