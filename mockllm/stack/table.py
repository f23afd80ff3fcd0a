"""Which key of a deployment's `stack` is which policy. A new policy is one file, and one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from mockllm.stack.cascade import Cascade, CascadeSettings
from mockllm.stack.dependencies import Dependencies, DependenciesSettings
from mockllm.stack.edge import Edge, EdgeSettings
from mockllm.stack.exact_cache import ExactCache, ExactCacheSettings
from mockllm.stack.failover import Failover, FailoverSettings
from mockllm.stack.hedging import Hedge, HedgeSettings
from mockllm.stack.limits import RateLimits, RateLimitSettings
from mockllm.stack.network import Network, NetworkSettings
from mockllm.stack.output_control import OutputControl, OutputControlSettings
from mockllm.stack.parts import Parts, StageSettings
from mockllm.stack.prompt_compression import PromptCompression, PromptCompressionSettings
from mockllm.stack.queue import PriorityQueue, PriorityQueueSettings
from mockllm.stack.retry import Retry, RetrySettings
from mockllm.stack.routing import Route, RouteSettings
from mockllm.stack.semantic_cache import SemanticCache, SemanticCacheSettings
from mockllm.stack.split import Split, SplitSettings
from mockllm.stack.stage import Stage
from mockllm.stack.static_cache import StaticCache, StaticCacheSettings
from mockllm.stack.user_cache import UserCache, UserCacheSettings

__all__ = ["POLICIES", "Policy"]


class Policy(NamedTuple):
    """What a policy's keys are, and how the stage is built of them."""

    settings: type[StageSettings]
    build: Callable[[Any, Parts], Stage]


POLICIES: dict[str, Policy] = {
    "static_cache": Policy(StaticCacheSettings, StaticCache),
    "exact_cache": Policy(ExactCacheSettings, ExactCache),
    "user_cache": Policy(UserCacheSettings, UserCache),
    "semantic_cache": Policy(SemanticCacheSettings, SemanticCache),
    "rate_limits": Policy(RateLimitSettings, RateLimits),
    "priority_queue": Policy(PriorityQueueSettings, PriorityQueue),
    "retry": Policy(RetrySettings, Retry),
    "cascade": Policy(CascadeSettings, Cascade),
    "split": Policy(SplitSettings, Split),
    "route": Policy(RouteSettings, Route),
    "prompt_compression": Policy(PromptCompressionSettings, PromptCompression),
    "output_control": Policy(OutputControlSettings, OutputControl),
    "dependencies": Policy(DependenciesSettings, Dependencies),
    "edge": Policy(EdgeSettings, Edge),
    "failover": Policy(FailoverSettings, Failover),
    "network": Policy(NetworkSettings, Network),
    "hedge": Policy(HedgeSettings, Hedge),
}
