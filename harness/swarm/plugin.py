"""How a run lives inside Locust: options, the run directory, the shape that ends it, the exit code.

Importing `harness.swarm` in a locustfile is what registers these listeners; nothing else needs them.
"""

from __future__ import annotations

import logging
import shlex
import signal
import sys
import time
from argparse import Namespace
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import gevent
import msgspec
from locust import LoadTestShape
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from harness.clock import file_stamp
from harness.dialects.table import dialect_of
from harness.errors import HarnessError, UsageError
from harness.objectives import parse_objective
from harness.plan import LoadPlan, ReactivePlan, cut_at
from harness.store import Manifest, create_run, machine, open_run, versions
from harness.summary import load_run, summarize
from harness.swarm import progress
from harness.swarm.options import DEFAULT_MAX_IN_FLIGHT, PlanOptions, add_options
from harness.swarm.probe import choose_model
from harness.swarm.run import LoadRun, RunSettings
from harness.swarm.transport import parse_target
from harness.swarm.users import LLMUser
from harness.text import summary_text

__all__ = ["PlanShape", "register"]

_LEAD_S = 0.5  # between the start of a run and its origin: time to build the plan
_LEAD_DISTRIBUTED_S = 2.0
_FINISHED = "harness_finished"
_LOG = logging.getLogger("harness")


class PlanShape(LoadTestShape):
    """One user a worker while the plan runs, then the end. `-u`, `-r` and `-t` are the plan's (see options.py)."""

    abstract = True
    use_common_options = True

    def __init__(self, swarm: Swarm) -> None:
        super().__init__()
        self._swarm = swarm

    def tick(self) -> tuple[int, float] | None:
        if self._swarm.over():
            return None
        # Those that were there at the start share the plan; one that comes later has no share.
        manifest = self._swarm.manifest
        workers = manifest.num_workers if manifest is not None else self._swarm.num_workers()
        return workers, max(1.0, float(workers))


