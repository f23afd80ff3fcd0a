"""One run in one load process: clock, plan, connections, record file, and the requests in flight."""

from __future__ import annotations

import gc
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from gevent.event import AsyncResult

from harness.clock import boot_id, clock_pair
from harness.cluster.clock_offset import Offset
from harness.dialects import Dialect
from harness.live.stats import LiveStats
from harness.objectives import objectives_of
from harness.plan import Arrival, Heard, LoadPlan, ReactivePlan, Shard
from harness.prices import Prices
from harness.records import Header, RecordWriter, RequestRecord
from harness.safety.secrets import Scrubber
from harness.swarm.asking import complete_record, open_record
from harness.swarm.guarding import guards_of, permits_of
from harness.swarm.pulse import Pulse
from harness.swarm.transport import Exchange, Timeouts, Transport, api_key, parse_target
from harness.tokens import token_counter
from harness.workloads.prompts import PromptBook

__all__ = ["LoadRun", "RunSettings"]

_MARGIN_S = 5.0  # after the time to drain; whoever is not done by then is stuck


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What a load process must know to do its share. The master sends it to its workers: no secret may stand here."""

    run_id: str
    uid: str  # the run's name among all runs of all masters
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
    shard_index: int
    num_shards: int
    objective: str = ""
    budget_usd: float | None = None
    prices: dict[str, Any] | None = None
    price_source: str = ""
    price_version: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    plain_http: bool = False


class LoadRun:
    """Everything a load process holds during a run. It is made, which may take a while; it begins; it is shut."""

    def __init__(
        self,
        settings: RunSettings,
        plan: LoadPlan,
        scenario_class: str,
        *,
        on_finished: Callable[[], None],
        left_alone: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.settings = settings
        self.plan = plan
        self.shard = Shard(settings.shard_index, settings.num_shards)
        self.live = LiveStats(objectives=objectives_of(plan, settings.objective))
        self.num_in_flight = 0
        self.finished = False  # every arrival of the share was sent or refused, and the time to drain is over
        self.drained = False  # every answer has ended
        self.ended_because: str | None = None  # once it has finished: why that was before the end of the plan
        self.told_to_stop: str | None = None
        self.collector_error: str | None = None
        self.guards = guards_of(settings, lambda: self.transport.has_connected)
        self.path: Path | None = None  # where the files lie, from the beginning on
        self.files: list[Path] = []
        self._on_finished = on_finished
        self._left_alone = left_alone
        self._scenario_class = scenario_class
        self._begun: AsyncResult[bool] = AsyncResult()
        self._taken = False
        self._shut = False
        # Before the beginning it is minus infinity seconds: nothing is due.
        self._origin = float("inf")
        # A share of the cap, rounded up: no worker may be left without.
        self._cap = -(-settings.max_in_flight // settings.num_shards)
        self._prices = Prices.of(settings.prices, settings.price_source) if settings.prices else None
        self._reactive = plan if isinstance(plan, ReactivePlan) else None  # asking a protocol is slow: once
        self._prompts = PromptBook(settings.seed, settings.salt)
        # Vocabulary and prompts are made now: the first request would otherwise be sent late by their making.
        self._count = token_counter()
        self._count(self._prompts.messages(next(plan.arrivals()))[-1][1])
        gc.collect()
        gc.freeze()  # what is there now lives as long as the run; walking through it would stop the event loop
        timeouts = Timeouts(read_s=settings.read_timeout_s)
        target, permits = parse_target(settings.target), permits_of(settings)
        self.transport = Transport(target, self.now, timeouts, fresh=settings.fresh_connections, permits=permits)
        self._scrubber = Scrubber([api_key()])
        self._writer: RecordWriter | None = None
        self._pulse: Pulse | None = None

    # -- the beginning -------------------------------------------------------------------------------

    def begin(self, origin: float, path: Path, offset: Offset | None = None) -> None:
        """Set the run's instant zero, by this machine's monotonic clock, and open the files. `offset`: how far the master's
        clock is ahead, where it has another. Raises RunError when the files cannot be written."""
        settings = self.settings
        self._origin, self.path = origin, path
        tag = f"{os.getpid()}-{uuid4().hex[:8]}"
        header = Header(
            run_id=settings.run_id,
            scenario=settings.scenario,
            host=socket.gethostname(),
            pid=os.getpid(),
            boot_id=boot_id(),
            clocks=clock_pair(),
            origin_monotonic=origin,
            worker_index=settings.shard_index,
            num_workers=settings.num_shards,
            clock_offset_s=None if offset is None else offset.offset_s,
            clock_error_s=None if offset is None else offset.error_s,
            rtt_s=None if offset is None else offset.rtt_s,
        )
        self._writer = RecordWriter(path / f"records-{tag}.jsonl", header)
        self.files = [path / f"records-{tag}.jsonl", path / f"samples-{tag}.jsonl"]
        self._pulse = Pulse(
            self.files[1], self.now, lambda: self.num_in_flight, self.live.note_sample, self.transport.watch
        )
        self._begun.set(True)

    def call_off(self) -> None:
        """The run will not begin: nobody needs to wait for it any more."""
        if not self._begun.ready():
            self._begun.set(False)

    def wait_for_beginning(self) -> bool:
        """Whether this share is to be sent, once that is known. Only the first who asks is told so: nobody sends it again."""
        if self._taken:
            return False
        self._taken = True
        return bool(self._begun.get())

    # -- while it goes -------------------------------------------------------------------------------

    def now(self) -> float:
        """Seconds from the run's origin."""
        return time.monotonic() - self._origin

    @property
    def has_begun(self) -> bool:
        return self._writer is not None

    @property
    def broken_off(self) -> str | None:
        """Why the run must end at once, with what is in flight: records are lost, the master is gone, or time is up."""
        if self.collector_error is not None:
            return f"records cannot be written: {self.collector_error}"
        if self.now() > self.drain_until + _MARGIN_S:
            return f"the run should have ended {self.now() - self.drain_until:.0f} s ago"
        return self._left_alone()

    @property
    def stop_reason(self) -> str | None:
        """Why nothing more may be sent; None: go on."""
        reason = self.told_to_stop or self.broken_off
        return reason or next((guard.stop_reason for guard in self.guards if guard.stop_reason is not None), None)

    @property
    def drain_until(self) -> float:
        """The instant at which what is still open is broken off."""
        return self.plan.duration_s + self.settings.drain_s

    def messages(self, arrival: Arrival) -> list[tuple[str, str]]:
        return self._prompts.messages(arrival)

    def open(self, arrival: Arrival, dialect: Dialect) -> RequestRecord:
        """Begin the record of a request that is about to be sent."""
        settings = self.settings
        assert self._writer is not None, "the run has not begun"
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
        if self._prices is not None:
            record.cost_usd = self._prices.cost(record)
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
        return [] if self._reactive is None else list(self._reactive.after(arrival, record, heard))

    # -- the end -------------------------------------------------------------------------------------

    def finish(self) -> None:
        """The share of the plan is done."""
        self.finished, self.ended_because = True, self.stop_reason
        self._on_finished()

    def shut(self) -> None:
        """End the run: footer, files, connections. What cannot be written any more stands in `collector_error`."""
        if self._shut:
            return
        self._shut = True
        self.call_off()
        self.transport.close()
        if self._pulse is not None:
            self._pulse.stop()
        if self._writer is not None:
            try:
                self._writer.close(round(self.now(), 6))
            except Exception as error:
                self.collector_error = self.collector_error or str(error)

    def look(self) -> LiveStats:
        """The totals up to now, for whoever watches."""
        self.live.num_in_flight = self.num_in_flight
        return self.live

    def _write(self, record: RequestRecord) -> None:
        assert self._writer is not None
        self._scrubber.record(record)
        try:
            self._writer.write(record)
        except Exception as error:
            self.collector_error = self.collector_error or str(error)
            raise
        self.live.add(record)
