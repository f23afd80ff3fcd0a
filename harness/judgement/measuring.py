"""Measuring: from the name of a measure and a run to a value, with its interval where there is one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import inf, isinf

import numpy as np

from harness.costs.self_hosted import hours_of
from harness.errors import UsageError
from harness.goodput import good_rows, with_objective
from harness.gpu.samples import GpuReport
from harness.judgement.binomial import share_interval
from harness.judgement.measures import Better, Measured, Unit
from harness.judgement.quantities import shown
from harness.metrics.latencies import LATENCIES, latency
from harness.objectives import Objective, parse_objective
from harness.quantiles import interval_ranks, nearest_rank, samples_needed
from harness.store import Manifest
from harness.table import OUTCOMES, Floats, Ints, Mask, Table

__all__ = ["BY_CHUNK", "Measure", "Samples", "Subject", "measure", "parse_measure", "subject_of"]

BY_CHUNK = ("itl", "chunk_gap")  # many samples a request
_OF_STREAMS = ("ttft", "ttft_from_send", "tpot", "first_content", "decode", "tail")  # a whole answer has none
# Over before an answer could fail: known, or not measured, and never +∞.
_SEEN_OF_ALL = ("send_lag", "connect", "queue")
_LATENCY = re.compile(r"([a-z][a-z0-9_]*)_(p\d+(?:\.\d+)?|mean|max)(\(ok\))?")
_GOODPUT = re.compile(r"(goodput|goodput_rate)(?:\(([^()]*)\))?")


@dataclass(frozen=True)
class Subject:
    """What is measured: rows of a run (all, or those of a class), the seconds over which they were asked for, their objectives, and
    what the GPUs did and cost an hour. Of a class alone nobody knows what GPUs did. `replica_usd`: what simulated replicas cost by the
    hour, in no request's cost."""

    table: Table
    duration_s: float
    objectives: Mapping[str, Objective]
    gpu: GpuReport | None = None
    gpu_usd_per_hour: float | None = None
    replica_usd: float = 0.0
    _ordered: dict[tuple[str, bool], Floats] = field(default_factory=dict, compare=False, repr=False)

    def ordered(self, metric: str, samples: Callable[[Table], Samples], *, only_ok: bool) -> Floats:
        """The samples of a latency in ascending order, sorted once for however many percentiles are asked of them."""
        if (metric, only_ok) not in self._ordered:
            self._ordered[metric, only_ok] = np.sort(samples(self.table).values)
        return self._ordered[metric, only_ok]


def subject_of(table: Table, manifest: Manifest, gpu: GpuReport | None, replica_usd: float = 0.0) -> Subject:
    """All requests of a run after its warm-up."""
    duration_s = manifest.loaded_s - manifest.warmup_s
    return Subject(table, duration_s, manifest.objectives, gpu, manifest.gpu_price_per_hour, replica_usd)


@dataclass(frozen=True)
class Samples:
    """Samples of a latency in order of the table, and the row of the request that each is of; +∞: it was not answered."""

    values: Floats
    rows: Ints


@dataclass(frozen=True)
class Measure:
    """A measure by name, read and checked.

    What is behind it, for who wants to judge it and not only to know it: of a latency its `statistic` (p99, mean, max), the
    `percent` of a percentile and its `samples`; of a share of requests the `rows` that are counted, and those of them that count.
    """

    name: str
    unit: Unit
    better: Better
    of: Callable[[Subject], Measured] = field(compare=False, repr=False)
    statistic: str | None = None
    percent: float | None = None
    samples: Callable[[Table], Samples] | None = field(default=None, compare=False, repr=False)
    rows: Callable[[Subject], tuple[Mask, Mask]] | None = field(default=None, compare=False, repr=False)


def parse_measure(text: str) -> Measure:
    """Raises UsageError, which names what there is."""
    name = re.sub(r"\s+", "", text)
    if name in _PLAIN:
        unit, better, fold = _PLAIN[name]
        return Measure(name, unit, better, lambda subject: fold(name, subject))
    if name in _SHARES:
        return _share_of(name, *_SHARES[name])
    if found := _GOODPUT.fullmatch(name):
        return _goodput(name, found[1], found[2])
    if (found := _LATENCY.fullmatch(name)) and found[1] in (*LATENCIES, *BY_CHUNK):
        return _latency(name, found[1], found[2], only_ok=bool(found[3]))
    raise UsageError(
        f"{text.strip()!r} is no measure; there are LATENCY_pN, LATENCY_mean and LATENCY_max with LATENCY one of "
        f"{', '.join((*LATENCIES, *BY_CHUNK))}; goodput and goodput_rate, also with bounds as goodput(ttft<1s); "
        f"{', '.join((*_SHARES, *_PLAIN))}"
    )


