"""What saturation does must come out of the queue: TTFT flat and then a jump, goodput that collapses past capacity.

Nothing in the engine knows of either. DistServe (OSDI '24) defines goodput; the shape is that of every measured sweep.
"""

from __future__ import annotations

import numpy as np

from mockllm import Request, Tokens, build_engine, chunks_of, load_deployment, simulate
from mockllm.streams import Streams

_OUTPUT = 200


def sweep(rate: float, seconds: float = 120.0) -> tuple[float, float, float]:
    """Median TTFT, completed per second while requests came, and goodput per second (TTFT < 1 s, TPOT < 60 ms)."""
    deployment, streams, now = load_deployment("h100-8b"), Streams(3), 0.0
    (model,) = deployment.profiles
    arrivals: list[tuple[float, Request]] = []
    while (now := now + streams.exponential("gap", str(len(arrivals)), 1 / rate)) < seconds:
        name = str(len(arrivals))
        request = Request(name, name, model, 1000, max_tokens=_OUTPUT, ignore_eos=True, watched=False)
        arrivals.append((now, request))
    came = {request.request_id: at for at, request in arrivals}
    ttfts, num_good, num_in_time = [], 0, 0
    for emission in simulate(build_engine(deployment, every_token=False), arrivals):
        if isinstance(emission, Tokens):
            first = next(chunks_of(emission)).at
            ttft, tpot = first - came[emission.request_id], (emission.at - first) / (_OUTPUT - 1)
            ttfts.append(ttft)
            num_good += ttft < 1 and tpot < 0.06
            num_in_time += emission.at < seconds
    return float(np.median(ttfts)), num_in_time / seconds, num_good / seconds


def test_ttft_is_flat_and_goodput_collapses_past_capacity() -> None:
    capacity = max(sweep(rate)[1] for rate in (16.0, 20.0, 24.0, 28.0))  # what it completes at best
    idle, _, _ = sweep(1.0)
    for share in (0.3, 0.6, 0.8):
        ttft, completed, good = sweep(share * capacity)
        assert ttft < 2 * idle, share
        assert good > 0.97 * completed, share
    beyond, _, good_beyond = sweep(1.3 * capacity)
    assert beyond > 50 * idle
    assert good_beyond < 0.15 * capacity
