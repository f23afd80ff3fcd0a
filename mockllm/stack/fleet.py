"""The replicas of a pool as they come and go: starting, ready, draining, gone.

A replica is starting for as long as its cold start takes. A draining one takes nothing new and goes when it has finished
what it has. A spot replica is reclaimed after an exponential time, drawn by its name: it drains until the notice is over,
then it dies with whatever it still has. The fleet keeps as many starting and ready ones as are desired; draining ones
come on top, as terminating pods do in Kubernetes. Surplus goes in this order: those that start, then the youngest.

Spot: of n replicas floor(share * n) are spot and the others on demand, as in a mixed-instances policy without a base
(Amazon EC2 Auto Scaling). Notices: AWS 2 minutes, Google Cloud 30 seconds. A replica is paid from when its node is
provisioned until it is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import inf
from typing import Literal

from mockllm.engine.engine import Replica
from mockllm.fields import Duration, Share, Spread, Strict
from mockllm.stack.coldstart import ColdStart
from mockllm.streams import Streams

__all__ = ["Fleet", "Member", "SpotSettings"]

_HOUR_S = 3600.0


class SpotSettings(Strict):
    """Replicas that are cheap and may be reclaimed: each `loss_per_hour` times an hour on average (Poisson)."""

    share: Share
    loss_per_hour: Spread
    notice: Duration = 120.0
    price_per_hour: Spread | None = None


class Member:
    """One replica of a pool. `num_requests` and `num_tokens` are those that were given to it and are not over:
    prompt and answer of each. `paid_from` is when its node is provisioned, `lost_at` when it will be reclaimed and `ends_at`
    when the notice is over; inf: never, or not known before the run begins. `down`: a fault has struck it, and it takes
    nothing new."""

    __slots__ = (
        "down", "ends_at", "lost_at", "name", "num_requests", "num_tokens", "paid_from", "ready_at", "replica", "spot", "state",
    )  # fmt: skip

    def __init__(self, name: str, replica: Replica, *, spot: bool = False) -> None:
        self.name, self.replica, self.spot = name, replica, spot
        self.state: Literal["starting", "ready", "draining"] = "ready"
        self.num_requests = self.num_tokens = 0
        self.down = False
        self.paid_from = self.ready_at = self.lost_at = self.ends_at = inf

    def due(self) -> float:
        """When its state changes by itself."""
        return min(self.lost_at, self.ends_at, self.ready_at if self.state == "starting" else inf)


class Fleet:
    """`make` builds a replica by its name, each with luck of its own; names are never used again.

    `desired` is how many starting and ready ones there shall be: `settle` sees to it. `members` are all that are not gone,
    in the order in which they came to be; `ready` are those that take requests.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[str], Replica],
        num: int,
        *,
        streams: Streams,
        cold_start: ColdStart | None = None,
        spot: SpotSettings | None = None,
        price_per_hour: float | None = None,
    ) -> None:
        self.name, self.desired, self.spot, self.cold_start = name, num, spot, cold_start
        self.num_started = self.num_lost = 0
        self._make, self._streams = make, streams
        self._prices = {False: price_per_hour, True: spot.price_per_hour if spot else None}
        self._named = 0
        self._slowness, self._still_until = 1.0, -inf
        self._paid_s = {False: 0.0, True: 0.0}  # of those that are gone
        num_spot = self._num_spot(num)
        self.members = [self._new(spot=number >= num - num_spot) for number in range(num)]
        self._look_again()

    def begin(self, now: float) -> None:
        """The run begins: those that are there are paid from now on, and may be lost."""
        for member in self.members:
            member.paid_from = member.ready_at = now
            member.lost_at = self._lost_at(member)
        self._look_again()

    def due(self) -> float:
        """When the next replica changes its state by itself."""
        return self._due

    def advance(self, now: float) -> list[Member]:
        """Starts that are complete and losses that are announced happen. Returns those that die now, with what they have."""
        dying: list[Member] = []
        for member in list(self.members):
            if member.lost_at <= now:
                self._announce_loss(member, now)
            if member.ends_at <= now:
                dying.append(member)
            elif member.state == "starting" and member.ready_at <= now:
                member.state = "ready"
        self._look_again()
        return dying

    def settle(self, now: float, *, delay_s: float = 0.0) -> None:
        """Start what is missing, `delay_s` from now; drain what is too much."""
        num_spot = self._num_spot(self.desired)
        for spot, wanted in ((False, self.desired - num_spot), (True, num_spot)):
            have = [member for member in self.members if member.spot is spot and member.state != "draining"]
            for _ in range(wanted - len(have)):
                self._start(now + delay_s, spot=spot)
            have.reverse()  # the youngest first
            have.sort(key=lambda member: member.state == "ready")
            for member in have[: max(0, len(have) - wanted)]:
                self._drain(member, now)
        self._look_again()

    def remove(self, member: Member, now: float) -> None:
        """It is gone, and no longer paid."""
        self.members.remove(member)
        self._paid_s[member.spot] += max(0.0, now - member.paid_from)
        self._look_again()

    def take_out(self, names: Collection[str]) -> None:
        """The replicas of these names take nothing new, until they are not named any more."""
        for member in self.members:
            member.down = member.name in names
        self._look_again()

    def slow(self, factor: float, now: float) -> None:
        """Every replica takes so many times as long for everything, those that come later too."""
        self._slowness = factor
        for member in self.members:
            member.replica.slow(factor, now)

    def stall(self, until: float, now: float) -> None:
        """Every replica stands still until then, those that come later too."""
        self._still_until = until
        for member in self.members:
            member.replica.stall(until, now)

    def replica_hours(self, now: float) -> float:
        """Hours of all replicas, from provisioning to gone or to now."""
        return sum(self._seconds(now).values()) / _HOUR_S

    def cost_usd(self, now: float) -> float | None:
        """What they cost so far; None where nobody said what an hour costs."""
        usd = 0.0
        for spot, seconds in self._seconds(now).items():
            price = self._prices[spot]
            if price is None and (not spot or self.spot is not None):
                return None
            usd += (price or 0.0) * seconds / _HOUR_S
        return usd

    def _seconds(self, now: float) -> dict[bool, float]:
        seconds = dict(self._paid_s)
        for member in self.members:
            seconds[member.spot] += max(0.0, now - member.paid_from)
        return seconds

    def _num_spot(self, num: int) -> int:
        return 0 if self.spot is None else int(self.spot.share * num + 1e-9)

    def _new(self, *, spot: bool) -> Member:
        name = f"{self.name}-{self._named}"
        self._named += 1
        return Member(name, self._make(name), spot=spot)

    def _start(self, at: float, *, spot: bool) -> None:
        assert self.cold_start is not None
        member = self._new(spot=spot)
        member.replica.slow(self._slowness, at)
        if self._still_until > at:
            member.replica.stall(self._still_until, at)
        member.state, member.paid_from, member.ready_at = "starting", at, at + self.cold_start.total_s
        member.lost_at = self._lost_at(member)
        self.members.append(member)
        self.num_started += 1

    def _lost_at(self, member: Member) -> float:
        """A Poisson process has exponential gaps; the instance's own draw, whatever else happens."""
        if not member.spot or self.spot is None or self.spot.loss_per_hour == 0:
            return inf
        mean_s = _HOUR_S / self.spot.loss_per_hour
        return member.paid_from + self._streams.exponential("spot loss", member.name, mean_s)

    def _announce_loss(self, member: Member, now: float) -> None:
        assert self.spot is not None
        self.num_lost += 1
        member.lost_at, member.ends_at = inf, now + self.spot.notice
        self._drain(member, now)

    def _drain(self, member: Member, now: float) -> None:
        member.state = "draining"
        if member.num_requests == 0:
            self.remove(member, now)
            member.ends_at = inf

    def _look_again(self) -> None:
        """What follows from the states: an engine asks for it at every event."""
        self.ready = [member for member in self.members if member.state == "ready" and not member.down]
        self._due = min((member.due() for member in self.members), default=inf)
