"""The steady part of a run: after the system has warmed up, before the load drains away, if there is such a part at all.

The warm-up ends where MSER-5 says so of the E2E latencies in order of their intended times (`harness.metrics.warmup`). The drain
begins so long before the end of the plan as the slowest hundredth of the requests takes: what was sent later was still in flight
when arrivals stopped, and saw less load. It is cut by the intended time and not request by request, which would leave out the slow
ones and keep the fast. What is left drifts if its batch means go one way, or jump (`harness.metrics.trend`).

A long queue that chance put at the start looks like a warm-up and is left out now and then. So the p99 of an M/M/1 at 80 % load over
five minutes comes out 8 % lower on average than over the whole run, at 50 % load 2 %; p50 less than 2 %.
"""

from __future__ import annotations

import msgspec
import numpy as np

from harness.arrivals.pacing import Piece, pieces_of
from harness.errors import UsageError
from harness.metrics.latencies import latency
from harness.metrics.trend import NUM_BATCHES, Trend, trend
from harness.metrics.warmup import warmup_length
from harness.quantiles import Distribution, distribution, nearest_rank
from harness.store import Manifest
from harness.table import Floats, Mask, Table

__all__ = ["METRICS", "Steady", "steady"]

METRICS = ("ttft", "tpot", "e2e")
_LEAST_REQUESTS = 200
_DRAIN_PERCENT = 99.0


class Steady(msgspec.Struct, kw_only=True):
    """Requests whose intended time lies in `[from_s, to_s)`, and their metrics (ttft, tpot, e2e; ok requests).

    `state`: `steady`; `drifting` where latency goes on growing or falling until the end, or jumps, so that a percentile depends on how
    long one looked; `too short`; `not asked` where the plan's rate changes, so that there is nothing steady to find.
    `why` says it in a sentence. Metrics and rate only where it is steady; `num_warmup` and `num_drain` are the requests before and
    after. `output_rate`: output tokens of ok requests, a second of the window.
    """

    state: str
    why: str
    from_s: float | None = None
    to_s: float | None = None
    num: int = 0
    num_warmup: int = 0
    num_drain: int = 0
    metrics: dict[str, Distribution] = {}
    output_rate: float | None = None


def steady(table: Table, manifest: Manifest) -> Steady:
    """The steady part of a run. Of a run with a warm-up that was given (`manifest.warmup_s`) the rows after it."""
    if (why := _not_asked(manifest)) is not None:
        return Steady(state="not asked", why=why)
    start, end = manifest.warmup_s, min(manifest.duration_s, manifest.ended_at or manifest.duration_s)
    ok = table.is_outcome("ok") & ~np.isnan(table["done_at"])
    drain_s = _drain_s(table, ok, start, end)
    longest_s = (end - start) / 2
    to_s = end - min(drain_s, longest_s)
    intended = table["intended_at"]
    rows = np.flatnonzero(ok & (intended >= start) & (intended < to_s))
    rows = rows[np.argsort(intended[rows], kind="stable")]
    if len(rows) < _LEAST_REQUESTS:
        return _too_short(
            f"{len(rows)} requests were answered before the load drained away; it takes {_LEAST_REQUESTS} to tell"
        )
    values = latency(table, "e2e")[rows]
    warmup = warmup_length(values)
    kept = rows[len(rows) // 2 if warmup is None else warmup :]
    found = trend(values[-len(kept) :])
    from_s = start if warmup == 0 else float(intended[kept[0]])
    if found.drifts or found.jumps:
        return _window(table, from_s, to_s, "drifting", _how_it_drifts(found, intended[kept]))
    if drain_s > longest_s:
        return _too_short(
            f"the slowest requests take {drain_s:.3g} s, more than half of the plan: most of them saw the load begin or end"
        )
    if warmup is None:
        return _too_short(f"latency had not settled by {from_s:.3g} s, half of the run")
    return _measured(table, from_s, to_s, start, len(kept))


def _not_asked(manifest: Manifest) -> str | None:
    """Why the plan asks for nothing steady; None when it does."""
    if manifest.reactive:
        return "the plan goes on from answers, so its rate is not given beforehand"
    pieces = _pieces(manifest)
    if not pieces:
        return "the plan does not say at what rate its requests come"
    rates = [rate for piece in pieces for rate in (piece.rate, piece.last_rate)]
    if min(rates) != max(rates):
        return f"the plan's rate changes, between {min(rates):g}/s and {max(rates):g}/s"
    num_phases = len({piece.phase for piece in pieces})
    return None if num_phases == 1 else f"the plan has {num_phases} phases"


def _pieces(manifest: Manifest) -> list[Piece]:
    """The pieces of the plan that were meant to be sent; none where it names none that can be read."""
    try:
        pieces = pieces_of(manifest.plan["pieces"])
        return [piece for piece in pieces if piece.start_s < manifest.duration_s]
    except (KeyError, TypeError, AttributeError, UsageError):
        return []


def _drain_s(table: Table, ok: Mask, start: float, end: float) -> float:
    """How long before the end of the plan the drain begins: as long as all but the slowest hundredth of the second half took, which
    no warm-up has made slow; the whole plan where none of it was answered."""
    late = ok & (table["intended_at"] >= (start + end) / 2)
    took = np.sort(latency(table, "e2e")[late])
    return float(took[nearest_rank(_DRAIN_PERCENT, len(took))]) if len(took) else end - start


def _too_short(why: str) -> Steady:
    return Steady(state="too short", why=why)


def _how_it_drifts(found: Trend, intended: Floats) -> str:
    """In words. Whoever drifts may seem to jump as well, and the drift says more."""
    if found.drifts:
        how = f"{_word(found.change)} from its first half to its second, between {intended[0]:.3g} s and {intended[-1]:.3g} s"
    else:
        at = intended[len(intended) * found.jump_at // NUM_BATCHES]
        how = f"{_word(found.jump)} at about {at:.3g} s"
    return f"E2E {how}: a percentile would depend on how long the run was"


def _word(change: float) -> str:
    return f"{'grew' if change > 0 else 'fell'} by {abs(change):.0%}"


def _began(from_s: float, start: float) -> str:
    if from_s > start:
        return f"after {from_s - start:.3g} s of warm-up"
    return f"from {start:.4g} s on" if start else "from the start"


def _measured(table: Table, from_s: float, to_s: float, start: float, num_ok: int) -> Steady:
    shown = f"no trend over {NUM_BATCHES} batches of {num_ok // NUM_BATCHES} requests"
    why = f"{_began(from_s, start)} until {to_s:.4g} s E2E of answered requests shows {shown}"
    found = _window(table, from_s, to_s, "steady", why)
    rows = _inside(table, from_s, to_s) & table.is_outcome("ok")
    found.metrics = {name: distribution(latency(table, name)[rows]) for name in METRICS}
    tokens: Floats = table["num_output_tokens"][rows]
    found.output_rate = None if np.isnan(tokens).all() else float(np.nansum(tokens)) / (to_s - from_s)
    return found


def _window(table: Table, from_s: float, to_s: float, state: str, why: str) -> Steady:
    intended = table["intended_at"]
    return Steady(
        state=state,
        why=why,
        from_s=from_s,
        to_s=to_s,
        num=int(_inside(table, from_s, to_s).sum()),
        num_warmup=int((intended < from_s).sum()),
        num_drain=int((intended >= to_s).sum()),
    )


def _inside(table: Table, from_s: float, to_s: float) -> Mask:
    return np.asarray((table["intended_at"] >= from_s) & (table["intended_at"] < to_s))
