"""Named random streams: every draw is a function of (seed, purpose, key), never of the order of calls.

Two gateways that are tested with the same plan meet the same luck for the same request, whatever the
concurrency, the number of processes or the options that were changed meanwhile. The only file of this
package that may produce randomness.
"""

from __future__ import annotations

from hashlib import blake2b
from math import exp, log
from statistics import NormalDist

import numpy as np

__all__ = ["Streams"]

_STANDARD_NORMAL = NormalDist()
_TWO_64 = float(2**64)


class Streams:
    """Random draws keyed by purpose and key under one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._prefix = f"{seed}\x00".encode()

    def _digest(self, purpose: str, key: str, size: int) -> bytes:
        return blake2b(self._prefix + f"{purpose}\x00{key}".encode("utf-8", "surrogatepass"), digest_size=size).digest()

    def integer(self, purpose: str, key: str) -> int:
        """A 64-bit integer."""
        return int.from_bytes(self._digest(purpose, key, 8), "little")

    def uniform(self, purpose: str, key: str) -> float:
        """A number in the open interval (0, 1)."""
        return (self.integer(purpose, key) + 0.5) / _TWO_64

    def lognormal(self, purpose: str, key: str, median: float, sigma: float) -> float:
        """A lognormal draw given by its median and the sigma of its logarithm; `sigma` 0 gives the median exactly."""
        if sigma == 0 or median == 0:
            return median
        return exp(log(median) + sigma * _STANDARD_NORMAL.inv_cdf(self.uniform(purpose, key)))

    def exponential(self, purpose: str, key: str, mean: float) -> float:
        """An exponential draw by its mean."""
        return -mean * log(self.uniform(purpose, key))

    def generator(self, purpose: str, key: str) -> np.random.Generator:
        """A numpy generator of its own, for whole vectors of draws."""
        return np.random.Generator(np.random.PCG64(int.from_bytes(self._digest(purpose, key, 16), "little")))
