"""Stacks of real parts for tests: models of known speed, any stages before them, and a virtual clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mockllm import Cut, Emission, Finished, Refused, Request, simulate
from mockllm.content.embeddings import default_embedder
from mockllm.engine.engine import Engine, Overhead, Replica, ServedModel
from mockllm.engine.hosted import HostedLatency, HostedReplica
from mockllm.engine.length import AnswerLength, ReasoningLength
from mockllm.passage import Passage
from mockllm.stack.fault_kinds import Fault
from mockllm.stack.faults import Faults
from mockllm.stack.parts import Fallback, Parts
from mockllm.stack.prices import Price
from mockllm.stack.stack import Stack
from mockllm.stack.stage import Door, Stage
from mockllm.stack.table import POLICIES
from mockllm.stack.timeline import Timeline
from mockllm.streams import Streams

__all__ = ["PRICES", "STREAMS", "ask", "end_of", "ends", "known", "parts", "passage_of", "run", "stack", "stage"]

STREAMS = Streams(3)
PRICES = {"large": Price(input=2.0, output=8.0, cached_input=0.5), "small": Price(input=0.1, output=0.4)}


known = HostedLatency.exactly


def engine(replicas: Mapping[str, Replica] | None = None, *, every_token: bool = False) -> Engine:
    """By default `large` (first token after 1 s, then one every 0.1 s) and `small` (0.2 s, 0.02 s); 50 tokens an answer."""
    if replicas is None:
        laws = {"large": known(1.0, 0.1), "small": known(0.2, 0.02)}
        replicas = {name: HostedReplica(law, STREAMS, every_token=every_token) for name, law in laws.items()}
    length = AnswerLength(50, 0.0, 100_000)
    models = {
        name: ServedModel(name, length, Overhead(), replica, replica, ReasoningLength(1, 0))
        for name, replica in replicas.items()
    }
    return Engine(models, STREAMS)


def parts(behind: Engine, name: str, timeline: Timeline, fallbacks: list[Fallback]) -> Parts:
    return Parts(name, STREAMS, behind, timeline, PRICES, default_embedder, fallbacks)


def stage(policy: str, keys: Mapping[str, Any], lent: Parts) -> Stage:
    """A policy as a deployment file would build it."""
    found = POLICIES[policy]
    return found.build(found.settings.model_validate(dict(keys)), lent)


def stack(
    *stages: Stage | tuple[str, Mapping[str, Any]],
    behind: Engine | None = None,
    doors: Mapping[str, Sequence[Door]] | None = None,
    every_token: bool = False,
    faults: Iterable[Fault] = (),
) -> Stack:
    """Stages, ready-made or as `(policy, keys)`, before an engine."""
    behind = behind or engine(every_token=every_token)
    timeline, fallbacks = Timeline(), list[Fallback]()
    built = [
        stage(each[0], each[1], parts(behind, each[0], timeline, fallbacks)) if isinstance(each, tuple) else each
        for each in stages
    ]
    replay = HostedReplica(known(0.0, 0.0), STREAMS, every_token=every_token)
    aliases = {
        alias: behind.models[target]
        for each in stages
        if isinstance(each, tuple)
        for alias, target in POLICIES[each[0]].settings.model_validate(dict(each[1])).aliases()
    }
    return Stack(
        behind,
        built,
        replay=replay,
        models={**behind.models, **aliases},
        doors=doors or {},
        prices=PRICES,
        timeline=timeline,
        faults=Faults(faults, behind.models, timeline, STREAMS),
    )


def ask(number: int, model: str = "large", **changes: Any) -> Request:
    """Request number n: 100 prompt tokens, an answer of 50."""
    values: dict[str, Any] = {"num_prompt_tokens": 100, "num_answer_tokens": 50} | changes
    return Request(f"r{number}", f"k{number}", model, **values)


def run(subject: Stack, arrivals: Iterable[tuple[float, Request]]) -> list[Emission]:
    """Everything that clients see, in virtual time."""
    return list(simulate(subject, arrivals))


def ends(emissions: Iterable[Emission]) -> dict[str, Emission]:
    """How each request ended."""
    return {
        each.request_id: each for each in emissions if hasattr(each, "status") or hasattr(each, "num_output_tokens")
    }


def end_of(emissions: Iterable[Emission], number: int) -> Emission:
    return ends(emissions)[f"r{number}"]


def passage_of(emissions: Iterable[Emission], number: int) -> Passage:
    """What request number n met."""
    end = end_of(emissions, number)
    assert isinstance(end, Finished | Refused | Cut)
    assert end.passage is not None
    return end.passage