def measure(text: str, subject: Subject) -> Measured:
    """The measure of this name. Raises UsageError when there is none."""
    return parse_measure(text).of(subject)


# -- latencies ---------------------------------------------------------------------------------------


def _latency(name: str, metric: str, statistic: str, *, only_ok: bool) -> Measure:
    percent = float(statistic[1:]) if statistic.startswith("p") else None
    if percent is not None and not 0 < percent < 100:
        raise UsageError(f"{name}: a percentile lies between 0 and 100")
    if metric in BY_CHUNK or statistic == "mean":
        only_ok = True  # a request that was not answered has no gaps, and a mean with +∞ says nothing

    def samples(table: Table) -> Samples:
        return _samples(table, metric, only_ok=only_ok)

    def fold(subject: Subject) -> Measured:
        found = subject.ordered(metric, samples, only_ok=only_ok)
        if percent is not None:
            return _percentile(name, found, percent, independent=metric not in BY_CHUNK)
        if not len(found):
            return _missing(name, "s", "lower", "nothing was measured")
        if statistic == "mean":
            return _mean(name, found, independent=metric not in BY_CHUNK)
        return _finite(Measured(name=name, unit="s", better="lower", value=float(found.max()), num=len(found)))

    return Measure(name, "s", "lower", fold, statistic, percent, samples)


def _samples(table: Table, metric: str, *, only_ok: bool) -> Samples:
    """One value a request; those that were not ok are +∞, unless only the ok ones are asked for, or the stage was over by then. Left
    out are requests that our side held back or went away from, and those of a kind that never has the latency."""
    ok = table.is_outcome("ok")
    if metric in BY_CHUNK:
        rows = np.repeat(np.arange(len(table)), np.diff(table.gap_start))
        there = ok[rows]
        gaps, weights, rows = table.gaps[there], table.gap_tokens[there], rows[there]
        if metric == "chunk_gap":
            return Samples(gaps, rows)
        return Samples(np.repeat(gaps / weights, weights), np.repeat(rows, weights))
    seen = latency(table, metric)
    values = np.where(ok, seen, np.nan if only_ok else seen if metric in _SEEN_OF_ALL else inf)
    counted = ~np.isnan(values) & ~_ours(table)
    if metric in _OF_STREAMS:  # who asked for a whole answer waits for no first token
        counted &= table.stream | ok
    rows = np.flatnonzero(counted)
    return Samples(values[rows], rows)


def _ours(table: Table) -> Mask:
    return np.asarray(table.is_outcome("refused") | table.is_outcome("left"))


def _percentile(name: str, ordered: Floats, percent: float, *, independent: bool) -> Measured:
    num, needed = len(ordered), samples_needed(percent)
    if num < needed:
        why = f"p{percent:g} needs {needed} samples, there are {num}"
        return Measured(name=name, unit="s", better="lower", value=None, num=num, why=why)
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


_Rows = Callable[[Subject], tuple[Mask, Mask]]


def _share_of(name: str, better: Better, rows: _Rows, why_none: str) -> Measure:
    def fold(subject: Subject) -> Measured:
        counted, hit = rows(subject)
        num, num_over = int(counted.sum()), int(hit.sum())
        if not num:
            return _missing(name, "share", better, why_none)
        low, high = share_interval(num_over, num)
        return Measured(
            name=name, unit="share", better=better, value=num_over / num, low=low, high=high, num=num, num_over=num_over
        )

    return Measure(name, "share", better, fold, rows=rows)


def _outcomes(*names: str) -> _Rows:
    """Of the requests that were sent to be answered."""

    def rows(subject: Subject) -> tuple[Mask, Mask]:
        table = subject.table
        return ~_ours(table), np.isin(table.outcome, [OUTCOMES.index(name) for name in names])

    return rows


def _reply_hits(subject: Subject) -> tuple[Mask, Mask]:
    told = subject.table.labels["cache_outcome"]
    counted = np.asarray(told.codes >= 0)
    return counted, counted & ~told.is_("miss")


_SHARES: dict[str, tuple[Better, _Rows, str]] = {
    "error_rate": ("lower", _outcomes("failed", "cut", "incomplete"), "no request was sent"),
    "throttle_rate": ("lower", _outcomes("throttled"), "no request was sent"),
    "cache_hit_rate": ("higher", _reply_hits, "the server said of no request what its cache did"),
}


