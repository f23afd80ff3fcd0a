"""Who asks, what is asked, and what a request meets on its way through the stack.

`Tenant` and `Query` come with a `Request` (`model.py`); a `Passage` goes with what becomes of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

__all__ = ["NOBODY", "Damage", "Excess", "Passage", "Query", "Quota", "Tenant", "Urgency"]

Urgency = Literal["P0", "P1", "P2"]  # real time; within seconds; batch


@dataclass(frozen=True, slots=True)
class Tenant:
    """On whose behalf a request comes. None: not said. `key` names an API key and is never the key itself."""

    key: str | None = None
    user: str | None = None
    organization: str | None = None
    feature: str | None = None
    tier: str | None = None
    region: str | None = None
    session: str | None = None


NOBODY = Tenant()


@dataclass(frozen=True, slots=True)
class Query:
    """What a request asks, as far as caches and routers look into it.

    `digest` names the whole question: model, parameters, all messages. `text` is its last message, `context` names
    everything before it and the parameters, `parameters` these alone. `intent`, `task` and `difficulty` (0 … 1) are labels
    of a workload: the truth against which a semantic cache, a router or a cascade is judged; None: not labelled.
    `free_text`: the answer is prose, which may be asked to be shorter; JSON and tool calls have the length that they have.
    """

    digest: str
    text: str = ""
    context: str = ""
    parameters: str = ""
    intent: str | None = None
    task: str | None = None
    difficulty: float | None = None
    free_text: bool = True


class Quota(NamedTuple):
    """One limit as a client is told of it: `kind` is requests, tokens, input_tokens or output_tokens (a minute).

    `reset_s` is how long from `at` until `remaining` is back at `limit`. `scope` is whose limit it is: organization, key,
    user, feature, or model for what the provider of a model allows.
    """

    kind: str
    limit: int
    remaining: int
    reset_s: float
    scope: str = "organization"
    at: float = 0.0


class Excess(NamedTuple):
    """The limit that a request would exceed; each provider has its own words for it.

    `kind` as of a `Quota`, or concurrency. `requested` above `limit`: it never fits. `label` says which organization,
    user … of this scope, None if the request does not. `wait_s` until it fits if nobody else comes; None: time alone
    does not help.
    """

    kind: str
    limit: int
    used: int
    requested: int
    scope: str
    label: str | None
    model: str
    wait_s: float | None

    @property
    def is_too_large(self) -> bool:
        """However long the client waits."""
        return self.requested > self.limit


class Damage(NamedTuple):
    """What a fault does to the bytes of an answer that the model gave: `kind` and after how many tokens.

    garbled (an event that is no JSON, then it goes on), duplicate_finish, slow_headers (`seconds` late, byte by byte).
    """

    kind: Literal["garbled", "duplicate_finish", "slow_headers"]
    after: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Passage:
    """What a request met on its way through the stack: filled in while it goes, noted in ledger and records.

    `model` answers, or answered; on `replica`, where there are several. `num_prompt_tokens` is what it read, where that is
    not what the client sent. `source` is `model`, or the name of the cache that answered, `payload` then what it kept.
    `cache_outcome` is hit, stale or miss by the last cache that looked, None if none did; `wrong_hit` where the labels say
    that the answer belongs to another question. `waited_s` is by stage; `notes` are the decisions in their order, as
    `stage: decision`. `quotas`: the limits that it met, as it left them. `cost_usd` is of all calls and fees, also of calls nobody saw the answer
    of; `saved_usd` by stage is what the request would have cost more without it.
    """

    model: str
    source: str = "model"
    replica: str | None = None
    num_prompt_tokens: int | None = None
    payload: object | None = None
    cache_outcome: str | None = None
    wrong_hit: bool | None = None
    num_attempts: int = 0
    waited_s: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    quotas: tuple[Quota, ...] = ()
    damage: tuple[Damage, ...] = ()
    cost_usd: float | None = None
    saved_usd: dict[str, float] = field(default_factory=dict)