@dataclass
class Swarm:
    """What one Locust process holds: the asked options, and the run while there is one."""

    environment: Environment
    user_class: type[LLMUser]
    asked_rate: float | None = None
    asked_duration_s: float | None = None
    asked_users: int | None = None
    run: LoadRun | None = None
    manifest: Manifest | None = None
    directory: Path | None = None
    greenlets: list[Any] = field(default_factory=list)
    num_finished: int = 0  # workers that have sent their share and have all their answers

    # -- questions -----------------------------------------------------------------------------------

    @property
    def options(self) -> Namespace:
        options: Namespace = self.environment.parsed_options
        return options

    @property
    def is_worker(self) -> bool:
        return isinstance(self.environment.runner, WorkerRunner)

    @property
    def is_master(self) -> bool:
        return isinstance(self.environment.runner, MasterRunner)

    def num_workers(self) -> int:
        runner = self.environment.runner
        return max(1, runner.worker_count) if isinstance(runner, MasterRunner) else 1

    def over(self) -> bool:
        """Whether the run has ended: every answer has, or the time for it is up."""
        if self.manifest is None:
            return False
        if self.run is not None and self.run.finished:
            return True
        if self.is_master and self.num_finished >= self.manifest.num_workers:
            return True
        ends = self.manifest.started_wall + self.manifest.duration_s + float(self.options.drain) + _LEAD_DISTRIBUTED_S
        return time.time() > ends + 1.0

    def plan(self, options: Namespace) -> LoadPlan:
        """The plan the command line asks for, cut at -t."""
        asked = PlanOptions(
            self.asked_rate,
            self.asked_duration_s,
            self.asked_users or DEFAULT_MAX_IN_FLIGHT,
            int(options.seed),
            str(options.harness_salt),
            options,
        )
        plan = self.user_class.plan(asked)
        if self.asked_duration_s is not None:
            plan = cut_at(plan, self.asked_duration_s)
        if plan.num_arrivals == 0:
            raise UsageError(f"the plan holds no request in its {plan.duration_s:g} s; raise -r or -t")
        return plan

    # -- the life of a run ---------------------------------------------------------------------------

    def start(self) -> None:
        """A test starts: the local process or master makes the run directory, load processes begin to record."""
        self.manifest = self.directory = self.run = None  # of an earlier run in this process
        if self.is_worker:
            settings, plan = self._from_master()
        else:
            settings, plan = self._prepare()
        self.num_finished = 0
        if not self.is_master:
            self.run = LoadRun(settings, plan, self.user_class.__name__, on_finished=self._tell_master)
            self.user_class.load_run = self.run
            if self.options.progress:
                self.greenlets.append(gevent.spawn(progress.show, self.run))

    def stop(self) -> None:
        """The test has stopped: users are gone, every record is written."""
        for greenlet in self.greenlets:
            greenlet.kill()
        if self.greenlets and sys.stderr.isatty():
            sys.stderr.write("\r\x1b[2K")
        self.greenlets.clear()
        run, self.run, self.user_class.load_run = self.run, None, None
        if self.manifest is not None and self.directory is not None:
            self.manifest.ended_at = round(time.time() - self.manifest.started_wall, 3)
            self.manifest.ended_how = self._ended_how(run)
            open_run(self.directory).write_manifest(self.manifest)
        if run is not None:
            if run.collector_error is not None:
                _LOG.error("records were lost: %s", run.collector_error)
            run.shut()

    def _ended_how(self, run: LoadRun | None) -> str:
        assert self.manifest is not None
        finished = run.finished if run is not None else self.num_finished >= self.manifest.num_workers
        if not finished:
            return "stopped early"
        return "drain timed out" if run is not None and not run.drained else "complete"

    def conclude(self) -> None:
        """The process ends: fold the run and let the verdict be the exit code."""
        if self.is_worker or self.directory is None:
            return
        if self.is_master:
            self._wait_for_footers()
        directory = open_run(self.directory)
        summary = summarize(load_run(directory))
        directory.write_atomically("summary.json", msgspec.json.format(msgspec.json.encode(summary), indent=2))
        # A start that failed later in this process has set a code of its own; a good run does not take it back.
        self.environment.process_exit_code = max(self.environment.process_exit_code or 0, summary.verdict.exit_code)
        if self.options.progress:
            # `harness run` prints the summary; Locust's tables have two significant digits and would only confuse.
            logging.getLogger("locust.stats_logger").disabled = True
        else:
            sys.stdout.write(f"{summary_text(summary)}\n\n  run         {self.directory}\n")
            sys.stdout.write(f"  page        harness report {self.directory}\n")

    # -- inside --------------------------------------------------------------------------------------

    def _prepare(self) -> tuple[RunSettings, LoadPlan]:
        options, host = self.options, self.environment.host
        plan = self.plan(options)
        wall = time.time()
        scenario = Path(sys.modules[self.user_class.__module__].__file__ or self.user_class.__name__).stem
        path = Path(options.out) if options.out else Path("runs") / f"{scenario}-{file_stamp(wall)}"
        model = choose_model(host, options.model)
        directory = create_run(path)
        self.directory = directory.path
        lead = _LEAD_DISTRIBUTED_S if self.is_master else _LEAD_S
        settings = RunSettings(
            run_id=directory.name,
            path=str(directory.path.resolve()),
            scenario=scenario,
            target=str(parse_target(host)),
            model=model,
            stream=not options.whole,
            exact_length=not options.any_length,
            seed=int(options.seed),
            salt=options.harness_salt,
            protocol=self.user_class.dialect.name,
            fresh_connections=options.fresh_connections,
            num_retries=options.retries,
            read_timeout_s=float(options.timeout),
            max_in_flight=self.asked_users or DEFAULT_MAX_IN_FLIGHT,
            drain_s=float(options.drain),
            origin_wall=wall + lead,
            shard_index=0,
            num_shards=self.num_workers(),
        )
        self.manifest = self._manifest(settings, plan)
        directory.write_manifest(self.manifest)
        # Custom options reach the workers with the spawn message; Locust's own -u, -r and -t do not.
        options.harness_settings = asdict(settings)
        options.harness_asked = [self.asked_rate, self.asked_duration_s, self.asked_users]
        return settings, plan

    def _manifest(self, settings: RunSettings, plan: LoadPlan) -> Manifest:
        own = {name: value for name, value in vars(self.options).items() if name in _own_options(self.environment)}
        return Manifest(
            run_id=settings.run_id,
            scenario=settings.scenario,
            target=settings.target,
            model=settings.model,
            seed=settings.seed,
            command=["locust", *(shlex.quote(word) for word in sys.argv[1:])],
            options=own,
            plan=plan.describe(),
            num_planned=plan.num_arrivals,
            duration_s=plan.duration_s,
            max_in_flight=settings.max_in_flight,
            num_workers=settings.num_shards,
            started_wall=settings.origin_wall,
            versions=versions(),
            machine=machine(),
            reactive=isinstance(plan, ReactivePlan),
            objectives={"": parse_objective(self.options.objective)} if self.options.objective else {},
        )

    def _tell_master(self) -> None:
        if self.is_worker:
            self.environment.runner.send_message(_FINISHED)

    def note_finished(self, **_: Any) -> None:
        """A worker says that its share is done."""
        self.num_finished += 1

    def _from_master(self) -> tuple[RunSettings, LoadPlan]:
        options = self.options
        self.asked_rate, self.asked_duration_s, self.asked_users = options.harness_asked
        index = self.environment.runner.worker_index
        return replace(RunSettings(**options.harness_settings), shard_index=index), self.plan(options)

    def _wait_for_footers(self) -> None:
        """Workers write their last lines on their own; wait a little for them, not for ever."""
        assert self.directory is not None
        for _ in range(50):
            files = list(self.directory.glob("records-*.jsonl"))
            if len(files) >= self.num_workers() and all(b'{"kind":"footer"' in _tail(path) for path in files):
                return
            gevent.sleep(0.1)


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 512))
        return file.read()


