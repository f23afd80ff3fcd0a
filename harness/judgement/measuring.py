"""Measuring: from the name of a measure and a run to a value, with its interval where there is one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, isinf

import numpy as np

from harness.errors import UsageError
from harness.goodput import good_rows
from harness.gpu.samples import GpuReport
from harness.judgement.binomial import share_interval
from harness.judgement.measures import Better, Measured, Unit
from harness.metrics.latencies import LATENCIES, latency
from harness.objectives import Objective, parse_objective
from harness.quantiles import interval_ranks, nearest_rank, samples_needed
from harness.table import Floats, Mask, Table

__all__ = ["Measure", "Subject", "measure", "parse_measure"]

_BY_CHUNK = ("itl", "chunk_gap")
_LATENCY = re.compile(r"([a-z][a-z0-9_]*)_(p\d+(?:\.\d+)?|mean|max)(\(ok\))?")
_GOODPUT = re.compile(r"(goodput|goodput_rate)(?:\(([^()]*)\))?")


@dataclass(frozen=True)
class Subject:
    """What is measured: rows of a run (all, or those of a class), the seconds over which they were asked for, their objectives, and
    what the GPUs did."""

    table: Table
    duration_s: float
    objectives: Mapping[str, Objective]
    gpu: GpuReport | None = None


@dataclass(frozen=True)
class Measure:
    """A measure by name, read and checked."""

    name: str
    unit: Unit
    better: Better
    of: Callable[[Subject], Measured]


def parse_measure(text: str) -> Measure:
    """Raises UsageError, which names what there is."""
    name = re.sub(r"\s+", "", text)
    if name in _PLAIN:
        unit, better, fold = _PLAIN[name]
        return Measure(name, unit, better, lambda subject: fold(name, subject))
    if found := _GOODPUT.fullmatch(name):
        return _goodput(name, found[1], found[2])
    if (found := _LATENCY.fullmatch(name)) and found[1] in (*LATENCIES, *_BY_CHUNK):
        return _latency(name, found[1], found[2], only_ok=bool(found[3]))
    raise UsageError(
        f"{text.strip()!r} is no measure; there are LATENCY_pN, LATENCY_mean and LATENCY_max with LATENCY one of "
        f"{', '.join((*LATENCIES, *_BY_CHUNK))}; goodput and goodput_rate, also with bounds as goodput(ttft<1s); "
        f"{', '.join(_PLAIN)}"
    )


def measure(text: str, subject: Subject) -> Measured:
    """The measure of this name. Raises UsageError when there is none."""
    return parse_measure(text).of(subject)


# -- latencies ---------------------------------------------------------------------------------------


def _latency(name: str, metric: str, statistic: str, *, only_ok: bool) -> Measure:
    percent = float(statistic[1:]) if statistic.startswith("p") else None
    if percent is not None and not 0 < percent < 100:
        raise UsageError(f"{name}: a percentile lies between 0 and 100")
    if metric in _BY_CHUNK or statistic == "mean":
        only_ok = True  # a request that was not answered has no gaps, and a mean with +∞ says nothing

    def fold(subject: Subject) -> Measured:
        found = _values(subject.table, metric, only_ok=only_ok)
        if percent is not None:
            return _percentile(name, found, percent, independent=metric not in _BY_CHUNK)
        if not len(found):
            return _missing(name, "s", "lower", "nothing was measured")
        if statistic == "mean":
            return _mean(name, found, independent=metric not in _BY_CHUNK)
        return _finite(Measured(name=name, unit="s", better="lower", value=float(found.max()), num=len(found)))

    return Measure(name, "s", "lower", fold)


def _values(table: Table, metric: str, *, only_ok: bool) -> Floats:
    """One value a request; those that were not ok are +∞, unless only the ok ones are asked for. Ours to answer for, and so left
    out, are requests that our side held back or went away from."""
    ok = table.is_outcome("ok")
    if metric in _BY_CHUNK:
        rows = np.repeat(ok, np.diff(table.gap_start))
        gaps, weights = table.gaps[rows], table.gap_tokens[rows]
        return gaps if metric == "chunk_gap" else np.repeat(gaps / weights, weights)
    values = latency(table, metric)
    answered = values[ok & ~np.isnan(values)]
    if only_ok:
        return answered
    num_failed = int((~ok & ~_ours(table)).sum())
    return np.concatenate([answered, np.full(num_failed, inf)])


def _ours(table: Table) -> Mask:
    return np.asarray(table.is_outcome("refused") | table.is_outcome("left"))


def _percentile(name: str, values: Floats, percent: float, *, independent: bool) -> Measured:
    num, needed = len(values), samples_needed(percent)
    if num < needed:
        why = f"p{percent:g} needs {needed} samples, there are {num}"
        return Measured(name=name, unit="s", better="lower", value=None, num=num, why=why)
    ordered = np.sort(values)
    ranks = interval_ranks(percent, num) if independent else None
    low, high = (None, None) if ranks is None else (float(ordered[ranks[0]]), float(ordered[ranks[1]]))
    value = float(ordered[nearest_rank(percent, num)])
    return _finite(Measured(name=name, unit="s", better="lower", value=value, low=low, high=high, num=num))


def _mean(name: str, values: Floats, *, independent: bool) -> Measured:
    value, num = float(values.mean()), len(values)
    reach = 1.96 * float(values.std(ddof=1)) / num**0.5 if independent and num >= 30 else None
    low, high = (None, None) if reach is None else (value - reach, value + reach)
    return Measured(name=name, unit="s", better="lower", value=value, low=low, high=high, num=num)


def _finite(measured: Measured) -> Measured:
    """JSON has no infinity: it is said beside the value, and an end of the interval that is +∞ is left open."""
    if measured.value is not None and isinf(measured.value):
        measured.value, measured.infinite = None, True
    if measured.high is not None and isinf(measured.high):
        measured.high = None
    if measured.low is not None and isinf(measured.low):
        measured.low = None
    return measured


def _missing(name: str, unit: Unit, better: Better, why: str) -> Measured:
    return Measured(name=name, unit=unit, better=better, value=None, why=why)


# -- shares ------------------------------------------------------------------------------------------


def _share(name: str, better: Better, num_over: int, num: int) -> Measured:
    if not num:
        return _missing(name, "share", better, "no request was sent")
    low, high = share_interval(num_over, num)
    return Measured(
        name=name, unit="share", better=better, value=num_over / num, low=low, high=high, num=num, num_over=num_over
    )


def _outcome_share(name: str, subject: Subject) -> Measured:
    table = subject.table
    sent = ~_ours(table)
    bad = sum(table.is_outcome(each).sum() for each in _RATES[name])
    return _share(name, "lower", int(bad), int(sent.sum()))


_RATES = {"error_rate": ("failed", "cut", "incomplete"), "throttle_rate": ("throttled",)}


def _goodput(name: str, kind: str, bounds: str | None) -> Measure:
    given = {"": parse_objective(bounds)} if bounds else None

    def fold(subject: Subject) -> Measured:
        counted, good = good_rows(subject.table, given or subject.objectives)
        num, num_good = int(counted.sum()), int(good.sum())
        if not num:
            return _missing(name, unit, "higher", "the run has no objective: write goodput(ttft<1s,tpot<60ms)")
        if kind == "goodput":
            return _share(name, "higher", num_good, num)
        return Measured(name=name, unit=unit, better="higher", value=num_good / subject.duration_s, num=num)

    unit: Unit = "share" if kind == "goodput" else "per_s"
    return Measure(name, unit, "higher", fold)


def _reply_hits(name: str, subject: Subject) -> Measured:
    outcomes = subject.table.labels["cache_outcome"].counts()
    num = sum(outcomes.values())
    if not num:
        return _missing(name, "share", "higher", "the server said of no request what its cache did")
    return _share(name, "higher", num - outcomes.get("miss", 0), num)


def _cached_share(name: str, subject: Subject) -> Measured:
    cached, prompt = subject.table["num_cached_tokens"], subject.table["num_prompt_tokens"]
    known = ~np.isnan(cached) & ~np.isnan(prompt)
    total = float(prompt[known].sum())
    if not total:
        return _missing(name, "share", "higher", "the server counted no cached tokens")
    value = float(cached[known].sum()) / total
    return Measured(name=name, unit="share", better="higher", value=value, num=int(known.sum()))


# -- rates, money, energy ----------------------------------------------------------------------------


def _rate(name: str, subject: Subject) -> Measured:
    table, ok = subject.table, subject.table.is_outcome("ok")
    columns = {"request_rate": (), "output_rate": ("num_output_tokens",)}.get(
        name, ("num_prompt_tokens", "num_output_tokens")
    )
    amount = sum((np.nan_to_num(table[column][ok]) for column in columns), np.full(int(ok.sum()), float(not columns)))
    if columns and all(np.isnan(table[column][ok]).all() for column in columns):
        return _missing(name, "per_s", "higher", "nobody counted the tokens")
    value = float(amount.sum()) / subject.duration_s
    return Measured(name=name, unit="per_s", better="higher", value=value, num=int(ok.sum()))


def _cost(name: str, subject: Subject) -> Measured:
    table = subject.table
    usd, ok = table["cost_usd"], table.is_outcome("ok")
    if np.isnan(usd).all():
        return _missing(name, "usd", "lower", "the cost is not known: give --prices")
    total, num = float(np.nansum(usd)), int(ok.sum())
    divisor = {"cost": 1.0, "cost_per_request": num, "cost_per_1k": num / 1000}.get(name)
    if name == "cost_per_mtok":
        divisor = float(np.nansum(table["num_prompt_tokens"][ok]) + np.nansum(table["num_output_tokens"][ok])) / 1e6
    if name == "cost_per_good":
        divisor = int(good_rows(table, subject.objectives)[1].sum())
    if not divisor:
        return _missing(name, "usd", "lower", "there is nothing to divide the cost by")
    return Measured(name=name, unit="usd", better="lower", value=total / divisor, num=num)


def _gpu(name: str, subject: Subject) -> Measured:
    report = subject.gpu
    unit: Unit = "share" if name == "gpu_utilization" else "joule"
    better: Better = "higher" if name == "gpu_utilization" else "lower"
    if report is None or not report.gpus:
        return _missing(name, unit, better, "no GPU was measured")
    if name == "gpu_utilization":
        shares = [gpu.mean["utilization"] for gpu in report.gpus if "utilization" in gpu.mean]
        value = sum(shares) / len(shares) if shares else None
    else:
        tokens = float(np.nansum(subject.table["num_output_tokens"]))
        value = report.energy_j / tokens if report.energy_j is not None and tokens else None
    why = None if value is not None else "not measured"
    return Measured(name=name, unit=unit, better=better, value=value, num=len(report.gpus), why=why)


_Fold = Callable[[str, Subject], Measured]
_PLAIN: dict[str, tuple[Unit, Better, _Fold]] = {
    "error_rate": ("share", "lower", _outcome_share),
    "throttle_rate": ("share", "lower", _outcome_share),
    "cache_hit_rate": ("share", "higher", _reply_hits),
    "cached_share": ("share", "higher", _cached_share),
    "request_rate": ("per_s", "higher", _rate),
    "output_rate": ("per_s", "higher", _rate),
    "token_rate": ("per_s", "higher", _rate),
    "cost": ("usd", "lower", _cost),
    "cost_per_request": ("usd", "lower", _cost),
    "cost_per_1k": ("usd", "lower", _cost),
    "cost_per_mtok": ("usd", "lower", _cost),
    "cost_per_good": ("usd", "lower", _cost),
    "gpu_utilization": ("share", "higher", _gpu),
    "gpu_energy_per_token": ("joule", "lower", _gpu),
}
