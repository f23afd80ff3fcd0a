"""The ledger: for every request, what was planned and what was really written, and when.

It is the ground truth that a load generator is measured against, and the mock's own confession: the
difference between `written_at` and `planned_at` is the mock's lateness, not the client's.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from typing import IO

import msgspec

from mockllm.clock import boot_id, clock_pair
from mockllm.passage import Passage

__all__ = ["LATENESS_BUCKETS", "Entry", "Ledger", "ledger_header"]

# Upper bounds of the lateness histogram, seconds.
LATENESS_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)


class Entry(msgspec.Struct, kw_only=True):
    """One request. Instants are seconds on the mock's clock; the header ties it to the machine's clocks.

    `planned_at[i]` and `written_at[i]` belong to content write number i, which carried `num_tokens[i]` tokens;
    a write is "written" when the server handed it to the socket. `outcome`: ok, refused, cut (by the mock) or cancelled (by
    the client); None while the answer is on its way.
    """

    kind: str = "request"
    request_id: str
    client_request_id: str | None
    protocol: str
    model: str
    stream: bool
    received_at: float
    submitted_at: float | None = None
    planned_at: list[float] = msgspec.field(default_factory=list)
    written_at: list[float] = msgspec.field(default_factory=list)
    num_tokens: list[int] = msgspec.field(default_factory=list)
    finished_at: float | None = None
    num_prompt_tokens: int
    num_cached_tokens: int | None = None
    num_cache_write_tokens: int | None = None
    num_output_tokens: int | None = None
    num_reasoning_tokens: int | None = None
    num_choices: int = 1
    service_tier: str | None = None
    finish_reason: str | None = None
    queue_s: float | None = None
    status: int | None = None
    outcome: str | None = None
    # What the stack did with it; null without one.
    model_served: str | None = None
    source: str | None = None
    replica: str | None = None
    cache_outcome: str | None = None
    wrong_hit: bool | None = None
    num_attempts: int | None = None
    waited_s: dict[str, float] | None = None
    notes: list[str] | None = None
    cost_usd: float | None = None
    saved_usd: dict[str, float] | None = None

    def met(self, passage: Passage) -> None:
        """Note what the request met in the stack."""
        self.model_served, self.source, self.replica = passage.model, passage.source, passage.replica
        self.cache_outcome, self.wrong_hit = passage.cache_outcome, passage.wrong_hit
        self.num_attempts, self.cost_usd = passage.num_attempts, passage.cost_usd
        self.waited_s, self.notes, self.saved_usd = dict(passage.waited_s), list(passage.notes), passage.saved_usd


def ledger_header() -> dict[str, object]:
    """The first line of a ledger: ties its instants to the machine's monotonic and wall clocks."""
    return {"kind": "header", "schema": 1, "boot_id": boot_id(), "clocks": clock_pair()}


class Ledger:
    """Entries of finished requests: the last `keep` of them in memory, all of them in the file if there is one.

    `monotonic_origin` is the machine's monotonic time at which the mock's clock read 0. `on_close` is told of every
    entry as it stands in its line.
    """

    def __init__(self, *, monotonic_origin: float, keep: int = 100_000, file: IO[bytes] | None = None) -> None:
        # Encoded at once: bytes cost the garbage collector nothing, 100,000 lists would make it stop the loop.
        self._lines: deque[bytes] = deque(maxlen=keep)
        self._file = file
        self._encode = msgspec.json.Encoder().encode
        self.header = ledger_header() | {"monotonic_origin": monotonic_origin}
        self.lateness_buckets = [0] * (len(LATENESS_BUCKETS) + 1)
        self.lateness_sum = 0.0
        self.on_close: list[Callable[[Entry], None]] = []
        if file is not None:
            file.write(self._encode(self.header) + b"\n")

    def close(self, entry: Entry) -> None:
        """Keep a finished entry: one line, one write. Its lateness is counted here, not at every chunk."""
        assert entry.outcome is not None
        for planned_at, written_at in zip(entry.planned_at, entry.written_at, strict=True):
            late = written_at - planned_at
            self.lateness_sum += late
            self.lateness_buckets[bisect_left(LATENESS_BUCKETS, late)] += 1
        entry.received_at = round(entry.received_at, 6)
        entry.submitted_at = None if entry.submitted_at is None else round(entry.submitted_at, 6)
        entry.finished_at = None if entry.finished_at is None else round(entry.finished_at, 6)
        entry.planned_at = [round(at, 6) for at in entry.planned_at]
        entry.written_at = [round(at, 6) for at in entry.written_at]
        line = self._encode(entry) + b"\n"
        self._lines.append(line)
        if self._file is not None:
            self._append(line)
        for tell in self.on_close:
            tell(entry)

    def _append(self, line: bytes) -> None:
        assert self._file is not None
        try:
            self._file.write(line)
        except OSError as error:  # a full disk must not keep anybody from an answer
            self._file = None
            logging.getLogger("mockllm").error("the ledger ends here, it cannot be written any more: %s", error)

    def lines(self) -> Iterator[bytes]:
        """The header and the entries that are still in memory, as JSON lines."""
        yield self._encode(self.header) + b"\n"
        yield from list(self._lines)
