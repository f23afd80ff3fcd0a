"""Requests gathered into jobs of a provider's batch API. Each request has a record of its own, as if it had been sent alone.

A request waits until its job is full or has waited long enough, then for the job. Its record says `sent_at` when it was given
to the job, so that the wait for others counts as the latency that it is, `done_at` when the results were there, and as
`server_request_id` what the provider calls the job. Asking how far a job is counts as no request.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gevent
from gevent.event import Event

from harness.dialects import Call, Dialect, JobResults, Pause, Result, UnreadableEvent
from harness.exchange import Exchange
from harness.swarm.transport import Transport, api_key

__all__ = ["Jobs", "add_batch_options"]

_NUM_TRIES = 5  # to read a state or a result; judgement. What makes a job is sent once: it costs money


def add_batch_options(parser: Any, duration: Callable[[str], float]) -> None:
    """Add the options of jobs to Locust's parser."""
    group = parser.add_argument_group(
        "Batches",
        "For the protocols openai-batch and anthropic-batch. Providers take minutes to hours: raise --drain, for what is "
        "open when the run ends counts as incomplete, and the provider bills it.",
    )
    group.add_argument("--batch-size", type=int, default=100, metavar="N", help="The most requests in one job.")
    group.add_argument(
        "--batch-wait", type=duration, default=1.0, metavar="TIME", help="Hand a job in after this time, full or not."
    )
    group.add_argument(
        "--batch-poll", type=duration, default=5.0, metavar="TIME", help="How often to ask whether a job has ended."
    )


@dataclass(slots=True)
class _Job:
    """Requests that are handed in together; `full` wakes the first of them, `done` the others."""

    bodies: list[bytes] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    full: Event = field(default_factory=Event)
    done: Event = field(default_factory=Event)


class _Failed(Exception):  # noqa: N818
    """A call of a job that was not answered as it must be."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange


class Jobs:
    """The jobs of one load process. Shared by all its greenlets."""

    def __init__(self, transport: Transport, now: Callable[[], float], options: Namespace) -> None:
        self._transport, self._now = transport, now
        self._size, self._wait_s, self._poll_s = options.batch_size, options.batch_wait, options.batch_poll
        self._gathering: dict[tuple[str, str | None], _Job] = {}

    def request(self, dialect: Dialect, model: str | None, body: bytes, exchange: Exchange) -> None:
        """Have one request answered by a job. Returns when the job is over; never raises for what the server does."""
        exchange.sent_at, exchange.num_attempts = self._now(), 1
        name = dialect.name, model  # a provider takes one model a job
        job = self._gathering.get(name)
        leads = job is None
        if job is None:
            job = self._gathering[name] = _Job()
        job.bodies.append(body)
        job.exchanges.append(exchange)
        if len(job.bodies) >= self._size:
            self._closed(name, job)
            job.full.set()
        if not leads:
            job.done.wait()
            return
        try:
            job.full.wait(self._wait_s)
            self._closed(name, job)
            self._work(dialect, job)
        finally:  # also when the run ends
            self._closed(name, job)
            job.done.set()

    def _closed(self, name: tuple[str, str | None], job: _Job) -> None:
        """Nobody joins this job any more."""
        if self._gathering.get(name) is job:
            del self._gathering[name]

    def _work(self, dialect: Dialect, job: _Job) -> None:
        try:
            done = self._carry_out(dialect, job.bodies)
        except _Failed as failed:
            for exchange in job.exchanges:
                _same_fate(exchange, failed.exchange)
        except UnreadableEvent as error:
            for exchange in job.exchanges:
                self._settle(exchange, Result(None, detail=f"the batch API answered what is no batch: {error}"), "")
        else:
            for exchange, result in zip(job.exchanges, done.results, strict=True):
                self._settle(exchange, result, done.job_id)

    def _carry_out(self, dialect: Dialect, bodies: list[bytes]) -> JobResults:
        assert dialect.job is not None
        flow, answer = dialect.job(bodies), b""
        try:
            step = next(flow)
            while True:
                if isinstance(step, Pause):
                    gevent.sleep(self._poll_s)
                    answer = b""
                else:
                    answer = self._called(step, dialect)
                step = flow.send(answer)
        except StopIteration as end:
            done: JobResults = end.value
            return done

    def _called(self, call: Call, dialect: Dialect) -> bytes:
        """The body of the answer to a call. Raises _Failed."""
        headers = {"Content-Type": call.content_type, **dialect.headers(api_key())}
        for number in range(_NUM_TRIES):
            if number:
                gevent.sleep(self._poll_s)
            exchange = Exchange()
            self._transport.request(call.method, call.path, headers, call.body, exchange)
            if exchange.ending == "complete" and exchange.status is not None and 200 <= exchange.status < 300:
                return exchange.body()
            if call.method == "POST":
                break
        raise _Failed(exchange)

    def _settle(self, exchange: Exchange, result: Result, job_id: str) -> None:
        exchange.first_byte_at = exchange.done_at = at = self._now()
        exchange.ending = "complete" if result.status is not None else "unanswered"
        exchange.status, exchange.detail = result.status, result.detail
        exchange.headers = {"content-type": "application/json", "x-request-id": job_id}
        exchange.reads = [(at, result.body)]


def _same_fate(exchange: Exchange, failed: Exchange) -> None:
    """What became of the call that failed became of every request of the job."""
    exchange.first_byte_at, exchange.done_at = failed.first_byte_at, failed.done_at
    exchange.status, exchange.headers, exchange.reads = failed.status, failed.headers, failed.reads
    exchange.ending, exchange.detail = failed.ending, failed.detail
    if exchange.status is not None and 200 <= exchange.status < 300:  # cut in the middle of its answer
        exchange.status = None
