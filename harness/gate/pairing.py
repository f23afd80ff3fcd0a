"""Which run of the candidate belongs to which of the baseline, and whether their order lets a change be told from drift.

Virtual time: runs of one seed meet the same arrivals and the same luck; the difference within such a pair is the change
alone (common random numbers). Real time: machines drift by the minute, so neighbours in time are pairs, in the order ABBA
(A the baseline), which cancels a steady drift. When one side ran after the other, as with a stored baseline, a drift looks
like a change: eight runs after eight others give four false alarms in five at a drift of 1 % a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harness.errors import UsageError
from harness.gate.facts import JudgedRun

__all__ = ["Arrangement", "arrange"]

_FARTHEST = 1.0  # of the mean ranks: that of ABAB…, however many runs
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Arrangement:
    """`pairs` are indices (candidate, baseline); None: the sides are compared as wholes. `order` in time, A the baseline.

    `drift`: why a change could not be told from a drift; None: it can. `overlaps`: runs that disturbed each other.
    """

    pairs: tuple[tuple[int, int], ...] | None
    order: str
    words: str
    drift: str | None = None
    overlaps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def arrange(candidates: Sequence[JudgedRun], baselines: Sequence[JudgedRun]) -> Arrangement:
    """Raises UsageError when a run stands there twice: it would count as two."""
    _require_distinct(candidates, baselines)
    virtual = candidates[0].manifest.clock == "virtual"
    return _by_seed(candidates, baselines) if virtual else _in_time(candidates, baselines)


# -- virtual time ------------------------------------------------------------------------------------


def _by_seed(candidates: Sequence[JudgedRun], baselines: Sequence[JudgedRun]) -> Arrangement:
    places = {run.manifest.seed: place for place, run in enumerate(baselines)}
    pairs = tuple(
        (place, places[run.manifest.seed]) for place, run in enumerate(candidates) if run.manifest.seed in places
    )
    if len(pairs) < min(len(candidates), len(baselines)):
        words = "not paired: in virtual time with other seeds"
        return Arrangement(None, "", words)
    notes = tuple(
        f"{num} {side} {'run' if num == 1 else 'runs'} of a seed that the other side has not: left out"
        for side, num in (("candidate", len(candidates) - len(pairs)), ("baseline", len(baselines) - len(pairs)))
        if num
    )
    return Arrangement(pairs, "", f"{len(pairs)} pairs of the same seed, in virtual time", notes=notes)


# -- real time ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Placed:
    """A run in the order of time."""

    side: Literal["A", "B"]
    place: int
    run: JudgedRun

    @property
    def started(self) -> float:
        return self.run.manifest.started_wall

    @property
    def ended(self) -> float:
        manifest = self.run.manifest
        return self.started + (manifest.loaded_s if manifest.ended_at is None else manifest.ended_at)


def _in_time(candidates: Sequence[JudgedRun], baselines: Sequence[JudgedRun]) -> Arrangement:
    placed = [_Placed("B", place, run) for place, run in enumerate(candidates)]
    placed += [_Placed("A", place, run) for place, run in enumerate(baselines)]
    placed.sort(key=lambda each: each.started)
    order = "".join(each.side for each in placed)
    apart = _mean_rank(order, "B") - _mean_rank(order, "A")
    pairs = _neighbours(placed)
    drift, notes = None, []
    if abs(apart) > _FARTHEST + _ROUNDING:
        later, earlier = ("candidate", "baseline") if apart > 0 else ("baseline", "candidate")
        drift = (
            f"the {later} ran after the {earlier} ({order}), so a drift of the machine cannot be told from a change; "
            "run them interleaved: ABBA ABBA …"
        )
    elif abs(apart) > 0.5:
        notes.append(f"in the order {order} the drift of a run or so is part of the change; ABBA ABBA … cancels it")
    how = "interleaved" if drift is None else "one side after the other"
    words = f"{len(pairs)} pairs of neighbours, {order}" if pairs else f"not paired, {how}: {order}"
    return Arrangement(pairs, order, words, drift, tuple(_overlaps(placed)), tuple(notes))


def _mean_rank(order: str, side: str) -> float:
    ranks = [rank for rank, letter in enumerate(order) if letter == side]
    return sum(ranks) / len(ranks)


def _neighbours(placed: Sequence[_Placed]) -> tuple[tuple[int, int], ...] | None:
    """The first with the second, the third with the fourth and so on, if each of these has one of both sides."""
    couples = [placed[start : start + 2] for start in range(0, len(placed), 2)]
    if any({each.side for each in couple} != {"A", "B"} for couple in couples):
        return None
    by_side = [{each.side: each.place for each in couple} for couple in couples]
    return tuple((places["B"], places["A"]) for places in by_side)


def _overlaps(placed: Sequence[_Placed]) -> list[str]:
    """Runs that were under way at the same time on one machine: each was a load on the other."""
    found: list[str] = []
    latest: dict[object, _Placed] = {}  # by machine the run that ends last
    for each in placed:
        host = each.run.manifest.machine.get("host")
        before = latest.get(host)
        if before is not None and each.started < before.ended:
            found.append(f"{each.run.name} began before {before.run.name} had ended: they disturbed each other")
        latest[host] = each if before is None else max(before, each, key=lambda one: one.ended)
    return found


# -- both --------------------------------------------------------------------------------------------


def _require_distinct(candidates: Sequence[JudgedRun], baselines: Sequence[JudgedRun]) -> None:
    seen: dict[object, str] = {}
    for side, runs in (("candidate", candidates), ("baseline", baselines)):
        for run in runs:
            manifest = run.manifest
            virtual = manifest.clock == "virtual"  # the same seed on both sides is the very idea; twice on one, a copy
            key = (side, manifest.seed) if virtual else (manifest.run_id, manifest.uid, manifest.started_wall)
            if key in seen:
                because = f": both have seed {manifest.seed}, and so are the same run" if virtual else ""
                raise UsageError(f"{run.name} and {seen[key]} are one run, which would count twice{because}")
            seen[key] = run.name
