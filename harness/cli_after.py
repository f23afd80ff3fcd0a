"""The commands over runs that there are: report, gate, compare, keep, trend, export. `harness.cli` adds them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from harness.conclude import conclude
from harness.exports.command import FORMATS, export, reservation
from harness.extras import require_extra
from harness.gate.command import run_gate
from harness.history.command import run_compare, run_keep, run_trend
from harness.plain import plain
from harness.store import open_run

__all__ = ["add_commands", "spread"]

_Runs = Annotated[list[Path], typer.Argument(help="Run directories.", metavar="RUN", show_default=False)]
_Slo = Annotated[
    Path | None,
    typer.Option("--slo", help="Objectives, budgets, alerts and what the gate allows, as a YAML file.", metavar="FILE"),
]
_Page = Annotated[Path, typer.Option("--out", "-o", help="The page to write.", metavar="FILE")]
_Measures = Annotated[
    list[str] | None,
    typer.Option("--measure", help="A measure, like ttft_p99 or cost_per_1k; may be repeated.", metavar="NAME"),
]


def add_commands(app: typer.Typer) -> None:
    """Put them on the command line."""
    for command in (_report, _gate, _compare, _keep, _trend, _export):
        app.command(command.__name__.removeprefix("_"))(command)


def _report(
    run_directory: Annotated[Path, typer.Argument(help="A run directory.", metavar="RUN")],
    slo: _Slo = None,
) -> None:
    """Fold a run's records again and write its summary and page. The exit code is the run's verdict.

    With --slo it is judged by these objectives from now on.
    """
    require_extra("report", "jinja2", "pandas", "plotly")
    sys.exit(conclude(open_run(run_directory), slo=slo))


def _gate(
    runs: _Runs,
    baseline: Annotated[
        list[Path] | None,
        typer.Option(help="Runs to compare with, or a history made by `harness keep`; may be repeated.", metavar="RUN"),
    ] = None,
    slo: _Slo = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML there.", metavar="FILE")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the whole answer there.", metavar="FILE")] = None,
) -> None:
    """Has it got worse? Judges runs against a baseline: PASS, FAIL, INCONCLUSIVE or INVALID, and says why.

    Several runs a side are needed, taken in turn (A B B A ...); --baseline takes the runs up to the next option.
    """
    if junit is not None:
        require_extra("report", "junitparser")
    sys.exit(run_gate(runs, baseline or [], slo=slo, junit=junit, json=json, environ=os.environ))


def _compare(
    runs: _Runs,
    out: _Page = Path("comparison.html"),
    anyway: Annotated[bool, typer.Option("--anyway", help="Also runs that cannot be compared.")] = False,
    measure: _Measures = None,
) -> None:
    """Two to eight runs beside each other, on one page; the first is the reference. It shows, `harness gate` judges."""
    require_extra("report", "jinja2", "pandas", "plotly")
    sys.exit(run_compare(runs, out, anyway=anyway, measures=measure or ()))


def _keep(
    runs: _Runs,
    into: Annotated[Path, typer.Option(help="The history, a directory.", metavar="DIR")],
    with_page: Annotated[bool, typer.Option("--with-page", help="Keep the report too.")] = False,
) -> None:
    """Put runs into a history without their records, as a baseline for later gates and for trends."""
    sys.exit(run_keep(runs, into, with_page=with_page))


def _trend(
    folder: Annotated[Path, typer.Argument(help="A history, or a directory of runs.", metavar="DIR")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The page to write.", metavar="FILE")] = None,
    measure: _Measures = None,
    fail_on_change: Annotated[
        int | None,
        typer.Option(help="Exit code 1 when it got worse within so many last nights, 2 or more.", metavar="NIGHTS"),
    ] = None,
) -> None:
    """Runs over nights: where the series changed, by how much, and between which commits."""
    if out is not None:
        require_extra("report", "jinja2", "pandas", "plotly")
    sys.exit(run_trend(folder, out=out, fail_on_change=fail_on_change, measures=measure or ()))


def _export(
    run_directory: Annotated[Path, typer.Argument(help="A run directory.", metavar="RUN")],
    to: Annotated[str, typer.Option("--format", help=", ".join(FORMATS), metavar="FORMAT")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file to write.", metavar="FILE")] = None,
) -> None:
    """Write a run in another tool's format."""
    if to in ("parquet", "csv"):
        require_extra("report", "duckdb")
    sys.stdout.write(f"{export(run_directory, to, out)}\n")
    if (why := reservation(run_directory)) is not None:
        sys.stderr.write(f"harness: warning: {plain(why)}\n")


def spread(words: Sequence[str], option: str) -> list[str]:
    """The words of a command in which every word after `option`, up to the next option, has the option of its own: a list of runs
    is typed, or globbed by a shell, in one piece."""
    given: list[str] = []
    inside = False
    for word in words:
        inside = word == option if word.startswith("-") else inside
        if word != option:
            given += [option, word] if inside else [word]
    return given
