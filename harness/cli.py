"""The `harness` command. It never imports Locust: scenarios run in a process of their own.

Exit codes: 0 pass, 1 fail, 2 invalid run or usage error, 3 inconclusive.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated, Optional

import typer

from harness.cli_after import add_commands, spread
from harness.clock import clock_pair, file_stamp, monotonic
from harness.conclude import conclude
from harness.doctor.certificate import certificate_path, write_certificate
from harness.errors import HarnessError, UsageError
from harness.extras import require_extra
from harness.gpu.file import FILE as GPU_FILE
from harness.gpu.sources import sources_of
from harness.launch import Launch, explain_exit, require_file, run_locust, run_rehearsal, start_mock, start_sampler
from harness.plain import plain_lines
from harness.safety.targets import Permission, allowed_hosts, check_url
from harness.say import say
from harness.store import machine, open_run, require_new, versions
from harness.terms import terms
from harness.units import parse_duration, parse_rate, parse_window
from harness.verdict import EXIT_CODES

__all__ = ["main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Load tests for LLM serving, with numbers that can be defended.",
)

_Text = Optional[str]  # noqa: UP045 - typer reads this form
_Slo = Annotated[Path | None, typer.Option(help="Objectives, budgets, alerts, as a YAML file.", metavar="FILE")]
_Warmup = Annotated[str | None, typer.Option(help="Requests intended before stand in no metric: 10s.", metavar="TIME")]
_Labels = Annotated[
    list[str] | None, typer.Option(help="What tells this run from others; may be repeated.", metavar="KEY=VALUE")
]
_GpuPrice = Annotated[
    float | None, typer.Option(help="Price of the target's GPUs together, USD per hour.", metavar="USD")
]
_PerMonth = Annotated[float | None, typer.Option(help="Project the bill to so many requests a month.", metavar="N")]


@app.callback()
def _harness() -> None:
    """Keeps `run` a subcommand however many commands there are."""


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(
    context: typer.Context,
    scenario: Annotated[Path, typer.Argument(help="A locustfile, like scenarios/burst.py.")],
    mock: Annotated[
        _Text, typer.Option(help="Serve this mock profile or file for the run.", metavar="NAME_OR_FILE")
    ] = None,
    target: Annotated[_Text, typer.Option(help="Load this server instead; its root or …/v1.", metavar="URL")] = None,
    rate: Annotated[_Text, typer.Option(help="Arrival rate: 20, 20/s, 300/min.")] = None,
    duration: Annotated[_Text, typer.Option(help="How long: 60s, 2m.")] = None,
    users: Annotated[Optional[int], typer.Option(help="The most requests in flight.", min=1)] = None,  # noqa: UP045
    trace: Annotated[_Text, typer.Option(help="Trace to replay (only trace_replay.py).", metavar="FILE")] = None,
    window: Annotated[_Text, typer.Option(help="Piece of the trace: 120s, 10m:12m (only trace_replay.py).")] = None,
    speed: Annotated[Optional[float], typer.Option(help="Replay speed (only trace_replay.py).")] = None,  # noqa: UP045
    model: Annotated[_Text, typer.Option(help="Model to ask for. Default: the server's first.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the plan and of the mock.")] = 0,
    budget: Annotated[_Text, typer.Option(help="The most the run may cost; it stops there.", metavar="USD")] = None,
    prices: Annotated[_Text, typer.Option(help="A price file, or a provider like openai.", metavar="WHAT")] = None,
    allow_host: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Load this public host; may be repeated.", metavar="HOST"),
    ] = None,
    slo: _Slo = None,
    warmup: _Warmup = None,
    label: _Labels = None,
    gpu_metrics: Annotated[
        list[str] | None, typer.Option(help="A DCGM exporter's /metrics; may be repeated.", metavar="URL")
    ] = None,
    gpu_price: _GpuPrice = None,
    per_month: _PerMonth = None,
    out: Annotated[Optional[Path], typer.Option(help="Run directory to create.", metavar="DIR")] = None,  # noqa: UP045
) -> None:
    """Run a scenario and judge it: mock, load, records, summary, report, exit code.

    Options that are not listed here go to the scenario, like --burst-factor 8 or --whole.
    """
    require_file(scenario)
    require_extra("report", "jinja2", "pandas", "plotly")
    require_extra("load", "locust", "splintr")
    if (mock is None) == (target is None):
        raise UsageError("say what to load: either --mock NAME_OR_FILE or --target URL, one of the two")
    where = out or Path("runs") / f"{scenario.stem}-{file_stamp(clock_pair()['wall'])}"
    passed_on = [
        *_passed("--trace", trace),
        *_passed("--window", window),
        *_passed("--speed", speed),
        *_passed("--budget", budget),
        *_passed("--prices", prices),
        *(word for host in allow_host or () for word in ("--allow-host", host)),
        *_judged(slo, warmup, label, gpu_price, per_month),
        # A mock of our own has no yesterday to be remembered: the same words every time, and so the same decisions.
        *(["--prompts", "same"] if mock is not None and "--prompts" not in context.args else []),
        *context.args,
    ]
    if target is not None:
        check_url(target)  # before it stands on a command line
    hosts = allowed_hosts(allow_host or (), os.environ.get("HARNESS_ALLOW_HOSTS"))
    for url in gpu_metrics or ():
        check_url(url)
    require_new(where)
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot create {where}: {error.strerror}") from None
    # Beside the run until there is one.
    ledger, readings = (where.with_name(f".{where.name}.{name}") for name in ("ledger.jsonl", GPU_FILE))
    _remove(ledger, readings)  # of a run of this name that was killed: they are no part of this one
    try:
        with ExitStack() as stack:
            if mock is not None:
                target = stack.enter_context(start_mock(mock, ledger=ledger, seed=seed)).url
            assert target is not None
            sources = sources_of(target, gpu_metrics or (), Permission(hosts), mock=mock is not None)
            stack.enter_context(start_sampler(sources, out=readings))
            launch = Launch(
                scenario=scenario,
                out=where,
                host=target,
                rate=parse_rate(rate) if rate is not None else None,
                duration_s=parse_duration(duration) if duration is not None else None,
                users=users,
                seed=seed,
                model=model,
                passed_on=tuple(passed_on),
            )
            code = run_locust(launch)
        if not (where / "manifest.json").exists():
            if code == 0:
                return  # it was asked for help
            raise explain_exit(code)
        for file, name in ((ledger, "ledger.jsonl"), (readings, GPU_FILE)):
            if file.exists():
                file.replace(where / name)
        sys.exit(conclude(open_run(where)))
    finally:
        _remove(ledger, readings)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def simulate(
    context: typer.Context,
    deployment: Annotated[str, typer.Argument(help="A deployment file, or a bundled profile or stack.")],
    workload: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Who sends what, as a YAML file (harness/workloads/file.py).", metavar="FILE"),
    ] = None,
    scenario: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A scenario like scenarios/burst.py; its own options may follow.", metavar="FILE"),
    ] = None,
    trace: Annotated[Optional[Path], typer.Option(help="Trace to replay instead.", metavar="FILE")] = None,  # noqa: UP045
    window: Annotated[_Text, typer.Option(help="Piece of the trace: 120s, 10m:12m.")] = None,
    speed: Annotated[Optional[float], typer.Option(help="Replay speed of the trace.")] = None,  # noqa: UP045
    rate: Annotated[_Text, typer.Option(help="Arrival rate: 20, 20/s, 300/min.")] = None,
    duration: Annotated[_Text, typer.Option("--for", help="How long: 60s, 2h.", metavar="TIME")] = None,
    from_users: Annotated[int | None, typer.Option(help="So many users ask. Default: nobody by name.", min=1)] = None,
    model: Annotated[
        _Text, typer.Option(help="Model to ask for. Default: the first that is served; a router's name before models.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the plan and of the deployment.")] = 0,
    slo: _Slo = None,
    warmup: _Warmup = None,
    label: _Labels = None,
    gpu_price: _GpuPrice = None,
    per_month: _PerMonth = None,
    gpus: Annotated[bool, typer.Option("--gpus", help="Read the simulated GPUs too; a seventh slower.")] = False,
    gaps_of: Annotated[
        int, typer.Option(help="Record the gaps between tokens of about so many requests, drawn by lot.", min=0)
    ] = 20_000,
    out: Annotated[Optional[Path], typer.Option(help="Run directory to create.", metavar="DIR")] = None,  # noqa: UP045
) -> None:
    """Run a deployment in virtual time: hours in seconds, the same answer every time, no sockets.

    Without --workload, --scenario or --trace: Poisson arrivals at --rate, with the lengths of Azure's conversations.
    """
    require_extra("report", "jinja2", "pandas", "plotly")
    if scenario is not None:
        if from_users is not None:
            raise UsageError("--from-users is not for a scenario; it has options of its own")
        words = [
            *("-f", str(scenario), "--seed", str(seed), "--gaps-of", str(gaps_of)),
            *(["--gpus"] if gpus else []),
            *_passed("-r", None if rate is None else f"{parse_rate(rate):.10g}"),
            *_passed("-t", duration),
            *_passed("--model", model),
            *_judged(slo, warmup, label, gpu_price, per_month),
            # Scenarios have options of these names too.
            *_passed("--workload", workload),
            *_passed("--trace", trace),
            *_passed("--window", window),
            *_passed("--speed", speed),
            *context.args,
        ]
        sys.exit(_rehearse(scenario, deployment, words, out))
    if context.args:
        raise UsageError(f"{' '.join(context.args)}: no such option; a scenario's own options need --scenario FILE")
    from harness.virtual import Simulation, asked_load, run_in_virtual_time  # slow to import: the mock

    load = asked_load(
        workload=workload,
        trace=trace,
        window=parse_window(window) if window is not None else None,
        speed=speed,
        rate=parse_rate(rate) if rate is not None else None,
        duration_s=parse_duration(duration) if duration is not None else None,
        seed=seed,
        users=from_users,
    )
    simulation = Simulation(
        deployment=deployment,
        plan=load.plan,
        scenario=load.scenario,
        seed=seed,
        model=model,
        models=load.models,
        num_with_gaps=gaps_of,
        command=("harness", *sys.argv[1:]),
        options={"deployment": deployment, "gaps_of": gaps_of},
        with_gpus=gpus,
        terms=terms(
            slo=slo,
            warmup_s=parse_duration(warmup) if warmup is not None else 0.0,
            duration_s=load.plan.duration_s,
            labels=label or (),
            gpu_price_per_hour=gpu_price,
            month_requests=per_month,
            environ=os.environ,
            cwd=Path.cwd(),
        ),
    )
    name = f"{Path(deployment).stem}-virtual-{file_stamp(clock_pair()['wall'])}"
    where, began = out or Path("runs") / name, monotonic()
    directory = run_in_virtual_time(simulation, where, _tell_progress(load.plan.num_arrivals))
    if sys.stderr.isatty():
        print("\r\x1b[2K", end="", file=sys.stderr)
    say(f"\n  {load.plan.num_arrivals:,} requests in {monotonic() - began:.1f} s of real time")
    sys.exit(conclude(directory))


def _rehearse(scenario: Path, deployment: str, words: list[str], out: Path | None) -> int:
    """Simulate a scenario in a process of its own, because it imports Locust. Returns the exit code."""
    require_file(scenario)
    require_extra("load", "locust", "splintr")
    where = out or Path("runs") / f"{Path(deployment).stem}-{scenario.stem}-{file_stamp(clock_pair()['wall'])}"
    require_new(where)
    if run_rehearsal(deployment, [*words, "--out", str(where)]):
        return EXIT_CODES["INVALID"]
    return conclude(open_run(where))


def _tell_progress(num_planned: int) -> Callable[[int, float], None]:
    """A line on the terminal that is written over and over; nothing where nobody looks."""

    def tell(num: int, at_s: float) -> None:
        if sys.stderr.isatty():
            line = f"\r  {num:,} of {num_planned:,} requests, at {at_s:,.0f} s of virtual time"
            print(line, end="", file=sys.stderr, flush=True)

    return tell


@app.command()
def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Fifteen seconds instead of a minute; coarser.")] = False,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Where to write the certificate. Default: the user's state directory.", metavar="FILE"),
    ] = None,
) -> None:
    """Measure how well this machine measures: a calibration certificate, attached to every later run.

    A mock with exactly known timings is loaded more and more; what the instrument adds is read off its ledger. Exit code 0
    when this machine measures well, 1 when its certificate is LIMITED.
    """
    require_extra("load", "locust", "splintr")
    require_extra("server", "fastapi", "uvicorn")
    from rich.console import Console

    from harness.doctor.checkup import FULL, QUICK, Rim, examine
    from harness.doctor.golden import measure_clocks, measure_level
    from harness.doctor.show import certificate_page

    console = Console()
    with tempfile.TemporaryDirectory() as folder, console.status("") as status:
        rim = Rim(
            measure=lambda load: measure_level(load, Path(folder)),
            clocks=measure_clocks,
            now=monotonic,
            tell=lambda word: status.update(f"measuring: {word}"),
        )
        certificate = examine(
            rim,
            QUICK if quick else FULL,
            machine=machine(),
            versions=versions(),
            wall=clock_pair()["wall"],
            load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        )
    path = out or certificate_path(os.environ)
    write_certificate(certificate, path)
    console.print(certificate_page(certificate))
    console.print(f"\n  certificate {path}", markup=False, soft_wrap=True)
    sys.exit(EXIT_CODES["PASS" if certificate.state == "OK" else "FAIL"])


def _judged(
    slo: Path | None,
    warmup: str | None,
    labels: list[str] | None,
    gpu_price: float | None,
    per_month: float | None,
) -> list[str]:
    """What a run is judged by, as words for the process that makes it."""
    return [
        *_passed("--slo", slo),
        *_passed("--warmup", warmup),
        *(word for label in labels or () for word in ("--label", label)),
        *_passed("--gpu-price", gpu_price),
        *_passed("--per-month", per_month),
    ]


def _remove(*files: Path) -> None:
    """What cannot be removed is not the trouble that has to be told."""
    for file in files:
        with suppress(OSError):
            file.unlink(missing_ok=True)


def _passed(option: str, value: object) -> list[str]:
    return [] if value is None else [option, str(value)]


add_commands(app)


def main() -> None:
    """Run the command line; failures of the tool are one line on stderr and exit code 2."""
    signal.signal(
        signal.SIGTERM, signal.default_int_handler
    )  # as Ctrl-C: what was started is ended, drafts are removed
    try:
        app(spread(sys.argv[1:], "--baseline"))
    except HarnessError as error:
        print(plain_lines([f"harness: {' '.join(str(error).split())}"]), file=sys.stderr)
        sys.exit(EXIT_CODES["INVALID"])
