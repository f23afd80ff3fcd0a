"""Alerts: what a reader of a run must be told of, window by window.

An alert compares a window with the run's own first windows (latency, cost) or with a limit (errors, capacity). Chance has its
bursts too, so a window must be worse than chance makes the worst of so many: over a whole run in which nothing changes, an
alert is meant to fire with a chance of at most 1 %, half of it for the first windows, the rest shared by the others (Bonferroni).
What swings more slowly than the first windows last cannot be seen in them: behind a queue at 80 % of its capacity 1 % of the runs
alert, at 90 % in 15 % a median that is compared with those of 60 s. Capacity
is not a sample: it was in use, or it was not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import isfinite

from harness.gpu.samples import GpuSample, ServerSample
from harness.judgement.binomial import incomplete_beta
from harness.judgement.capacity import Series, in_flight, over, series_of, since
from harness.judgement.cost_alert import cost_spike
from harness.judgement.latency_alert import latency_degradation
from harness.judgement.measuring import Subject, parse_measure
from harness.judgement.quantities import shown
from harness.judgement.results import Alert, NotWatched
from harness.judgement.slo import Slo
from harness.judgement.slo_keys import AlertKeys, CapacityKeys, ErrorRateKeys, LatencyKeys
from harness.judgement.watching import FALSE_ALARMS, CannotWatchError, Fired
from harness.judgement.windows import Finding, joined, windows_of
from harness.store import Manifest
from harness.table import Table

__all__ = ["ServerSamples", "Watch", "watch"]

ServerSamples = Sequence[GpuSample | ServerSample]


@dataclass
class Watch:
    """What fired, in order of time, and what could not be watched."""

    alerts: list[Alert] = field(default_factory=list)
    not_watched: list[NotWatched] = field(default_factory=list)


def watch(
    slo: Slo, table: Table, manifest: Manifest, samples: ServerSamples = (), everything: Table | None = None
) -> Watch:
    """Watch for every alert of the file. `table`: the requests after the warm-up; `samples`: of GPUs and servers, over time;
    `everything`: all requests, for those of the warm-up were in flight after it, too."""
    found = Watch()
    for keys in slo.alerts:
        whole = everything if everything is not None and isinstance(keys, CapacityKeys) else table
        for look in _looks(keys, whole, manifest, samples):
            try:
                found.alerts += [alert for fired in look() for alert in _alerts(keys, fired)]
            except CannotWatchError as why:
                found.not_watched.append(NotWatched(kind=keys.kind, why=str(why), fail=keys.fail))
    found.alerts.sort(key=lambda alert: alert.from_s)
    return found


def _alerts(keys: AlertKeys, fired: Fired) -> list[Alert]:
    return [
        Alert(
            kind=keys.kind,
            from_s=each.from_s,
            to_s=each.to_s,
            worst=each.worst if isfinite(each.worst) else None,
            limit=fired.limit,
            text=fired.text(each),
            fail=keys.fail,
        )
        for each in joined(fired.findings, fired.apart_s)
    ]


def _looks(
    keys: AlertKeys, table: Table, manifest: Manifest, samples: ServerSamples
) -> list[Callable[[], list[Fired]]]:
    """What is watched, each by itself: that one bound of a capacity cannot be watched must not hide another."""
    if isinstance(keys, CapacityKeys):
        return [partial(_capacity, keys, what, table, manifest, samples) for what in keys.bounds]
    if isinstance(keys, ErrorRateKeys):
        return [lambda: [_errors(keys, table, manifest)]]
    if isinstance(keys, LatencyKeys):
        return [lambda: [latency_degradation(keys, table, manifest)]]
    return [lambda: [cost_spike(keys, table, manifest)]]


def _errors(keys: ErrorRateKeys, table: Table, manifest: Manifest) -> Fired:
    rate = parse_measure("error_rate")
    assert rate.rows is not None
    counted, bad = rate.rows(Subject(table, manifest.loaded_s, {}))
    if not counted.any():
        raise CannotWatchError("no request was sent")
    if keys.window > (span_s := manifest.loaded_s - manifest.warmup_s):
        raise CannotWatchError(f"a window of {keys.window:g} s is longer than the {span_s:g} s that are looked at")
    windows, bad = windows_of(table["intended_at"][counted], manifest, keys.window), bad[counted]
    all_windows = windows.rest(0)

    def findings() -> Iterator[Finding]:
        for window in all_windows:
            hits = bad[windows.samples(window, window + 1)]
            num, num_bad = len(hits), int(hits.sum())
            # Errors in a burst are what is looked for, so here they count one by one.
            if num_bad and incomplete_beta(keys.above, num_bad, num - num_bad + 1) <= FALSE_ALARMS / len(all_windows):
                yield windows.finding(window, num_bad / num)

    return Fired(
        findings(),
        keys.above,
        lambda each: (
            f"{shown(each.worst, 'share')} of the requests of {keys.window:g} s failed; the limit is "
            f"{shown(keys.above, 'share')}"
        ),
    )


def _capacity(keys: CapacityKeys, what: str, table: Table, manifest: Manifest, samples: ServerSamples) -> list[Fired]:
    found, limit = _in_use(what, table, manifest, samples), keys.bounds[what]
    if not found:
        raise CannotWatchError(_NOT_MEASURED[what])
    return [
        Fired(over(since(series, manifest.warmup_s), limit), limit, _CapacityText(name, limit), keys.window)
        for name, series in found.items()
    ]


def _in_use(what: str, table: Table, manifest: Manifest, samples: ServerSamples) -> dict[str, Series]:
    if what != "in_flight":
        return series_of(samples, what)
    found = in_flight(table, manifest)
    return {} if found is None else {"requests in flight": found}


_NOT_MEASURED = {
    "in_flight": "requests in flight had no cap, or no request was sent",
    "kv_cache": "nobody said how much of the KV cache was in use",
    "gpu": "no GPU was measured",
}


@dataclass(frozen=True)
class _CapacityText:
    name: str
    limit: float

    def __call__(self, found: Finding) -> str:
        return f"{self.name}: {shown(found.worst, 'share')} of what there is; the limit is {shown(self.limit, 'share')}"