def _own_options(environment: Environment) -> set[str]:
    """The options that Locust does not know: ours and the scenario's."""
    from locust.argument_parser import default_args_dict

    hidden = {"harness_settings", "harness_asked", "harness_salt"}
    return set(vars(environment.parsed_options)) - set(default_args_dict()) - hidden


# -- listeners -------------------------------------------------------------------------------------------


def register(events: Any) -> None:
    """Add the listeners to Locust's event hooks."""
    events.init_command_line_parser.add_listener(add_options)
    events.init.add_listener(_on_init)


def _on_init(environment: Environment, **_: Any) -> None:
    """Locust is about to start: check everything that can be checked before a request is sent."""
    classes = [cls for cls in environment.user_classes if issubclass(cls, LLMUser)]
    if not classes:
        return
    with _clean_exit():
        if len(environment.user_classes) != 1:
            names = ", ".join(cls.__name__ for cls in environment.user_classes)
            raise UsageError(
                f"one scenario asks one question: found the user classes {names}; name one on the command line"
            )
        swarm = Swarm(environment, classes[0])
        if swarm.options.protocol:
            swarm.user_class.dialect = dialect_of(swarm.options.protocol)
        if not swarm.is_worker:
            swarm.options.harness_salt = "" if swarm.options.prompts == "same" else uuid4().hex
            _read_asked(swarm)
            environment.shape_class = PlanShape(swarm)
            environment.shape_class.runner = environment.runner
            # The web UI's form has a number in every field, so that nobody could leave one out: there -u, -r and -t
            # are those of the command line, and the form does not show them.
            environment.shape_class.use_common_options = environment.web_ui is None
            if swarm.is_master:
                environment.runner.register_message(_FINISHED, swarm.note_finished)
            if environment.web_ui is None:
                _check_before_start(swarm)
                # Locust installs its own handler only after a shape has ended; until then SIGTERM would kill us, and
                # Ctrl-C would raise in whichever greenlet happens to run, in the middle of a record.
                for signum in (signal.SIGTERM, signal.SIGINT):
                    gevent.signal_handler(signum, environment.runner.quit)
    environment.events.test_start.add_listener(lambda **_: _start(swarm))
    environment.events.test_stop.add_listener(lambda **_: swarm.stop())
    environment.events.quitting.add_listener(lambda **_: _quit(swarm))


def _read_asked(swarm: Swarm) -> None:
    """Take Locust's -u, -r and -t as given, before Locust replaces what is missing by 1."""
    options = swarm.options
    swarm.asked_users, swarm.asked_rate = options.num_users, options.spawn_rate
    if options.num_users is not None and options.num_users < 1:
        raise UsageError(f"-u {options.num_users}: at least one request must be allowed in flight")
    if options.spawn_rate is not None and not options.spawn_rate > 0:
        raise UsageError(f"-r {options.spawn_rate:g}: the arrival rate must be positive")
    swarm.asked_duration_s = float(options.run_time) if options.run_time else None


def _check_before_start(swarm: Swarm) -> None:
    if not swarm.environment.host:
        raise UsageError("no server to load: give its root with --host, like http://127.0.0.1:8000")
    swarm.plan(swarm.options)
    choose_model(swarm.environment.host, swarm.options.model)


def _start(swarm: Swarm) -> None:
    try:
        swarm.start()
    except HarnessError as error:
        _LOG.error("%s", error)
        swarm.environment.process_exit_code = 2
        gevent.spawn(swarm.environment.runner.quit)


def _quit(swarm: Swarm) -> None:
    """Also after SIGTERM, when Locust fires `quitting` before it stops the users."""
    swarm.environment.runner.stop()
    try:
        swarm.conclude()
    except HarnessError as error:
        _LOG.error("%s", error)
        swarm.environment.process_exit_code = 2


class _clean_exit:  # noqa: N801 - reads as a statement
    """Turns a failure of the harness into one line on stderr and exit code 2."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, HarnessError):
            sys.stderr.write(f"harness: {error}\n")
            raise SystemExit(2) from error
