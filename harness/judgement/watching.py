"""What the alerts have in common: how often chance may set one off, what they give back, why one cannot be watched."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from harness.judgement.windows import Finding

__all__ = ["FALSE_ALARMS", "CannotWatchError", "Fired"]

FALSE_ALARMS = 0.01  # of runs in which nothing changes, for each alert


class CannotWatchError(Exception):
    """Why an alert can neither fire nor be ruled out."""


@dataclass(frozen=True)
class Fired:
    """When an alert's limit was exceeded, in order of time; findings no more than `apart_s` apart are one alert."""

    findings: Iterable[Finding]
    limit: float
    text: Callable[[Finding], str]
    apart_s: float = 1e-6
