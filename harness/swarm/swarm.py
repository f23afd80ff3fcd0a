"""What one Locust process holds: the asked options, and the run while there is one, from its start to its verdict."""

from __future__ import annotations

import logging
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import gevent
import msgspec
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from harness.clock import file_stamp
from harness.dialects.table import dialect_of
from harness.errors import HarnessError
from harness.live.report import Course
from harness.live.stats import LiveBoard
from harness.plan import LoadPlan
from harness.store import Manifest, RunDirectory, create_run, next_free, open_run
from harness.summary import load_run, summarize
from harness.swarm.children import end_children
from harness.swarm.master import MasterEnd
from harness.swarm.preparing import Asked, manifest_of, plan_of, prepare
from harness.swarm.progress import Progress
from harness.swarm.run import LoadRun, RunSettings
from harness.swarm.users import LLMUser
from harness.swarm.watch import Watch
from harness.swarm.worker import WorkerEnd
from harness.text import summary_text
from harness.verdict import worst_exit_code

__all__ = ["Swarm"]

_LEAD_S = 0.1  # between the moment when everything is made and the origin
_GLANCE_S = 0.1
_CHILDREN_S = 2.0
_LOG = logging.getLogger("harness")


@dataclass
class Swarm:
    """One a process. A single process and a master have a directory and a verdict; a single process and a worker send load."""

    environment: Environment
    user_class: type[LLMUser]
    asked: Asked = field(default_factory=Asked)
    master: MasterEnd | None = None
    worker: WorkerEnd | None = None
    watch: Watch | None = None  # what there is to be seen of the run, or of the last one
    run: LoadRun | None = None
    manifest: Manifest | None = None
    directory: RunDirectory | None = None
    interrupted_by: str | None = None  # a signal
    _sentry: Any = None
    _ending: Any = None
    _num_runs: int = field(default=0)
    trouble: str | None = None  # why the last start, or what followed it, failed: for the web page

    def __post_init__(self) -> None:
        runner = self.environment.runner
        if isinstance(runner, MasterRunner):
            self.master = MasterEnd(runner)
        elif isinstance(runner, WorkerRunner):
            self.worker = WorkerEnd(runner)

    # -- questions -----------------------------------------------------------------------------------

    @property
    def options(self) -> Namespace:
        options: Namespace = self.environment.parsed_options
        return options

    def num_workers(self) -> int:
        """How many have a share of the run, or would have one now."""
        if self.manifest is not None:
            return self.manifest.num_workers
        return max(1, len(self.master.names())) if self.master is not None else 1

    def over(self) -> bool:
        """Whether the run has ended: every answer has, or the time for it is up."""
        if self.manifest is None:
            return False
        if self.master is not None:
            return self.master.over
        return self.run is None or self.run.finished

    # -- the life of a run ---------------------------------------------------------------------------

    def start(self) -> None:
        """A test starts. Raises HarnessError when it cannot."""
        self.manifest = self.directory = self.run = self._ending = None  # of an earlier run in this process
        self.trouble = None
        if self.worker is not None:
            self._start_share(self.worker)
        elif self.master is not None:
            self._start_workers(self.master)
        else:
            self._start_alone()

    def stop(self) -> None:
        """The test has stopped: users are gone. Returns when every record is written, and what came of the run is known."""
        if self._ending is None:
            # A greenlet of its own: a second signal kills the one that we are called from.
            self._ending = gevent.spawn(self._end)
        self._ending.join()

    def leave(self) -> None:
        """The process ends."""
        if self._ending is not None:
            self._ending.join()
        if self.worker is not None:
            self.worker.hand_over()
        if self.master is not None:
            for pid in end_children(self.master.pids(), _CHILDREN_S):
                _LOG.warning("killed the worker process %d, which did not end by itself", pid)

    def _start_alone(self) -> None:
        settings, plan, directory = self._prepare(1)
        run = self._make_run(settings, plan, on_finished=lambda: None)
        self._take(run)
        origin = time.monotonic() + _LEAD_S
        run.begin(origin, directory.path)
        self._note_begin(origin, local=run)

    def _start_workers(self, master: MasterEnd) -> None:
        names = master.names()
        settings, plan, directory = self._prepare(max(1, len(names)))
        # Custom options reach the workers with Locust's message to spawn; its own -u, -r and -t do not.
        self.options.harness_settings = asdict(settings)
        self.options.harness_shares = {name: index for index, name in enumerate(names)}
        self.options.harness_asked = asdict(self.asked)
        ends_after_s = plan.duration_s + settings.drain_s
        master.start(settings.uid, names, directory.path, ends_after_s, on_begin=self._note_begin)

    def _start_share(self, worker: WorkerEnd) -> None:
        options = self.options
        self.asked = Asked(**options.harness_asked)
        index = options.harness_shares.get(self.environment.runner.client_id)
        if index is None:
            _LOG.warning("this worker came after the start of the run: it has no share of it")
            return
        settings = replace(RunSettings(**options.harness_settings), shard_index=index)
        if options.protocol:  # asked of the master; this process may have been started without
            self.user_class.dialect = dialect_of(options.protocol)

        def make(on_finished: Callable[[], None], left_alone: Callable[[], str | None]) -> LoadRun:
            run = self._make_run(
                settings, plan_of(self.user_class, options, self.asked), on_finished=on_finished, left_alone=left_alone
            )
            self._take(run)
            return run

        worker.start(settings, make)

    def _make_run(self, settings: RunSettings, plan: LoadPlan, **hooks: Any) -> LoadRun:
        return LoadRun(settings, plan, self.user_class.__name__, **hooks)

    def _take(self, run: LoadRun) -> None:
        self.run = self.user_class.load_run = run
        self._sentry = gevent.spawn(self._keep_watch, run)

    def _keep_watch(self, run: LoadRun) -> None:
        """Break the run off when it must not go on: what is in flight is recorded as it stands."""
        while run.broken_off is None:
            if run.finished:
                return
            gevent.sleep(_GLANCE_S)
        _LOG.error("the run is broken off: %s", run.broken_off)
        self.environment.runner.user_greenlets.kill(block=True)
        if not run.finished:
            run.finish()

    # -- the end of a run ----------------------------------------------------------------------------

    def _end(self) -> None:
        if self._sentry is not None:
            self._sentry.kill()
        if self.watch is not None and self.master is None:
            self.watch.stop()
        run, self.user_class.load_run = self.run, None
        if self.worker is not None:
            self.worker.end()
        elif self.manifest is not None:
            if self.master is not None:
                self._end_workers(self.master, self.manifest)
            elif run is not None:
                self._end_alone(run, self.manifest)
            self._conclude()

    def _end_alone(self, run: LoadRun, manifest: Manifest) -> None:
        reason = run.ended_because if run.finished else self.interrupted_by or "stopped by hand"
        run.shut()
        manifest.stop_reason = reason or run.collector_error
        manifest.ended_how = _how(manifest.stop_reason, drained=run.drained)

    def _end_workers(self, master: MasterEnd, manifest: Manifest) -> None:
        master.end(self.interrupted_by or "stopped by hand")
        if self.watch is not None:  # the workers have said their last totals
            self.watch.stop()
        assert master.roster is not None
        manifest.stop_reason, manifest.lost_workers = master.roster.stop, master.losses()
        manifest.ended_how = _how(manifest.stop_reason, drained=master.roster.drained)
        if manifest.lost_workers and manifest.stop_reason is None:
            manifest.ended_how = "workers were lost"

    def _conclude(self) -> None:
        """Fold the run and let the verdict be the exit code. What cannot be written is said, and makes it 2."""
        assert self.manifest is not None
        assert self.directory is not None
        self.manifest.ended_at = max(0.0, round(time.time() - self.manifest.started_wall, 3))
        try:
            self.directory.write_manifest(self.manifest)
        except HarnessError as error:
            self.fail(error)
        try:
            self._judge(self.directory)
        except HarnessError as error:
            self.fail(error)

    def _judge(self, directory: RunDirectory) -> None:
        data = load_run(open_run(directory.path))
        directory.write_conclusion(self.user_class.conclusion(data))
        summary = summarize(data)
        # A start that failed later in this process has set a code of its own; a good run does not take it back.
        before = self.environment.process_exit_code or 0
        self.environment.process_exit_code = worst_exit_code(before, summary.verdict.exit_code)
        if self.options.progress:
            # `harness run` prints the summary; Locust's tables have two significant digits and would only confuse.
            logging.getLogger("locust.stats_logger").disabled = True
        else:
            sys.stdout.write(f"{summary_text(summary)}\n\n")
            sys.stdout.write(f"  run         {directory.path}\n  page        harness report {directory.path}\n")
            sys.stdout.flush()
        directory.write_atomically("summary.json", msgspec.json.format(msgspec.json.encode(summary), indent=2))

    def fail(self, error: HarnessError) -> None:
        """A failure of the tool: said in one line, and exit code 2."""
        _LOG.error("%s", error)
        self.trouble = str(error)
        if self.options.progress:  # the reason is to stand above nothing but the end, not above empty tables
            logging.getLogger("locust.stats_logger").disabled = True
        self.environment.process_exit_code = 2

    # -- inside --------------------------------------------------------------------------------------

    def _prepare(self, num_workers: int) -> tuple[RunSettings, LoadPlan, RunDirectory]:
        wall = time.time()
        settings, plan = prepare(self.user_class, self.environment.host, self.options, self.asked, num_workers, wall)
        directory = self.directory = create_run(self._path(settings.scenario, wall))
        settings = replace(settings, run_id=directory.name, path=str(directory.path.resolve()))
        self.manifest = manifest_of(settings, plan, self.options, wall)
        directory.write_manifest(self.manifest)
        return settings, plan, directory

    def _path(self, scenario: str, wall: float) -> Path:
        """Where the run goes. `--out` is the first run's; others of this process (the web UI starts them) are put beside it."""
        self._num_runs += 1
        if not self.options.out:
            return next_free(Path("runs") / f"{scenario}-{file_stamp(wall)}")
        asked = Path(self.options.out)
        return asked if self._num_runs == 1 else next_free(asked)

    def _note_begin(self, origin: float, local: LoadRun | None = None) -> None:
        """The run's instant zero is known, by this machine's monotonic clock."""
        assert self.manifest is not None
        assert self.directory is not None
        self.manifest.started_wall = time.time() + origin - time.monotonic()
        self.directory.write_manifest(self.manifest)
        course = Course(
            run_id=self.manifest.run_id,
            scenario=self.manifest.scenario,
            target=self.manifest.target,
            model=self.manifest.model,
            directory=str(self.directory.path),
            num_planned=self.manifest.num_planned,
            duration_s=self.manifest.duration_s,
            drain_s=float(self.options.drain),
            reactive=self.manifest.reactive,
            num_workers=self.manifest.num_workers,
        )
        self.watch = Watch(
            course,
            lambda: time.monotonic() - origin,
            LiveBoard() if self.master is None else self.master.board,
            local=None if local is None else local.look,
            lost=tuple if self.master is None else self.master.lost,
            progress=Progress() if self.options.progress else None,
        )


def _how(stop_reason: str | None, *, drained: bool) -> str:
    if stop_reason is not None:
        return "stopped early"
    return "complete" if drained else "drain timed out"
