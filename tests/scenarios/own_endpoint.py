"""A locustfile for an endpoint of one's own: what `test_protocol_scenarios.py` runs, and an example to start from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.arrivals.pacing import Piece
from harness.dialects import Asked
from harness.dialects.custom import json_dialect
from harness.plan import LoadPlan
from harness.swarm import LLMUser, PlanOptions
from harness.workloads.synthetic import AZURE_CONVERSATION_PROMPT, Lognormal, SyntheticPlan


def body(asked: Asked) -> Mapping[str, Any]:
    return {"question": asked.messages[-1][1], "words": asked.max_tokens}


class OwnUser(LLMUser):
    """Questions to an assistant that answers in lines of JSON."""

    dialect = json_dialect(
        "our-assistant", "/api/answer", body, content="say", framing="ndjson", end="done", output_tokens="num_words"
    )

    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        pieces = [Piece(0.0, options.duration_s or 10.0, options.rate or 5.0, "steady")]
        return SyntheticPlan(pieces, "constant", AZURE_CONVERSATION_PROMPT, Lognormal(12, 0.5, 40), options.seed)
