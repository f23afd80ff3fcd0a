"""How a run lives inside Locust: listeners for its events. Importing `harness.swarm` in a locustfile registers them."""

from __future__ import annotations

import logging
import os
import signal
import sys
from functools import partial
from typing import Any
from uuid import uuid4

import gevent
from locust.env import Environment
from locust.runners import MasterRunner

from harness.dialects.table import dialect_of
from harness.errors import HarnessError, RunError, UsageError
from harness.swarm.children import die_with_parent, num_living_children
from harness.swarm.discretion import be_discreet
from harness.swarm.guarding import admit, permission_of, require_end
from harness.swarm.options import add_options
from harness.swarm.preparing import Asked, plan_of, terms_of
from harness.swarm.probe import choose_model
from harness.swarm.rpc import bind_to_loopback, harden, warn_of_open_port
from harness.swarm.shape import OneEach, PlanShape
from harness.swarm.swarm import Swarm
from harness.swarm.transport import api_key, parse_target
from harness.swarm.users import LLMUser
from harness.swarm.webui import attach

__all__ = ["register"]

_GLANCE_S = 0.5
_LOG = logging.getLogger("harness")


def register(events: Any) -> None:
    """Add the listeners to Locust's event hooks."""
    events.init_command_line_parser.add_listener(add_options)
    events.init_command_line_parser.add_listener(bind_to_loopback)
    events.init.add_listener(_on_init)
    # From the fork on: a worker that is still looking for its master would look for a minute.
    os.register_at_fork(after_in_child=die_with_parent)


def _on_init(environment: Environment, **_: Any) -> None:
    """Locust is about to start: check everything that can be checked before a request is sent."""
    with _clean_exit():
        be_discreet(api_key())
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
        if swarm.worker is None:
            _lead(swarm)
    environment.events.test_start.add_listener(lambda **_: _start(swarm))
    environment.events.test_stop.add_listener(lambda **_: swarm.stop())
    environment.events.quitting.add_listener(lambda **_: _quit(swarm))


def _lead(swarm: Swarm) -> None:
    """For a process that has a verdict to give: a single one, or a master."""
    environment, options = swarm.environment, swarm.options
    options.harness_salt = "" if options.prompts == "same" else uuid4().hex
    _read_asked(swarm)
    if options.class_picker:
        raise UsageError("--class-picker would start users without their plan; name the scenario with -f")
    environment.dispatcher_class = OneEach
    environment.shape_class = PlanShape(swarm.num_workers, swarm.over)
    environment.shape_class.runner = environment.runner
    # The web UI's form has a number in every field, so that nobody could leave one out: there -u, -r and -t
    # are those of the command line, and the form does not show them.
    environment.shape_class.use_common_options = environment.web_ui is None
    if isinstance(environment.runner, MasterRunner):
        harden(environment.runner)
        if (warning := warn_of_open_port(options.master_bind_host, options.master_bind_port)) is not None:
            _LOG.warning("%s", warning)
        if options.expect_workers > 1 and swarm.user_class.one_process:
            raise UsageError(f"{swarm.user_class.__name__} needs all answers in one process: run it without workers")
        if options.processes:
            gevent.spawn(_miss_the_dead, swarm, gevent.getcurrent())
    attach(environment, lambda: swarm.watch, lambda: swarm.trouble)
    if environment.web_ui is None:
        _check_before_start(swarm)
        # Locust installs its own handler only after a shape has ended; until then SIGTERM would kill us, and
        # Ctrl-C would raise in whichever greenlet happens to run, in the middle of a record.
        for signum in (signal.SIGTERM, signal.SIGINT):
            gevent.signal_handler(signum, partial(_interrupt, swarm, signum))


def _miss_the_dead(swarm: Swarm, waiting: Any) -> None:
    """Locust waits without end until as many workers are there as it has forked, also for those that are dead."""
    num, runner = swarm.options.processes, swarm.environment.runner
    while len(runner.clients.ready) < num and swarm.manifest is None:
        if num_living_children() < num:
            swarm.fail(RunError("a worker process ended before the run began"))
            gevent.kill(waiting, SystemExit(2))
            return
        gevent.sleep(_GLANCE_S)


def _interrupt(swarm: Swarm, signum: signal.Signals) -> None:
    """Bring in what there is, then quit; the second time quit at once. Locust's master, once it quits, hears no worker."""
    is_first, swarm.interrupted_by = swarm.interrupted_by is None, signum.name
    if is_first and swarm.master is not None:
        swarm.stop()
    swarm.environment.runner.quit()


def _read_asked(swarm: Swarm) -> None:
    """Take Locust's -u, -r and -t as given, before Locust replaces what is missing by 1."""
    options = swarm.options
    if options.num_users is not None and options.num_users < 1:
        raise UsageError(f"-u {options.num_users}: at least one request must be allowed in flight")
    if options.spawn_rate is not None and not options.spawn_rate > 0:
        raise UsageError(f"-r {options.spawn_rate:g}: the arrival rate must be positive")
    if options.run_time == 0:
        raise UsageError("-t 0: a run of 0 s holds nothing; give a longer one")
    duration_s = float(options.run_time) if options.run_time else None
    swarm.asked = Asked(options.spawn_rate, duration_s, options.num_users)


def _check_before_start(swarm: Swarm) -> None:
    host, options = swarm.environment.host, swarm.options
    if not host:
        raise UsageError("no server to load: give its root with --host, like http://127.0.0.1:8000")
    parse_target(host)
    permission = permission_of(options)
    plan = plan_of(swarm.user_class, options, swarm.asked)
    require_end(plan, options)
    terms_of(options, plan.duration_s)
    admit(host, permission)
    choose_model(host, options.model, swarm.user_class.dialect.headers)


def _start(swarm: Swarm) -> None:
    try:
        swarm.start()
    except HarnessError as error:
        swarm.fail(error)
        gevent.spawn(swarm.environment.runner.quit)


def _quit(swarm: Swarm) -> None:
    """Also after SIGTERM, when Locust fires `quitting` before it stops the users."""
    swarm.environment.runner.stop()
    swarm.leave()


class _clean_exit:  # noqa: N801 - reads as a statement
    """Turns a failure of the harness into one line on stderr and exit code 2."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, HarnessError):
            sys.stderr.write(f"harness: {error}\n")
            raise SystemExit(2) from error
