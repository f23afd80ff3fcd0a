"""Rate limits: of a gateway, for each organization, key, user or feature; and of a provider, for a model.

A request passes if all limits that it falls under have room for it, and then it is charged on all of them; otherwise
on none. Requests without a label share one account. What an answer will take is reserved: `max_tokens`, or the model's
median answer where the client names no maximum; what was not used comes back when the request leaves, however it ends.
The client is told of each limit (`passage.quotas`), on success as on refusal. How the providers count: `quotas.py`. When a
limit says no, what stands under `instead` is tried in its order (`degrade.py`), then it is HTTP 429.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field, model_validator

from mockllm.engine.engine import ServedModel
from mockllm.model import Cut, Finished, Refused, Request
from mockllm.passage import Excess, Tenant
from mockllm.stack.degrade import Instead, Waiter, WaitingRoom
from mockllm.stack.parts import KeyPath, Parts, StageSettings
from mockllm.stack.quotas import Account, Admission, Limit, Size, worst_excess
from mockllm.stack.stage import HELD, Answered, Arrival, End, Flight, Held, Leaving, Refusal, Release, Stage, Strike

__all__ = ["ModelLimits", "RateLimitSettings", "RateLimits"]

Scope = Literal["organization", "key", "user", "feature"]
_SCOPES: tuple[Scope, ...] = ("organization", "key", "user", "feature")
_FEW_ACCOUNTS = 1024


class RateLimitSettings(StageSettings):
    """Limits for each organization, key, user and feature, and what happens when one says no."""

    organization: Limit | None = None
    key: Limit | None = None
    user: Limit | None = None
    feature: Limit | None = None
    instead: tuple[Instead, ...] = Field(default=(), strict=False)

    @model_validator(mode="after")
    def _limits_somebody(self) -> RateLimitSettings:
        if not self.limits():
            raise ValueError(f"limits nobody; give one of {', '.join(_SCOPES)}")
        if sum(step.queue is not None for step in self.instead) > 1:
            raise ValueError("a request waits once; give one `queue` in `instead`")
        return self

    def limits(self) -> dict[Scope, Limit]:
        """The limits that there are, by scope."""
        return {scope: limit for scope in _SCOPES if (limit := getattr(self, scope)) is not None}

    def references(self) -> Iterator[tuple[KeyPath, str]]:
        for number, step in enumerate(self.instead):
            if step.model is not None:
                yield ("instead", number, "model"), step.model


class RateLimits(Stage):
    """The limits of a gateway."""

    def __init__(self, settings: RateLimitSettings, parts: Parts) -> None:
        self.name = parts.name
        self._settings, self._parts = settings, parts
        self._limits = settings.limits()
        self._accounts: dict[tuple[Scope, str | None], Account] = {}
        self._many_accounts = _FEW_ACCOUNTS
        self._room = WaitingRoom()
        self._held: dict[str, tuple[Admission, int]] = {}  # with the number of calls that were made before
        self._counts = dict.fromkeys(("admitted", "degraded", "stale", "queued", "refused"), 0)

    def arrive(self, flight: Flight, now: float) -> Arrival:
        if flight.asked.batch:
            return None
        accounts = self._accounts_of(flight.asked.tenant, now)
        waiter = Waiter(flight, _size(flight.request, self._parts.engine.models), accounts)
        over = worst_excess(accounts, waiter.size, flight.request.model, now)
        line = next((account for account in accounts if self._room.has_line(account)), None)
        if over is None and line is None:
            self._admit(waiter, now)
            return None
        self._tell(waiter, now)
        account, excess = over or (line, None)
        assert account is not None
        return self._instead(waiter, 0, account, excess, now)

    def leave(self, flight: Flight, end: End, now: float) -> Leaving:
        name = flight.asked.request_id
        self._room.leave(name, now)
        held = self._held.pop(name, None)
        if held is not None:
            admission, num_calls_before = held
            was_called = flight.passage.num_attempts > num_calls_before
            admission.settle(_used_by(flight, end, was_called=was_called), now)
            for account in admission.accounts:
                self._room.look(account, now)
        return None

    def due(self) -> float:
        return self._room.due()

    def advance(self, now: float) -> Iterator[Release]:
        while (found := self._room.next(now)) is not None:
            waiter, is_its_turn = found
            over = None if is_its_turn else worst_excess(waiter.accounts, waiter.size, waiter.flight.request.model, now)
            if over is None:
                self._admit(waiter, now)
                yield waiter.flight, None
            else:
                self._tell(waiter, now)
                step = self._instead(waiter, waiter.step + 1, *over, now)
                if not isinstance(step, Held):
                    yield waiter.flight, step

    def describe(self) -> str:
        limits = "; ".join(f"each {scope}: {limit}" for scope, limit in self._limits.items())
        instead = "".join(f"{step}, then " for step in self._settings.instead)
        return f"{limits}; above that {instead}HTTP 429"

    def state(self, now: float) -> dict[str, object]:
        accounts: dict[str, list[Account]] = {scope: [] for scope in self._limits}
        for (scope, _), account in self._accounts.items():
            accounts[scope].append(account)
        return {
            "counts": dict(self._counts),
            "in_flight": len(self._held),
            "waiting": len(self._room),
            "limits": {
                scope: {"active": len(found), "lowest": _lowest(found, now)} for scope, found in accounts.items()
            },
        }

    def _accounts_of(self, tenant: Tenant, now: float) -> list[Account]:
        """Those that a request falls on, the organization's first."""
        if len(self._accounts) > self._many_accounts:
            self._forget_unused(now)
        return [self._account(scope, getattr(tenant, scope), limit) for scope, limit in self._limits.items()]

    def _account(self, scope: Scope, label: str | None, limit: Limit) -> Account:
        account = self._accounts.get((scope, label))
        if account is None:
            account = self._accounts[scope, label] = Account(scope, label, limit)
        return account

    def _forget_unused(self, now: float) -> None:
        """Users come and go: who has not asked for long is forgotten, which changes nothing for them."""
        waited_for = self._room.accounts()
        self._accounts = {
            key: account
            for key, account in self._accounts.items()
            if account in waited_for or not account.is_unused(now)
        }
        self._many_accounts = max(_FEW_ACCOUNTS, 2 * len(self._accounts))

    def _admit(self, waiter: Waiter, now: float) -> None:
        admission = Admission(waiter.accounts, waiter.size, now)
        self._held[waiter.flight.asked.request_id] = admission, waiter.flight.passage.num_attempts
        self._counts["admitted"] += 1
        self._tell(waiter, now)

    def _tell(self, waiter: Waiter, now: float) -> None:
        """The client is told how much of each limit is left, in place of what it was told on an earlier way through."""
        passage = waiter.flight.passage
        others = (quota for quota in passage.quotas if quota.scope not in self._limits)
        passage.quotas = (*others, *(quota for account in waiter.accounts for quota in account.quotas(now)))

    def _instead(
        self, waiter: Waiter, first: int, account: Account, excess: Excess | None, now: float
    ) -> Held | Answered | Refusal | None:
        """The first thing that can be done, from number `first` of the list on. `excess` None: there is room, but others
        came earlier."""
        flight = waiter.flight
        for number, step in enumerate(self._settings.instead[first:], first):
            if step.model is not None and step.model != flight.request.model:
                flight.request = replace(flight.request, model=step.model)
                self._note(flight, "degraded", f"degraded to {step.model}")
                return None
            if step.stale and (answer := self._stale(flight, now)) is not None:
                self._note(flight, "stale", "degraded to a stale answer")
                return answer
            if step.queue is not None and not (excess and excess.is_too_large):
                waiter.step = number
                self._room.enter(waiter, account, now + step.queue, now)
                self._note(flight, "queued", f"queued for {account.scope}")
                return HELD
        assert excess is not None  # others wait only where the list has a queue
        self._note(flight, "refused", f"refused by {excess.scope} {excess.kind}")
        return _refusal(excess)

    def _stale(self, flight: Flight, now: float) -> Answered | None:
        """An old answer of the first cache that has one."""
        answers = (fallback.stale(flight, now) for fallback in self._parts.fallbacks)
        return next((answer for answer in answers if answer is not None), None)

    def _note(self, flight: Flight, count: str, decision: str) -> None:
        self._counts[count] += 1
        flight.passage.notes.append(f"{self.name}: {decision}")


