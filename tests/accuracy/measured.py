"""What the comparisons with measured data share: a load in virtual time, and the times that its requests met."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from math import inf

import numpy as np
from numpy.typing import NDArray

from mockllm import Finished, Request, Serving, Tokens, chunks_of

__all__ = ["Times", "percentile", "run_load"]

Seconds = NDArray[np.float64]


@dataclass(frozen=True)
class Times:
    """One entry a finished request, in order of the end. TPOT is NaN for a request of one token."""

    arrived_at: Seconds
    sent_at: Seconds
    done_at: Seconds
    ttft_s: Seconds
    tpot_s: Seconds

    @property
    def e2e_s(self) -> Seconds:
        """Counted from the send, as the measured clients count."""
        return self.done_at - self.sent_at

    def since(self, start: float) -> Times:
        """Without the requests that arrived before `start`."""
        kept = self.arrived_at >= start
        return Times(*(getattr(self, field.name)[kept] for field in fields(self)))


def run_load(engine: Serving, arrivals: Iterable[tuple[float, Request]], *, cap: float = inf) -> Times:
    """Drive the engine through the arrivals with at most `cap` requests in flight; a later one waits at the client."""
    arrived: dict[str, float] = {}
    sent: dict[str, float] = {}
    rows: list[tuple[float, float, float, float, float]] = []

    def step() -> int:
        ended = 0
        for emission in engine.advance(engine.due()):
            if isinstance(emission, Tokens):
                key, num = emission.request_id, emission.num
                first = next(iter(chunks_of(emission)))
                tpot = (emission.at - first.at) / (num - first.num) if num > first.num else float("nan")
                rows.append((arrived[key], sent[key], emission.at, first.at - sent[key], tpot))
            ended += isinstance(emission, Finished)
        return ended

    now, in_flight = 0.0, 0
    for at, request in arrivals:
        now = max(now, at)
        while engine.due() <= now:
            in_flight -= step()
        while in_flight >= cap:
            now = engine.due()
            in_flight -= step()
        arrived[request.request_id], sent[request.request_id] = at, now
        engine.submit(request, now)
        in_flight += 1
    while engine.due() < inf:
        in_flight -= step()
    assert in_flight == 0
    return Times(*(np.array(column) for column in zip(*rows, strict=True)))


def percentile(seconds: Seconds, percent: float) -> float:
    """A percentile without the missing values."""
    return float(np.nanpercentile(seconds, percent))
