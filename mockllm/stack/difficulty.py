"""How hard a question is, and whether a model gets it right: one law for routers and cascades.

Difficulty runs from 0 to 1. The workload's label counts (`Query.difficulty`); a request without one has that of a keyed
draw, uniform, so that over many requests a threshold is a share of them.

    P(right) = 1 / (1 + exp(-8 (skill - difficulty)))

This is the two-parameter logistic model of item response theory (Birnbaum 1968): `skill` is the difficulty of the questions
of which a model gets half right, 8 the slope, by judgement: half right turns into 92 % right 0.3 further down. Over
difficulties spread evenly a skill of 0.5 gives 50 % right answers, 0.8 gives 78 %, 1.2 gives 98 %. Given the difficulty,
two models are right or wrong independently (the theory's local independence).
"""

from __future__ import annotations

from math import exp

from mockllm.model import Request
from mockllm.streams import Streams

__all__ = ["difficulty_of", "is_right", "share_right"]

_SLOPE = 8.0


def difficulty_of(request: Request, streams: Streams) -> float:
    """0 (anybody knows) … 1 (hardly anybody does)."""
    if request.query is not None and request.query.difficulty is not None:
        return request.query.difficulty
    return streams.uniform("difficulty", request.shared_key)


def share_right(skill: float, difficulty: float) -> float:
    """The probability that a model of this skill answers a question of this difficulty rightly."""
    return 1 / (1 + exp(-_SLOPE * (skill - difficulty)))


def is_right(request: Request, model: str, skill: float, streams: Streams) -> bool:
    """Whether this model's answer to this request is right: the same whenever it is asked."""
    draw = streams.uniform(f"right answer {model}", request.shared_key)
    return draw < share_right(skill, difficulty_of(request, streams))
