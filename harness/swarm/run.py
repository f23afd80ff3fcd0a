"""One run in one load process: clock, plan, connections, record file, and the requests in flight."""

from __future__ import annotations

import gc
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from harness.clock import boot_id, clock_pair
from harness.dialects import Dialect
from harness.guards import Guard
from harness.plan import Arrival, Heard, LoadPlan, ReactivePlan, Shard
from harness.prompts import PromptBook
from harness.records import Header, RecordWriter, RequestRecord
from harness.swarm.asking import complete_record, open_record
from harness.swarm.pulse import Pulse
from harness.swarm.transport import Exchange, Transport, parse_target
from harness.tokens import token_counter

__all__ = ["Live", "LoadRun", "RunSettings"]

_RECENT = 200


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What a load process must know to do its share. The master sends it to its workers."""

    run_id: str
    path: str
    scenario: str
    target: str
    model: str
    stream: bool
    exact_length: bool
    seed: int
    salt: str
    protocol: str
    fresh_connections: bool
    num_retries: int
    read_timeout_s: float
    max_in_flight: int
    drain_s: float
    origin_wall: float
    shard_index: int
    num_shards: int


@dataclass(slots=True)
class Live:
    """Running counts for the line of progress; no published figure comes from them."""

    outcomes: Counter[str]
    num_output_tokens: int
    recent_ttft_s: deque[float]


class LoadRun:
    """Everything a load process holds during a run."""

    def __init__(
        self, settings: RunSettings, plan: LoadPlan, scenario_class: str, on_finished: Callable[[], None]
    ) -> None:
        self.settings = settings
        self.plan = plan
        self.shard = Shard(settings.shard_index, settings.num_shards)
        self.live = Live(Counter(), 0, deque(maxlen=_RECENT))
        self.num_in_flight = 0
        self.finished = False  # every arrival of the share was sent or refused, and the time to drain is over
        self.drained = False  # every answer has ended
        self.guards: list[Guard] = []
        self._on_finished = on_finished
        self.collector_error: str | None = None
        self._scenario_class = scenario_class
        # A share of the cap, rounded up: no worker may be left without.
        self._cap = -(-settings.max_in_flight // settings.num_shards)
        clocks = clock_pair()
        self._origin = clocks["monotonic"] + (settings.origin_wall - clocks["wall"])
        self._prompts = PromptBook(settings.seed, settings.salt)
        # Vocabulary and prompts are made now: the first request would otherwise be sent late by their making.
        self._count = token_counter()
        self._count(self._prompts.messages(next(plan.arrivals()))[-1][1])
        gc.collect()
        gc.freeze()  # what is there now lives as long as the run; walking through it would stop the event loop
        self.transport = Transport(parse_target(settings.target), self.now)
        tag = f"{os.getpid()}-{uuid4().hex[:8]}"
        header = Header(
            run_id=settings.run_id,
            scenario=settings.scenario,
            host=socket.gethostname(),
            pid=os.getpid(),
            boot_id=boot_id(),
            clocks=clocks,
            origin_monotonic=self._origin,
            worker_index=settings.shard_index,
            num_workers=settings.num_shards,
        )
        self._writer = RecordWriter(Path(settings.path) / f"records-{tag}.jsonl", header)
        self._pulse = Pulse(Path(settings.path) / f"samples-{tag}.jsonl", self.now, lambda: self.num_in_flight)

    def now(self) -> float:
        """Seconds from the run's origin."""
        return time.monotonic() - self._origin

    @property
    def stop_reason(self) -> str | None:
        """Why nothing more may be sent; None: go on."""
        return next((guard.stop_reason for guard in self.guards if guard.stop_reason is not None), None)

    @property
    def drain_until(self) -> float:
        """The instant at which what is still open is broken off."""
        return self.plan.duration_s + self.settings.drain_s

    def messages(self, arrival: Arrival) -> list[tuple[str, str]]:
        return self._prompts.messages(arrival)

    def open(self, arrival: Arrival, dialect: Dialect) -> RequestRecord:
        """Begin the record of a request that is about to be sent."""
        settings = self.settings
        self._writer.opened()
        return open_record(
            # The same in every run of the same plan: a mock gives the same request the same luck, whatever the gateway.
            f"{settings.scenario}-{settings.seed}-{arrival.key}",
            arrival,
            arrival.at_s,
            scenario=settings.scenario,
            user_class=self._scenario_class,
            dialect=dialect,
            model=settings.model,
            stream=settings.stream,
        )

    def refusal(self, record: RequestRecord) -> tuple[str, str] | None:
        """Why a request may not be sent now, as label and text: the cap on requests in flight, or a guard."""
        if self.num_in_flight >= self._cap:
            return "cap_in_flight", f"{self._cap} requests were in flight"
        for number, guard in enumerate(self.guards):
            refusal = guard.refusal(record)
            if refusal is not None:
                for earlier in self.guards[:number]:  # they took it for sent
                    earlier.ended(record)
                return refusal
        return None

    def close(self, record: RequestRecord, exchange: Exchange, dialect: Dialect) -> Heard:
        """Complete a record and write it. Returns what was heard."""
        heard = complete_record(record, exchange, dialect, self._count)
        self._write(record)
        for guard in self.guards:
            guard.ended(record)
        return heard

    def refuse(self, record: RequestRecord, because: tuple[str, str]) -> None:
        """Write the record of a request that is kept back."""
        record.outcome = "refused"
        record.error_kind, record.error_text = because
        self._write(record)

    def after(self, arrival: Arrival, record: RequestRecord, heard: Heard) -> list[Arrival]:
        """What the plan goes on with, now that a request is over."""
        return list(self.plan.after(arrival, record, heard)) if isinstance(self.plan, ReactivePlan) else []

    def finish(self) -> None:
        """The share of the plan is done."""
        self.finished = True
        self._on_finished()

    def shut(self) -> None:
        """End the run: footer, files, connections."""
        self._pulse.stop()
        self.transport.close()
        self._writer.close(round(self.now(), 6))

    def _write(self, record: RequestRecord) -> None:
        try:
            self._writer.write(record)
        except Exception as error:
            self.collector_error = self.collector_error or str(error)
            raise
        live = self.live
        live.outcomes[record.outcome] += 1
        live.num_output_tokens += record.num_output_tokens or 0
        if record.first_token_at is not None:
            live.recent_ttft_s.append(record.first_token_at - record.intended_at)
