"""Trace replay beside something that burns the CPU of the same process, as a scenario's own code may do.

locust -f benchmarks/hogged_replay.py --trace FILE --hogs 15,50,200 --hog-every 0.7 …
"""

from __future__ import annotations

import time
from typing import Any

import gevent
from locust import events

from harness.plan import LoadPlan
from harness.swarm import PlanOptions
from scenarios import trace_replay


def add_options(parser: Any) -> None:
    group = parser.add_argument_group("hogs")
    group.add_argument("--hogs", default="", help="Milliseconds without yielding, in turn.")
    group.add_argument("--hog-every", type=float, default=0.7, help="Seconds between the beginnings of two hogs.")
    group.add_argument("--hog-thread", action="store_true", help="A thread that never stops.")


def start_hogs(environment: Any, **_: Any) -> None:
    lengths = [int(text) / 1e3 for text in environment.parsed_options.hogs.split(",") if text]
    if environment.parsed_options.hog_thread:
        gevent.get_hub().threadpool.spawn(_never_stop)  # a real thread: Locust has made greenlets of the others
    if lengths:
        gevent.spawn(_hog, lengths, environment.parsed_options.hog_every)


def _never_stop() -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        pass


def _hog(lengths: list[float], every_s: float) -> None:
    began, number = time.monotonic(), 0
    while True:
        number += 1
        gevent.sleep(max(0.0, began + number * every_s - time.monotonic()))
        until = time.monotonic() + lengths[number % len(lengths)]
        while time.monotonic() < until:
            pass


events.init_command_line_parser.add_listener(add_options)
events.test_start.add_listener(start_hogs)


class HoggedUser(trace_replay.TraceUser):
    """Every request of the trace."""

    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        return super().plan(options)
