"""One look a second at a run, for the terminal and for the web UI: in a single process, and on the master for all workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

import gevent

from harness.live.report import Course, LiveReport, live_report
from harness.live.series import LiveSeries
from harness.live.stats import LiveBoard, LiveStats
from harness.swarm.progress import Progress

__all__ = ["Watch"]

_LOOK_S = 1.0


class Watch:
    """What is known of a run that goes on. It outlives the run, so that a page can show how it ended."""

    def __init__(
        self,
        course: Course,
        now: Callable[[], float],
        board: LiveBoard,
        *,
        local: Callable[[], LiveStats] | None = None,
        lost: Callable[[], Sequence[str]] = tuple,
        progress: Progress | None = None,
    ) -> None:
        """`now` is the run's own time, `board` what its workers have told. `local` are the totals of this process, where it
        sends load itself; `lost` names the workers that are given up."""
        self._course = course
        self._now = now
        self._board = board
        self._local = local
        self._lost = lost
        self._progress = progress
        self._series = LiveSeries()
        self._ended_at: float | None = None
        self._greenlet = gevent.spawn(self._run)

    def report(self, after: float = -inf) -> LiveReport:
        """Everything up to now; of the series only what came `after` that instant of the run."""
        return live_report(
            self._course,
            self._total(),
            self._series,
            self._now() if self._ended_at is None else self._ended_at,
            over=self._ended_at is not None,
            lost_workers=self._lost(),
            after=after,
        )

    def stop(self) -> None:
        """The run is over: a last look, and the terminal's line is free again."""
        if self._ended_at is not None:
            return
        self._greenlet.kill()
        self._look()
        self._ended_at = self._now()
        if self._progress is not None:
            self._progress.end()

    # -- inside --------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._look()
            if self._progress is not None:
                self._progress.show(self.report(inf))
            gevent.sleep(_LOOK_S)

    def _look(self) -> None:
        self._series.note(self._now(), self._total())

    def _total(self) -> LiveStats:
        if self._local is not None:
            self._board.put("", self._local())
        return self._board.total()
