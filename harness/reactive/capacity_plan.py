"""The load of a capacity search: the plan that sends the probes of `harness.reactive.capacity`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from math import inf

import msgspec

from harness.plan import Arrival, Heard
from harness.reactive.capacity import Capacity, CapacitySettings, Probe, Tally, count, judge, next_probe, probe_times
from harness.reactive.pauses import Lengths, over_at
from harness.records import RequestRecord
from harness.streams import keyed_uniform

__all__ = ["CapacityPlan"]

# Between the last answer of a probe and the next probe, and for each of its requests: working them out takes about 10 µs each,
# and its first requests are not to be late.
_PAUSE_S, _PAUSE_EACH_S = 0.5, 20e-6


@dataclass(slots=True)
class _Running:
    """The probe that is under way. `open` are the keys of what is still to come back, with the instants of sending."""

    probe: Probe
    tally: Tally  # with what earlier stretches of the probe counted
    open: dict[str, float]
    cut_at: float = inf  # what was to be sent later is withdrawn


@dataclass
class CapacityPlan:
    """One request alone, then probe after probe, each once the last answer of the one before has come, so that no probe
    inherits a queue. A probe that can only be bad is broken off. The search is over when it has its answer, or when the next
    probe would not end before `duration_s`.

    One object drives one run: it remembers what it heard. It sees only the requests of its own process, so it must have
    all of them. Request `turn` is the number of the stretch, `phase` names probe and rate.
    """

    settings: CapacitySettings
    prompt_tokens: Lengths
    output_tokens: Lengths
    duration_s: float
    seed: int
    _tallies: list[Tally] = field(default_factory=list, init=False)
    _running: _Running | None = field(default=None, init=False)
    _num_stretches: int = field(default=0, init=False)
    _next_index: int = field(default=1, init=False)
    _now: float = field(default=0.0, init=False)

    @property
    def num_arrivals(self) -> int:
        return 1

    def arrivals(self) -> Iterator[Arrival]:
        """The first request; connections and caches that are cold meet it, and no probe."""
        yield self._arrival(0, 0.0, "first request", 0)

    def after(self, arrival: Arrival, record: RequestRecord, heard: Heard) -> Iterable[Arrival]:
        """The next stretch, when this was the last request of the one before."""
        self._now = max(self._now, over_at(arrival, record))
        running = self._running
        if running is None:
            return self._begin() if arrival.turn == 0 else ()
        running.open.pop(arrival.key, None)
        if arrival.turn == self._num_stretches and arrival.phase == running.probe.phase:
            self._count(running, record)
        if running.open:
            return ()
        self._tallies[running.probe.number - 1 :] = [running.tally]
        return self._begin()

    def withdrawn(self, arrival: Arrival) -> bool:
        """Whether an arrival is no longer wanted: its probe was broken off."""
        running = self._running
        if running is None or arrival.turn < self._num_stretches:
            return arrival.turn > 0
        return arrival.at_s > running.cut_at

    def describe(self) -> dict[str, object]:
        return {
            "arrivals": "capacity search: poisson at the rate of each probe",
            "capacity": msgspec.to_builtins(self.settings),
            "prompt_tokens": self.prompt_tokens.describe(),
            "output_tokens": self.output_tokens.describe(),
            "seed": self.seed,
        }

    def _count(self, running: _Running, record: RequestRecord) -> None:
        is_good = count(record, self.settings.objective)
        tally = running.tally
        if is_good is not None:
            tally = replace(tally, num_good=tally.num_good + is_good, num_bad=tally.num_bad + (not is_good))
            running.tally = tally
        if running.cut_at == inf and judge(tally, self.settings.share) == "bad":
            running.cut_at = self._now
            running.open = {key: at_s for key, at_s in running.open.items() if at_s <= self._now}

    def _begin(self) -> list[Arrival]:
        """The arrivals of the next stretch; none when the search is over."""
        self._running = None
        probe, settings = next_probe(self.settings, self._tallies), self.settings
        if isinstance(probe, Capacity):
            return []
        length_s = settings.settle_s + settings.length_s(probe.rate)
        begin_s = self._now + _PAUSE_S + _PAUSE_EACH_S * probe.rate * length_s
        if begin_s + length_s > self.duration_s:
            return []
        self._num_stretches += 1
        settling, counted = probe_times(settings, self.seed, probe)
        phases = [(at_s, probe.settling) for at_s in settling] + [(at_s, probe.phase) for at_s in counted]
        arrivals = [
            self._arrival(self._next_index + place, begin_s + at_s, phase, self._num_stretches)
            for place, (at_s, phase) in enumerate(phases)
        ]
        self._next_index += len(arrivals)
        before = self._tallies[probe.number - 1] if probe.window > 1 else Tally(probe.number, probe.rate, 0, 0, 0, 0)
        tally = replace(before, num_windows=probe.window, num_planned=before.num_planned + len(counted))
        self._running = _Running(probe, tally, {each.key: each.at_s for each in arrivals})
        return arrivals

    def _arrival(self, index: int, at_s: float, phase: str, turn: int) -> Arrival:
        num_prompt = self.prompt_tokens.at(keyed_uniform(self.seed, "prompt tokens", str(index)))
        num_output = self.output_tokens.at(keyed_uniform(self.seed, "output tokens", str(index)))
        return Arrival(index, at_s, num_prompt, num_output, phase, turn=turn)
