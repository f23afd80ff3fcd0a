"""Kernel stamps on the run's clock, and what a read knows about when its bytes came. Clocks are arguments."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.rxstamp import KernelClock, LoopWatch, stamp_of, switch_on
from tests.harness.builders import LAW

_EPOCH = 1.7e9


class Clocks:
    """A run's clock and a wall clock. Reading either takes a microsecond."""

    def __init__(self) -> None:
        self.at = 100.0
        self.offset = _EPOCH
        self.interruptions: list[float] = []  # what happens after the next reads of the wall clock

    def now(self) -> float:
        self.at += 1e-6
        return self.at

    def wall(self) -> float:
        self.at += 1e-6
        read = self.at + self.offset
        if self.interruptions:
            self.at += self.interruptions.pop(0)
        return read


def test_a_stamp_is_mapped_to_the_run() -> None:
    clocks = Clocks()
    clock = KernelClock(clocks.now, clocks.wall)
    clocks.at = 107.0
    assert clock.at(_EPOCH + 106.5, clocks.now()) == pytest.approx(106.5, abs=5e-6)
    assert clock.num_steps == 0


def test_a_stamp_in_the_future_proves_nothing() -> None:
    clocks = Clocks()
    clock = KernelClock(clocks.now, clocks.wall)
    assert clock.at(_EPOCH + clocks.at + 0.01, clocks.now()) is None


@pytest.mark.parametrize("by_s", [-3600.0, -0.5, 0.5, 3600.0])
def test_a_stepped_clock_is_noticed_and_older_stamps_are_refused(by_s: float) -> None:
    clocks = Clocks()
    clock = KernelClock(clocks.now, clocks.wall)
    clocks.at = 110.0
    before = _EPOCH + 109.9  # stamped before the step, read after it
    clocks.offset += by_s
    assert clock.at(before, clocks.now()) is None
    assert clock.num_steps == 1
    clocks.at = 111.0
    assert clock.at(clocks.offset + 110.95, clocks.now()) == pytest.approx(110.95, abs=5e-6)
    assert clock.num_steps == 1


def test_a_clock_that_is_slewed_is_followed_without_alarm() -> None:
    """500 ppm is the most that NTP does."""
    clocks = Clocks()
    clock = KernelClock(clocks.now, clocks.wall)
    for _ in range(1000):
        clocks.at += 0.1
        clocks.offset += 0.1 * 500e-6
        assert clock.at(clocks.offset + clocks.at - 0.01, clocks.now()) == pytest.approx(clocks.at - 0.01, abs=1e-4)
    assert clock.num_steps == 0


@LAW
@given(st.lists(st.floats(0, 0.2), max_size=8))
def test_being_interrupted_between_two_clocks_moves_no_stamp(interruptions: list[float]) -> None:
    """The scheduler may take the process away between reading one clock and the other."""
    clocks = Clocks()
    clock = KernelClock(clocks.now, clocks.wall)
    clocks.at += 1.0
    stamp = clocks.offset + clocks.at - 0.05
    true = clocks.at - 0.05
    clocks.interruptions = interruptions
    assert clock.at(stamp, clocks.now()) == pytest.approx(true, abs=1e-4)
    assert clock.num_steps == 0


def test_the_stamp_of_a_read() -> None:
    timespec = struct.pack("=qq", 1_700_000_000, 250_000_000)
    assert stamp_of([(socket.SOL_SOCKET, 35, timespec)]) == 1_700_000_000.25
    assert stamp_of([(socket.SOL_SOCKET, 1, timespec)]) is None
    assert stamp_of([(socket.SOL_SOCKET, 35, b"short")]) is None
    assert stamp_of([]) is None


def test_a_socket_that_cannot_be_stamped() -> None:
    closed = socket.socket()
    closed.close()
    assert not switch_on(closed)


class Watched:
    """A watch whose clock is set by hand."""

    def __init__(self) -> None:
        self.at = 0.0
        self.watch = LoopWatch(lambda: self.at)

    def poll(self, entered: float, returned: float, told_after: float = 0.0) -> None:
        self.at = entered
        self.watch.entered()
        self.at = returned + told_after
        self.watch.returned(told_after)


def test_what_a_poll_found_without_waiting_came_after_the_poll_before() -> None:
    loop = Watched()
    loop.poll(1.0, 1.5)
    loop.poll(1.7, 1.70001)  # busy for 200 ms, and then something was there already
    assert loop.watch.earliest() == 1.5
    assert loop.watch.worst_s == pytest.approx(1.0)


def test_what_a_poll_waited_for_came_just_now() -> None:
    loop = Watched()
    loop.poll(1.0, 1.5)
    loop.poll(1.501, 1.9)
    assert loop.watch.earliest() == 1.9
    loop.watch.wake_s = 0.004  # a crowded machine: woken late
    assert loop.watch.earliest() == pytest.approx(1.896)


def test_a_thread_that_has_the_interpreter_is_no_waiting_for_bytes() -> None:
    """The poll found something at once, but we were told only when the thread let go."""
    loop = Watched()
    loop.poll(1.0, 1.5)
    loop.poll(1.7, 1.70001, told_after=0.005)
    assert loop.watch.earliest() == 1.5
    loop.poll(1.706, 1.9, told_after=0.005)
    assert loop.watch.earliest() == pytest.approx(1.9)
    loop.poll(1.91, 1.92)
    assert loop.watch.earliest() == pytest.approx(1.92)
    assert loop.watch.worst_s == pytest.approx(1.0)


def test_a_wall_clock_that_was_set_moves_no_poll() -> None:
    for step in (-3600.0, 3600.0):
        loop = Watched()
        loop.poll(1.0, 1.5)
        loop.at = 1.6
        loop.watch.entered()
        loop.at = 1.7
        loop.watch.returned(step)
        assert loop.watch.earliest() == 1.7
