"""Static cache: what is asked most often is answered at the edge, as a CDN does; refreshed every `period`.

At each refresh the `top` questions (`Query.digest` and model) that were asked most in the period before become static, each
with the answer that was given last; ties go to the one that was asked first. Refreshes fall on multiples of `period` of the
run's clock. `questions` are there from the start and stay. A static answer does not expire between refreshes. The job
that prepares a refresh is not part of any request's way: neither its time nor its calls are modelled.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from heapq import nlargest
from operator import itemgetter
from typing import Annotated

from pydantic import Field, model_validator

from mockllm.content.reply import Reply
from mockllm.fields import Count, Duration, Positive, Strict, duration_text
from mockllm.passage import Query
from mockllm.stack.answers import Kept, Latency, Readout, kept_of, normalised, question_of
from mockllm.stack.parts import Parts, StageSettings
from mockllm.stack.stage import Answered, Arrival, End, Flight, Leaving, Stage

__all__ = ["FixedQuestion", "StaticCache", "StaticCacheSettings"]

Key = tuple[str, str]

_TRACKED = 10_000  # questions of which it is counted how often they are asked; at least ten times `top`


class FixedQuestion(Strict):
    """A question with its answer of `tokens` tokens, found in prose whatever its upper case, blanks and closing punctuation."""

    ask: Annotated[str, Field(min_length=1)]
    tokens: Count


class StaticCacheSettings(StageSettings):
    """`latency` is of a hit: a CDN's time to first byte, tens of ms; judgement. A miss costs nothing."""

    top: Count = 100
    period: Annotated[Duration, Field(gt=0)] = 86_400.0
    questions: list[FixedQuestion] = Field(default_factory=list)
    latency: Latency = Latency.model_validate({"median": "15ms", "sigma": 0.5})
    tokens_per_s: Positive | None = None

    @model_validator(mode="after")
    def _each_question_once(self) -> StaticCacheSettings:
        times = Counter(normalised(each.ask) for each in self.questions)
        for each in self.questions:
            if not normalised(each.ask) or times[normalised(each.ask)] > 1:
                raise ValueError(f"the question {each.ask!r} must have words, and stand once in `questions`")
        return self


class _Asked:
    """How often a question was asked in this period, and the last complete answer to it."""

    __slots__ = ("kept", "num")

    def __init__(self) -> None:
        self.num = 0
        self.kept: Kept | None = None


