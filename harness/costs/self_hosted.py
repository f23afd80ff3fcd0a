"""GPUs by the hour, their energy, and what a month would cost."""

from __future__ import annotations

from math import ceil

import numpy as np

from harness.costs.bill import Bill
from harness.gpu.samples import GpuReport
from harness.table import Table

__all__ = ["HOURS_A_MONTH", "add_gpus", "add_month", "hours_of"]

HOURS_A_MONTH = 730.0  # 8,760 / 12, as cloud providers count


def hours_of(table: Table) -> float | None:
    """Hours from the first request that was sent to the last answer that ended; None when none was, or has."""
    sent, done = table["sent_at"], table["done_at"]
    if np.isnan(sent).all() or np.isnan(done).all():
        return None
    return max(0.0, float(np.nanmax(done)) - float(np.nanmin(sent))) / 3600


def add_gpus(bill: Bill, table: Table, usd_per_hour: float | None, gpu: GpuReport | None) -> None:
    """Write into the bill what the GPUs of the target cost, at USD an hour for all of them together, and what energy they took."""
    bill.gpu_usd_per_hour = usd_per_hour
    if usd_per_hour is not None:
        bill.gpu_hours = hours_of(table)
        if bill.gpu_hours is None:
            bill.gpu_why = "no request was sent and answered, so there is no time to pay for"
        else:
            bill.gpu_usd = bill.gpu_hours * usd_per_hour
            bill.gpu_why = (
                "from the first request sent to the last answer ended, at the price of the target's GPUs together"
            )
            if bill.usd is None:
                bill.gpu_why += "; tokens have no price, so figures by request and token are of this"
    if gpu is not None and gpu.energy_j is not None:
        bill.energy_j = gpu.energy_j
        output = float(np.nansum(table["num_output_tokens"]))
        bill.energy_j_per_output_token = gpu.energy_j / output if output else None


def add_month(bill: Bill, num_answered: int, num_gpus: int | None) -> None:
    """Project the bill to `bill.month_requests` a month; its figures by request must stand already.

    Prices of tokens: so many times the cost of a request. GPUs: as many copies of the target as it takes to answer the month's
    requests at the rate at which this run was answered, all month long. A copy that had more to do might answer more: the figure is of
    the load that was measured, not of what the target can do.
    """
    if bill.month_requests is None:
        return
    words = []
    if bill.usd is not None and bill.per_request is not None:
        bill.month_usd = bill.per_request * bill.month_requests
        words.append("each at what an answered one of this run cost")
    if bill.gpu_usd_per_hour is not None and bill.gpu_hours and num_answered:
        rate = num_answered / bill.gpu_hours
        copies = ceil(round(bill.month_requests / (rate * HOURS_A_MONTH), 9))
        bill.gpu_month_usd = copies * HOURS_A_MONTH * bill.gpu_usd_per_hour
        words.append(
            f"at the {rate / 3600:,.3g} a second that were answered here it takes {copies:,} x {_gpus(num_gpus)} for "
            f"{HOURS_A_MONTH:g} hours"
        )
    if bill.usd is None:
        bill.month_usd = bill.gpu_month_usd
    if words:
        bill.month_why = f"{bill.month_requests:,.0f} requests a month: {'; '.join(words)}"


def _gpus(num: int | None) -> str:
    return "the target's GPUs" if num is None else "its GPU" if num == 1 else f"its {num} GPUs"
