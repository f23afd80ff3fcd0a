"""A hosted API seen from outside: no queue to look into, only the latencies that others have measured.

    TTFT  = floor + LogNormal + b*x + c*x^2 + Bernoulli(p)*Exp(m) [+ a cold start]    x = prompt tokens not cached
    TPOT  = LogNormal, one draw a request, independent of TTFT           (|r| < .3 in all measured providers)
    chunk = K tokens, K = 1 + Geometric; gap = K * TPOT * Gamma(mean 1, cv), with probability s a stall: + Exp

Heavy tails, spikes and a length term, because that is what hosted APIs show; a clamped Gaussian cannot
reach their p99/p50. Sources of the numbers: in the profile. Load does not enter: a hosted API hides it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from math import inf

import numpy as np

from mockllm.engine.prompt_cache import PromptCache
from mockllm.events import EventQueue
from mockllm.model import Began, CacheUse, Chunk, Cut, Emission, Finished, Forced, Refused, Request, Tokens
from mockllm.streams import Streams

__all__ = ["ChunkSpan", "ColdStart", "Faultiness", "HostedLatency", "HostedReplica"]


@dataclass(frozen=True, slots=True)
class ColdStart:
    """With `probability` the model must be loaded first, which takes a lognormal time."""

    probability: float
    median_s: float
    sigma: float


@dataclass(frozen=True, slots=True)
class HostedLatency:
    """The latency law of one hosted model; all times in seconds."""

    floor_s: float
    spread_median_s: float
    spread_sigma: float
    per_token_s: float
    per_token_squared_s: float
    spike_probability: float
    spike_mean_s: float
    tpot_median_s: float
    tpot_sigma: float
    tokens_per_chunk: float
    gap_cv: float
    stall_probability: float
    stall_mean_tpots: float
    cold_starts: tuple[ColdStart, ...] = ()

    @classmethod
    def exactly(cls, ttft_s: float, tpot_s: float) -> HostedLatency:
        """A law without any chance in it: the first token after so long, then one every so often."""
        return cls(ttft_s, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, tpot_s, 0.0, 1.0, 0.0, 0.0, 0.0)

    def ttft(self, request: Request, num_cached: int, streams: Streams) -> float:
        """Seconds from the request to its first token; `num_cached` of its prompt tokens cost nothing."""
        x, key = request.num_prompt_tokens - num_cached, request.key
        seconds = self.floor_s + self.per_token_s * x + self.per_token_squared_s * x * x
        seconds += streams.lognormal("ttft spread", key, self.spread_median_s, self.spread_sigma)
        if self.spike_probability and streams.uniform("ttft spike", key) < self.spike_probability:
            seconds += streams.exponential("ttft spike size", key, self.spike_mean_s)
        return seconds + self._cold_start(key, streams)

    def _cold_start(self, key: str, streams: Streams) -> float:
        if not self.cold_starts:
            return 0.0
        draw = streams.uniform("cold start", key)
        for start in self.cold_starts:
            if draw < start.probability:
                return streams.lognormal("cold start length", key, start.median_s, start.sigma)
            draw -= start.probability
        return 0.0

    def forced(self, demand: Forced) -> HostedLatency:
        """This law with a first token or a token time that one request demands."""
        latency = self
        if demand.ttft_s is not None:
            latency = HostedLatency(
                demand.ttft_s, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, self.tpot_median_s, self.tpot_sigma,
                self.tokens_per_chunk, self.gap_cv, self.stall_probability, self.stall_mean_tpots,
            )  # fmt: skip
        if demand.itl_s is not None:
            latency = replace(
                latency,
                tpot_median_s=demand.itl_s,
                tpot_sigma=0.0,
                tokens_per_chunk=1,
                gap_cv=0.0,
                stall_probability=0.0,
            )
        return latency

    def slowed(self, factor: float) -> HostedLatency:
        """This law with every time `factor` times as long."""
        return replace(
            self,
            floor_s=self.floor_s * factor,
            spread_median_s=self.spread_median_s * factor,
            per_token_s=self.per_token_s * factor,
            per_token_squared_s=self.per_token_squared_s * factor,
            spike_mean_s=self.spike_mean_s * factor,
            tpot_median_s=self.tpot_median_s * factor,
            cold_starts=tuple(replace(start, median_s=start.median_s * factor) for start in self.cold_starts),
        )

    def chunk_sizes(self, num_tokens: int, key: str, streams: Streams) -> list[int]:
        """Tokens of each chunk: geometric sizes with the profile's mean, the last one cut to fit."""
        if self.tokens_per_chunk <= 1:
            return [1] * num_tokens
        draws = streams.generator("chunk sizes", key).geometric(1 / self.tokens_per_chunk, size=num_tokens)
        return _first_tokens(draws.tolist(), num_tokens)

    def gaps(self, sizes: list[int], key: str, streams: Streams) -> list[float]:
        """Seconds before each chunk but the first."""
        tpot = streams.lognormal("tpot", key, self.tpot_median_s, self.tpot_sigma)
        num = len(sizes) - 1
        if num <= 0 or tpot == 0:
            return [0.0] * max(0, num)
        if self.gap_cv == 0 and self.stall_probability == 0:
            return [size * tpot for size in sizes[1:]]
        generator = streams.generator("gaps", key)
        shape = 1 / self.gap_cv**2 if self.gap_cv else None
        factors = generator.gamma(shape, 1 / shape, num) if shape else np.ones(num)
        stalls = generator.random(num) < self.stall_probability
        lengths = generator.exponential(self.stall_mean_tpots * tpot, num)
        seconds: list[float] = (np.array(sizes[1:]) * tpot * factors + np.where(stalls, lengths, 0.0)).tolist()
        return seconds


