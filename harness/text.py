"""The summary as text for a terminal. Milliseconds exist only in rendered text."""

from __future__ import annotations

import re
from itertools import chain, repeat
from textwrap import wrap

from harness.costs.text import bill_lines
from harness.delivery import Delivery
from harness.doctor.certificate import certificate_text
from harness.goodput import Goodput
from harness.gpu.text import gpu_lines
from harness.judgement.results import ObjectiveResult, StageResult
from harness.judgement.text import answer_line, judgement_lines
from harness.plain import plain_lines
from harness.quantiles import Distribution, samples_needed
from harness.summary import Summary

__all__ = ["METRIC_NAMES", "milliseconds", "percentage", "percentile_cell", "summary_text"]

METRIC_NAMES = {
    "ttft": "TTFT",
    "ttft_from_send": "TTFT from send",
    "itl": "ITL",
    "chunk_gap": "chunk gap",
    "tpot": "TPOT",
    "e2e": "E2E",
    "e2e_from_send": "E2E from send",
    "e2e_unthrottled": "E2E without throttle time",
    "connect": "connect",
}
_WIDTH = 120
_AND_MORE = re.compile(r"and \d+ more")
_SHOWN = ("ttft", "itl", "tpot", "e2e")
_COLUMNS = (50.0, 90.0, 95.0, 99.0)


def milliseconds(seconds: float | None) -> str:
    """A duration as text, three significant digits, none finer than 10 µs; a dash for a missing one."""
    if seconds is None:
        return "–"
    value = seconds * 1e3
    # Rounded first: 99.96 has three digits as 100, not as 100.0.
    digits = 0 if abs(round(value, 1)) >= 100 else 1 if abs(round(value, 2)) >= 10 else 2
    return f"{value:,.{digits}f}"


def percentile_cell(metric: Distribution, percent: float) -> str:
    """A percentile as text, or how many samples it would need."""
    value = metric.at(percent)
    if value is None and metric.num:
        return f"n<{samples_needed(percent)}"
    return milliseconds(value)


def summary_text(summary: Summary, width: int | None = None) -> str:
    """The run in a dozen lines: verdict first, then the scenario's own answer. Sentences are broken at `width` columns, if given."""
    lines = ["", f"{summary.verdict.answer}: {_why(summary)}", ""]
    if summary.conclusion:
        lines += [*(f"  {line}" for line in summary.conclusion), ""]
    judged = judgement_lines(summary.objectives, summary.budgets, summary.alerts, summary.not_watched, width or _WIDTH)
    if judged:
        lines += [*(f"  {line}" for line in judged), ""]
    for name, text in _headlines(summary):
        lines += [
            f"  {head:<12}{part}" for head, part in zip(chain([name], repeat("")), _broken(text, width), strict=False)
        ]
    if summary.bill is not None:
        lines += bill_lines(summary.bill, width)
    names = "".join(f"{f'p{percent:g}':>10}" for percent in _COLUMNS)
    lines += ["", f"  ms            n  {names}{'max':>10}"]
    for name in _SHOWN:
        metric = summary.metrics[name]
        cells = "".join(f"{percentile_cell(metric, percent):>10}" for percent in _COLUMNS)
        lines.append(f"  {METRIC_NAMES[name]:<7}{metric.num:>8}  {cells}{milliseconds(metric.maximum):>10}")
    if "n<" in "\n".join(lines):
        lines += ["", "  n<368: too few samples for this percentile, which needs 368"]
    for error in summary.errors[:5]:
        example = f": {error.example[:100]}" if error.example else ""
        lines.append(f"  {error.num:>6} x {error.outcome}/{error.kind}{example}")
    return plain_lines(lines)


def _why(summary: Summary) -> str:
    """The reasons; those that stand in the table of objectives are only counted here."""
    results: list[ObjectiveResult | StageResult] = [*summary.objectives, *summary.budgets]
    counted = answer_line(summary.verdict.answer, results)
    whys = {each.why for each in results}
    own = [reason for reason in summary.verdict.reasons if not any(reason.endswith(why) for why in whys)]
    if counted and own and _AND_MORE.fullmatch(own[-1]):
        own.pop()  # of those that are counted
    return "; ".join([*own, counted] if counted else summary.verdict.reasons)


def _broken(text: str, width: int | None) -> list[str]:
    return [text] if width is None else wrap(text, max(20, width - 14), break_long_words=False, break_on_hyphens=False)


