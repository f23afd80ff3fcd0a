"""A bucket that refills steadily, as a function of time: no timer, no window that starts anew.

    level(t) = min(capacity, level(t0) + per_s * (t - t0));  `amount` fits if level(t) >= amount

How much a request will use is not known when it comes. So more is taken, and the rest is given back when it leaves: as
if it had never been taken. A bucket that had been fuller since would have run over at some moment, so no more comes back
than there was room for at its fullest moment since the taking. With that, what is used in any T seconds is at most
capacity + per_s * T, whatever was reserved meanwhile, and a bucket that is always wanted gives per_s in the long run.

Both providers limit like this. Anthropic: "token bucket", "continuously replenished" (Rate limits, platform.claude.com,
2026-10). OpenAI's messages show it: Limit 30000, Used 14567, Requested 24754, try again in 18.642s is exactly
(14567 + 24754 - 30000) / 500 per second.
"""

from __future__ import annotations

from bisect import bisect_right
from math import floor, inf

__all__ = ["Bucket"]

# A client that waited as long as it was told is let in, however the floats were rounded: a thousandth of a token.
_SLACK = 1e-3


class Bucket:
    """Holds `capacity` at most, and is full at first; `per_s` comes in a second."""

    def __init__(self, capacity: float, per_s: float) -> None:
        self.capacity, self.per_s = capacity, per_s
        self._level, self._at = capacity, -inf
        self._num_taken = 0
        self._num_open = 0
        self._peaks = _Peaks()

    def level(self, now: float) -> float:
        """What is in it; below 0 when more was used than was reserved."""
        return min(self.capacity, self._level + (now - self._at) * self.per_s)

    def num_left(self, now: float) -> int:
        """The level in whole ones, as clients are told of it."""
        return floor(self.level(now) + _SLACK / 2)

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` is in it if nobody else comes; inf if it never holds so much."""
        missing = amount - self.level(now)
        if missing <= _SLACK:
            return 0.0
        return missing / self.per_s if amount <= self.capacity else inf

    def is_unused(self, now: float) -> bool:
        """Full, and nothing is on its way back: like a new one."""
        return not self._num_open and self.level(now) == self.capacity

    def take(self, amount: float, now: float) -> int:
        """Take `amount`, whether it is there or not. Returns the number of this taking, for `settle`."""
        level = self.level(now)
        self._num_open += 1
        self._level, self._at = level - amount, now
        return self._mark(level)

    def settle(self, number: int, back: float, now: float) -> None:
        """Called once for each taking: `back` of it was not used; negative if more was used, which is taken now."""
        level = self.level(now)
        if back > 0:
            first = self._peaks.first_after(number)
            back = min(back, self.capacity - max(level, self._peaks.level(first)))
            self._peaks.raise_from(first, back)
        elif back < 0:
            self._mark(level)
        self._level, self._at = level + back, now
        self._num_open -= 1
        if not self._num_open:
            self._peaks = _Peaks()

    def _mark(self, level: float) -> int:
        """Note how full it was before something was taken."""
        self._num_taken += 1
        self._peaks.add(self._num_taken, level)
        return self._num_taken


class _Peaks:
    """How full a bucket was before each taking, where it was not fuller since: the levels fall from one to the next.

    Kept as the drops between them, so that raising all later ones is one step.
    """

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._drops: list[float] = []  # from the one before to this one; of the first it means nothing
        self._last = -inf  # the level of the last

    def add(self, number: int, level: float) -> None:
        while self._numbers and self._last <= level:
            self._numbers.pop()
            self._last += self._drops.pop()
        self._numbers.append(number)
        self._drops.append(self._last - level)
        self._last = level

    def first_after(self, number: int) -> int:
        """The place of the fullest since taking `number`."""
        return bisect_right(self._numbers, number)

    def level(self, place: int) -> float:
        """-inf at the end."""
        return self._last + sum(self._drops[place + 1 :]) if place < len(self._numbers) else -inf

    def raise_from(self, place: int, by: float) -> None:
        """It was fuller `by` so much then, and ever since."""
        if place == len(self._numbers):
            return
        self._last += by
        self._drops[place] -= by
        while place and self._drops[place] <= 0:  # the one before was no peak
            place -= 1
            self._drops[place] += self._drops.pop(place + 1)
            del self._numbers[place]
