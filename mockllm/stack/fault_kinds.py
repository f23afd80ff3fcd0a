"""What can go wrong, as it is written in a deployment file and sent to `/mock/faults`: one class a kind.

    faults:
      - {at: 10m, for: 2m, kind: outage, model: large}
      - {at: 20m, for: 5m, kind: brownout, model: small, replica: small-1, factor: 3}
      - {at: 30m, for: 1m, kind: errors, status: 500, share: 0.2}

What the client of a struck call sees:

    outage               503 (or `status: reset`) in place of an answer; answers in progress break off the instant it begins.
                         Of a replica: it takes nothing new while others can, and what it has breaks off
    refuse_connections   the connection is reset before any byte of an answer. A server that was reached cannot take back
                         its name or its port: to a client this is a reset, to the policies of a stack connection_refused
    reset                TCP RST in place of an answer
    errors               an HTTP status
    rate_limit_storm     429 with retry-after
    slow_first_token     the call reaches the model so much later
    brownout             every step of a batched replica takes `factor` times as long, from the next step on; of a hosted
                         model the calls that come in while it lasts do, from beginning to end
    stall                nothing comes until it is over: a replica stands still in the middle of its step
    cut                  the connection closes after so many tokens
    truncate             the body ends in order after so many tokens, the answer does not
    in_band_error        an error event after so many tokens, and the end of the stream; HTTP 500 where nothing is streamed
    garbled              after so many tokens one event is no JSON, then it goes on; the body of a whole answer is no JSON
    duplicate_finish     the event that ends the answer comes twice; only in streams
    slow_headers         the head of the answer drips out byte by byte, `delay` in all, and the answer after it

An answer that is shorter than so many tokens is not harmed.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, model_validator

from mockllm.fields import Count, Duration, ModelName, Share, Strict
from mockllm.model import Cut, Request
from mockllm.passage import Damage
from mockllm.stack.stage import Refusal, Strike

__all__ = ["KINDS", "Brownout", "Fault", "Outage", "Stall"]

_RESET = 0
_DURATIONS = ("at", "for", "retry_after", "delay")
_Delay = Annotated[Duration, Field(gt=0)]
_ErrorStatus = Annotated[int, Field(ge=400, le=599)]


class Fault(Strict):
    """What every fault has: `at` on the run's clock (None: the instant it is read), how long it lasts (None: until it is
    taken back), and the model that it strikes (None: every model)."""

    at: Duration | None = None
    lasts: Annotated[Duration, Field(gt=0)] | None = Field(default=None, alias="for")
    kind: str
    model: ModelName | None = None

    @property
    def part(self) -> str | None:
        """The one replica that it strikes; None: the whole model."""
        return None

    @property
    def odds(self) -> float:
        """The share of calls that it strikes."""
        return 1.0

    def concerns(self, request: Request) -> bool:
        """Whether it may strike this call."""
        return self.model is None or request.model == self.model

    def strike(self, request: Request) -> Refusal | Strike | None:
        """What it does to a call that comes in; None: nothing."""
        raise NotImplementedError

    def written(self) -> dict[str, object]:
        """As it stands in a file: what was left out is left out, durations have their unit."""
        given = self.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True)
        return {name: _duration(value) if name in _DURATIONS else value for name, value in given.items()}


class _OnCalls(Fault):
    """Strikes calls: those of a region of clients, and a share of them, drawn by the request's key."""

    region: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    share: Annotated[Share, Field(gt=0)] = 1.0

    @property
    def odds(self) -> float:
        return self.share

    def concerns(self, request: Request) -> bool:
        return super().concerns(request) and (self.region is None or request.tenant.region == self.region)


class _OnReplicas(Fault):
    """Strikes one replica or all of a model, with everything that is on them."""

    replica: ModelName | None = None

    @property
    def part(self) -> str | None:
        return self.replica

    @model_validator(mode="after")
    def _names_its_model(self) -> _OnReplicas:
        if self.replica is not None and self.model is None:
            raise ValueError(f"replica {self.replica!r} belongs to a model: name the `model` too")
        return self


class Outage(_OnCalls, _OnReplicas):
    """Nobody is answered. `status` of those who ask: an HTTP status of the 500s, or `reset`."""

    kind: Literal["outage"]
    status: Annotated[int, Field(ge=500, le=599)] | Literal["reset"] = 503

    @model_validator(mode="after")
    def _is_whole(self) -> Outage:
        if self.replica is not None and (self.region is not None or self.share < 1):
            raise ValueError("a replica goes down with everything on it: `replica` goes without `region` and `share`")
        return self

    def strike(self, request: Request) -> Refusal | None:
        return None if self.replica is not None else self.refusal()

    def refusal(self) -> Refusal:
        """What a call hears of which its client has not seen anything."""
        if self.status == "reset":
            return Refusal(_RESET, "outage", "The connection was reset.")
        return Refusal(self.status, "mock_error", "The service is down.")


