"""What scenario authors subclass. One instance drives one worker's share of the plan; each arrival is a greenlet."""

from __future__ import annotations

from math import inf
from typing import Any, ClassVar

import gevent
from gevent.event import Event
from gevent.pool import Group
from locust import User, task
from locust.exception import StopUser

from harness.asks import mock_headers
from harness.dialects import Asked, Dialect
from harness.dialects.openai_chat import OPENAI_CHAT
from harness.errors import UsageError
from harness.plan import Arrival, Heard, LoadPlan, ReactivePlan, withdrawn_by
from harness.records import RequestRecord
from harness.summary import RunData
from harness.swarm.asking import send, wants_stream
from harness.swarm.batching import Jobs
from harness.swarm.options import PlanOptions
from harness.swarm.run import LoadRun
from harness.swarm.transport import Exchange, api_key
from harness.timetable import Timetable
from harness.workloads.prompts import ask_of

__all__ = ["LLMUser"]

_GLANCE_S = 0.25  # the longest time without looking whether somebody else has ended the run


class LLMUser(User):
    """A scenario: `plan` says what is sent when, `serve` what is done for each arrival.

    The loop is open: arrivals come at their intended times whether or not earlier ones were answered, so that a
    slow server cannot slow down the questions (no coordinated omission). Only a reactive plan waits for answers.
    """

    abstract = True
    dialect: ClassVar[Dialect] = OPENAI_CHAT
    leaves_midway: ClassVar[bool] = False  # whether its clients leave after so many tokens (plan.Conduct)
    one_process: ClassVar[bool] = False  # whether its plan must see every answer, and so cannot be shared by workers
    load_run: ClassVar[LoadRun | None] = None  # set by the plugin for the time of a run

    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        """The load. Called before the run with what the command line says. Raises UsageError for what cannot be."""
        raise UsageError(f"{cls.__name__} must say what it sends: override plan()")

    @classmethod
    def conclusion(cls, run: RunData) -> list[str]:
        """The scenario's own answer, read from the records: lines for terminal and page, kept with the run."""
        return []

    def serve(self, arrival: Arrival) -> None:
        """What is done for one arrival; by default one question. Override for flows of several requests: each needs a
        name of its own, as `dataclasses.replace(arrival, turn=arrival.turn + 1)` gives it."""
        self.ask(arrival)

    def ask(self, arrival: Arrival) -> RequestRecord:
        """Send one request and read its answer; returns its record, which is on disk by then.

        The record is written also when this greenlet is killed in the middle.
        """
        run, dialect = self.the_run, self.dialect_for(arrival)
        record, exchange = run.open(arrival, dialect), Exchange()
        heard = Heard()
        refusal = run.refusal(record)
        if refusal is not None:
            run.refuse(record, refusal)
        else:
            run.num_in_flight += 1
            try:
                body, headers = self.body(arrival), self._headers(record.request_id, arrival, dialect)
                if dialect.job is not None:
                    self._jobs.request(dialect, record.model, body, exchange)
                else:
                    retries = run.settings.num_retries
                    send(run.transport, dialect, headers, body, exchange, conduct=arrival.conduct, num_retries=retries)
            except Exception as error:  # a scenario's own fault: data about the scenario, and never a lost record
                exchange.ending, exchange.detail = "scenario_error", f"{type(error).__name__}: {error}"
                raise
            finally:
                run.num_in_flight -= 1
                heard = run.close(record, exchange, dialect)
                self._tell_locust(record, exchange, dialect)
        self._timetable.add(run.after(arrival, record, heard))
        self._news.set()
        return record

    def asked(self, arrival: Arrival) -> Asked:
        """The question of an arrival. Override to ask differently in the same protocol."""
        settings, ask = self.the_run.settings, arrival.ask
        return Asked(
            ask.model if ask is not None and ask.model else settings.model,
            tuple(self.the_run.messages(arrival)),
            stream=wants_stream(arrival, self.dialect_for(arrival), settings.stream),
            max_tokens=arrival.num_output_tokens,
            exact_length=settings.exact_length and (ask is None or ask.exact_length),
            tools=() if ask is None else ask.tools,
            images=() if ask is None else ask.images,
        )

    def body(self, arrival: Arrival) -> bytes:
        """The request body of an arrival. Override for what `asked` cannot say."""
        return self.dialect_for(arrival).body(self.asked(arrival))

    def dialect_for(self, arrival: Arrival) -> Dialect:
        """The protocol in which an arrival is asked. Override for scenarios that speak more than one."""
        return self.dialect

    @property
    def the_run(self) -> LoadRun:
        assert self.load_run is not None, "users run only inside a run"
        return self.load_run

    # -- following the plan -------------------------------------------------------------------------------

    @task
    def follow_plan(self) -> None:
        """Send every arrival of this worker's share at its time, then wait for the answers."""
        if self.load_run is None or not self.load_run.wait_for_beginning():
            raise StopUser  # the run could not be started
        run, flying = self.load_run, Group()
        self._timetable = Timetable(run.shard.take(run.plan.arrivals()), withdrawn_by(run.plan))
        self._news = Event()
        self._jobs = Jobs(run.transport, run.now, self.environment.parsed_options)
        try:
            self._send_all(run, flying)
            if run.stop_reason is None and not isinstance(run.plan, ReactivePlan):
                gevent.sleep(max(0.0, run.plan.duration_s - run.now()))
            run.drained = flying.join(timeout=max(0.0, run.drain_until - run.now()))
        finally:
            # Also when Locust stops us: every open request still gets its record.
            flying.kill(block=True)
        run.finish()
        raise StopUser

    def _send_all(self, run: LoadRun, flying: Group) -> None:
        """Until nothing is left to send. A reactive plan may go on as long as an answer is open."""
        while run.stop_reason is None:
            self._news.clear()
            delay = self._timetable.next_at() - run.now()
            if delay <= 0:
                flying.spawn(self.serve, self._timetable.take())
            elif delay < inf:
                self._news.wait(min(delay, _GLANCE_S))  # somebody else may end the run meanwhile
            elif not flying or not isinstance(run.plan, ReactivePlan) or run.now() >= run.drain_until:
                return
            else:
                self._news.wait(min(run.drain_until - run.now(), _GLANCE_S))  # who told the news is still flying then

    def _headers(self, request_id: str, arrival: Arrival, dialect: Dialect) -> dict[str, str]:
        told = mock_headers(ask_of(arrival))
        key = dialect.headers(api_key())
        return {"Content-Type": "application/json", "X-Client-Request-Id": request_id, **told, **key}

    def _tell_locust(self, record: RequestRecord, exchange: Exchange, dialect: Dialect) -> None:
        """One event a request, at its end, for Locust's own tables. An answer that was open at the end is no failure."""
        if record.outcome == "incomplete" or record.done_at is None:
            return
        error: Any = None if record.outcome in ("ok", "left") else f"{record.outcome}: {record.error_kind}"
        self.environment.events.request.fire(
            request_type="POST",
            name=dialect.path,
            response_time=(record.done_at - record.intended_at) * 1e3,
            response_length=sum(len(piece) for _, piece in exchange.reads),
            response=None,
            context={},
            exception=error,
        )
