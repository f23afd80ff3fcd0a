"""The budget guard: what is sent never costs more than was allowed, what is under way included.

A request is sent only when what was spent, the most that everything under way can still cost, and the most that it can cost
itself fit into the budget. At its end the most is replaced by what it did cost.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from math import ceil, floor

from harness.records import RequestRecord

__all__ = ["Budget"]

_PICO = 10**12  # money is counted in whole millionths of a millionth of a dollar: sums of a million floats drift


class Budget:
    """`most` is the most a request can cost, USD; None: nobody can say. With several load processes each has an equal
    share: `limit_usd` / `num_shares`.

    The run stops when not even the cheapest request seen so far would fit beside what was spent: waiting for answers
    cannot help then.
    """

    def __init__(self, limit_usd: float, most: Callable[[RequestRecord], float | None], *, num_shares: int = 1) -> None:
        self._limit_usd, self._num_shares = limit_usd, num_shares
        self._limit = floor(_pico(limit_usd)) // num_shares
        self._most = most
        self._spent = 0
        self._reserved: dict[str, int] = {}
        self._total_reserved = 0
        self._cheapest: int | None = None
        self._num_ended = 0

    @property
    def spent_usd(self) -> float:
        """What ended requests cost; those of unknown cost count with the most they can have cost."""
        return self._spent / _PICO

    @property
    def reserved_usd(self) -> float:
        """The most that requests under way can still cost."""
        return self._total_reserved / _PICO

    @property
    def stop_reason(self) -> str | None:
        if self._cheapest is None or self._spent + self._cheapest <= self._limit:
            return None
        if not self._num_ended:
            return f"{self._name} is too small: the cheapest request may cost ${self._cheapest / _PICO:.6g}"
        return f"{self._name} is used up: {self._num_ended} requests cost at most ${self.spent_usd:.6g}"

    def refusal(self, record: RequestRecord) -> tuple[str, str] | None:
        most = self._most(record)
        if most is None:
            return "budget", (
                f"nobody can say what this request costs at most: {record.model!r} has no price, or the answer no limit "
                "(plan its length, or give the model max_output in the price file)"
            )
        units = ceil(_pico(most))
        self._cheapest = units if self._cheapest is None else min(self._cheapest, units)
        if self._spent + self._total_reserved + units > self._limit:
            return "budget", (
                f"${self.spent_usd:.6g} spent, ${self.reserved_usd:.6g} under way and ${most:.6g} for this request are more "
                f"than {self._name}"
            )
        self._reserved[record.request_id] = units
        self._total_reserved += units
        return None

    def ended(self, record: RequestRecord) -> None:
        reserved = self._reserved.pop(record.request_id, None)
        if reserved is None:
            return
        self._total_reserved -= reserved
        if record.sent_at is None:  # another guard held it back, or it was broken off before it began
            return
        self._num_ended += 1
        self._spent += reserved if record.cost_usd is None else ceil(_pico(record.cost_usd))

    @property
    def _name(self) -> str:
        share = "" if self._num_shares == 1 else f"this process's share, 1 of {self._num_shares}, of "
        return f"{share}the budget of ${self._limit_usd:g}"


def _pico(usd: float) -> Decimal:
    """Of a price as it is written: 1.07 is 1.07 and not a little more, which three requests that just fit would exceed."""
    return Decimal(repr(float(usd))) * _PICO
