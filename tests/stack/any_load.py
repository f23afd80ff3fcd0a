"""Loads drawn at random: streams and whole answers, tenants, repeated questions, demands on the mock, clients that leave."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from mockllm import Query, Request, Tenant
from mockllm.model import CachePoint, Forced

__all__ = ["Load", "any_load"]

_TEXTS = (
    "How do I reset my password?", "how do i reset my password", "Reset my password", "Translate this poem to French",
    "Fix the bug in this python function", "What is 3 plus 4?", "What is 3 plus 5?", "",
)  # fmt: skip
_FORCED = (
    Forced(ttft_s=0.5), Forced(itl_s=0.2), Forced(status=500), Forced(status=429, retry_after_s=2.0), Forced(status=400),
    Forced(cut_after=5), Forced(error_after=3), Forced(ttft_s=3.0, itl_s=0.0),
)  # fmt: skip


class Load(NamedTuple):
    """Requests with their instants, in order of time; which clients go away when."""

    arrivals: list[tuple[float, Request]]
    leaves: list[tuple[float, str]]


def any_load(seed: int, num: int, span_s: float, models: Sequence[str]) -> Load:
    """`num` requests within `span_s`, for any of `models`. Instants are whole tenths often enough to fall together."""
    random = Random(seed)
    instants = sorted(round(random.uniform(0, span_s), random.choice([0, 1, 9])) for _ in range(num))
    arrivals: list[tuple[float, Request]] = []
    for number, at in enumerate(instants):
        request = _request(random, f"r{number}", random.choice(models))
        arrivals.append((at, request))
        if request.query is None and request.forced is None:
            arrivals += [(at, _further(request, choice)) for choice in range(1, random.choice([1, 1, 3]))]
    leaves = [
        (at + random.choice([0.0, random.uniform(0, 1), random.uniform(0, 20)]), request.request_id)
        for at, request in arrivals
        if random.random() < 0.2
    ]
    return Load(arrivals, sorted(leaves))


def _request(random: Random, name: str, model: str) -> Request:
    watched = random.random() < 0.6
    num_prompt = random.choice([1, 20, 100, 400, 900, 1900, 5000] if random.random() < 0.3 else [50, 120, 200])
    family = random.randrange(3)
    return Request(
        name,
        f"key of {name}",
        model,
        num_prompt,
        max_tokens=random.choice([None, None, 1, 30, 200]),
        min_tokens=random.choice([0, 0, 5]),
        ignore_eos=random.random() < 0.1,
        watched=watched,
        priority=random.randrange(3),
        num_answer_tokens=random.choice([None, 1, 40, 150]),
        num_reasoning_tokens=random.choice([0, 0, 20]),
        block_hashes=tuple(1000 * family + place for place in range(num_prompt // 16)),
        cache_points=random.choice([None, None, (), (CachePoint(num_prompt // 2, family, 300.0),)]),
        forced=random.choice(_FORCED) if random.random() < 0.1 else None,
        tenant=Tenant(
            key=random.choice([None, "k1", "k2"]),
            user=random.choice([None, "u1", "u2", "u3"]),
            organization=random.choice([None, "o1"]),
            feature=random.choice([None, "chat", "search"]),
            tier=random.choice([None, "free", "paid"]),
            region=random.choice([None, "eu", "us"]),
            session=random.choice([None, "s1", "s2"]),
        ),
        query=_query(random, model) if random.random() < 0.8 else None,
        urgency=random.choice(["P0", "P1", "P1", "P2"]),
        batch=random.random() < 0.1,
        tell_first=watched,  # as with every stack: what has begun cannot be tried again
    )


def _further(request: Request, choice: int) -> Request:
    """Another answer that the same client's request wants."""
    return Request(
        f"{request.request_id}:{choice}",
        f"{request.key}\x00{choice}",
        request.model,
        request.num_prompt_tokens,
        max_tokens=request.max_tokens,
        watched=request.watched,
        tenant=request.tenant,
        urgency=request.urgency,
        batch=request.batch,
        choice=choice,
        tell_first=request.watched,
    )


def _query(random: Random, model: str) -> Query:
    text = random.choice(_TEXTS)
    context = random.choice(["", "", "earlier words"])
    return Query(
        digest=f"{model} {context} {text}",
        text=text,
        context=context,
        intent=random.choice([None, "password", "other"]),
        task=random.choice([None, "code", "math"]),
        difficulty=random.choice([None, 0.1, 0.5, 0.9]),
        free_text=random.random() < 0.8,
    )
