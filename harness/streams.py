"""Named random streams under one seed, so that a changed option reshuffles only what it is about.

The only pure-side file that may produce randomness.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

__all__ = ["keyed_integer", "keyed_uniform", "salted", "stream"]


def stream(seed: int, purpose: str) -> np.random.Generator:
    """A generator of its own for one purpose; draw from it in the order of the plan."""
    return np.random.Generator(np.random.PCG64(keyed_integer(seed, purpose, "", size=16)))


def keyed_integer(seed: int, purpose: str, key: str, *, size: int = 8) -> int:
    """An integer of `size` bytes that depends on nothing but its arguments."""
    return int.from_bytes(blake2b(f"{seed}\x00{purpose}\x00{key}".encode(), digest_size=size).digest(), "little")


def keyed_uniform(seed: int, purpose: str, key: str) -> float:
    """A number in the open interval (0, 1) that depends on nothing but its arguments."""
    return ((keyed_integer(seed, purpose, key) >> 12) + 0.5) / 2**52  # 52 bits: with more, rounding would give 1


def salted(seed: int, salt: str) -> int:
    """A seed for words: another salt, other words; no salt, those of the seed."""
    return keyed_integer(seed, "salt", salt) if salt else seed
