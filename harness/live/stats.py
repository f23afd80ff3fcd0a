"""What is known of a run while it goes: for the eyes of whoever watches. No published figure comes from here.

A load process folds each record as it ends. Its `LiveStats` are cumulative, so that a newer snapshot of a worker takes the
place of an older one: a message that was lost or came twice changes no total (`LiveBoard`).
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec

from harness.errors import RunError
from harness.instrument import STALL_S, is_crowded
from harness.live.histogram import Histogram
from harness.objectives import Objective, record_is_good
from harness.records import RequestRecord
from harness.store import Sample

__all__ = ["LATENCIES", "LiveBoard", "LiveStats"]

LATENCIES = ("ttft", "itl", "tpot", "e2e")

_Count = Annotated[int, msgspec.Meta(ge=0)]
_Number = TypeVar("_Number", int, float)


class LiveStats(msgspec.Struct, kw_only=True):
    """Totals of one load process, or of several that were merged.

    Latencies are those of ok requests and defined as in `harness.summary`; ITL counts each gap once for each token of its
    chunk. `num_judged` are the ended requests whose class has an objective, but for clients that left as planned;
    `num_good` of them met it (`harness.goodput`). `num_output_tokens` are those of ok requests, counted when they ended.
    `cost_usd` is the sum over the `num_priced` requests whose price is known. What nobody reported is None, never 0.
    Gauges say what held at the last look: requests in flight of all processes, CPU and loop lag of the worst.
    """

    objectives: dict[str, Objective] = {}
    outcomes: dict[str, _Count] = {}
    num_sent: _Count = 0
    num_waited: _Count = 0
    throttled_s: float | None = None
    num_good: _Count = 0
    num_judged: _Count = 0
    num_output_tokens: _Count | None = None
    num_prompt_tokens: _Count | None = None
    first_sent_at: float | None = None
    last_done_at: float | None = None
    num_priced: _Count = 0
    cost_usd: float | None = None
    # the latencies
    ttft: Histogram = msgspec.field(default_factory=Histogram)
    itl: Histogram = msgspec.field(default_factory=Histogram)
    tpot: Histogram = msgspec.field(default_factory=Histogram)
    e2e: Histogram = msgspec.field(default_factory=Histogram)
    # the instrument
    send_lag: Histogram = msgspec.field(default_factory=Histogram)
    num_chunks: _Count = 0
    num_merged_chunks: _Count = 0
    num_doubted: _Count = 0  # records with any doubt
    doubts: dict[str, _Count] = {}
    num_samples: _Count = 0
    num_stalled: _Count = 0  # samples in which the event loop stood still
    num_crowded: _Count = 0  # samples in which others had the processors
    loop_lag_s: float | None = None
    worst_loop_lag_s: float | None = None
    cpu: float | None = None
    worst_cpu: float | None = None
    num_in_flight: _Count = 0

    # -- filling -------------------------------------------------------------------------------------

    def add(self, record: RequestRecord) -> None:
        """A request is over."""
        self.outcomes[record.outcome] = self.outcomes.get(record.outcome, 0) + 1
        if record.sent_at is not None:
            self.num_sent += 1
            self.send_lag.add(record.sent_at - record.intended_at)
        if record.throttled_s is not None:
            self.num_waited += 1
            self.throttled_s = (self.throttled_s or 0.0) + record.throttled_s
        if record.cost_usd is not None:
            self.num_priced += 1
            self.cost_usd = (self.cost_usd or 0.0) + record.cost_usd
        self.num_chunks += record.num_chunks or 0
        self.num_merged_chunks += record.num_merged_chunks or 0
        if record.doubt is not None:
            self.num_doubted += 1
            for kind in record.doubt.split(","):
                self.doubts[kind] = self.doubts.get(kind, 0) + 1
        objective = self.objectives.get(record.class_name or "") or self.objectives.get("")
        if objective is not None and record.outcome != "left" and objective.judges(stream=record.stream):
            self.num_judged += 1
            self.num_good += record_is_good(record, objective)
        if record.outcome == "ok":
            self._add_answer(record)

    def note_sample(self, sample: Sample) -> None:
        """The instrument's own second: CPU and loop lag of this process, and what is in flight."""
        self.num_samples += 1
        self.num_stalled += sample.loop_lag_s > STALL_S
        self.num_crowded += is_crowded(sample)
        self.loop_lag_s, self.cpu, self.num_in_flight = sample.loop_lag_s, sample.cpu, sample.num_in_flight
        self.worst_loop_lag_s = max(self.worst_loop_lag_s or 0.0, sample.loop_lag_s)
        self.worst_cpu = max(self.worst_cpu or 0.0, sample.cpu)

    def merge(self, other: LiveStats) -> None:
        """Add what another process has counted."""
        for name in _ADDED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in _ADDED_IF_KNOWN:
            setattr(self, name, _both(getattr(self, name), getattr(other, name), sum))
        for name in _GREATEST:
            setattr(self, name, _both(getattr(self, name), getattr(other, name), max))
        self.first_sent_at = _both(self.first_sent_at, other.first_sent_at, min)
        for name in (*LATENCIES, "send_lag"):
            getattr(self, name).merge(getattr(other, name))
        for mine, others in ((self.outcomes, other.outcomes), (self.doubts, other.doubts)):
            for name, num in others.items():
                mine[name] = mine.get(name, 0) + num
        self.objectives = {**other.objectives, **self.objectives}

    # -- reading -------------------------------------------------------------------------------------

    @property
    def num_ended(self) -> int:
        """Requests that are over, refused ones among them."""
        return sum(self.outcomes.values())

    @property
    def num_refused(self) -> int:
        return self.outcomes.get("refused", 0)

    @property
    def num_scheduled(self) -> int:
        """Requests that have come due: over, or in flight."""
        return self.num_ended + self.num_in_flight

    @property
    def output_rate(self) -> float | None:
        """Output tokens a second from the first send of an ok request to the last end, as the summary has it."""
        if self.first_sent_at is None or self.last_done_at is None or self.num_output_tokens is None:
            return None
        span = self.last_done_at - self.first_sent_at
        return self.num_output_tokens / span if span > 0 else None

    @property
    def good_share(self) -> float | None:
        return self.num_good / self.num_judged if self.num_judged else None

    @property
    def merged_share(self) -> float | None:
        """Chunks that came in one read with another: their gaps are bounds."""
        return self.num_merged_chunks / self.num_chunks if self.num_chunks else None

    # -- travelling ----------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """A few kB, whatever the length of the run."""
        return msgspec.msgpack.encode(self, enc_hook=_histogram_out)

    @classmethod
    def from_bytes(cls, data: bytes) -> LiveStats:
        """What `to_bytes` wrote. Raises RunError for anything else: the port that it comes by is open to others."""
        try:
            return msgspec.msgpack.decode(data, type=cls, dec_hook=_histogram_in)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RunError(f"a snapshot of live statistics cannot be read: {error}") from None

    # -- inside --------------------------------------------------------------------------------------

    def _add_answer(self, record: RequestRecord) -> None:
        intended, first, last, done = record.intended_at, record.first_token_at, record.last_token_at, record.done_at
        num = record.num_output_tokens
        if num is not None:
            self.num_output_tokens = (self.num_output_tokens or 0) + num
        if record.num_prompt_tokens is not None:
            self.num_prompt_tokens = (self.num_prompt_tokens or 0) + record.num_prompt_tokens
        if record.sent_at is not None:
            self.first_sent_at = _both(self.first_sent_at, record.sent_at, min)
        if done is not None:
            self.last_done_at = _both(self.last_done_at, done, max)
            self.e2e.add(done - intended)
        if first is not None:
            self.ttft.add(first - intended)
            if last is not None and num is not None and num > 1:
                self.tpot.add((last - first) / (num - 1))
        if record.token_gaps_s:
            self._add_gaps(record.token_gaps_s, record.chunk_tokens)

    def _add_gaps(self, gaps: list[float], chunk_tokens: list[int] | None) -> None:
        weights = chunk_tokens[1:] if chunk_tokens else []
        if len(weights) != len(gaps) or sum(weights) == len(gaps) == sum(map(bool, weights)):
            self.itl.add_all(gaps)  # one token a chunk, as nearly always
        else:
            self.itl.add_all([gap / max(1, num) for gap, num in zip(gaps, weights, strict=True)], weights)


