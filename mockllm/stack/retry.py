"""Trying again, and not too often: what failed before anybody saw a word of it is asked for once more.

Attempt n (the first retry is n = 1) comes after

    the server's retry-after, if it named one   +   jitter(min(cap, base * factor ** (n - 1)))

with jitter(d) uniform in 0 … d (`full`) or d/2 … d (`equal`): M. Brooker, "Exponential Backoff And Jitter" (AWS
Architecture Blog, 2015). The two are added, so that clients that were told the same instant do not come back together. A
retry-after above `max_retry_after` is no promise worth waiting for: the refusal goes out as it is.

The budget is Finagle's `RetryBudget` (2016), as an exact window: of the last `window`, retries may be `share` of the requests, and
`reserve` beside that for those who send few. It bounds what a retry can do to a model that is down: calls are at most
(1 + share) times the requests, and the reserve. The same idea is in Google's SRE book, chapter "Handling Overload".
"""

from __future__ import annotations

from collections import deque
from itertools import takewhile
from typing import Annotated, Literal

from pydantic import Field

from mockllm.fields import Duration, PerMinute, Share, Strict, duration_text
from mockllm.model import Cut, Finished, Refused
from mockllm.stack.parts import Parts, StageSettings
from mockllm.stack.stage import Again, Arrival, End, Flight, Leaving, Stage

__all__ = ["BudgetSettings", "Retry", "RetrySettings"]

_RESET = 0
Status = Annotated[int, Field(ge=0, le=599)]


class BudgetSettings(Strict):
    """How many retries there may be beside how many requests; Finagle's defaults are 20 %, 10 s and 10 a second."""

    share: Share = 0.2
    window: Annotated[Duration, Field(gt=0)] = 10.0
    reserve: PerMinute = 600.0


class RetrySettings(StageSettings):
    """`attempts` includes the first. `statuses`: 0 is a connection that was reset, or an answer that broke off unseen.

    `budget` null: none.
    """

    attempts: Annotated[int, Field(ge=1, le=100)] = 3
    statuses: tuple[Status, ...] = Field(default=(_RESET, 429, 500, 502, 503, 529), strict=False)
    base: Duration = 0.5
    factor: Annotated[float, Field(ge=1, le=100)] = 2.0
    cap: Duration = 8.0
    jitter: Literal["full", "equal"] = "full"
    max_retry_after: Duration = 60.0
    budget: BudgetSettings | None = BudgetSettings()


class Budget:
    """Requests and retries of the last `window`, each with its instant."""

    def __init__(self, settings: BudgetSettings) -> None:
        self._settings = settings
        self._reserve = settings.reserve / 60 * settings.window
        self._requests: deque[float] = deque()
        self._retries: deque[float] = deque()

    def deposit(self, now: float) -> None:
        """A request came in."""
        self._forget_before(now - self._settings.window)
        self._requests.append(now)

    def withdraw(self, now: float) -> bool:
        """Take one retry; False when there is none left."""
        self._forget_before(now - self._settings.window)
        if self.left(now) < 1:
            return False
        self._retries.append(now)
        return True

    def left(self, now: float) -> float:
        """Retries that may be made now. Forgets nothing: who looks may be ahead of what still has to happen."""
        since = now - self._settings.window
        return (
            self._reserve + self._settings.share * _num_after(since, self._requests) - _num_after(since, self._retries)
        )

    def _forget_before(self, instant: float) -> None:
        for instants in (self._requests, self._retries):
            while instants and instants[0] <= instant:
                instants.popleft()


