"""Edge and cloud: a small local model answers the requests that suit it, the cloud's model all others.

It acts on requests for `name`, or without a name on those for the cloud's model. One stays at the edge if it meets every
rule that is given:

    share               by a draw keyed by the request: so many of all
    max_difficulty      the difficulty that the workload labelled it with is not above; one without a label goes to the cloud
    max_prompt_tokens   its prompt is not longer
    max_in_flight       fewer than so many are at the local model already: the others go to the cloud

What the local model refuses (429, 5xx, a reset) or breaks off before anybody saw a word goes to the cloud at once. The network is a
stage of its own behind this one, with `models: [<cloud>]`, so that only what leaves the edge pays for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pydantic import model_validator

from mockllm.fields import Count, ModelName, Share
from mockllm.model import Request
from mockllm.stack.breaker import reason_to_move
from mockllm.stack.parts import KeyPath, Parts, StageSettings
from mockllm.stack.stage import Again, Arrival, End, Flight, Leaving, Stage

__all__ = ["Edge", "EdgeSettings"]


class EdgeSettings(StageSettings):
    """`local` and `cloud` are models; the rules say which requests stay with `local`. None: the rule is not given."""

    local: ModelName
    cloud: ModelName
    name: ModelName | None = None
    share: Share | None = None
    max_difficulty: Share | None = None
    max_prompt_tokens: Count | None = None
    max_in_flight: Count | None = None

    @model_validator(mode="after")
    def _has_a_rule(self) -> EdgeSettings:
        if self.share is None and self.max_difficulty is None and self.max_prompt_tokens is None:
            raise ValueError("no rule says what stays at the edge; give share, max_difficulty or max_prompt_tokens")
        if self.local == self.cloud:
            raise ValueError(f"{self.local!r} is both local and cloud; they must be two models")
        return self

    def aliases(self) -> Iterator[tuple[str, str]]:
        if self.name is not None:
            yield self.name, self.cloud

    def references(self) -> Iterator[tuple[KeyPath, str]]:
        yield ("local",), self.local
        yield ("cloud",), self.cloud


class Edge(Stage):
    """The stage. `_asked` holds what stays at the edge, as it came here, until it leaves or goes on to the cloud."""

    def __init__(self, settings: EdgeSettings, parts: Parts) -> None:
        self.name = parts.name
        self._settings = settings
        self._streams = parts.streams
        self._entrance = settings.name or settings.cloud
        self._asked: dict[str, Request] = {}  # by request id
        self._local: set[str] = set()
        self._counts = dict.fromkeys(("local", "cloud", "saturated", "failed_over"), 0)

    def arrive(self, flight: Flight, now: float) -> Arrival:
        request, most = flight.request, self._settings.max_in_flight
        if request.model != self._entrance:
            return None
        self._asked[flight.asked.request_id] = request
        if not self._suits_the_edge(request):
            self._go_to_cloud(flight, "cloud")
        elif most is not None and len(self._local) >= most:
            self._counts["saturated"] += 1
            self._go_to_cloud(flight, f"cloud, {most} are at the edge already")
        else:
            self._counts["local"] += 1
            self._local.add(flight.asked.request_id)
            self._go_to(flight, self._settings.local, "edge")
        return None

    def leave(self, flight: Flight, end: End, now: float) -> Leaving:
        name = flight.asked.request_id
        asked = self._asked.get(name)
        if asked is None:
            return None
        why = reason_to_move(end)
        if name in self._local:
            self._local.remove(name)
            if why is not None and not flight.began:
                self._counts["failed_over"] += 1
                self._go_to_cloud(flight, f"cloud, the edge failed ({why})")
                return Again(now)
        flight.request = self._asked.pop(name)  # a stage further out may send it here once more
        return None

    def _suits_the_edge(self, request: Request) -> bool:
        settings = self._settings
        if settings.max_prompt_tokens is not None and request.num_prompt_tokens > settings.max_prompt_tokens:
            return False
        if settings.max_difficulty is not None:
            difficulty = request.query.difficulty if request.query else None
            if difficulty is None or difficulty > settings.max_difficulty:
                return False
        if settings.share is None:
            return True
        return self._streams.uniform(f"{self.name} share", request.shared_key) < settings.share

    def _go_to_cloud(self, flight: Flight, decision: str) -> None:
        self._counts["cloud"] += 1
        self._go_to(flight, self._settings.cloud, decision)

    def _go_to(self, flight: Flight, model: str, decision: str) -> None:
        flight.request = replace(flight.request, model=model)
        flight.passage.notes.append(f"{self.name}: {decision}")

    def describe(self) -> str:
        settings = self._settings
        rules = []
        if settings.share is not None:
            rules.append(f"{settings.share:.0%} of requests")
        if settings.max_difficulty is not None:
            rules.append(f"difficulty up to {settings.max_difficulty:g}")
        if settings.max_prompt_tokens is not None:
            rules.append(f"prompts up to {settings.max_prompt_tokens} tokens")
        most = f", {settings.max_in_flight} at a time" if settings.max_in_flight is not None else ""
        return f"{settings.local} takes {' and '.join(rules)}{most}; {settings.cloud} the rest, and what fails there"

    def state(self, now: float) -> dict[str, object]:
        return {"at_the_edge": len(self._local), "in_flight": len(self._asked), "counts": dict(self._counts)}