_ADDED = (
    "num_sent", "num_waited", "num_good", "num_judged", "num_priced", "num_chunks", "num_merged_chunks", "num_doubted",
    "num_samples", "num_stalled", "num_crowded", "num_in_flight",
)  # fmt: skip
_ADDED_IF_KNOWN = ("throttled_s", "num_output_tokens", "num_prompt_tokens", "cost_usd")
_GREATEST = ("last_done_at", "loop_lag_s", "worst_loop_lag_s", "cpu", "worst_cpu")


class LiveBoard:
    """The newest snapshot of every worker, and their sum. A single process is one worker."""

    def __init__(self) -> None:
        self._of: dict[str, LiveStats] = {}

    def put(self, worker: str, stats: LiveStats) -> None:
        """A worker's newest totals; they take the place of its older ones."""
        self._of[worker] = stats

    def total(self) -> LiveStats:
        """All workers together, in something of its own that stays as it is."""
        total = LiveStats()
        for worker in sorted(self._of):
            total.merge(self._of[worker])
        return total


def _both(mine: _Number | None, other: _Number | None, fold: Any) -> _Number | None:
    """Two values that may be unknown; what is known of them, if anything."""
    known = [value for value in (mine, other) if value is not None]
    return fold(known) if known else None


def _histogram_out(value: object) -> bytes:
    assert isinstance(value, Histogram)
    return value.to_bytes()


def _histogram_in(kind: type, value: object) -> Histogram:
    if kind is not Histogram or not isinstance(value, bytes):
        raise ValueError("a histogram travels as bytes")
    return Histogram.from_bytes(value)