@dataclass(frozen=True, slots=True)
class Faultiness:
    """Shares of requests that fail: refused with HTTP 500, or broken off in the middle of the answer."""

    server_error_rate: float = 0.0
    cut_rate: float = 0.0


@dataclass(frozen=True, slots=True)
class ChunkSpan:
    """Chunks at instants that are known from the start."""

    instants: list[float]
    sizes: list[int]

    def chunks(self) -> Iterator[Chunk]:
        first = 0
        for at, num in zip(self.instants, self.sizes, strict=True):
            yield Chunk(at, first, num)
            first += num


class _Answer:
    """An answer on its way: its chunks, and how many of them are out."""

    __slots__ = ("cache", "cut", "reason", "request", "span", "told", "told_tokens")

    def __init__(self, request: Request, span: ChunkSpan, reason: str, cache: CacheUse, cut: Cut | None) -> None:
        self.request, self.span, self.reason, self.cache, self.cut = request, span, reason, cache, cut
        self.told = self.told_tokens = 0


class HostedReplica:
    """Answers whose every instant is drawn when the request comes in."""

    def __init__(
        self,
        latency: HostedLatency,
        streams: Streams,
        faultiness: Faultiness = Faultiness(),
        *,
        every_token: bool,
        prompt_cache: PromptCache | None = None,
    ) -> None:
        self._latency = self._normal = latency
        self._still_until = -inf
        self._streams = streams
        self._faultiness = faultiness
        self._prompt_cache = prompt_cache
        self._every_token = every_token
        self._events: EventQueue[_Answer | Refused] = EventQueue()
        self._answers: dict[str, _Answer | Refused] = {}

    def submit(self, request: Request, size: int, reason: str, *, ready_at: float) -> None:
        """Draw the whole fate of the request now; its events follow at their instants."""
        latency, demand = self._latency, request.forced
        ready_at = max(ready_at, self._still_until)
        if demand is not None:
            latency = latency.forced(demand)
        cache = self._prompt_cache.use(request, ready_at) if self._prompt_cache else CacheUse()
        first_at = ready_at + latency.ttft(request, cache.num_read, self._streams)
        if self._happens("server error", request, self._faultiness.server_error_rate):
            message = "The server had an error while processing your request. Sorry about that!"
            self._schedule(first_at, Refused(request.request_id, first_at, 500, "server_error", message))
            return
        if self._prompt_cache is not None:
            self._prompt_cache.store(request, first_at)
        sizes = latency.chunk_sizes(size, request.key, self._streams)
        gaps = latency.gaps(sizes, request.key, self._streams)
        end = self._end_of_answer(request, sizes, size)
        if end is not None:
            sizes = _first_tokens(sizes, end.num_output_tokens)
        span = ChunkSpan(list(accumulate(gaps[: len(sizes) - 1], initial=first_at)), sizes)
        answer = _Answer(request, span, reason, cache, end)
        stop_at_first = (self._every_token and request.watched) or request.tell_first
        self._schedule(span.instants[0] if stop_at_first else span.instants[-1], answer)

    def _end_of_answer(self, request: Request, sizes: list[int], size: int) -> Cut | None:
        """Where the answer breaks off, if it does: as the request demands, or by the profile's share of cuts."""
        demand = request.forced
        if demand is not None and (demand.cut_after is not None or demand.error_after is not None):
            in_band = demand.cut_after is None
            after = demand.error_after if in_band else demand.cut_after
            assert after is not None
            return Cut(request.request_id, 0.0, after, in_band) if after <= size else None
        if not self._happens("cut", request, self._faultiness.cut_rate):
            return None
        keep = 1 + int(self._streams.uniform("cut after", request.key) * (len(sizes) - 1))
        return Cut(request.request_id, 0.0, sum(sizes[:keep]))

    def cancel(self, request_id: str, now: float) -> bool:
        """Forget a request at once."""
        event = self._answers.pop(request_id, None)
        return event is not None and self._events.discard(event)

    def break_off(self, request_id: str, now: float) -> list[Emission]:
        """End a watched request with a `Cut`, after the tokens that it has by `now`: those of them that were not told yet
        come before it; nothing if it is over. Everything that is due by `now` has happened."""
        event = self._answers.get(request_id)
        if event is None:
            return []
        self.cancel(request_id, now)
        if isinstance(event, Refused):
            return [Cut(request_id, now, 0)]
        num_chunks = bisect_right(event.span.instants, now)
        span = ChunkSpan(event.span.instants[:num_chunks], event.span.sizes[:num_chunks])
        num = sum(span.sizes)
        tokens = [Tokens(request_id, now, 0, num, span)] if num and not self._every_token else []
        return [*tokens, Cut(request_id, now, num)]

    def slow(self, factor: float, now: float) -> None:
        """Calls that come in from now on take `factor` times as long as they would; 1 is the normal pace."""
        self._latency = self._normal if factor == 1 else self._normal.slowed(factor)

    def stall(self, until: float, now: float) -> None:
        """Stand still from `now` until `until`: what was to come comes so much later. Called again, it moves the end."""
        before, self._still_until = max(self._still_until, now), max(until, now)
        delay = self._still_until - before
        if delay == 0:
            return
        for answer in self._answers.values():
            if isinstance(answer, _Answer):
                instants = answer.span.instants
                told = bisect_right(instants, now)
                instants[told:] = [max(now, at + delay) for at in instants[told:]]
        self._events.shift(delay, now)

    def due(self) -> float:
        return self._events.due()

    def advance(self, now: float) -> list[Emission]:
        out: list[Emission] = []
        events = self._events
        while (at := events.due()) <= now:
            event = events.head()
            if isinstance(event, _Answer):
                if self._every_token and event.request.watched:
                    self._tell_chunk(event, at, out)
                    continue
                if event.request.tell_first and not event.told:
                    event.told = 1
                    out.append(Began(event.request.request_id, at, event.cache))
                    events.put_off(event.span.instants[-1])
                    continue
                num = sum(event.span.sizes)
                out.append(Tokens(event.request.request_id, at, 0, num, event.span))
                self._end(event, num, at, out)
            else:
                del self._answers[event.request_id]
                out.append(event)
            events.pop()
        return out

    @property
    def num_running(self) -> int:
        return len(self._answers)

    @property
    def num_waiting(self) -> None:
        return None

    def parts(self) -> tuple[tuple[str, HostedReplica]]:
        return (("0", self),)

    def _happens(self, what: str, request: Request, share: float) -> bool:
        return share > 0 and self._streams.uniform(what, request.shared_key) < share

    def _schedule(self, at: float, event: _Answer | Refused) -> None:
        request_id = event.request_id if isinstance(event, Refused) else event.request.request_id
        self._answers[request_id] = event
        self._events.push(at, event)

    def _tell_chunk(self, answer: _Answer, at: float, out: list[Emission]) -> None:
        """Let out the next chunk of an answer, which is the next event; it waits for the one after, or ends."""
        told, sizes = answer.told, answer.span.sizes
        if told == 0:
            out.append(Began(answer.request.request_id, at, answer.cache))
        num = sizes[told]
        out.append(Tokens(answer.request.request_id, at, answer.told_tokens, num))
        answer.told = told + 1
        answer.told_tokens += num
        if answer.told < len(sizes):
            self._events.put_off(answer.span.instants[answer.told])
        else:
            self._events.pop()
            self._end(answer, answer.told_tokens, at, out)

    def _end(self, answer: _Answer, num_tokens: int, at: float, out: list[Emission]) -> None:
        request_id = answer.request.request_id
        del self._answers[request_id]
        if answer.cut is not None:
            out.append(answer.cut._replace(at=at))
        else:
            out.append(Finished(request_id, at, answer.reason, num_tokens, answer.cache))


def _first_tokens(sizes: list[int], num_tokens: int) -> list[int]:
    """Chunk sizes up to `num_tokens` tokens, the last one cut to fit."""
    ends = list(accumulate(sizes))
    last = bisect_left(ends, num_tokens)
    if last == len(ends):
        return sizes
    return [*sizes[:last], sizes[last] - ends[last] + num_tokens] if num_tokens > 0 else []
