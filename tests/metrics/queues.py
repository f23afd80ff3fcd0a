"""Queues with one server, by Lindley's recursion: what a request waits is known without any engine of ours.

W[n + 1] = max(0, W[n] + S[n] - A[n + 1]); the maximum over all paths back to an empty queue makes it a cumulative sum (Asmussen,
Applied Probability and Queues, III.6).
"""

from __future__ import annotations

import numpy as np

from harness.table import Floats

__all__ = ["RATE", "queue"]

RATE = 20.0  # arrivals a second


def queue(
    kind: str, load: float, duration_s: float, seed: int, *, cold_s: float = 0.0, slower: float = 1.0
) -> tuple[Floats, Floats]:
    """Arrivals and sojourn times (wait and service) of an M/D/1 or M/M/1 that begins empty, with service so long that
    `load` = rate x mean service. Services that begin with an arrival in the first `cold_s` seconds take `slower` times as long."""
    generator = np.random.default_rng([seed, int(load * 1000), ord(kind)])
    arrived = np.cumsum(generator.exponential(1 / RATE, int(RATE * duration_s * 1.2) + 100))
    arrived = arrived[arrived < duration_s]
    mean = load / RATE
    service = np.full(len(arrived), mean) if kind == "D" else generator.exponential(mean, len(arrived))
    service = service * np.where(arrived < cold_s, slower, 1.0)
    walk = np.concatenate([[0.0], np.cumsum(service[:-1] - np.diff(arrived))])
    waited = walk - np.minimum.accumulate(walk)
    return arrived, waited + service
