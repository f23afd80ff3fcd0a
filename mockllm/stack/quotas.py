"""What somebody may use: several limits for each organization, key, user … , kept in buckets, charged all or none.

How the providers count, which is how it is done here:

    requests        each one, also one that fails (OpenAI, Rate limits guide)
    tokens          prompt and answer, whatever a prompt cache knew (OpenAI, Prompt caching guide); of the answer as many as
                    the client allows, `max_tokens`, before it is known (OpenAI, Rate limits guide)
    input_tokens    the prompt without what was read from a prompt cache: estimated at first and put right
                    (Anthropic, Rate limits: "cache-aware ITPM")
    output_tokens   the answer. Until 2025 Anthropic reserved `max_tokens` and put it right at the end; since then it counts
                    tokens as they are produced, and `max_tokens` "does not factor into" it: `reserve_output: false`,
                    where the answer is charged when it ends, and others wait until that is paid off
    batches         nothing: both providers have other limits for them
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import floor, inf
from typing import NamedTuple

from pydantic import Field, model_validator

from mockllm.fields import Count, Duration, PerMinute, Strict
from mockllm.passage import Excess, Quota
from mockllm.stack.bucket import Bucket

__all__ = ["Account", "Admission", "Limit", "Size", "worst_excess"]


class Limit(Strict):
    """Rates, and how many may be in flight at once. A bucket holds what comes in within `burst`."""

    requests: PerMinute | None = None
    tokens: PerMinute | None = None
    input_tokens: PerMinute | None = None
    output_tokens: PerMinute | None = None
    concurrency: Count | None = None
    burst: Duration = Field(default=60.0, gt=0)
    reserve_output: bool = True

    @model_validator(mode="after")
    def _limits_something(self) -> Limit:
        if not self.rates() and self.concurrency is None:
            raise ValueError("limits nothing; give requests, tokens, input_tokens, output_tokens or concurrency")
        for kind, rate in self.rates().items():
            if rate * self.burst / 60 < 1:
                raise ValueError(f"{kind}: {rate:g}/min for a burst of {self.burst:g}s is less than 1; raise `burst`")
        return self

    def rates(self) -> dict[str, float]:
        """What is limited, a minute, by the name of a `Quota`."""
        kinds = ("requests", "tokens", "input_tokens", "output_tokens")
        return {kind: rate for kind in kinds if (rate := getattr(self, kind)) is not None}

    def __str__(self) -> str:
        shown = [f"{_number(rate)} {kind.replace('_', ' ')} a minute" for kind, rate in self.rates().items()]
        if shown and self.burst != 60:
            shown[-1] += f" (bursts of {self.burst:g} s)"
        return ", ".join([*shown, *([f"{self.concurrency} at once"] if self.concurrency is not None else [])])


def _number(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.3g}"


class Size(NamedTuple):
    """What a request takes of each kind of limit. `requests` is 1, or 0 for a further answer to the same one."""

    requests: int
    tokens: int
    input_tokens: int
    output_tokens: int

    @classmethod
    def of(cls, choice: int, num_prompt: int, num_output: int, num_cached: int = 0) -> Size:
        """Of the answers that one request wants, the first carries the request and its prompt."""
        num_prompt = 0 if choice else num_prompt
        return cls(0 if choice else 1, num_prompt + num_output, max(0, num_prompt - num_cached), num_output)


class Account:
    """The limits of one organization, one user … : its buckets, full at first, and how many requests are in flight."""

    def __init__(self, scope: str, label: str | None, limit: Limit) -> None:
        self.scope, self.label, self.limit = scope, label, limit
        self.num_in_flight = 0
        self._buckets = {kind: Bucket(rate * limit.burst / 60, rate / 60) for kind, rate in limit.rates().items()}

    def wait(self, size: Size, now: float) -> float:
        """Seconds until the request fits if nobody else comes; inf if time alone does not help."""
        if self._has_no_place(size):
            return inf
        return max((bucket.wait(self._charge(kind, size), now) for kind, bucket in self._buckets.items()), default=0.0)

    def excess(self, size: Size, model: str, now: float) -> Excess | None:
        """The limit that the request would exceed for longest, None if it fits."""
        found: list[Excess] = []
        if self._has_no_place(size):
            most, used = self.limit.concurrency or 0, self.num_in_flight
            found.append(Excess("concurrency", most, used, size.requests, self.scope, self.label, model, None))
        for kind, bucket in self._buckets.items():
            charge = self._charge(kind, size)
            if bucket.wait(charge, now) > 0:
                found.append(self._over(kind, bucket, charge, model, now))
        return max(found, key=_severity, default=None)

    def admit(self, size: Size, now: float) -> list[tuple[str, int, int]]:
        """Charge a request that fits: of each kind, the number of the taking and how much it was."""
        self.num_in_flight += size.requests
        charges = [(kind, bucket, self._charge(kind, size)) for kind, bucket in self._buckets.items()]
        return [(kind, bucket.take(charge, now), charge) for kind, bucket, charge in charges]

    def settle(self, taken: Sequence[tuple[str, int, int]], used: Size, now: float) -> None:
        """A request is over."""
        self.num_in_flight -= used.requests
        for kind, number, charge in taken:
            self._buckets[kind].settle(number, charge - getattr(used, kind), now)

    def quotas(self, now: float) -> Iterator[Quota]:
        """What a client is told."""
        for kind, bucket in self._buckets.items():
            reset_s = (bucket.capacity - bucket.level(now)) / bucket.per_s
            yield Quota(kind, _shown(bucket), max(0, bucket.num_left(now)), reset_s, self.scope, now)

    def is_unused(self, now: float) -> bool:
        """Nothing would be lost if it were made anew."""
        return not self.num_in_flight and all(bucket.is_unused(now) for bucket in self._buckets.values())

    def _has_no_place(self, size: Size) -> bool:
        most = self.limit.concurrency
        return most is not None and size.requests > 0 and self.num_in_flight >= most

    def _charge(self, kind: str, size: Size) -> int:
        """Without a reservation an answer takes one token at first, which tells whether there is any."""
        charge: int = getattr(size, kind)
        if self.limit.reserve_output or kind not in ("tokens", "output_tokens"):
            return charge
        return charge - size.output_tokens + min(1, size.output_tokens)

    def _over(self, kind: str, bucket: Bucket, charge: int, model: str, now: float) -> Excess:
        """In whole tokens, as the client is told of them: the wait is (used + requested - limit) / rate."""
        left = bucket.num_left(now)
        limit, wait_s = floor(bucket.capacity), None
        if charge <= bucket.capacity:
            limit, wait_s = _shown(bucket), (charge - left) / bucket.per_s
        return Excess(kind, limit, limit - left, charge, self.scope, self.label, model, wait_s)


def _shown(bucket: Bucket) -> int:
    """The limit as providers state it: what comes in a minute, or what the bucket holds if that is more."""
    return round(max(bucket.per_s * 60, bucket.capacity))


class Admission:
    """What a request has been charged, on all accounts that it falls on."""

    def __init__(self, accounts: Sequence[Account], size: Size, now: float) -> None:
        self.accounts = accounts
        self._taken = [account.admit(size, now) for account in accounts]

    def settle(self, used: Size, now: float) -> None:
        """The request is over; what it did not use is given back. Call it once."""
        for account, taken in zip(self.accounts, self._taken, strict=True):
            account.settle(taken, used, now)


def worst_excess(accounts: Sequence[Account], size: Size, model: str, now: float) -> tuple[Account, Excess] | None:
    """Of the limits that a request would exceed the one for which it waits longest; None if it fits into all."""
    found = [(account, excess) for account in accounts if (excess := account.excess(size, model, now)) is not None]
    return max(found, key=lambda each: _severity(each[1]), default=None)


def _severity(excess: Excess) -> float:
    """What never fits is worst. Nobody knows when somebody else will be done, so a wait that is known comes before that."""
    if excess.is_too_large:
        return inf
    return -1.0 if excess.wait_s is None else excess.wait_s
