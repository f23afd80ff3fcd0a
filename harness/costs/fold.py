"""The bill of a run: a fold over its records, and the prices that its manifest keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from harness.costs.bill import Bill, Line
from harness.costs.free import was_sent, with_free_requests
from harness.costs.lines import by_day, by_label, by_model
from harness.costs.savings import Billed, savings
from harness.costs.self_hosted import add_gpus, add_month
from harness.costs.text import dollars
from harness.costs.tokens import KINDS, Codes, Tariffs, TokensByKind, from_reply_cache, in_batch, models_in, usd_of
from harness.goodput import good_rows, with_objective
from harness.gpu.samples import GpuReport
from harness.objectives import Objective
from harness.prices import Prices, prices_said
from harness.store import Manifest
from harness.table import Mask, Table

__all__ = ["bill"]

_NOTHING = 1e-9  # of the bill: what is smaller is the rounding of its sums
_MOST_NAMED = 3


def bill(
    table: Table,
    manifest: Manifest,
    *,
    objectives: Mapping[str, Objective],
    gpu: GpuReport | None,
    month_requests: float | None = None,
    replica_usd: float = 0.0,
) -> Bill | None:
    """What the requests of a table cost; None when nothing is known about it. Raises RunError for a manifest whose prices cannot be
    read.

    In virtual time a request's cost is what the simulated stack paid for it: all calls, also those that failed, and fees. Tokens
    explain only that of the answer; the rest stands in a line of its own. `replica_usd`: what its replicas cost by the hour besides.
    """
    prices = prices_said(manifest.prices)
    table = with_free_requests(table)
    known = ~np.isnan(table["cost_usd"])
    usd = float(np.nansum(table["cost_usd"])) if known.any() else None
    if prices is None and not usd:
        usd = None  # a deployment without prices pays nothing for its calls: that is not known, not free
    if usd is None and manifest.gpu_price_per_hour is None:
        return None
    found = Bill(
        usd=usd,
        source=_source(prices, manifest) if usd is not None else None,
        num_priced=0 if usd is None else int(known.sum()),
        num_unknown=int((was_sent(table) & (~known if usd is not None else True)).sum()),
        month_requests=month_requests,
    )
    if usd is not None:
        _add_parts(found, table, manifest)
        if prices is not None and prices.models:
            _add_kinds(found, table, prices, simulated=manifest.clock == "virtual")
    add_gpus(found, table, manifest.gpu_price_per_hour, gpu)
    if replica_usd:
        found.notes.append(
            f"replicas cost {dollars(replica_usd)} besides, by the hour: that is in none of these figures"
        )
    _add_figures(found, table, objectives)
    add_month(found, int(table.is_outcome("ok").sum()), len(gpu.gpus) if gpu is not None and gpu.gpus else None)
    return found


def _source(prices: Prices | None, manifest: Manifest) -> str:
    if prices is None:
        return (
            f"the prices of {manifest.target}" if manifest.clock == "virtual" else "the records; nobody kept the prices"
        )
    return prices.source if prices.version is None else f"{prices.source} ({prices.version})"


def _add_parts(found: Bill, table: Table, manifest: Manifest) -> None:
    found.by_tenant, found.by_feature = by_label(table, "tenant"), by_label(table, "feature")
    found.by_model, found.by_day = by_model(table), by_day(table, manifest.started_wall)
    if found.num_unknown:
        found.notes.append(
            f"{found.num_unknown} requests have no known cost: their model has no price, or they ended without usage"
        )


def _add_kinds(found: Bill, table: Table, prices: Prices, *, simulated: bool) -> None:
    billed = _billed(table, prices, simulated=simulated)
    sums = billed.tokens.sums(billed.rows, billed.tariffs, billed.num_tariffs)
    usd = usd_of(sums, billed.book)
    found.by_kind = [
        Line(
            name=name,
            usd=float(part),
            **({"num_requests": int(num)} if name == "request" else {"num_tokens": int(num)}),
        )
        for name, part, num in zip(KINDS, usd, sums.sum(axis=1), strict=True)
        if part or (num and name != "request")
    ]
    assert found.usd is not None
    rest = found.usd - float(usd.sum())
    if abs(rest) > _NOTHING * max(found.usd, float(usd.sum())):
        found.by_kind.append(Line(name="other", usd=rest))
    found.savings = savings(table, billed)
    _note_strangers(found, table, billed)


def _billed(table: Table, prices: Prices, *, simulated: bool) -> Billed:
    book, tokens = Tariffs(prices), TokensByKind.of(table)
    asked = models_in(table.labels["model"], book.models)
    served = models_in(table.labels["model_served"], book.models)
    paid = np.where(served >= 0, served, asked)
    batch, hits = in_batch(table), from_reply_cache(table)
    tariffs = book.numbers(paid, table["num_prompt_tokens"], batch)
    if simulated:
        batch = batch | _half_price(
            table, book, tokens, tariffs, book.numbers(paid, table["num_prompt_tokens"], ~batch)
        )
        tariffs = book.numbers(paid, table["num_prompt_tokens"], batch)
    known = tokens.known & (tariffs >= 0)
    rows = known & ~hits & ~np.isnan(table["cost_usd"])
    return Billed(book, replace(tokens, known=known), tariffs, asked, paid, batch, rows, known & hits)


def _half_price(table: Table, book: Tariffs, tokens: TokensByKind, alone: Codes, together: Codes) -> Mask:
    """The rows of a simulation that came in a batch. Their protocol does not say so, but nothing else makes a request cheaper than
    its own tokens."""
    usd, least = table["cost_usd"], tokens.usd_by_row(book.rates, together)
    slack = 1 + 1e-9
    return np.asarray((usd * slack < tokens.usd_by_row(book.rates, alone)) & (usd * slack >= least))


def _note_strangers(found: Bill, table: Table, billed: Billed) -> None:
    """Who answered under a name without a price was billed as the model that was asked for; a dated name of it is the same model."""
    served, asked = table.labels["model_served"], table.labels["model"]
    strange = billed.rows & (served.codes >= 0) & (models_in(served, billed.book.models) < 0)
    pairs, num = np.unique(np.stack([served.codes[strange], asked.codes[strange]]), axis=1, return_counts=True)
    others = {
        served.names[code]: int(times)
        for code, by, times in zip(*pairs.tolist(), num, strict=True)
        if not served.names[code].rpartition("/")[2].startswith(asked.names[by].rpartition("/")[2])
    }
    if others:
        shown = ", ".join([*map(repr, list(others)[:_MOST_NAMED]), *(["…"] if len(others) > _MOST_NAMED else [])])
        found.notes.append(
            f"{sum(others.values())} answers came from {shown}, without a price of their own: they are billed as the model that was "
            "asked for"
        )


def _add_figures(found: Bill, table: Table, objectives: Mapping[str, Objective]) -> None:
    """What is paid by request, token and good request."""
    paid, counted = found.usd, table.is_outcome("ok")
    if paid is None:
        paid = found.gpu_usd
    else:
        counted = counted & ~np.isnan(table["cost_usd"])
    if paid is None:
        return
    num, output = int(counted.sum()), float(np.nansum(table["num_output_tokens"][counted]))
    tokens = output + float(np.nansum(table["num_prompt_tokens"][counted]))
    num_good = int((good_rows(table, objectives)[1] & counted).sum())
    judged = with_objective(table, objectives)
    # GPUs are paid for all alike.
    judged_usd = paid * judged.mean() if found.usd is None else float(np.nansum(table["cost_usd"][judged]))
    found.per_request = paid / num if num else None
    found.per_1k = paid / num * 1000 if num else None
    found.per_mtok = paid / tokens * 1e6 if tokens else None
    found.per_output_mtok = paid / output * 1e6 if output else None
    found.per_good = judged_usd / num_good if num_good else None
