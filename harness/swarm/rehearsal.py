"""A scenario in virtual time: its plan as Locust would get it, driven through a deployment without sockets.

    python -m harness.swarm.rehearsal DEPLOYMENT -f scenarios/burst.py -r 6 -t 60s --out runs/x [the scenario's options]

A process of its own (`harness simulate --scenario` starts it), because importing a locustfile patches the standard library.
"""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from locust.argument_parser import get_parser
from locust.util.load_locustfile import load_locustfile

from harness.dialects.table import DIALECTS
from harness.errors import HarnessError, UsageError
from harness.plan import ReactivePlan, cut_at
from harness.summary import load_run
from harness.swarm.options import DEFAULT_MAX_IN_FLIGHT, PlanOptions
from harness.swarm.preparing import terms_of
from harness.swarm.users import LLMUser
from harness.units import parse_duration
from harness.virtual import Simulation, run_in_virtual_time

__all__ = ["rehearse"]


def rehearse(deployment: str, words: list[str], tell: Callable[[int, float], None]) -> Path:
    """Simulate the scenario that the words of a Locust command name. Returns the run directory. Raises HarnessError."""
    user_class, scenario = _scenario(words)
    parser = get_parser(default_config_files=())  # asks the scenario for its options
    parser.prog = "harness"  # the name under which errors are said
    parser.add_argument("--gaps-of", type=int, default=20_000)
    parser.add_argument("--gpus", action="store_true")
    options = parser.parse_args(words)
    if options.protocol and options.protocol not in DIALECTS:
        raise UsageError(f"no protocol {options.protocol!r}; there are {', '.join(DIALECTS)}")
    if options.run_time == 0:
        raise UsageError("a run of 0 s holds nothing; give a longer --for")
    asked = PlanOptions(
        rate=options.spawn_rate,
        duration_s=parse_duration(str(options.run_time)) if options.run_time else None,
        max_in_flight=options.num_users or DEFAULT_MAX_IN_FLIGHT,
        seed=int(options.seed),
        salt="",
        own=options,
    )
    plan = user_class.plan(asked)
    if asked.duration_s is not None and not isinstance(plan, ReactivePlan):
        plan = cut_at(plan, asked.duration_s)
    if not options.out:
        raise UsageError("say where the run is to be written: --out DIR")
    simulation = Simulation(
        deployment=deployment,
        plan=plan,
        scenario=scenario,
        seed=asked.seed,
        model=options.model or None,
        models=getattr(plan, "models", frozenset()),
        num_with_gaps=options.gaps_of,
        every_token=user_class.leaves_midway,
        command=["harness", "simulate", deployment, "--scenario", *(shlex.quote(word) for word in words)],
        options={"deployment": deployment},
        objective=options.objective,
        terms=terms_of(options, plan.duration_s),
        with_gpus=options.gpus,
    )
    directory = run_in_virtual_time(simulation, Path(options.out), tell)
    if any("conclusion" in vars(each) for each in user_class.__mro__ if each is not LLMUser):  # else nothing is read
        directory.write_conclusion(user_class.conclusion(load_run(directory)))
    return directory.path


def _scenario(words: list[str]) -> tuple[type[LLMUser], str]:
    """The user class of the file after `-f`, and the scenario's name."""
    path = Path(words[words.index("-f") + 1])
    classes, _ = load_locustfile(str(path))
    found = [cls for cls in classes.values() if issubclass(cls, LLMUser)]
    if len(found) != 1:
        raise UsageError(f"{path} holds {len(found)} scenarios; one is needed: a class made from LLMUser")
    return found[0], path.stem


def _tell(num: int, at_s: float) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r  {num:,} requests, at {at_s:,.0f} s of virtual time")
        sys.stderr.flush()


def main() -> None:
    """The process that `harness simulate --scenario` starts: exit code 0 when a run was written, else 2."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was simulated so far is a run
    try:
        rehearse(sys.argv[1], sys.argv[2:], _tell)
    except HarnessError as error:
        sys.stderr.write(f"harness: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:  # while it simulates, it ends in order
        sys.stderr.write("harness: stopped before there was a run\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