class StaticCache(Stage):
    """Answers by whether many ask."""

    def __init__(self, settings: StaticCacheSettings, parts: Parts) -> None:
        self.name, self.settings = parts.name, settings
        self._streams, self._timeline = parts.streams, parts.timeline
        self._readout = Readout(parts, settings.tokens_per_s)
        self._fixed = {normalised(each.ask): _fixed(each) for each in settings.questions}
        self._static: dict[Key, Kept] = {}
        self._asked: dict[Key, _Asked] = {}
        self._num_tracked = max(_TRACKED, 10 * settings.top)
        self._period = self._num_refreshes = 0
        self._keys: dict[str, Key] = {}  # of the requests that went on
        parts.fallbacks.append(self)

    def arrive(self, flight: Flight, now: float) -> Arrival:
        self._refresh(now)
        query = question_of(flight)
        if query is None:
            self._readout.tally.num_passed_by += 1
            return None
        key = (flight.request.model, query.digest)
        kept = self._fixed_answer(flight, query)
        if kept is None:
            kept = self._static.get(key)
            self._count(key, kept)
        if kept is not None:
            return self._readout.hit(flight, kept, now + self._latency_s(flight))
        self._keys[flight.asked.request_id] = key
        self._readout.miss(flight)
        return None

    def leave(self, flight: Flight, end: End, now: float) -> Leaving:
        self._refresh(now)
        key = self._keys.pop(flight.asked.request_id, None)
        asked = None if key is None else self._asked.get(key)
        if asked is not None:
            asked.kept = kept_of(flight, end, now) or asked.kept
        return None

    def stale(self, flight: Flight, now: float) -> Answered | None:
        """The answer to a static question, or to one that may become static: any that is known."""
        self._refresh(now)
        query = question_of(flight)
        if query is None:
            return None
        key = self._keys.get(flight.asked.request_id) or (flight.request.model, query.digest)
        kept = self._fixed_answer(flight, query) or self._static.get(key)
        if kept is None and (asked := self._asked.get(key)) is not None:
            kept = asked.kept
        return None if kept is None else self._readout.stale(flight, kept, now + self._latency_s(flight))

    def describe(self) -> str:
        settings = self.settings
        fixed = f", and {len(self._fixed)} fixed" if self._fixed else ""
        return f"the {settings.top:,} most asked questions of the last {duration_text(settings.period)}{fixed}, {settings.latency} a hit"

    def state(self, now: float) -> dict[str, object]:
        period = self._period_at(now)
        is_due = period != self._period  # not done here: who looks may be ahead of what still has to happen
        return {
            "static": len(self._most_asked(period) if is_due else self._static),
            "fixed": len(self._fixed),
            "tracked": 0 if is_due else len(self._asked),
            "in_flight": len(self._keys),
            **self._readout.rates(),
            "counts": self._readout.counts() | {"refreshes": self._num_refreshes + self._num_missed(period)},
        }

    def _refresh(self, now: float) -> None:
        """What a refresh at each multiple of the period would have done by now."""
        period = self._period_at(now)
        if period == self._period:
            return
        self._static, self._asked = self._most_asked(period), {}
        self._num_refreshes += self._num_missed(period)
        self._period = period

    def _period_at(self, now: float) -> int:
        return int(self._timeline.at(now) // self.settings.period)

    def _num_missed(self, period: int) -> int:
        """Refreshes up to this period that were not done yet; after a new start of the run there is one."""
        return 1 if period < self._period else period - self._period

    def _most_asked(self, period: int) -> dict[Key, Kept]:
        """What becomes static with the refresh that begins this period; after a new start, the run has no past."""
        known = [(key, asked.kept, asked.num) for key, asked in self._asked.items() if asked.kept is not None]
        past = known if period == self._period + 1 else []  # otherwise a period has passed in which nobody asked
        return {key: kept for key, kept, _ in nlargest(self.settings.top, past, key=itemgetter(2))}

    def _count(self, key: Key, kept: Kept | None) -> None:
        """Note that a question was asked. Those asked least are forgotten when there are too many to remember."""
        asked = self._asked.get(key)
        if asked is None:
            if len(self._asked) >= 2 * self._num_tracked:
                self._asked = dict(nlargest(self._num_tracked, self._asked.items(), key=lambda item: item[1].num))
            asked = self._asked[key] = _Asked()
        asked.num += 1
        asked.kept = asked.kept or kept

    def _fixed_answer(self, flight: Flight, query: Query) -> Kept | None:
        """The answer to a fixed question, in the words that the first to ask heard, no longer than the client allows."""
        text = normalised(query.text)
        kept = self._fixed.get(text) if query.free_text else None
        if kept is None:
            return None
        if kept.payload is None:
            kept = self._fixed[text] = kept._replace(payload=_words(flight.asked.payload, kept.num_tokens))
        limit = flight.request.max_tokens
        return kept if limit is None or kept.num_tokens <= limit else kept._replace(num_tokens=limit, reason="length")

    def _latency_s(self, flight: Flight) -> float:
        return self.settings.latency.draw(self._streams, f"{self.name} hit", flight.asked.key)


def _fixed(question: FixedQuestion) -> Kept:
    return Kept(question.tokens, "stop", None, 0.0, None, None)


def _words(payload: object | None, num_tokens: int) -> object | None:
    """The text of a reply at another length; virtual time has none."""
    if not isinstance(payload, Reply):
        return None
    text = [replace(part, num_tokens=num_tokens) for part in payload.parts if part.kind == "text"]
    return Reply((*text[:1],))
