"""The whole examination: clocks, the base load, then the highest load that is still measured well, within a bounded time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.doctor.certificate import Certificate, Clocks, Level, best_of, judge
from harness.doctor.golden import GoldenLoad
from harness.doctor.search import next_level

__all__ = ["FULL", "QUICK", "Extent", "Rim", "examine"]


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is tried. `first` follows the base load; at most `most` streams; no load is begun that would end after
    `limit_s`."""

    base: GoldenLoad
    level_s: float
    first: int
    most: int
    limit_s: float
    enough_for_p99: bool

    def load(self, streams: int) -> GoldenLoad:
        """With fewer streams than the base a 99th percentile would take too long."""
        enough = self.enough_for_p99 and streams >= self.base.streams
        return GoldenLoad.for_p99(streams, self.level_s) if enough else GoldenLoad(streams, self.level_s)


FULL = Extent(GoldenLoad.for_p99(40, 8.0), level_s=4.0, first=80, most=1280, limit_s=60.0, enough_for_p99=True)
QUICK = Extent(GoldenLoad(40, 2.5), level_s=2.0, first=160, most=160, limit_s=16.0, enough_for_p99=False)


@dataclass(frozen=True, slots=True)
class Rim:
    """What the examination does in the world. `now`: a clock in seconds; `tell`: a word about what is done next."""

    measure: Callable[[GoldenLoad], Level]
    clocks: Callable[[], Clocks]
    now: Callable[[], float]
    tell: Callable[[str], None]


def examine(
    rim: Rim,
    extent: Extent,
    *,
    machine: Mapping[str, Any],
    versions: Mapping[str, str],
    wall: float,
    load_average: float | None,
) -> Certificate:
    """Examine this machine and write what was found into a certificate. Raises HarnessError when nothing can be run."""
    began = rim.now()
    rim.tell("clocks and timers")
    clocks = rim.clocks()
    levels = _levels(rim, extent, began)
    base = levels[0]
    state, reasons = judge(clocks, base, load_average, machine.get("num_cpus"))
    best, limit = best_of(levels)
    return Certificate(
        made_wall=wall,
        state=state,
        reasons=reasons,
        quick=extent is QUICK,
        machine=dict(machine),
        versions=dict(versions),
        load_average=load_average,
        clocks=clocks,
        base=base,
        best=best,
        limit=limit,
        levels=sorted(levels, key=lambda level: level.streams),
    )


def _levels(rim: Rim, extent: Extent, began: float) -> list[Level]:
    """The base load, then what the search asks for, as long as there is time."""
    levels: list[Level] = []
    load: GoldenLoad | None = extent.base
    while load is not None:
        rim.tell(f"{load.streams} streams of 50 tokens/s for {load.seconds:g} s")
        started = rim.now()
        levels.append(rim.measure(load))
        around = rim.now() - started - load.seconds  # starting and ending the processes
        streams = _next_streams(levels, extent)
        load = None if streams is None else extent.load(streams)
        if load is not None and rim.now() + load.seconds + around - began > extent.limit_s:
            return levels
    return levels


def _next_streams(levels: list[Level], extent: Extent) -> int | None:
    kept = {level.streams: level.limit is None for level in levels}
    if len(levels) == 1 and levels[0].limit is None:
        return extent.first
    return next_level(kept, first=extent.first, most=extent.most)
