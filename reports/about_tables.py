"""The tables of a page about how far its results may be trusted, and about what was run where."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping

from harness.quantiles import Distribution
from harness.store import Manifest
from harness.summary import Summary
from harness.text import milliseconds, percentile_cell
from reports.numbers import MISSING, NOT_MEASURED, bytes_, count, share, value_text, wall_time
from reports.tables import TextTable

__all__ = ["certificate_rows", "environment_tables", "instrument_rows", "reproduce", "truth_rows"]

_MOST_FACTS = 80
_MOST_TEXT = 1500


def instrument_rows(summary: Summary) -> list[TextTable]:
    """What the load generator says about itself."""
    instrument = summary.instrument
    lags = [_lag_row("send lag", instrument.send_lag), _lag_row("loop lag", instrument.loop_lag)]
    if instrument.read_lag is not None:
        lags.append(_lag_row("read lag", instrument.read_lag))
    facts = [
        ["CPU of the load processes, mean", _or_not_measured(share(instrument.cpu_mean))],
        ["CPU of the load processes, most", _or_not_measured(share(instrument.cpu_max))],
        ["chunks that came in one read with another", _or_not_measured(share(instrument.merged_share))],
        ["answers with the kernel's receive stamps", _or_not_measured(share(instrument.stamped_share))],
        ["samples with a doubt", _or_not_measured(share(instrument.doubted_share))],
        *([f"of them {kind.replace('_', ' ')}", count(num)] for kind, num in sorted(instrument.doubts.items())),
        ["processors of the machine, used", _or_not_measured(share(instrument.machine_cpu))],
        ["time that a load process waited for one", _or_not_measured(share(instrument.cpu_wait))],
        ["time that a hypervisor gave to others", _or_not_measured(share(instrument.stolen_cpu))],
        ["most requests in flight", _or_not_measured(count(instrument.max_in_flight))],
        ["planned requests without a record", count(summary.load.num_missing)],
        ["torn record lines", count(instrument.num_torn_lines)],
    ]
    return [
        TextTable("Lags of the instrument, ms", ["ms", "samples", "p50", "p99", "max"], lags),
        TextTable("State of the instrument", ["", ""], facts),
    ]


def certificate_rows(manifest: Manifest) -> list[TextTable]:
    """What `harness doctor` found out about the machine; no table where it was never asked, or nothing was measured."""
    found = manifest.certificate
    if found is None:
        return []
    facts = [
        ["state", found.state if not found.stale else f"stale: {'; '.join(found.stale)}"],
        ["made", wall_time(found.made_wall)],
        ["added to the median TTFT of 40 streams, ms", milliseconds(found.added_p50_s)],
        [f"added to its p{found.tail_percent:g}, ms", milliseconds(found.added_tail_s)],
        ["error of the gap between chunks, p99, ms", milliseconds(found.itl_error_p99_s)],
        ["streams at once within the error budget of 5 ms", _or_not_measured(count(found.max_streams))],
        ["chunks per second within it", _or_not_measured(count(found.max_chunks_per_s))],
        ["step of the clock, µs", f"{found.resolution_s * 1e6:.2f}"],
        ["kernel receive stamps", "yes" if found.receive_stamps else "no"],
    ]
    return [TextTable("Calibration certificate of this machine", ["", ""], facts)]


def truth_rows(summary: Summary) -> list[TextTable]:
    """The instrument against the mock's ledger; no table when there was none to compare with."""
    truth = summary.truth
    if truth is None:
        return []
    errors = [
        _lag_row("TTFT error of the instrument", truth.ttft_error),
        _lag_row("last token, error of the instrument", truth.last_token_error),
        _lag_row("lateness of the mock's writes", truth.lateness),
    ]
    facts = [
        ["requests in both", count(truth.num_matched)],
        ["only in the records", count(truth.num_records_only)],
        ["only in the ledger", count(truth.num_ledger_only)],
        ["output tokens differ", count(truth.num_token_mismatches)],
    ]
    return [
        TextTable("Records against the mock's ledger, ms", ["ms", "samples", "p50", "p99", "max"], errors),
        TextTable("Requests in records and ledger", ["", ""], facts),
    ]


def _lag_row(name: str, metric: Distribution) -> list[str]:
    if not metric.num:
        return [name, NOT_MEASURED, MISSING, MISSING, MISSING]
    return [
        name,
        count(metric.num),
        percentile_cell(metric, 50),
        percentile_cell(metric, 99),
        milliseconds(metric.maximum),
    ]


def _or_not_measured(cell: str) -> str:
    return NOT_MEASURED if cell == MISSING else cell


def environment_tables(manifest: Manifest) -> list[TextTable]:
    """What was run, how, where and with which versions."""
    run = {
        "run": manifest.run_id,
        "scenario": manifest.scenario,
        "target": manifest.target,
        "model": manifest.model,
        "seed": manifest.seed,
        "started": wall_time(manifest.started_wall),
        "ended after, s": None if manifest.ended_at is None else f"{manifest.ended_at:,.1f}",
        "ended how": manifest.ended_how,
        "clock": manifest.clock,
        "load processes": manifest.num_workers,
        "cap on requests in flight": manifest.max_in_flight,
        "warm-up, s": f"{manifest.warmup_s:g}" if manifest.warmup_s else None,
        "prices": _prices(manifest),
        "GPUs of the target, USD an hour": manifest.gpu_price_per_hour,
    }
    machine = {**manifest.machine}
    if isinstance(memory := machine.pop("memory_bytes", None), int):
        machine["memory"] = bytes_(memory)
    parts: dict[str, Mapping[str, object]] = {
        "Run": run,
        **({"Labels": manifest.labels} if manifest.labels else {}),
        "Plan": manifest.plan,
        "Options": manifest.options,
        "Machine": machine,
        "Versions": manifest.versions,
    }
    return [
        TextTable(name, ["", ""], _pairs(values.items()), num_text=2).at_most(_MOST_FACTS)
        for name, values in parts.items()
    ]


def _prices(manifest: Manifest) -> str | None:
    """Whose prices, at which version."""
    if not manifest.prices:
        return None
    source, version = manifest.prices.get("source"), manifest.prices.get("version")
    return " ".join(str(part) for part in (source, version) if part) or None


def _pairs(items: Iterable[tuple[str, object]]) -> list[list[str]]:
    return [[name, _short(value_text(value))] for name, value in items]


def _short(text: str) -> str:
    """A plan of many pieces is read in the manifest, not here."""
    return (
        text
        if len(text) <= _MOST_TEXT
        else f"{text[:_MOST_TEXT]} … ({len(text):,} characters; all of it in manifest.json)"
    )


def reproduce(manifest: Manifest) -> str:
    """The command as it can be given to a shell again."""
    return shlex.join(manifest.command)
