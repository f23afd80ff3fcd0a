"""The summary as text for a terminal. Milliseconds exist only in rendered text."""

from __future__ import annotations

from harness.quantiles import Distribution, samples_needed
from harness.summary import Summary

__all__ = ["METRIC_NAMES", "milliseconds", "percentile_cell", "summary_text"]

METRIC_NAMES = {
    "ttft": "TTFT",
    "ttft_from_send": "TTFT from send",
    "itl": "ITL",
    "chunk_gap": "chunk gap",
    "tpot": "TPOT",
    "e2e": "E2E",
    "e2e_from_send": "E2E from send",
    "connect": "connect",
}
_SHOWN = ("ttft", "itl", "tpot", "e2e")
_COLUMNS = (50.0, 90.0, 95.0, 99.0)


def milliseconds(seconds: float | None) -> str:
    """A duration as text, three significant digits; a dash for a missing one."""
    if seconds is None:
        return "–"
    value = seconds * 1e3
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def percentile_cell(metric: Distribution, percent: float) -> str:
    """A percentile as text, or how many samples it would need."""
    value = metric.at(percent)
    if value is None and metric.num:
        return f"n<{samples_needed(percent)}"
    return milliseconds(value)


def summary_text(summary: Summary) -> str:
    """The run in a dozen lines: verdict first."""
    load, tokens, instrument = summary.load, summary.tokens, summary.instrument
    outcomes = ", ".join(f"{num} {name}" for name, num in load.outcomes.items() if num)
    lines = [
        "",
        f"{summary.verdict.answer}: {'; '.join(summary.verdict.reasons)}",
        "",
        f"  load        asked {load.asked_rate:.2f}/s, delivered {load.delivered_rate:.2f}/s; "
        f"{load.num_sent} of {load.num_planned} requests sent in {load.duration_s:.0f} s: {outcomes or 'none ended'}",
        f"  tokens      {tokens.num_prompt:,} in, {tokens.num_output:,} out"
        + (f", {tokens.output_rate:,.0f} out/s" if tokens.output_rate is not None else ""),
        f"  instrument  {instrument.state}, send lag p99 {percentile_cell(instrument.send_lag, 99)} ms, "
        f"max {milliseconds(instrument.send_lag.maximum)} ms",
    ]
    if summary.truth is not None:
        error = summary.truth.ttft_error
        lines.append(
            f"  truth       TTFT error against the ledger p50 {percentile_cell(error, 50)} ms, p99 {percentile_cell(error, 99)} ms "
            f"over {error.num} streams"
        )
    lines += ["", "  ms            n  " + "".join(f"{f'p{percent:g}':>10}" for percent in _COLUMNS) + f"{'max':>10}"]
    for name in _SHOWN:
        metric = summary.metrics[name]
        cells = "".join(f"{percentile_cell(metric, percent):>10}" for percent in _COLUMNS)
        lines.append(f"  {METRIC_NAMES[name]:<7}{metric.num:>8}  {cells}{milliseconds(metric.maximum):>10}")
    for error_class in summary.errors[:5]:
        lines.append(f"  {error_class.num:>6} x {error_class.outcome}/{error_class.kind}: {error_class.example[:100]}")
    return "\n".join(lines)
