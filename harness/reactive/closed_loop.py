"""A closed loop: a number of clients, each of whom asks, waits for the answer, thinks, and asks again.

What a closed loop hides: a server that stands still is not asked. Its clients wait too, so in a stall of two seconds each
of them records one slow request, where an open loop records every question that would have come meanwhile (coordinated
omission: Tene, "How NOT to Measure Latency", 2013). The rate is a result here, not a setting: N = X·(R + Z), the
interactive response-time law (Denning and Buzen, 1978), for N clients, throughput X, mean response time R, mean think
time Z. Use it where the clients really are so many and really wait: agents, batch workers, a pool of connections.

The intended time of a request is the end of the one before plus the think time. So latencies from the intended time and
from sending are the same here, but for the instrument's own lag: neither shows what a queue of new users would have felt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from harness.asks import Ask
from harness.errors import UsageError
from harness.plan import Arrival, Heard
from harness.reactive.pauses import LEAST_AFTER_ERROR_S, Lengths, ThinkTime, over_at, pause_after
from harness.records import RequestRecord
from harness.streams import keyed_uniform

__all__ = ["ClosedLoopPlan"]


@dataclass(frozen=True)
class ClosedLoopPlan:
    """`num_clients` clients start one after the other within `ramp_s` and go on until `duration_s`: what would be sent then
    or later is not. Request `turn` of client `index` is "index.turn"; every draw is keyed by it, and all prompts differ.

    After an error a client waits as long as it would have thought, and at least LEAST_AFTER_ERROR_S. Raises UsageError for
    numbers that make no loop.
    """

    num_clients: int
    think_time: ThinkTime
    prompt_tokens: Lengths
    output_tokens: Lengths
    duration_s: float
    seed: int
    ramp_s: float = 0.0
    stream: bool = True

    def __post_init__(self) -> None:
        if self.num_clients < 1:
            raise UsageError(f"{self.num_clients} clients make no loop; at least one is needed")
        if not 0 <= self.ramp_s < self.duration_s:
            raise UsageError(f"clients cannot start within {self.ramp_s:g} s of a run of {self.duration_s:g} s")

    @property
    def num_arrivals(self) -> int:
        return self.num_clients

    def arrivals(self) -> Iterator[Arrival]:
        """The first request of every client."""
        for client in range(self.num_clients):
            yield self._arrival(client, 0, self.ramp_s * client / self.num_clients)

    def after(self, arrival: Arrival, record: RequestRecord, heard: Heard) -> Iterable[Arrival]:
        """The client's next request, if there is time for one."""
        turn = arrival.turn + 1
        think_s = self.think_time.at(keyed_uniform(self.seed, "think time", f"{arrival.index}.{turn}"))
        at_s = over_at(arrival, record) + pause_after(record, think_s)
        if at_s < self.duration_s:
            yield self._arrival(arrival.index, turn, at_s)

    def describe(self) -> dict[str, object]:
        return {
            "arrivals": f"closed loop of {self.num_clients} clients",
            "clients": self.num_clients,
            "ramp_s": self.ramp_s,
            "think_time": self.think_time.describe(),
            "least_after_error_s": LEAST_AFTER_ERROR_S,
            "prompt_tokens": self.prompt_tokens.describe(),
            "output_tokens": self.output_tokens.describe(),
            "seed": self.seed,
        }

    def _arrival(self, client: int, turn: int, at_s: float) -> Arrival:
        key = f"{client}.{turn}"
        num_prompt = self.prompt_tokens.at(keyed_uniform(self.seed, "prompt tokens", key))
        num_output = self.output_tokens.at(keyed_uniform(self.seed, "output tokens", key))
        ask = Ask((), stream=self.stream, user=f"client-{client}")
        return Arrival(client, at_s, num_prompt, num_output, "closed loop", ask=ask, turn=turn)
