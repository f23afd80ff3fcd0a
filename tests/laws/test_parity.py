"""One engine, two clocks: the real-time driver under a manual clock equals the virtual driver, exactly."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockllm import Emission, Finished, ManualClock, Request, Serving, simulate
from mockllm.server.driver import Driver
from tests.laws.load import engine, loads, told


class HandTimer:
    """An alarm that rings once, when the test moves the clock to it."""

    def __init__(self) -> None:
        self.at = inf
        self.ring: Callable[[], None] | None = None

    def arm(self, at: float, ring: Callable[[], None]) -> None:
        self.at, self.ring = at, ring

    def disarm(self) -> None:
        self.at, self.ring = inf, None

    def go_off(self) -> None:
        ring = self.ring
        self.disarm()
        assert ring is not None
        ring()


def drive(engine: Serving, arrivals: list[tuple[float, Request]]) -> list[Emission]:
    """Run the server's own driver by hand: the clock stands still until an alarm or an arrival."""
    clock, timer = ManualClock(), HandTimer()
    out: list[Emission] = []
    driver = Driver(engine, clock, timer)
    for at, request in arrivals:
        while timer.at <= at:
            clock.move_to(timer.at)
            timer.go_off()
        clock.move_to(at)
        driver.submit(request, lambda emission, _: out.append(emission))
    while timer.at < inf:
        clock.move_to(timer.at)
        timer.go_off()
    return out


@given(loads())
@settings(max_examples=300, deadline=None)
def test_real_time_driver_and_virtual_driver_give_identical_emissions(
    arrivals: list[tuple[float, Request]],
) -> None:
    real = told(drive(engine(every_token=True), arrivals))
    virtual = told(simulate(engine(every_token=False), arrivals))
    assert real == virtual  # floats too: the clock is not real


@given(loads(), st.lists(st.floats(0, 0.05), min_size=1, max_size=20))
@settings(max_examples=150, deadline=None)
def test_a_late_driver_finds_the_same_instants(arrivals: list[tuple[float, Request]], late: list[float]) -> None:
    """However late `advance` is called, what it returns carries the instants at which it should have happened."""
    punctual = told(simulate(engine(every_token=True), arrivals))
    lazy, out, now = engine(every_token=True), [], 0.0
    for at, request in arrivals:
        out += lazy.advance(at)
        lazy.submit(request, at)
    turn = 0
    while (due := lazy.due()) < inf:
        now = max(now, due) + late[turn % len(late)]
        out += lazy.advance(now)
        turn += 1
    assert told(out) == punctual


def test_a_late_cancel_finds_the_answer_complete() -> None:
    """What is due happens before a cancellation, also when the driver was not woken in time."""
    clock, timer = ManualClock(), HandTimer()
    out: list[Emission] = []
    driver = Driver(engine(every_token=True), clock, timer)
    driver.submit(Request("r", "k", "m", 5, max_tokens=2, ignore_eos=True), lambda emission, _: out.append(emission))
    clock.move_to(60.0)  # long after its end, and nobody rang
    driver.cancel("r")
    assert isinstance(out[-1], Finished)
    assert driver.engine.counts.num_cancelled == 0


@pytest.mark.parametrize("every_token", [True, False])
def test_emissions_come_in_order_of_time(every_token: bool) -> None:
    arrivals = [(i * 0.01, Request(f"r{i}", f"k{i}", "mtdh"[i % 4], 50, max_tokens=20)) for i in range(60)]
    instants = [emission.at for emission in simulate(engine(every_token=every_token), arrivals)]
    assert instants == sorted(instants)