class Retry(Stage):
    """The stage. `_attempts` are those that a request has made, by its id, from its arrival until it leaves."""

    def __init__(self, settings: RetrySettings, parts: Parts) -> None:
        self.name = parts.name
        self._settings = settings
        self._streams = parts.streams
        self._budget = Budget(settings.budget) if settings.budget else None
        self._attempts: dict[str, int] = {}
        names = ("requests", "retries", "recovered", "exhausted", "over_budget", "too_late", "cancelled")
        self._counts = dict.fromkeys(names, 0)

    def arrive(self, flight: Flight, now: float) -> Arrival:
        self._attempts[flight.asked.request_id] = 1
        self._counts["requests"] += 1
        if self._budget is not None:
            self._budget.deposit(now)
        return None

    def leave(self, flight: Flight, end: End, now: float) -> Leaving:
        name = flight.asked.request_id
        attempt = self._attempts[name]
        failed = _status(end) in self._settings.statuses and not flight.began
        obstacle = self._obstacle(end, attempt, now) if failed else None
        if not failed or obstacle is not None:
            del self._attempts[name]
            self._close(flight, end, attempt, obstacle)
            return None
        wait_s = _retry_after_s(end) + self._backoff_s(flight.asked.key, attempt)
        self._attempts[name] = attempt + 1
        self._counts["retries"] += 1
        flight.passage.notes.append(f"{self.name}: attempt {attempt + 1} in {wait_s:.3f} s after {_what(end)}")
        return Again(now + wait_s)

    def _obstacle(self, end: End, attempt: int, now: float) -> tuple[str, str] | None:
        """What keeps a failed request from another attempt: the count's name, and in words. A retry is taken if nothing."""
        if attempt >= self._settings.attempts:
            return "exhausted", f"attempt {attempt} was the last"
        if _retry_after_s(end) > self._settings.max_retry_after:
            return "too_late", f"not again, retry-after is {_retry_after_s(end):g} s"
        if self._budget is not None and not self._budget.withdraw(now):
            return "over_budget", "not again, the budget is spent"
        return None

    def _close(self, flight: Flight, end: End, attempt: int, obstacle: tuple[str, str] | None) -> None:
        """Book how a request left for good."""
        if obstacle is not None:
            count, words = obstacle
            self._counts[count] += 1
            flight.passage.notes.append(f"{self.name}: {words}")
        elif end is None:
            self._counts["cancelled"] += 1
        elif attempt > 1 and isinstance(end, Finished):
            self._counts["recovered"] += 1

    def _backoff_s(self, key: str, attempt: int) -> float:
        settings = self._settings
        longest = min(settings.cap, settings.base * settings.factor ** (attempt - 1))
        draw = self._streams.uniform(f"{self.name} backoff", f"{key}\x00{attempt}")
        return longest * (draw if settings.jitter == "full" else (1 + draw) / 2)

    def describe(self) -> str:
        settings, budget = self._settings, self._settings.budget
        statuses = ", ".join("reset" if status == _RESET else str(status) for status in settings.statuses)
        bound = "without a budget"
        if budget is not None:
            bound = f"retries at most {budget.share:.0%} of requests and {budget.reserve:g} a minute, over {duration_text(budget.window)}"
        return (
            f"{settings.attempts} attempts on {statuses}; {settings.jitter} jitter, {duration_text(settings.base)} times "
            f"{settings.factor:g} each, at most {duration_text(settings.cap)}; {bound}"
        )

    def state(self, now: float) -> dict[str, object]:
        left = None if self._budget is None else self._budget.left(now)
        return {"in_flight": len(self._attempts), "budget_left": left, "counts": dict(self._counts)}


def _num_after(since: float, instants: deque[float]) -> int:
    return len(instants) - sum(1 for _ in takewhile(lambda instant: instant <= since, instants))


def _status(end: End) -> int | None:
    """The HTTP status that an end amounts to; None: an answer, or a client that went away."""
    if isinstance(end, Refused):
        return end.status
    if isinstance(end, Cut):
        return 500 if end.in_band else _RESET
    return None


def _retry_after_s(end: End) -> float:
    """What the server named; 0 if nothing."""
    return (end.retry_after_s if isinstance(end, Refused) else None) or 0.0


def _what(end: End) -> str:
    status = _status(end)
    return "a broken connection" if status == _RESET else f"status {status}"
