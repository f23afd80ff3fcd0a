"""One simulation from deployment to run directory."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf
from pathlib import Path
from typing import Any

import msgspec

from harness.clock import clock_pair
from harness.errors import UsageError
from harness.objectives import objectives_of
from harness.plan import Arrival, Heard, LoadPlan, ReactivePlan, withdrawn_by
from harness.prices import deployed_prices, priced
from harness.records import Header, RecordWriter, RequestRecord
from harness.store import Manifest, RunDirectory, create_run, machine, versions
from harness.streams import keyed_uniform
from harness.timetable import Timetable
from harness.virtual.answers import Answer
from harness.virtual.gpus import metered
from harness.virtual.met import Met
from harness.virtual.requests import Requests
from mockllm import (
    Emission,
    MockError,
    Refused,
    Request,
    Serving,
    Tokens,
    build_engine,
    build_stack,
    drive,
    load_deployment,
    state_of,
)

__all__ = ["Simulation", "run_in_virtual_time"]

_TELL_EVERY = 1000


@dataclass(frozen=True)
class Simulation:
    """What to simulate. `model`: the one to ask for where the plan names none; None: the first that is served.

    `models` are those that the plan names. The gaps between tokens are recorded of about `num_with_gaps` requests, drawn
    by lot: those of a million would fill gigabytes. `every_token`: clients that leave after so many tokens need to see
    each of them; slower. `terms`: what the run is judged by, as fields of the manifest (`harness.terms`).
    `with_gpus`: the simulated GPUs are read too; a seventh slower.
    """

    deployment: str
    plan: LoadPlan
    scenario: str
    seed: int = 0
    model: str | None = None
    models: frozenset[str] = frozenset()
    num_with_gaps: int = 20_000
    every_token: bool = False
    command: Sequence[str] = ()
    options: dict[str, Any] = field(default_factory=dict)
    objective: str = ""
    terms: Mapping[str, Any] = field(default_factory=dict)
    with_gpus: bool = False


def run_in_virtual_time(simulation: Simulation, out: Path, tell: Callable[[int, float], None]) -> RunDirectory:
    """Simulate, and leave a run directory. `tell` is told now and then how many requests were sent, and the instant.

    Raises UsageError for a deployment that cannot be had, a model that it does not serve, and a plan without requests.
    """
    plan = simulation.plan
    try:
        deployment = load_deployment(simulation.deployment)
        # A deployment file has prices, and a clock of the run for its pools: a stack counts on them, even without a policy.
        build: Callable[..., Serving] = build_stack if deployment.models else build_engine
        serving = build(
            deployment, seed=simulation.seed, every_token=simulation.every_token, with_gpus=simulation.with_gpus
        )
    except MockError as error:
        raise UsageError(str(error)) from None
    model = simulation.model or next(iter(serving.models))
    for name in sorted({model} | simulation.models):
        if name not in serving.models and "*" not in serving.models:
            raise UsageError(f"{deployment.name} does not serve {name!r}; it serves {', '.join(serving.models)}")
    if plan.num_arrivals == 0:
        raise UsageError(f"the plan holds no request in its {plan.duration_s:g} s; raise --rate or --for")
    directory = create_run(out)
    manifest = _manifest(simulation, directory.name, deployment.name, model)
    costs = {name: each.price for name, each in deployment.models.items()}
    manifest.prices = priced(deployed_prices(costs, f"deployment {deployment.name}"))
    directory.write_manifest(manifest)
    client = _Client(simulation, serving, model, RecordWriter(out / "records-virtual.jsonl", _header(manifest)), tell)
    meter = metered(client, serving, out, plan.duration_s) if simulation.with_gpus else None
    try:
        for emission in drive(serving, meter or client):
            client.hear(emission)
        manifest.ended_how = "complete"
    except KeyboardInterrupt:
        manifest.ended_how = "stopped early"
    client.close()
    if meter is not None:
        meter.close(client.now)
    manifest.ended_at = round(client.now, 6)
    directory.write_manifest(manifest)
    if client.met.num:
        document = {"state": state_of(serving, client.now), "clients": client.met}
        directory.write_atomically("stack.json", msgspec.json.format(msgspec.json.encode(document), indent=2))
    return directory


def _manifest(simulation: Simulation, run_id: str, deployment: str, model: str) -> Manifest:
    plan = simulation.plan
    return Manifest(
        run_id=run_id,
        scenario=simulation.scenario,
        target=f"{deployment} in virtual time",
        model=model,
        seed=simulation.seed,
        command=list(simulation.command),
        options=simulation.options,
        plan=plan.describe(),
        num_planned=plan.num_arrivals,
        duration_s=plan.duration_s,
        max_in_flight=None,
        num_workers=1,
        started_wall=clock_pair()["wall"],
        versions=versions(),
        machine=machine(),
        clock="virtual",
        reactive=isinstance(plan, ReactivePlan),
        objectives=objectives_of(plan, simulation.objective),
        **simulation.terms,
    )


def _header(manifest: Manifest) -> Header:
    """Without a boot: the instants lie on no clock of this machine."""
    return Header(
        run_id=manifest.run_id,
        scenario=manifest.scenario,
        host=socket.gethostname(),
        pid=os.getpid(),
        boot_id=None,
        clocks=clock_pair(),
        origin_monotonic=0.0,
        worker_index=0,
        num_workers=1,
    )


@dataclass(slots=True)
class _Flight:
    """A request on its way; `num_tokens` of its answer were seen."""

    arrival: Arrival
    answer: Answer
    num_tokens: int = 0


class _Client:
    """Sends the plan and writes a record of every answer."""

    def __init__(
        self,
        simulation: Simulation,
        serving: Serving,
        model: str,
        writer: RecordWriter,
        tell: Callable[[int, float], None],
    ) -> None:
        self.now = 0.0
        self.met = Met()
        self._seed, self._scenario = simulation.seed, simulation.scenario
        self._reactive = simulation.plan if isinstance(simulation.plan, ReactivePlan) else None
        self._gaps_share = simulation.num_with_gaps / simulation.plan.num_arrivals
        self._model, self._writer, self._tell = model, writer, tell
        self._requests = Requests(serving, model, simulation.scenario, simulation.seed)
        self._serving = serving
        self._timetable = Timetable(simulation.plan.arrivals(), withdrawn_by(simulation.plan))
        self._open: dict[str, _Flight] = {}
        self._leaving: list[tuple[float, str]] = []

    # -- the client's side of `drive` ------------------------------------------------------------------

    def next_at(self) -> float:
        """When the next request is to be sent, or somebody goes away."""
        while self._leaving and self._leaving[0][1] not in self._open:
            heappop(self._leaving)
        return min(self._timetable.next_at(), self._leaving[0][0] if self._leaving else inf)

    def act(self, serving: Serving, now: float) -> None:
        """Go away, or send the next request."""
        self.now = max(self.now, now)
        if self._leaving and self._leaving[0][0] <= now:
            self._leave(heappop(self._leaving)[1], now)
            return
        arrival = self._timetable.take()
        request = self._requests.of(arrival)
        self._writer.opened()
        record = self._record(arrival, request, now)
        self._open[request.request_id] = _Flight(arrival, Answer(record, request, self._with_gaps(arrival)))
        if arrival.index % _TELL_EVERY == 0:
            self._tell(arrival.index, now)
        serving.submit(request, now)
        if arrival.conduct is not None and arrival.conduct.leave_after_s is not None:
            heappush(self._leaving, (now + arrival.conduct.leave_after_s, request.request_id))

    def hear(self, emission: Emission) -> None:
        """Something came back."""
        self.now = max(self.now, emission.at)
        flight = self._open.get(emission.request_id)
        if flight is None:
            return  # its client has gone away at this very instant
        answer = flight.answer
        if isinstance(emission, Tokens):
            answer.tokens.append(emission)
            conduct = flight.arrival.conduct
            if conduct is not None and conduct.leave_after_tokens is not None:
                flight.num_tokens += emission.num
                if flight.num_tokens >= conduct.leave_after_tokens:
                    self._leave(emission.request_id, emission.at)
        elif answer.ended(emission):
            self.met.add(emission)
            self._ended(emission.request_id, emission.retry_after_s if isinstance(emission, Refused) else None)

    def close(self) -> None:
        """Nothing more comes: what is still open has its record too."""
        for flight in self._open.values():
            flight.answer.left_open()
            self._writer.write(flight.answer.record)
        self._writer.close(round(self.now, 6))

    def _leave(self, request_id: str, now: float) -> None:
        self._serving.cancel(request_id, now)
        self._open[request_id].answer.left(now)
        self._ended(request_id)

    def _ended(self, request_id: str, retry_after_s: float | None = None) -> None:
        flight = self._open.pop(request_id)
        self._writer.write(flight.answer.record)
        if self._reactive is not None:
            heard = Heard() if retry_after_s is None else Heard(None, {"retry-after": f"{retry_after_s:g}"})
            self._timetable.add(self._reactive.after(flight.arrival, flight.answer.record, heard))

    def _with_gaps(self, arrival: Arrival) -> bool:
        share = self._gaps_share
        return share >= 1 or keyed_uniform(self._seed, "gaps", arrival.key) < share

    def _record(self, arrival: Arrival, request: Request, now: float) -> RequestRecord:
        """The plan's half of a record."""
        ask = arrival.ask
        return RequestRecord(
            request_id=request.request_id,
            scenario=self._scenario,
            class_name=arrival.class_name,
            tenant=request.tenant.organization or request.tenant.user,
            feature=request.tenant.feature,
            phase=arrival.phase,
            model=(ask and ask.model) or self._model,
            stream=request.watched,
            planned_prompt_tokens=arrival.num_prompt_tokens,
            planned_output_tokens=arrival.num_output_tokens,
            intended_at=round(arrival.at_s, 6),
            sent_at=round(now, 6),
            num_attempts=1,
        )