def _goodput(name: str, kind: str, bounds: str | None) -> Measure:
    given = None if bounds is None else {"": parse_objective(bounds)}

    def rows(subject: Subject) -> tuple[Mask, Mask]:
        return good_rows(subject.table, given or subject.objectives)

    if kind == "goodput":
        why = (
            "no request was sent of which these bounds are seen"
            if given
            else "no request has an objective: write goodput(ttft<1s,tpot<60ms)"
        )
        return _share_of(name, "higher", rows, why)

    def fold(subject: Subject) -> Measured:
        counted, good = rows(subject)
        num = int(counted.sum())
        if not num and not given:
            return _missing(
                name, "per_s", "higher", "no request has an objective: write goodput_rate(ttft<1s,tpot<60ms)"
            )
        return _per_second(name, float(good.sum()), num, subject.duration_s)

    return Measure(name, "per_s", "higher", fold)


def _cached_share(name: str, subject: Subject) -> Measured:
    cached, prompt = subject.table["num_cached_tokens"], subject.table["num_prompt_tokens"]
    known = ~np.isnan(cached) & ~np.isnan(prompt)
    total = float(prompt[known].sum())
    if not total:
        return _missing(name, "share", "higher", "the server counted no cached tokens")
    value = float(cached[known].sum()) / total
    return Measured(name=name, unit="share", better="higher", value=value, num=int(known.sum()))


# -- rates, money, energy ----------------------------------------------------------------------------


def _per_second(name: str, amount: float, num: int, seconds: float) -> Measured:
    if not seconds > 0:
        return _missing(name, "per_s", "higher", "the load lasted no time")
    return Measured(name=name, unit="per_s", better="higher", value=amount / seconds, num=num)


def _rate(name: str, subject: Subject) -> Measured:
    """Over the time that the answers took, as in the summary: a plan's own time would give whoever answers late the rate of the plan."""
    ok = subject.table.is_outcome("ok")
    num, sent, done = int(ok.sum()), subject.table["sent_at"][ok], subject.table["done_at"][ok]
    seconds = float(done.max() - sent.min()) if num else subject.duration_s
    if name == "request_rate":
        return _per_second(name, num, num, seconds)
    columns = [subject.table[column][ok] for column in _TOKENS[name]]
    if num and all(np.isnan(column).all() for column in columns):
        return _missing(name, "per_s", "higher", "nobody counted the tokens")
    return _per_second(name, float(sum(np.nansum(column) for column in columns)), num, seconds)


_TOKENS = {"output_rate": ("num_output_tokens",), "token_rate": ("num_prompt_tokens", "num_output_tokens")}


def _cost(name: str, subject: Subject) -> Measured:
    """Of what is known, as in the bill. What the others cost lies between nothing and as much as the dearest that is known; `low` and
    `high` say what the whole is then. What our side held back costs nothing."""
    table, missing = subject.table, partial(_missing, name, "usd", "lower")
    if subject.replica_usd:
        return missing(
            f"replicas cost {shown(subject.replica_usd, 'usd')} besides, by the hour: that is in no request's cost"
        )
    usd, num = table["cost_usd"], int(table.is_outcome("ok").sum())
    known = ~np.isnan(usd)
    hours = None if known.any() or subject.gpu_usd_per_hour is None else hours_of(table)
    if hours is not None:  # where tokens have no price, the GPUs' hours are the cost, as in the bill
        known = np.ones_like(known)
        usd = np.full(len(table), hours * (subject.gpu_usd_per_hour or 0.0) / len(table))
    if not known.any():
        return missing("the cost is not known: give --prices or --gpu-price, or a simulated deployment prices")
    if name == "cost_per_good" and not good_rows(table, subject.objectives)[0].any():
        return missing("no request has an objective")
    of = with_objective(table, subject.objectives) if name == "cost_per_good" else np.ones_like(known)
    num_unknown = int((of & ~known & ~np.isnan(table["sent_at"]) & ~table.is_outcome("refused")).sum())
    counted, everything = _divisor(name, subject, known), _divisor(name, subject, np.ones_like(known))
    total = float(np.nansum(usd[of]))
    measured = Measured(name=name, unit="usd", better="lower", value=None, num=num, num_unknown=num_unknown)
    if everything and num_unknown:
        measured.low, measured.high = (total / everything, (total + num_unknown * float(np.nanmax(usd))) / everything)
    if counted:
        measured.value = total / counted
    elif total and not everything:
        measured.infinite = True
    else:
        measured.why = (
            "the cost of no answered request is known" if everything else "there is nothing to divide the cost by"
        )
    return measured


def _divisor(name: str, subject: Subject, rows: Mask) -> float:
    table = subject.table
    ok = table.is_outcome("ok") & rows
    if name == "cost_per_mtok":
        return float(np.nansum(table["num_prompt_tokens"][ok]) + np.nansum(table["num_output_tokens"][ok])) / 1e6
    if name == "cost_per_good":
        return float((good_rows(table, subject.objectives)[1] & rows).sum())
    num = float(ok.sum())
    return {"cost": 1.0, "cost_per_request": num, "cost_per_1k": num / 1000}[name]


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