class ModelLimits:
    """What a provider allows of one model, to all who call it together: the account that the deployment has there."""

    def __init__(self, model: str, limit: Limit, models: Mapping[str, ServedModel]) -> None:
        self._account = Account("model", model, limit)
        self._models = models
        self._admitted: dict[str, Admission] = {}

    def enter(self, request: Request, now: float) -> Refusal | Strike | None:
        if request.batch:
            return None
        size = _size(request, self._models)
        excess = self._account.excess(size, request.model, now)
        if excess is not None:
            return _refusal(excess)._replace(quotas=tuple(self._account.quotas(now)))
        self._admitted[request.request_id] = Admission([self._account], size, now)
        return Strike(quotas=tuple(self._account.quotas(now)))

    def left(self, request: Request, end: Finished | Refused | Cut, now: float) -> None:
        admission = self._admitted.pop(request.request_id, None)
        if admission is not None:
            admission.settle(_used(request.choice, request.num_prompt_tokens, end), now)


def _size(request: Request, models: Mapping[str, ServedModel]) -> Size:
    """What a request reserves. A name that routers stand behind has no length of its own: that of the longest model."""
    num_output = request.max_tokens
    if num_output is None:
        served = [models[request.model]] if request.model in models else models.values()
        num_output = round(max(model.length.median_tokens for model in served))
    return Size.of(request.choice, request.num_prompt_tokens, num_output)


