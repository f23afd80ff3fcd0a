"""What a measure could have been, had the same run met other requests: bootstrap over the requests of one run.

Requests are drawn as though they did not depend on each other, so the spread is that of the sample alone. What differs from run to
run (the machine, the neighbours, the weather) is not in it.
"""

from __future__ import annotations

from math import ceil

import numpy as np

from harness.goodput import good_rows, with_objective
from harness.judgement.measuring import BY_CHUNK, Measure, Subject
from harness.quantiles import nearest_rank, samples_needed
from harness.table import Floats

__all__ = ["NUM_RESAMPLES", "resampled"]

NUM_RESAMPLES = 2000
_MOST_BLOCKS = 500


def resampled(measure: Measure, subject: Subject, draw: np.random.Generator) -> Floats | None:
    """Values of the measure in resamples of the run; None where resampling requests says nothing about it (gaps between chunks,
    extremes, rates, GPUs) or nothing was measured."""
    if measure.samples is not None:
        if measure.statistic == "max" or measure.name.startswith(BY_CHUNK):
            return None
        values = measure.samples(subject.table).values
        if measure.percent is None:
            return _ratios(values, np.ones(len(values)), draw)
        return _percentiles(values, measure.percent, draw)
    if measure.rows is not None:
        counted, hit = measure.rows(subject)
        return _shares(int(hit.sum()), int(counted.sum()), draw)
    parts = _parts(measure.name, subject)
    return None if parts is None else _ratios(*parts, draw)


def _percentiles(values: Floats, percent: float, draw: np.random.Generator) -> Floats | None:
    """Exactly the bootstrap of a percentile, without drawing samples.

    A resample is the sorted values at uniform ranks, and the k-th smallest of n uniform numbers has a Beta(k, n - k + 1)
    distribution (David and Nagaraja, Order Statistics, 2.3).
    """
    num = len(values)
    if num < samples_needed(percent):
        return None
    rank = nearest_rank(percent, num) + 1
    at = np.ceil(draw.beta(rank, num - rank + 1, NUM_RESAMPLES) * num).astype(np.int64) - 1
    return np.asarray(np.sort(values)[np.clip(at, 0, num - 1)])


def _shares(num_over: int, num: int, draw: np.random.Generator) -> Floats | None:
    """Exactly the bootstrap of a share: how many of a resample count is binomial."""
    return draw.binomial(num, num_over / num, NUM_RESAMPLES) / num if num else None


def _ratios(over: Floats, under: Floats, draw: np.random.Generator) -> Floats | None:
    """Resamples of sum(over) / sum(under). Many requests are dealt at random to blocks, which are resampled in their place: the
    spread of a sum is the same to 1 in 500."""
    num = len(over)
    if not num:
        return None
    if num > _MOST_BLOCKS:
        size = ceil(num / _MOST_BLOCKS)
        blocks = draw.permutation(num) // size
        over, under = (np.bincount(blocks, each).astype(np.float64) for each in (over, under))
        num = len(over)
    times = np.zeros((NUM_RESAMPLES, num), dtype=np.float32)
    drawn = draw.integers(0, num, (NUM_RESAMPLES, num))
    for row, each in enumerate(drawn):
        times[row] = np.bincount(each, minlength=num)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((times @ over) / (times @ under))


def _parts(name: str, subject: Subject) -> tuple[Floats, Floats] | None:
    """A cost a request as a ratio of two sums over requests. None for what is none: rates and the whole bill follow the plan, which is no
    sample of anything."""
    table = subject.table
    if name == "cached_share":
        cached, whole = table["num_cached_tokens"], table["num_prompt_tokens"]
        known = ~np.isnan(cached) & ~np.isnan(whole)
        return cached[known], whole[known]
    known = ~np.isnan(table["cost_usd"])
    ok = (table.is_outcome("ok") & known).astype(np.float64)
    prompt, output = (np.nan_to_num(table[column]) * ok for column in ("num_prompt_tokens", "num_output_tokens"))
    unders = {
        "cost_per_request": ok,
        "cost_per_1k": ok / 1e3,
        "cost_per_mtok": (prompt + output) / 1e6,
        "cost_per_good": (good_rows(table, subject.objectives)[1] & known).astype(np.float64),
    }
    if name not in unders:
        return None
    cost = np.nan_to_num(table["cost_usd"])
    if name == "cost_per_good":  # what has no objective cannot be good, and is not paid for by what can
        cost = cost * with_objective(table, subject.objectives)
    return cost, unders[name]
