"""One user a worker for as long as the run goes: how Locust's idea of a load is fitted to a plan."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from locust import LoadTestShape

__all__ = ["OneEach", "PlanShape"]

_LOG = logging.getLogger("harness")


class PlanShape(LoadTestShape):
    """One user a worker while the plan runs, then the end. `-u`, `-r` and `-t` are the plan's (see options.py)."""

    abstract = True
    use_common_options = True

    def __init__(self, num_workers: Callable[[], int], over: Callable[[], bool]) -> None:
        super().__init__()
        self._num_workers = num_workers
        self._over = over
        self._is_new = True

    def reset_time(self) -> None:
        """A test is about to start, perhaps after another one of this process, which is over."""
        super().reset_time()
        self._is_new = True

    def tick(self) -> tuple[int, float] | None:
        if self._over() and not self._is_new:
            return None
        self._is_new = False
        workers = self._num_workers()
        return workers, max(1.0, float(workers))


class OneEach:
    """Locust's dispatcher of users, for a plan that was dealt out at the start: one user for every worker that was there.

    Locust deals its users out anew whenever a worker comes or goes, which would send shares twice; it does not while a
    dispatch is in progress, and here one always is.
    """

    dispatch_in_progress = True

    def __init__(self, worker_nodes: list[Any], user_classes: list[Any]) -> None:
        self._counts = {node.id: {each.__name__: 1 for each in user_classes} for node in worker_nodes}
        self._is_due = False

    def new_dispatch(self, target_user_count: int, spawn_rate: float, user_classes: list[Any] | None = None) -> None:
        self._is_due = True

    def __iter__(self) -> OneEach:
        return self

    def __next__(self) -> dict[str, dict[str, int]]:
        if not self._is_due:
            raise StopIteration
        self._is_due = False
        return self._counts

    def add_worker(self, worker_node: Any) -> None:
        _LOG.warning("worker %s came while the run goes: it gets no share of it", worker_node.id)

    def remove_worker(self, worker_node: Any) -> None:
        """Its share stays its own: nobody else takes it up."""
