"""The certificate as a page for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from harness.clock import day_of
from harness.doctor.certificate import BUDGET_S, Certificate, Level

__all__ = ["certificate_page"]


def certificate_page(certificate: Certificate) -> RenderableType:
    """Verdict first, then what it rests on."""
    style = "bold green" if certificate.state == "OK" else "bold yellow"
    head = Text.assemble("\n", (certificate.state, style), f"  {_headline(certificate)}\n")
    reasons = [Text(f"  {reason}") for reason in certificate.reasons]
    return Group(
        head, *reasons, *([Text("")] if reasons else []), _machine(certificate), Text(""), _levels(certificate)
    )


def _headline(certificate: Certificate) -> str:
    best = certificate.best
    if best is None:
        return "no load was measured within the error budget"
    more = "" if certificate.limit is not None else " or more"
    return f"measures {best.streams} streams at once{more}, {best.chunks_per_s:,.0f} chunks/s, {best.streams_per_s:,.0f} new streams/s"


def _machine(certificate: Certificate) -> Table:
    about, clocks = certificate.machine, certificate.clocks
    memory = f", {about['memory_bytes'] / 2**30:.0f} GiB" if about.get("memory_bytes") else ""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    rows = {
        "machine": f"{about.get('cpu') or about.get('architecture')}, {about.get('num_cpus')} CPUs{memory}",
        "system": str(about.get("system")),
        "software": ", ".join(f"{name} {number}" for name, number in certificate.versions.items()),
        "clock": f"steps of {clocks.resolution_s * 1e9:,.0f} ns",
        "timers": f"late by {_ms(clocks.timer_late_p50_s)} ms at p50, {_ms(clocks.timer_late_p99_s)} ms at p99, "
        f"{_ms(clocks.timer_late_max_s)} ms at worst",
        "kernel": "says when bytes came"
        if clocks.receive_stamps
        else "does not say when bytes came: stamps are our own reads",
        "busy before": "–" if certificate.load_average is None else f"load average {certificate.load_average:.2f}",
        "limit": certificate.limit or "none met",
        "made": f"{day_of(certificate.made_wall)}{', quick' if certificate.quick else ''}",
    }
    for name, text in rows.items():
        table.add_row(f"  {name}", escape(text))
    return table


def _levels(certificate: Certificate) -> Table:
    table = Table(
        title=f"  Added against the mock's ledger, ms; budget of TTFT: {BUDGET_S * 1e3:g} at p99",
        title_justify="left",
        title_style="dim",
        caption="  send: sent later than planned; mock: written later than planned",
        caption_justify="left",
        box=None,
        padding=(0, 0, 0, 2),
    )
    for name in ("streams", "chunks/s", "TTFT p50", "tail", "ITL p99", "send", "CPU", "mock", "kept"):
        table.add_column(name, justify="right", no_wrap=True)
    for level in certificate.levels:
        table.add_row(*_cells(level))
    return table


def _cells(level: Level) -> list[str]:
    tail = _ms(level.added_tail_s)
    if level.tail_percent != 99 and level.added_tail_s is not None:
        tail = f"{'max' if level.tail_percent == 100 else f'p{level.tail_percent:g}'} {tail}"
    return [
        f"{level.streams}",
        f"{level.chunks_per_s:,.0f}",
        _ms(level.added_p50_s),
        tail,
        _ms(level.itl_error_p99_s),
        _ms(level.send_lag_tail_s),
        "–" if level.cpu_max is None else f"{level.cpu_max:.0%}",
        _ms(level.mock_late_p99_s),
        "yes" if level.limit is None else "no",
    ]


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{round(seconds * 1e3, 2) + 0.0:.2f}"  # + 0.0: no -0.00
