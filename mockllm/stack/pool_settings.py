"""The keys of `replicas:`, one model's pool in a deployment file."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from mockllm.fields import Spread, Strict
from mockllm.stack.autoscale import MOST_REPLICAS, AutoscaleSettings
from mockllm.stack.balancing import BalanceRule
from mockllm.stack.coldstart import ColdStartSettings
from mockllm.stack.fleet import SpotSettings

__all__ = ["PoolSettings"]


class PoolSettings(Strict):
    """`count` replicas, or `replicas: 3` for short, and the rule by which they share the requests.

    With `autoscale` or `spot` replicas come and go: `count` is how many there are at first (not said: `min`), and while none
    is ready `queue_length` requests may wait. `price_per_hour` is what a replica on demand costs, in USD.
    """

    count: Annotated[int, Field(ge=0, le=MOST_REPLICAS)] | None = None
    balance: BalanceRule = "round_robin"
    queue_length: Annotated[int, Field(ge=0)] = 1000
    cold_start: ColdStartSettings = ColdStartSettings()
    price_per_hour: Spread | None = None
    spot: SpotSettings | None = None
    autoscale: AutoscaleSettings | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain_number(cls, value: Any) -> Any:
        return {"count": value} if isinstance(value, int) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _fits_together(self) -> PoolSettings:
        scale = self.autoscale
        if scale is not None and not scale.min <= self.num_at_first <= scale.max:
            raise ValueError(f"count {self.count} is not between autoscale.min {scale.min} and max {scale.max}")
        if scale is None and self.num_at_first < 1:
            raise ValueError("count 0 needs autoscale with min 0: nothing would ever start a replica")
        if not self.elastic and (unused := self.model_fields_set & {"queue_length", "cold_start"}):
            raise ValueError(f"{min(unused)} is for replicas that start: it needs autoscale or spot")
        if self.spot is not None and (self.price_per_hour is None) != (self.spot.price_per_hour is None):
            raise ValueError("price_per_hour and spot.price_per_hour: give both or none")
        return self

    @property
    def elastic(self) -> bool:
        """Replicas come and go."""
        return self.autoscale is not None or self.spot is not None

    @property
    def num_at_first(self) -> int:
        if self.count is not None:
            return self.count
        return 1 if self.autoscale is None else self.autoscale.min
