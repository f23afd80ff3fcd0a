"""What all response caches share: the answer that one keeps, where it is kept, and how it is handed out and counted."""

from __future__ import annotations

import unicodedata
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Annotated, Generic, NamedTuple, TypeVar

from pydantic import Field

from mockllm.fields import Duration, Spread, Strict
from mockllm.model import CacheUse, Finished
from mockllm.passage import Query
from mockllm.stack.parts import Parts
from mockllm.stack.stage import Answered, End, Flight
from mockllm.streams import Streams

__all__ = ["Answers", "Kept", "Latency", "Readout", "Ttl", "kept_of", "normalised", "question_of"]

K = TypeVar("K", bound=Hashable)

Ttl = Annotated[Duration, Field(gt=0)]


class Latency(Strict):
    """A time that differs from request to request: lognormal, by its median and the sigma of its logarithm."""

    median: Duration
    sigma: Spread = 0.0

    def draw(self, streams: Streams, purpose: str, key: str) -> float:
        """Seconds, for the request with this key."""
        return streams.lognormal(purpose, key, self.median, self.sigma)

    def __str__(self) -> str:
        return f"{self.median * 1e3:g} ms"


class Kept(NamedTuple):
    """A complete answer: `at` is when it was complete, `model` who gave it, `intent` the label of the question it answers."""

    num_tokens: int
    reason: str
    payload: object | None
    at: float
    model: str | None
    intent: str | None


def question_of(flight: Flight) -> Query | None:
    """What a cache may look at; None where it must not, and where the client gives orders to the mock itself."""
    return None if flight.asked.forced is not None else flight.asked.query


def kept_of(flight: Flight, end: End, now: float) -> Kept | None:
    """What to keep of a request that is over; None unless a model answered it completely and nothing damaged the answer.

    An answer out of another cache is not kept: it would begin a second life here, past the time that was given to it.
    """
    passage, query = flight.passage, flight.asked.query
    damaged = any(damage.kind == "garbled" for damage in passage.damage)
    if not isinstance(end, Finished) or passage.source != "model" or damaged or query is None:
        return None
    return Kept(end.num_output_tokens, end.reason, flight.asked.payload, now, passage.model, query.intent)


def normalised(text: str) -> str:
    """The text for comparing: no upper case, no width variants, single blanks, no punctuation at its end."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(" .!?…")


class Answers(Generic[K]):
    """At most `capacity` answers by key; for a new one, that which was used longest ago goes.

    An answer is fresh for `ttl_s` seconds and stays until it goes: an old one is better than none when no model answers.
    """

    def __init__(self, capacity: int, ttl_s: float) -> None:
        self.capacity, self.ttl_s = capacity, ttl_s
        self.num_stored = self.num_evicted = 0
        self._kept: OrderedDict[K, Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def fresh(self, key: K, now: float) -> Kept | None:
        """The answer, if it has not expired; that is a use."""
        kept = self._kept.get(key)
        if kept is None or now - kept.at >= self.ttl_s:
            return None
        self._kept.move_to_end(key)
        return kept

    def stale(self, key: K) -> Kept | None:
        """The answer, however old; that is a use."""
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
        return kept

    def put(self, key: K, kept: Kept) -> None:
        """Keep an answer, in the place of an older one to the same question."""
        self.num_stored += 1
        self._kept[key] = kept
        self._kept.move_to_end(key)
        if len(self._kept) > self.capacity:
            self._kept.popitem(last=False)
            self.num_evicted += 1


@dataclass(slots=True)
class Tally:
    """`num_unlabelled` hits are those of which nobody can say whether they were right: a label is missing."""

    num_hits: int = 0
    num_misses: int = 0
    num_wrong: int = 0
    num_unlabelled: int = 0
    num_stale: int = 0
    num_wrong_stale: int = 0
    num_passed_by: int = 0


class Readout:
    """Hands out what a cache keeps, and notes in the passage what it was.

    Hits and wrong hits are counted together: a hit rate alone says nothing about the quality of the answers.
    """

    def __init__(self, parts: Parts, tokens_per_s: float | None) -> None:
        self.tally = Tally()
        self._name, self._prices = parts.name, parts.prices
        self._token_s = 0.0 if tokens_per_s is None else 1 / tokens_per_s

    def hit(self, flight: Flight, kept: Kept, at: float, remark: str = "") -> Answered:
        """Answer with what was kept, from `at` on. It saves the price of the call that gave it, without a prompt cache."""
        wrong = self._note(flight, kept, "hit", remark)
        self.tally.num_hits += 1
        self.tally.num_wrong += wrong is True
        self.tally.num_unlabelled += wrong is None
        request = flight.request
        price = self._prices.get(kept.model or request.model)
        if price is not None:
            usd = price.of(request.num_prompt_tokens, kept.num_tokens, CacheUse(), batch=request.batch)
            saved = flight.passage.saved_usd
            saved[self._name] = saved.get(self._name, 0.0) + usd
        return self._answered(kept, at)

    def stale(self, flight: Flight, kept: Kept, at: float, remark: str = "") -> Answered:
        """Answer with what would not do otherwise. Nothing is saved: without it there would be no answer."""
        wrong = self._note(flight, kept, "stale", remark)
        self.tally.num_stale += 1
        self.tally.num_wrong_stale += wrong is True
        return self._answered(kept, at)

    def miss(self, flight: Flight, remark: str = "") -> None:
        """There is no answer."""
        passage = flight.passage
        passage.cache_outcome, passage.wrong_hit = "miss", None
        passage.notes.append(f"{self._name}: miss{remark}")
        self.tally.num_misses += 1

    def rates(self) -> dict[str, object]:
        """Hits of those that looked, and wrong ones of the hits that are labelled; None where there were none of these."""
        tally = self.tally
        looked, labelled = tally.num_hits + tally.num_misses, tally.num_hits - tally.num_unlabelled
        return {
            "hit_rate": tally.num_hits / looked if looked else None,
            "wrong_hit_rate": tally.num_wrong / labelled if labelled else None,
        }

    def counts(self) -> dict[str, int]:
        tally = self.tally
        return {
            "hits": tally.num_hits,
            "misses": tally.num_misses,
            "wrong_hits": tally.num_wrong,
            "unlabelled_hits": tally.num_unlabelled,
            "stale": tally.num_stale,
            "wrong_stale": tally.num_wrong_stale,
            "passed_by": tally.num_passed_by,
        }

    def _note(self, flight: Flight, kept: Kept, outcome: str, remark: str) -> bool | None:
        """Write the outcome down; whether the labels say that it is the answer to another question."""
        passage, query = flight.passage, flight.asked.query
        intent = None if query is None else query.intent
        passage.cache_outcome = outcome
        passage.wrong_hit = None if intent is None or kept.intent is None else intent != kept.intent
        passage.model = kept.model or passage.model
        passage.notes.append(f"{self._name}: {outcome}{remark}")
        return passage.wrong_hit

    def _answered(self, kept: Kept, at: float) -> Answered:
        return Answered(at, self._name, kept.num_tokens, kept.reason, kept.payload, self._token_s)
