"""A stack under either clock, and under clients that go away: what every policy has to bear."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mockllm import Cut, Emission, Finished, ManualClock, Refused, Request
from mockllm.passage import Passage
from mockllm.server.driver import Driver
from mockllm.stack.stack import Stack
from tests.stack.build import ends, run

__all__ = ["assert_both_clocks_agree", "run_with_cancels"]

Load = Sequence[tuple[float, Request]]
Facts = dict[str, tuple[Any, ...]]


class _Alarm:
    def arm(self, at: float, ring: Callable[[], None]) -> None: ...
    def disarm(self) -> None: ...


def driven(real: Stack, load: Load, *, until: float) -> dict[str, Emission]:
    """The last that each client is told by the real-time driver, under a clock that is moved from arrival to arrival and
    then to `until`."""
    clock, told = ManualClock(), dict[str, Emission]()
    driver = Driver(real, clock, _Alarm())
    for at, request in load:
        clock.move_to(at)
        driver.submit(request, lambda emission, _: told.update({emission.request_id: emission}))
    clock.move_to(until)
    driver.ring()
    return told


def assert_both_clocks_agree(make: Callable[[bool], Stack], load: Load) -> Stack:
    """The virtual driver, and the real-time one that is rung only after everything is long over, tell the same story.

    `make` builds the stack, given `every_token`. Returns the one that ran in virtual time.
    """
    virtual, real = make(False), make(True)
    expected = _facts(ends(run(virtual, load)))
    told = driven(real, load, until=1e6)
    assert _facts(told) == expected
    assert len(expected) == len(load)
    assert [stage.state(1e6) for stage in real.stages] == [stage.state(1e6) for stage in virtual.stages]
    assert real.cost_usd == virtual.cost_usd
    return virtual


def run_with_cancels(subject: Stack, load: Load, cancels: Sequence[tuple[int, float]]) -> list[Emission]:
    """As `drive_with_cancels`, and no stage remembers a request that is over."""
    out = drive_with_cancels(subject, load, cancels)
    names = {request.request_id for _, request in load}
    for stage in subject.stages:
        for kept in vars(stage).values():
            assert not (isinstance(kept, dict) and names & set(kept)), (stage.name, kept)
    return out


def drive_with_cancels(subject: Stack, load: Load, cancels: Sequence[tuple[int, float]]) -> list[Emission]:
    """Client number i of the load goes away so many seconds after it came, for each `(i, seconds)`.

    Checks that nothing is lost.
    """
    todo: list[tuple[float, int, Any]] = [(at, 0, request) for at, request in load]
    todo += [(load[i][0] + after, 1, load[i][1].request_id) for i, after in cancels if i < len(load)]
    out: list[Emission] = []
    num_cancelled = 0
    for at, kind, what in sorted(todo, key=lambda each: each[:2]):
        out += subject.advance(at)
        if kind == 0:
            subject.submit(what, at)
        else:
            num_cancelled += subject.cancel(what, at)
    out += subject.advance(1e6)
    counts = subject.counts
    assert subject.idle
    assert subject.engine.idle
    assert counts.num_cancelled == num_cancelled
    assert (
        counts.num_submitted == counts.num_finished + counts.num_refused + counts.num_cut + num_cancelled == len(load)
    )
    assert len(ends(out)) == len(load) - num_cancelled
    return out


def _facts(told: dict[str, Emission]) -> Facts:
    facts: Facts = {}
    for name, end in told.items():
        assert isinstance(end, Finished | Refused | Cut)
        passage = end.passage
        assert isinstance(passage, Passage)
        num = None if isinstance(end, Refused) else end.num_output_tokens
        facts[name] = type(end), end.at, num, passage.model, passage.notes, passage.waited_s, passage.cost_usd
    return facts
