"""The instrument against the ledger: the mock wrote down what it sent and when, so our error is a number.

Same machine and same boot: both sides read one monotonic clock, and instants compare exactly. Otherwise the
comparison is not made; a difference of wall clocks would be reported as an error of measurement.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from harness.errors import RunError
from harness.quantiles import Distribution, distribution
from harness.records import RecordFile
from harness.run_files import read_whole
from harness.table import Table

__all__ = ["Truth", "against_ledger"]


class Truth(msgspec.Struct, kw_only=True):
    """How far the records are from the ledger; seconds.

    `ttft_error`: arrival of the first content here minus its write there. `lateness`: the mock's own error, real minus
    planned write, over all content writes. `num_*_only`: requests that only one side knows.
    """

    num_matched: int
    num_records_only: int
    num_ledger_only: int
    num_token_mismatches: int
    ttft_error: Distribution
    last_token_error: Distribution
    lateness: Distribution


class _LedgerEntry(msgspec.Struct):
    client_request_id: str | None
    stream: bool
    planned_at: list[float]
    written_at: list[float]
    num_output_tokens: int | None
    outcome: str | None


class _LedgerHeader(msgspec.Struct):
    boot_id: str | None
    monotonic_origin: float


_ENTRY = msgspec.json.Decoder(_LedgerEntry)
_HEADER = msgspec.json.Decoder(_LedgerHeader)
_Line = TypeVar("_Line")


def _decode(decoder: msgspec.json.Decoder[_Line], line: bytes, path: Path, number: int) -> _Line:
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RunError(f"{path}:{number}: {error}") from error


def against_ledger(path: Path, table: Table, files: Sequence[RecordFile]) -> Truth | None:
    """Compare the records with a ledger file; None when their clocks cannot be compared.

    `files` are the record files in the order of the table's rows: their headers tie instants to the monotonic clock.
    """
    lines = read_whole(path).splitlines(keepends=True)
    if not lines:
        return None
    ledger_header = _decode(_HEADER, lines[0], path, 1)
    headers = [file.header for file in files]
    if any(header is None or header.boot_id is None or header.boot_id != ledger_header.boot_id for header in headers):
        return None
    origins = [header.origin_monotonic for header in headers if header is not None]
    shift = ledger_header.monotonic_origin - np.repeat(origins, [file.num_records for file in files])
    entries = _read_entries(path, lines[1:])
    rows = {request_id: row for row, request_id in enumerate(table.request_ids)}
    matched = [(rows[key], entry) for key, entry in entries.items() if key in rows]
    streams = [(row, entry) for row, entry in matched if entry.stream and entry.written_at]
    first = np.array([table["first_token_at"][row] - (entry.written_at[0] + shift[row]) for row, entry in streams])
    last = np.array([table["last_token_at"][row] - (entry.written_at[-1] + shift[row]) for row, entry in streams])
    late = [w - p for entry in entries.values() for w, p in zip(entry.written_at, entry.planned_at, strict=True)]
    sent = {table.request_ids[row] for row in np.flatnonzero(~np.isnan(table["sent_at"]))}
    return Truth(
        num_matched=len(matched),
        num_records_only=len(sent - entries.keys()),
        num_ledger_only=len(entries.keys() - rows.keys()),
        num_token_mismatches=sum(_mismatch(table, row, entry) for row, entry in matched),
        ttft_error=distribution(first),
        last_token_error=distribution(last),
        lateness=distribution(np.array(late)),
    )


def _read_entries(path: Path, lines: list[bytes]) -> dict[str, _LedgerEntry]:
    """Entries by the client's request id; those of other clients have none and are left out."""
    entries: dict[str, _LedgerEntry] = {}
    for number, line in enumerate(lines, start=2):
        if not line.endswith(b"\n"):
            break
        entry = _decode(_ENTRY, line, path, number)
        if entry.client_request_id is not None:
            entries[entry.client_request_id] = entry
    return entries


def _mismatch(table: Table, row: int, entry: _LedgerEntry) -> bool:
    """Whether a complete answer has another number of output tokens here than there."""
    counted: Any = table["num_output_tokens"][row]
    return entry.outcome == "ok" and bool(counted != entry.num_output_tokens)
