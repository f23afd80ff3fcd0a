"""The section about money: where it went, what was saved by which means, and what the same would cost in a month."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.costs.bill import Bill, Line
from reports.look import BLUE, GREEN, GREY, RED, blank, mark_empty, plain
from reports.numbers import MISSING, NOT_MEASURED, count, share, usd
from reports.section import Chart, Section
from reports.tables import TextTable
from reports.view import View

__all__ = ["cost_section"]

_MOST = 25
_MOST_BARS = 12


@dataclass(frozen=True)
class _Bar:
    """A step of the waterfall: from `base` by `usd` up or down."""

    name: str
    usd: float
    base: float
    colour: str
    hatching: str = ""


def cost_section(view: View) -> list[Section]:
    """Nothing where nothing is known of prices."""
    bill = view.summary.bill
    if bill is None:
        return []
    charts = [_waterfall(bill)] if bill.usd is not None and (bill.by_kind or bill.savings) else []
    tables = [_figures(bill)]
    tables += [_savings(bill)] if bill.savings else []
    for caption, lines in (
        ("tenant", bill.by_tenant),
        ("feature", bill.by_feature),
        ("model", bill.by_model),
        ("day, UTC", bill.by_day),
    ):
        if lines:
            tables.append(_lines(f"Cost by {caption}", caption, lines, bill.usd))
    notes = [f"Prices: {bill.source}."] if bill.source else []
    if view.summary.num_warmup:
        notes.append(f"Without the {view.summary.num_warmup:,} requests of the warm-up, which cost something too.")
    gpus = f"GPUs: {bill.gpu_why}" if bill.gpu_why else None
    notes += [f"{note.rstrip('.')}." for note in (*bill.notes, gpus, bill.month_why) if note]
    return [Section("cost", "Cost", " ".join(notes), charts, tables)]


def _waterfall(bill: Bill) -> Chart:
    total = bill.usd or 0.0
    bars = _bars(bill, total)
    figure = blank("", "USD")
    for bar in bars:
        figure.add_bar(
            x=[bars.index(bar)],
            y=[bar.usd],
            base=[bar.base],
            marker={
                "color": bar.colour,
                "line": {"width": 0},
                "pattern": {"shape": bar.hatching, "fillmode": "overlay", "size": 7},
            },
            text=[plain(usd(bar.usd))],
            textposition="outside",
            cliponaxis=False,
            hoverinfo="text",
            hovertext=[plain(f"{bar.name}: {usd(bar.usd)}")],
            showlegend=False,
        )
    figure.update_layout(
        barmode="overlay",
        hovermode="closest",
        margin={"t": 30},
        xaxis={"tickvals": list(range(len(bars))), "ticktext": [plain(bar.name, 24) for bar in bars]},
    )
    figure.update_yaxes(tickprefix="$", tickformat=None)
    mark_empty(figure, not bars)
    caption = (
        "From the left: what each kind of token cost, up to the whole bill. On the right, hatched: what was not spent, by each means "
        "taken away alone with the others as they were; savings do not add up. Below the bill: a means that cost more than it saved."
    )
    return Chart("cost-chart", "Where the money went", caption, figure, _kinds(bill))


def _bars(bill: Bill, total: float) -> list[_Bar]:
    bars, base = [], 0.0
    for line in bill.by_kind[:_MOST_BARS]:
        bars.append(_Bar(line.name, line.usd, base, BLUE))
        base += line.usd
    bars.append(_Bar("bill", total, 0.0, GREY))
    for saving in bill.savings[:_MOST_BARS]:
        bars.append(_Bar(f"saved: {saving.kind}", saving.usd, total, GREEN if saving.usd >= 0 else RED, "/"))
    return bars


def _kinds(bill: Bill) -> TextTable:
    rows = [[line.name, usd(line.usd), _share(line.usd, bill.usd), count(line.num_tokens)] for line in bill.by_kind]
    rows.append(["bill", usd(bill.usd), _share(bill.usd, bill.usd), MISSING])
    rows += [
        [f"saved: {saving.kind}", usd(saving.usd), _share(saving.usd, bill.usd), MISSING] for saving in bill.savings
    ]
    return TextTable("The bill by kind of token", ["", "USD", "of the bill", "tokens"], rows)


def _share(part: float | None, whole: float | None) -> str:
    return share(np.copysign(abs(part / whole), part)) if part is not None and whole else MISSING


def _figures(bill: Bill) -> TextTable:
    facts = [
        ("whole bill", usd(bill.usd) if bill.usd is not None else NOT_MEASURED),
        ("requests with a known cost", count(bill.num_priced)),
        ("requests without", count(bill.num_unknown)),
        ("per answered request", usd(bill.per_request)),
        ("per 1,000 of them", usd(bill.per_1k)),
        ("per million tokens", usd(bill.per_mtok)),
        ("per million output tokens", usd(bill.per_output_mtok)),
        ("per good request", usd(bill.per_good)),
        ("GPUs", usd(bill.gpu_usd)),
        ("GPUs, an hour", usd(bill.gpu_usd_per_hour)),
        ("energy, J", MISSING if bill.energy_j is None else f"{bill.energy_j:,.0f}"),
        (
            "energy an output token, J",
            MISSING if bill.energy_j_per_output_token is None else f"{bill.energy_j_per_output_token:,.3g}",
        ),
        (f"a month of {count(bill.month_requests)} requests", usd(bill.month_usd)),
        ("a month of as many GPUs as that takes", usd(bill.gpu_month_usd)),
    ]
    rows = [[name, value] for name, value in facts if value != MISSING]
    return TextTable("The bill", ["", ""], rows)


def _savings(bill: Bill) -> TextTable:
    rows = [
        [saving.kind, saving.why or MISSING, usd(saving.usd), usd(saving.without_usd), count(saving.num_requests)]
        for saving in bill.savings
    ]
    head = ["means", "what is compared", "saved", "without it", "requests"]
    return TextTable("Savings, each by itself", head, rows, num_text=2).at_most(_MOST)


def _lines(caption: str, what: str, lines: list[Line], whole: float | None) -> TextTable:
    rows = [
        [line.name or MISSING, usd(line.usd), _share(line.usd, whole), count(line.num_requests), count(line.num_tokens)]
        for line in lines
    ]
    return TextTable(caption, [what, "USD", "of the bill", "requests", "tokens"], rows).at_most(_MOST)
