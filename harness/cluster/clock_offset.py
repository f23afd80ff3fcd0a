"""How far two monotonic clocks are apart, from messages that go there and back.

A question leaves here at t1, arrives there at t2, its answer leaves there at t3 and arrives here at t4. Then the clock
there is ((t2 − t1) + (t3 − t4)) / 2 ahead of ours, wrong by at most half the time under way, (t4 − t1) − (t3 − t2), however
uneven the two ways are (Mills, RFC 5905, section 8). The exchange with the shortest time under way is believed.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

__all__ = ["ClockOffset", "Offset"]

_KEPT = 64
_SAME_CLOCK_S = 0.001


@dataclass(frozen=True, slots=True)
class Offset:
    """The other clock minus ours is `offset_s`, give or take `error_s`; `rtt_s` is the time under way it comes from."""

    offset_s: float
    error_s: float
    rtt_s: float


class ClockOffset:
    """The last exchanges with one peer."""

    def __init__(self) -> None:
        self._exchanges: deque[Offset] = deque(maxlen=_KEPT)
        self._same_boot = False

    @property
    def num_exchanges(self) -> int:
        return len(self._exchanges)

    def add(
        self, sent_at: float, received_at: float, replied_at: float, heard_at: float, *, same_boot: bool = False
    ) -> None:
        """One exchange: `sent_at` and `heard_at` by our clock, the others by theirs. `same_boot`: the peer says that it
        runs on the kernel we run on. An exchange that no two clocks could have had is left out."""
        rtt = (heard_at - sent_at) - (replied_at - received_at)
        if rtt < 0 or replied_at < received_at:
            return
        self._same_boot = same_boot
        self._exchanges.append(Offset(((received_at - sent_at) + (replied_at - heard_at)) / 2, rtt / 2, rtt))

    def best(self) -> Offset | None:
        """The offset to believe; None before the first exchange. One kernel has one monotonic clock, so its offset is 0
        exactly, unless the exchanges prove otherwise (a time namespace)."""
        if not self._exchanges:
            return None
        best = min(self._exchanges, key=lambda exchange: exchange.rtt_s)
        if self._same_boot and abs(best.offset_s) <= best.error_s + _SAME_CLOCK_S:
            return Offset(0.0, 0.0, best.rtt_s)
        return best
