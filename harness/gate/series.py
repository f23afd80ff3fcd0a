"""One measure over all runs of both sides, on the scale on which a change is one number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

import numpy as np

from harness.errors import UsageError
from harness.gate.facts import JudgedRun
from harness.judgement.measures import Better, Measured, Unit
from harness.judgement.measuring import parse_measure
from harness.table import Floats

__all__ = ["Series", "series_of"]

# Records are exact to a microsecond. Of what is less than that, or than a billionth of a dollar, nobody knows a ratio.
_LEAST = {"s": 1e-6}
_LEAST_OF_OTHERS = 1e-9
_TIMES_WORSE = 1000.0  # than the largest finite value: where a value that is +∞ stands


@dataclass(frozen=True)
class Series:
    """A measure by run. A change is a ratio, but of shares, which may be 0, a difference.

    On the scale that is judged, up is worse: the logarithm of the value, or the share, turned round where higher is better.
    """

    name: str
    unit: Unit
    better: Better
    candidates: tuple[Measured | None, ...]
    baselines: tuple[Measured | None, ...]

    @property
    def is_share(self) -> bool:
        return self.unit == "share"

    @property
    def nowhere(self) -> str | None:
        """Why no run of either side has a value; None: some have."""
        each = [*self.candidates, *self.baselines]
        return None if any(map(_is_known, each)) else _why(each[0])

    @property
    def missing(self) -> str | None:
        """Why the sides cannot be compared; None: every run has a value."""
        for side, runs in (("candidate", self.candidates), ("baseline", self.baselines)):
            unknown = [each for each in runs if not _is_known(each)]
            if unknown:
                return f"{len(unknown)} of {len(runs)} {side} runs have no value: {_why(unknown[0])}"
        num_infinite = sum(each is not None and each.infinite for each in self.baselines)
        if num_infinite:
            return f"it is +∞ in {num_infinite} of {len(self.baselines)} baseline runs"
        num_zero = sum(each is not None and each.value == 0 for each in self.baselines)
        if num_zero and self.better == "higher" and not self.is_share:
            return f"it is 0 in {num_zero} of {len(self.baselines)} baseline runs: of nothing there is no part"
        return None

    @property
    def num_infinite(self) -> int:
        return sum(each is not None and each.infinite for each in self.candidates)

    def judged(self) -> tuple[Floats, Floats]:
        """Values of candidates and baselines on the scale that is judged. Only where nothing is `missing`."""
        finite = [each.value for each in (*self.candidates, *self.baselines) if each and each.value is not None]
        highest = _TIMES_WORSE * max(finite, default=1.0)
        sides = (self.candidates, self.baselines)
        candidates, baselines = (np.array([self._scaled(each, highest) for each in side]) for side in sides)
        return candidates, baselines

    def _scaled(self, measured: Measured | None, highest: float) -> float:
        assert measured is not None
        value = highest if measured.value is None else measured.value
        up = value if self.is_share else log(max(value, _LEAST.get(self.unit, _LEAST_OF_OTHERS)))
        return up * self.judged_sign

    @property
    def judged_sign(self) -> int:
        return 1 if self.better == "lower" else -1

    def change(self, shift: float) -> float:
        """A shift of the judged scale as people say it: candidate / baseline - 1, or the difference of the shares."""
        return self.judged_sign * shift if self.is_share else exp(self.judged_sign * shift) - 1

    def margin(self, allowed: float) -> float:
        """What is allowed, on the judged scale. Raises UsageError for what is no share of a value."""
        if allowed < 0 or (allowed >= 1 and (self.is_share or self.better == "higher")):
            raise UsageError(f"allowed {self.name}: {allowed:.0%} is not between 0 and 100 %")
        return allowed if self.is_share else log(1 + allowed) if self.better == "lower" else -log(1 - allowed)


def _is_known(measured: Measured | None) -> bool:
    return measured is not None and (measured.value is not None or measured.infinite)


def _why(measured: Measured | None) -> str:
    if measured is None:
        return "it was not kept with the baseline"
    return measured.why or "it was not measured"


def series_of(name: str, candidates: Sequence[JudgedRun], baselines: Sequence[JudgedRun]) -> Series:
    """Raises UsageError when there is no such measure."""
    measure = parse_measure(name)
    of = [tuple(run.facts.measures.get(measure.name) for run in side) for side in (candidates, baselines)]
    return Series(measure.name, measure.unit, measure.better, of[0], of[1])
