"""How long each request waited in the server, as the server says: in its record, or in the mock's ledger."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from harness.table import Floats, Table

__all__ = ["queue_times"]


class _Entry(msgspec.Struct):
    client_request_id: str | None = None
    queue_s: float | None = None


_DECODE = msgspec.json.Decoder(_Entry).decode


def queue_times(table: Table, ledger: Path) -> Floats:
    """Seconds, one a row; NaN: not known. The ledger is asked only where no record says anything: it is a duration, so it matters
    not whose clock it was taken with."""
    told = table["queue_s"]
    if not np.isnan(told).all() or not len(table):
        return told
    try:
        with ledger.open("rb") as file:
            entries = [_DECODE(line) for line in file if line.endswith(b"\n")]
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return told
    waits = {each.client_request_id: each.queue_s for each in entries if each.queue_s is not None}
    return np.array([waits.get(name, np.nan) for name in table.request_ids], dtype=np.float64) if waits else told