class RefuseConnections(_OnCalls):
    """As if the host's name or its port did not exist."""

    kind: Literal["refuse_connections"]

    def strike(self, request: Request) -> Refusal:
        return Refusal(_RESET, "connection_refused", "Connection refused.")


class Reset(_OnCalls):
    """A connection that breaks before the answer."""

    kind: Literal["reset"]

    def strike(self, request: Request) -> Refusal:
        return Refusal(_RESET, "connection_reset", "The connection was reset.")


class Errors(_OnCalls):
    """HTTP errors in the provider's words for `status`."""

    kind: Literal["errors"]
    status: _ErrorStatus
    retry_after: Duration | None = None

    def strike(self, request: Request) -> Refusal:
        return Refusal(self.status, "mock_error", f"A fault of the mock: HTTP {self.status}.", self.retry_after)


class RateLimitStorm(_OnCalls):
    """429 for everybody that it strikes, whatever they have used of their limits."""

    kind: Literal["rate_limit_storm"]
    retry_after: Duration

    def strike(self, request: Request) -> Refusal:
        return Refusal(429, "mock_error", "A fault of the mock: a storm of rate limits.", self.retry_after)


class SlowFirstToken(_OnCalls):
    """The whole answer comes so much later."""

    kind: Literal["slow_first_token"]
    delay: _Delay

    def strike(self, request: Request) -> Strike:
        return Strike(delay_s=self.delay)


class Brownout(_OnReplicas):
    """Everything takes `factor` times as long."""

    kind: Literal["brownout"]
    factor: Annotated[float, Field(ge=1, le=1e6)]

    def strike(self, request: Request) -> Strike | None:
        return None if self.replica is not None else Strike()


class Stall(_OnReplicas):
    """Nothing moves for as long as it lasts, which must be said."""

    kind: Literal["stall"]
    lasts: _Delay = Field(alias="for")

    def strike(self, request: Request) -> Strike | None:
        return None if self.replica is not None else Strike()


class _AfterTokens(_OnCalls):
    after_tokens: Count


class CutOff(_AfterTokens):
    """The connection closes in the middle of the answer."""

    kind: Literal["cut"]

    def strike(self, request: Request) -> Strike:
        return Strike(cut=Cut("", 0.0, self.after_tokens))


class Truncate(_AfterTokens):
    """The body is complete for HTTP, the answer is not."""

    kind: Literal["truncate"]

    def strike(self, request: Request) -> Strike:
        return Strike(cut=Cut("", 0.0, self.after_tokens, silent=True))


class InBandError(_AfterTokens):
    """The provider's error, in a stream that has begun with 200."""

    kind: Literal["in_band_error"]

    def strike(self, request: Request) -> Strike:
        return Strike(cut=Cut("", 0.0, self.after_tokens, in_band=True))


class Garbled(_AfterTokens):
    """An event that is no JSON."""

    kind: Literal["garbled"]

    def strike(self, request: Request) -> Strike:
        return Strike(damage=(Damage("garbled", after=self.after_tokens),))


class DuplicateFinish(_OnCalls):
    """An answer that ends twice."""

    kind: Literal["duplicate_finish"]

    def strike(self, request: Request) -> Strike | None:
        return Strike(damage=(Damage("duplicate_finish"),)) if request.watched else None


class SlowHeaders(_OnCalls):
    """A head that takes `delay` from its first byte to its last."""

    kind: Literal["slow_headers"]
    delay: _Delay

    def strike(self, request: Request) -> Strike:
        return Strike(damage=(Damage("slow_headers", seconds=self.delay),))


KINDS: dict[str, type[Fault]] = {
    "outage": Outage,
    "refuse_connections": RefuseConnections,
    "reset": Reset,
    "errors": Errors,
    "rate_limit_storm": RateLimitStorm,
    "slow_first_token": SlowFirstToken,
    "brownout": Brownout,
    "stall": Stall,
    "cut": CutOff,
    "truncate": Truncate,
    "in_band_error": InBandError,
    "garbled": Garbled,
    "duplicate_finish": DuplicateFinish,
    "slow_headers": SlowHeaders,
}


def _duration(seconds: float) -> str:
    """Seconds as `fields.parse_duration` reads them, exactly."""
    return f"{Decimal(repr(seconds)).normalize():f}s"
