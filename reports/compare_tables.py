"""The tables of a comparison: what the runs are, how they differ, and the data of every chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.history.commit import short_commit
from harness.history.compare import Comparison, Delta, Row, Side
from harness.history.compare_text import delta_text, interval_text
from harness.history.wording import measured_text
from harness.judgement.measures import Measured
from harness.quantiles import Distribution, samples_needed
from harness.table import OUTCOMES
from harness.text import milliseconds, percentile_cell
from reports.buckets import Buckets
from reports.compare_figures import SPECTRUM_TICKS
from reports.curves import Curve
from reports.levels import Level
from reports.numbers import MISSING, count, instant, per_second, share, usd, value_text, wall_time
from reports.spectrum import Spectrum
from reports.tables import Cell, TextTable

__all__ = [
    "cost_rows", "delta_rows", "ecdf_rows", "field_rows", "level_rows", "outcome_share_rows", "over_time_rows", "run_rows",
    "spectra_rows",
]  # fmt: skip

_MOST_FIELDS = 200
_MOST_TEXT = 200
_PERCENTS = (1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9)
_TONES = {"worse": "FAIL", "better": "PASS"}


def _letters(sides: Sequence[Side]) -> list[str]:
    return [side.letter for side in sides]


def run_rows(sides: Sequence[Side]) -> TextTable:
    """What the runs are, and what each says by itself."""
    head = ["", "run", "verdict", "instrument", "scenario", "commit", "started", "requests", "delivered, 1/s"]
    rows: list[list[str | Cell]] = []
    for side in sides:
        summary, manifest = side.summary, side.run.manifest
        rows.append(
            [
                side.letter,
                side.name,
                Cell(summary.verdict.answer, answer=summary.verdict.answer),
                summary.instrument.state,
                manifest.scenario,
                short_commit(manifest.labels.get("commit")),
                wall_time(manifest.started_wall),
                count(sum(summary.load.outcomes.values())),
                per_second(summary.load.delivered_rate),
            ]
        )
    return TextTable("Runs; the first is the reference", head, rows, num_text=7)


def delta_rows(comparison: Comparison) -> TextTable:
    """A row a measure: the value of each run, and its change from the reference with the 95 % interval."""
    first, *others = _letters(comparison.sides)
    head = ["measure", "better", first, *(name for letter in others for name in (letter, f"{letter} against {first}"))]
    rows: list[list[str | Cell]] = []
    for row in comparison.rows:
        cells: list[str | Cell] = [row.name, row.better, _value(row.measured[0])]
        for measured, delta in zip(row.measured[1:], row.deltas[1:], strict=True):
            cells += [_value(measured), _change(delta, row)]
        rows.append(cells)
    return TextTable("Change from the reference, with 95 % intervals", head, rows, num_text=2)


def _value(measured: Measured) -> Cell:
    if measured.value is None and not measured.infinite:
        return Cell(MISSING, note=(measured.why or "")[:90])
    what = "GPU" if measured.name.startswith("gpu_") else "sample"
    return Cell(
        measured_text(measured), note=f"{measured.num:,} {what}{'s' * (measured.num != 1)}" if measured.num else ""
    )


def _change(delta: Delta | None, row: Row) -> Cell:
    if delta is None:
        return Cell(MISSING)
    text = f"{delta_text(delta, row.unit)} {delta.tone}".strip()
    return Cell(text, note=interval_text(delta, row.unit), answer=_TONES.get(delta.tone, ""))


def field_rows(comparison: Comparison) -> TextTable:
    """Fields of the manifests that are not the same everywhere."""
    rows = [
        [field.name[:_MOST_TEXT], *(value_text(value)[:_MOST_TEXT] for value in field.values)]
        for field in comparison.fields
    ]
    letters = _letters(comparison.sides)
    table = TextTable(
        "What differs in plan, options, versions and machine", ["field", *letters], rows, num_text=1 + len(letters)
    )
    return table.at_most(_MOST_FIELDS)


def ecdf_rows(sides: Sequence[Side], curves: Sequence[Curve], name: str) -> TextTable:
    """Points of the ECDF curves, as far as the samples support them."""
    rows = [[f"{percent:g} %", *(_curve_cell(curve, percent) for curve in curves)] for percent in _PERCENTS]
    return TextTable(f"{name} that this share of requests does not exceed, ms", ["share", *_letters(sides)], rows)


def _curve_cell(curve: Curve, percent: float) -> str:
    if not curve.num:
        return MISSING
    needed = samples_needed(percent)
    return milliseconds(curve.at(percent)) if curve.num >= needed else f"n<{needed}"


def spectra_rows(sides: Sequence[Side], spectra: Sequence[Spectrum], name: str) -> TextTable:
    """The percentiles of the axis, each with its interval."""
    rows: list[list[str | Cell]] = [
        [f"p{percent:g}", *(_spectrum_cell(found, percent) for found in spectra)] for percent in SPECTRUM_TICKS
    ]
    return TextTable(f"{name} percentiles with their 95 % intervals, ms", ["percentile", *_letters(sides)], rows)


def _spectrum_cell(found: Spectrum, percent: float) -> Cell:
    at = np.flatnonzero(found.percents == percent)
    if not len(at):
        return Cell(f"n<{samples_needed(percent)}" if found.num else MISSING)
    value, low, high = (milliseconds(float(each[at[0]])) for each in (found.values, found.low, found.high))
    return Cell(value, note=f"{low} to {high}")


def over_time_rows(sides: Sequence[Side], over_time: Sequence[Sequence[Distribution]], buckets: Buckets) -> TextTable:
    """The medians over time."""
    rows = [
        [instant(float(start), buckets.width_s), *(percentile_cell(parts[bucket], 50) for parts in over_time)]
        for bucket, start in enumerate(buckets.starts_s)
    ]
    return TextTable("TTFT p50 over time, ms", ["from, s", *_letters(sides)], rows)


def outcome_share_rows(sides: Sequence[Side]) -> TextTable:
    """Every outcome of every run."""
    rows: list[list[str | Cell]] = []
    for outcome in OUTCOMES:
        counts = [side.summary.load.outcomes.get(outcome, 0) for side in sides]
        totals = [sum(side.summary.load.outcomes.values()) for side in sides]
        rows.append(
            [
                outcome,
                *(
                    Cell(count(num), note=share(num / total) if total else "")
                    for num, total in zip(counts, totals, strict=True)
                ),
            ]
        )
    return TextTable("Requests by outcome", ["outcome", *_letters(sides)], rows)


def level_rows(sides: Sequence[Side], levels: Sequence[Sequence[Level]]) -> TextTable:
    """The levels of load of every run."""
    rows = [
        [
            side.letter,
            level.name[:_MOST_TEXT],
            per_second(level.rate),
            count(level.num),
            percentile_cell(level.metrics["ttft"], 50),
            percentile_cell(level.metrics["ttft"], 95),
        ]
        for side, found in zip(sides, levels, strict=True)
        for level in found
    ]
    head = ["run", "level", "delivered, 1/s", "requests", "TTFT p50, ms", "TTFT p95, ms"]
    return TextTable("Latency by level of load", head, rows, num_text=2)


def cost_rows(sides: Sequence[Side], costs: Mapping[str, Sequence[float | None]]) -> TextTable:
    """The costs of every run."""
    rows = [[name, *(usd(value) for value in values)] for name, values in costs.items()]
    return TextTable("Costs, USD", ["", *_letters(sides)], rows)
