"""The answer of a capacity search, worked out from its records, and in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from harness.objectives import Objective
from harness.reactive.capacity import Capacity, CapacitySettings, Probe, Tally, answer_of, count, probe_times
from harness.records import RequestRecord

__all__ = ["capacity_of", "capacity_text"]

_PHASE = re.compile(r"probe (\d+)(?: window (\d+))?, (\S+)/s")


def capacity_of(plan: Mapping[str, Any], records: Iterable[RequestRecord]) -> Capacity:
    """The answer of a search, worked out again from the plan in the run's manifest and its records alone."""
    settings, seed = msgspec.convert(plan["capacity"], CapacitySettings), int(plan["seed"])
    counts: dict[tuple[int, int, float], list[int]] = {}
    for record in records:
        found = _PHASE.fullmatch(record.phase or "")
        if found is None:
            continue
        tally = counts.setdefault((int(found[1]), int(found[2] or 1), float(found[3])), [0, 0])
        is_good = count(record, settings.objective)
        if is_good is not None:
            tally[0 if is_good else 1] += 1
    tallies: dict[int, Tally] = {}
    for (number, window, rate), (num_good, num_bad) in sorted(counts.items()):
        num_planned = len(probe_times(settings, seed, Probe(number, rate, window))[1])
        before = tallies.get(number, Tally(number, rate, 0, 0, 0, 0))
        tallies[number] = Tally(
            number, rate, window, before.num_planned + num_planned, before.num_good + num_good, before.num_bad + num_bad
        )
    return answer_of(settings, list(tallies.values()))


def capacity_text(capacity: Capacity) -> list[str]:
    """Lines for a terminal."""
    good = f"{100 * capacity.share:.4g}% of the requests meet {_words(capacity.objective)}"
    low, high = (f"{bound:g}/s" if bound is not None else "" for bound in (capacity.low, capacity.high))
    heads = {
        "found": f"capacity {low}: there at least {good}; at {high} fewer",
        "lowest_fails": f"no capacity found: already at {high} fewer than {good}; begin lower with -r",
        "highest_passes": f"capacity at least {low}: there at least {good}; nothing higher was to be asked, raise --highest",
        "aborted": f"the search was cut short; at least {good} {_between(low, high)}",
    }
    unclear = [" one of these rates is too near to the bound to be told from it; lengthen --probe"]
    lines = [heads[capacity.kind], *(unclear if capacity.is_unclear else [])]
    lines.append("probe      rate     num   good  95 % interval    verdict")
    for probe in capacity.probes:
        share = "–" if probe.share is None else f"{probe.share:.1%}"
        interval = f"{probe.low:.1%} to {probe.high:.1%}"
        missing = "" if not probe.num_open else ", broken off" if probe.verdict == "bad" else ", cut short"
        lines.append(
            f"{probe.number:>5}  {probe.rate:>6g}/s  {probe.num:>6} {share:>6}  {interval:<15}  {probe.verdict}{missing}"
        )
    return lines


def _between(low: str, high: str) -> str:
    if low and high:
        return f"at {low}, not at {high}"
    if low or high:
        return f"at {low}; more is not known" if low else f"not at {high}; more is not known"
    return "at no rate that is known"


def _words(objective: Objective) -> str:
    return ",".join(f"{name}<{bound:g}s" for name, bound in objective.bounds.items())
