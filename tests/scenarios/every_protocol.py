"""A locustfile that speaks every protocol in turn: what `test_protocol_scenarios.py` runs."""

from __future__ import annotations

from harness.arrivals.pacing import Piece
from harness.dialects import Dialect
from harness.dialects.table import DIALECTS
from harness.plan import Arrival, LoadPlan
from harness.swarm import LLMUser, PlanOptions
from harness.workloads.synthetic import Lognormal, SyntheticPlan

PROTOCOLS = list(DIALECTS.values())


class PolyglotUser(LLMUser):
    """The same kind of question in one protocol after the other."""

    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        pieces = [Piece(0.0, options.duration_s or 2.0, options.rate or 30.0, "steady")]
        return SyntheticPlan(pieces, "constant", Lognormal(200, 0.5, 900), Lognormal(30, 0.5, 90), options.seed)

    def dialect_for(self, arrival: Arrival) -> Dialect:
        return PROTOCOLS[arrival.index % len(PROTOCOLS)]