def _used_by(flight: Flight, end: End, *, was_called: bool) -> Size:
    """What a request used after all; if its client went away: its prompt, if a model was called, and what the client saw."""
    choice, num_prompt = flight.asked.choice, flight.passage.num_prompt_tokens
    if num_prompt is None:
        num_prompt = flight.asked.num_prompt_tokens
    if end is None:
        return Size.of(choice, num_prompt if was_called else 0, flight.num_tokens)
    return _used(choice, num_prompt, end)


def _used(choice: int, num_prompt: int, end: Finished | Refused | Cut) -> Size:
    """What a call used after all. One that failed counts as a request, and as nothing else."""
    if isinstance(end, Refused):
        return Size.of(choice, 0, 0)
    num_cached = end.cache.num_read if isinstance(end, Finished) else 0
    return Size.of(choice, num_prompt, end.num_output_tokens, num_cached)


def _refusal(excess: Excess) -> Refusal:
    amount = f"{excess.limit} {excess.kind.replace('_', ' ')}" + ("" if excess.kind == "concurrency" else " a minute")
    if excess.scope == "model":
        whose = f"model {excess.model}"
    else:  # without the label: a table of errors has one line for all users, not one for each
        whose = f"one {excess.scope}" if excess.label else f"all requests that name no {excess.scope}"
    message = f"The limit of {amount} for {whose} is exceeded: {excess.used} used, {excess.requested} requested."
    kind = "tokens" if excess.kind.endswith("tokens") else "requests"
    return Refusal(429, kind, message, excess.wait_s, excess)


def _lowest(accounts: Sequence[Account], now: float) -> dict[str, int]:
    """Of each kind of limit, what the one that has least of it has left."""
    lowest: dict[str, int] = {}
    for quota in (quota for account in accounts for quota in account.quotas(now)):
        lowest[quota.kind] = min(lowest.get(quota.kind, quota.remaining), quota.remaining)
    return lowest