def _count(num: int | None) -> str:
    return "–" if num is None else f"{num:,}"


def _shape(delivery: Delivery) -> list[tuple[str, str]]:
    """The spread of the load, asked and delivered."""
    asked, delivered = delivery.asked, delivery.delivered
    if asked.gap_cv is None or delivered.gap_cv is None:
        return []
    parts = [f"CV of gaps {asked.gap_cv:.2f}, delivered {delivered.gap_cv:.2f}"]
    window = next((w for w in ("10", "1") if asked.dispersion[w] is not None), None)
    if window is not None and delivered.dispersion[window] is not None:
        parts.append(
            f"dispersion in {window} s {asked.dispersion[window]:.2f}, delivered {delivered.dispersion[window]:.2f}"
        )
    return [("", "; ".join(parts))]


def _goodput(found: Goodput | None) -> list[tuple[str, str]]:
    if found is None or found.share is None:
        return []
    share = percentage(found.num_good, found.num)
    return [("goodput", f"{found.rate:.2f}/s: {found.num_good} of {found.num} ({share}) met their objective")]


def percentage(num: int, total: int) -> str:
    """A share with one digit, or with as many as it needs not to read as all or as none."""
    share = num / total
    digits = 1
    while 0 < num < total and digits < 6 and f"{share:.{digits}%}" in (f"{0:.{digits}%}", f"{1:.{digits}%}"):
        digits += 1
    return f"{share:.{digits}%}"


def _apart(summary: Summary) -> list[tuple[str, str]]:
    """Hits and misses of a cache are two distributions: their mixture has a median that nobody saw."""
    found = next((each for each in summary.breakdowns if each.dimension == "cache_outcome"), None)
    if found is None:
        return []
    parts = [
        f"{group.name or 'not said'} {percentile_cell(group.metrics['ttft'], 50)} ms ({group.metrics['ttft'].num:,})"
        for group in found.groups
    ]
    return [("by cache", f"TTFT p50: {', '.join(parts)}; the table below mixes them")]


def _steady(summary: Summary) -> list[tuple[str, str]]:
    """Said where it changes how the percentiles are to be read."""
    found = summary.steady
    if found is None or found.state == "not asked":
        return []
    return [("steady", f"{found.state}: {found.why}")]


def _warmup(summary: Summary) -> list[tuple[str, str]]:
    """Beside the count of all requests, because tokens, costs and latencies are of fewer."""
    num = summary.num_warmup
    words = "1 request of the warm-up stands" if num == 1 else f"{num:,} requests of the warm-up stand"
    return [("", f"{words} in no metric and in no bill")] if num else []


def _headlines(summary: Summary) -> list[tuple[str, str]]:
    load, tokens, instrument = summary.load, summary.tokens, summary.instrument
    outcomes = ", ".join(f"{num} {name}" for name, num in load.outcomes.items() if num) or "none ended"
    rate = f", {tokens.output_rate:,.0f} out/s" if tokens.output_rate is not None else ""
    lag = instrument.send_lag
    high = "" if lag.at(99) is None else f"p99 {milliseconds(lag.at(99))} ms, "
    lags = f"send lag {high}max {milliseconds(lag.maximum)} ms"
    lines = [
        ("load", f"asked {load.asked_rate:.2f}/s, delivered {load.delivered_rate:.2f}/s over {load.duration_s:.0f} s"),
        *_shape(summary.delivery),
        ("requests", f"{load.num_sent} of {load.num_planned} sent: {outcomes}"),
        *_warmup(summary),
        ("tokens", f"{_count(tokens.num_prompt)} in, {_count(tokens.num_output)} out{rate}"),
        *_goodput(summary.goodput),
        *_apart(summary),
        *_steady(summary),
        ("instrument", instrument.state if instrument.state == "NONE" else f"{instrument.state}; {lags}"),
    ]
    lines += [("", reason) for reason in instrument.reasons]
    if instrument.state != "NONE":
        lines.append(("certificate", certificate_text(summary.certificate)))
    if summary.truth is not None:
        error = summary.truth.ttft_error
        cells = f"p50 {percentile_cell(error, 50)} ms, p99 {percentile_cell(error, 99)} ms"
        lines.append(("truth", f"TTFT error against the mock's ledger {cells}, {error.num} streams"))
    if summary.gpu is not None:
        lines += [("gpu" if number == 0 else "", line) for number, line in enumerate(gpu_lines(summary.gpu))]
    return lines
