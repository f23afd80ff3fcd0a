"""What a request gets instead of a bare 429: another model, an old answer, or a place in a line.

The line is first come first served for each limit: who comes later is not let past on that limit, however little it
needs, so a large request is not starved by small ones. Whoever waits for one limit does not hold up those who
only share another one with it.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from operator import attrgetter
from typing import Literal

from pydantic import Field, model_validator

from mockllm.events import EventQueue
from mockllm.fields import Duration, ModelName, Strict, duration_text
from mockllm.stack.quotas import Account, Size, worst_excess
from mockllm.stack.stage import Flight

__all__ = ["Instead", "Waiter", "WaitingRoom"]


class Instead(Strict):
    """One thing to try: `model` answers, at no charge to the limits; a `stale` answer of a cache; a place in the `queue`,
    for so long at most."""

    model: ModelName | None = None
    stale: Literal[True] | None = None
    queue: Duration | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _is_one_thing(self) -> Instead:
        if sum(given is not None for given in (self.model, self.stale, self.queue)) != 1:
            raise ValueError("must be one of {model: NAME}, {stale: true}, {queue: DURATION}")
        return self

    def __str__(self) -> str:
        if self.model is not None:
            return f"{self.model} answers"
        return "a stale answer" if self.stale else f"a wait of up to {duration_text(self.queue or 0.0)}"


@dataclass(slots=True, eq=False)
class Waiter:
    """A request that may have to wait. `step`: which entry of the list it waits for; `number`: in the order of arrival."""

    flight: Flight
    size: Size
    accounts: Sequence[Account]
    step: int = 0
    number: int = 0
    line: Account | None = None


class WaitingRoom:
    """The lines before all limits of a stage. A request stands in one line at a time: that of the account which it
    waits for longest."""

    def __init__(self) -> None:
        self._lines: dict[Account, list[Waiter]] = {}
        self._waiters: dict[str, Waiter] = {}
        self._looks: dict[Account, float] = {}  # when the first of a line is to be looked at
        self._events: EventQueue[Account | Waiter] = EventQueue()
        self._num_entered = 0

    def __len__(self) -> int:
        return len(self._waiters)

    def has_line(self, account: Account) -> bool:
        """Somebody waits for it."""
        return account in self._lines

    def accounts(self) -> set[Account]:
        """All that somebody who waits will be charged on."""
        return {account for waiter in self._waiters.values() for account in waiter.accounts}

    def enter(self, waiter: Waiter, account: Account, until: float, now: float) -> None:
        """Wait in the line of `account`, `until` then at most."""
        self._num_entered += 1
        waiter.number = self._num_entered
        self._waiters[waiter.flight.asked.request_id] = waiter
        self._events.push(until, waiter)
        self._line_up(waiter, account, now)

    def leave(self, request_id: str, now: float) -> None:
        """The client went away. Nothing happens for a request that does not wait."""
        waiter = self._waiters.get(request_id)
        if waiter is not None:
            self._remove(waiter, now)

    def look(self, account: Account, now: float) -> None:
        """Something was given back: when does the first in its line fit now?"""
        line = self._lines.get(account)
        if line is None:
            return
        at = now + account.wait(line[0].size, now)
        if at == inf:  # until somebody else is done
            self._looks.pop(account, None)
        elif self._looks.get(account) != at:
            self._looks[account] = at
            self._events.push(at, account)

    def due(self) -> float:
        """When somebody's turn, or time, may have come."""
        return self._events.due()

    def next(self, now: float) -> tuple[Waiter, bool] | None:
        """The next one whose turn has come (True: it fits, and is to be admitted before the next is asked for) or whose
        time is up; None if there is nobody else by `now`."""
        while self._events.due() <= now:
            at, event = self._events.pop()
            if isinstance(event, Waiter):
                if event.line is not None:
                    self._remove(event, now)
                    return event, False
            elif self._looks.get(event) == at:
                del self._looks[event]
                first = self._lines[event][0]
                other = self._stopped_by(first, now)
                if other is None:
                    self._remove(first, now)
                    return first, True
                self._move(first, other, now)
        return None

    def _stopped_by(self, waiter: Waiter, now: float) -> Account | None:
        """The account that the first of a line has to wait for: one that has no room, or where others came earlier."""
        over = worst_excess(waiter.accounts, waiter.size, waiter.flight.request.model, now)
        if over is not None:
            return over[0]
        lines = ((account, self._lines.get(account)) for account in waiter.accounts)
        return next((account for account, line in lines if line and line[0].number < waiter.number), None)

    def _line_up(self, waiter: Waiter, account: Account, now: float) -> None:
        waiter.line = account
        insort(self._lines.setdefault(account, []), waiter, key=attrgetter("number"))
        self.look(account, now)

    def _move(self, waiter: Waiter, account: Account, now: float) -> None:
        """To the line of another account, or to stay where it is until there is room."""
        if account is not waiter.line:
            self._step_out(waiter, now)
            self._line_up(waiter, account, now)
        else:
            self.look(account, now)

    def _remove(self, waiter: Waiter, now: float) -> None:
        del self._waiters[waiter.flight.asked.request_id]
        self._step_out(waiter, now)

    def _step_out(self, waiter: Waiter, now: float) -> None:
        """Out of its line; the next one in it may need less."""
        account, waiter.line = waiter.line, None
        assert account is not None
        line = self._lines[account]
        line.remove(waiter)
        if line:
            self.look(account, now)
        else:
            del self._lines[account]
            self._looks.pop(account, None)
