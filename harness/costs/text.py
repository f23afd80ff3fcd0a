"""The bill as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from harness.costs.bill import Bill

__all__ = ["bill_lines", "dollars"]

_HEAD = 12


def dollars(usd: float | None) -> str:
    """An amount as text: cents from ten dollars on, else four digits after the point, or three that are not 0; a dash for none."""
    if usd is None:
        return "–"
    amount = abs(usd)
    sign = "-" if usd < 0 else ""
    if amount >= 10:
        return f"{sign}${amount:,.2f}"
    if amount >= 0.01 or amount == 0:
        return f"{sign}${amount:.4f}"
    leading = f"{amount:.2e}"
    return f"{sign}${amount:.{2 - int(leading.partition('e')[2])}f}"


def bill_lines(bill: Bill, width: int | None = None) -> list[str]:
    """What the run cost, by request and token, what was saved, the GPUs, a month: a few lines, broken at `width` columns if given."""
    lines: list[str] = []
    for head, text in _parts(bill):
        parts = [text] if width is None else wrap(text, max(20, width - 2 - _HEAD), break_long_words=False) or [""]
        lines += [f"  {name:<{_HEAD}}{part}" for name, part in zip([head, *[""] * len(parts)], parts, strict=False)]
    return lines


def _parts(bill: Bill) -> Iterator[tuple[str, str]]:
    head = "cost"
    if bill.usd is not None:
        unknown = f"; {bill.num_unknown:,} requests of unknown cost" if bill.num_unknown else ""
        yield head, f"{dollars(bill.usd)} by {bill.source}{unknown}"
        head = ""
    if bill.gpu_usd is not None and bill.gpu_hours is not None:
        hours = f"{bill.gpu_hours:.3g} h of the target's GPUs at {dollars(bill.gpu_usd_per_hour)} an hour"
        yield head, f"{dollars(bill.gpu_usd)} for {hours}"
    elif bill.gpu_why is not None:
        yield head, f"GPUs: {bill.gpu_why}"
    if bill.per_request is not None:
        yield "", _figures(bill)
    if bill.energy_j_per_output_token is not None:
        yield "", f"{bill.energy_j_per_output_token:.3g} J for an output token"
    saved = [f"{each.kind} {dollars(each.usd)} of {dollars(each.without_usd)}" for each in bill.savings]
    if saved:
        yield "saved", ", ".join(saved)
    if bill.month_usd is not None:
        gpus = ""
        if bill.usd is not None and bill.gpu_month_usd is not None:
            gpus = f", and {dollars(bill.gpu_month_usd)} for GPUs"
        yield "month", f"{dollars(bill.month_usd)}{gpus}; {bill.month_why}"
    for note in bill.notes:
        yield "", note


def _figures(bill: Bill) -> str:
    figures = (
        (bill.per_1k, "for 1,000 answered requests"),
        (bill.per_mtok, "for a million tokens"),
        (bill.per_output_mtok, "for a million output tokens"),
        (None if bill.per_good is None else bill.per_good * 1000, "for 1,000 good requests"),
    )
    return ", ".join(f"{dollars(usd)} {what}" for usd, what in figures if usd is not None)
