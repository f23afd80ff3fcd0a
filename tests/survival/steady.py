"""A locustfile for the tests of this folder: a request every 50 ms for two seconds, each answered for half a second."""

from __future__ import annotations

from harness.plan import Arrival, LoadPlan, Materialized
from harness.swarm import LLMUser, PlanOptions
from tests.survival.pace import EVERY_S, NUM


class SteadyUser(LLMUser):
    """The same arrivals every time, so that every loss shows."""

    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        duration_s = options.duration_s or NUM * EVERY_S
        num = round(duration_s / EVERY_S)
        return Materialized(tuple(Arrival(index, index * EVERY_S, 20, 16) for index in range(num)), duration_s)
