"""Tables made of columns, for laws and queues over more requests than one would write as records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from harness.records import RequestRecord
from harness.table import LABELS, OUTCOMES, Floats, Labels, Table, tabulate

__all__ = ["answered", "table_of"]

_CODES = {name: code for code, name in enumerate(OUTCOMES)}
_NAMES = tuple(tabulate([RequestRecord(request_id="", intended_at=0.0)]).columns)


def table_of(
    columns: Mapping[str, Floats],
    labels: Mapping[str, Sequence[str | None]] | None = None,
    outcomes: Sequence[str] | None = None,
) -> Table:
    """A table of streamed requests with these columns; every other column is missing, and all are ok unless said otherwise."""
    num = len(columns["intended_at"])
    given = labels or {}
    none = Labels(np.full(num, -1, dtype=np.int32), ())
    ok = np.full(num, _CODES["ok"], dtype=np.int8)
    return Table(
        columns={name: np.asarray(columns.get(name, np.full(num, np.nan)), dtype=np.float64) for name in _NAMES},
        labels={name: _labels(given[name]) if name in given else none for name in LABELS},
        outcome=ok if outcomes is None else np.array([_CODES[kind] for kind in outcomes], dtype=np.int8),
        stream=np.ones(num, dtype=np.bool_),
        counted_by_server=np.ones(num, dtype=np.bool_),
        gaps=np.empty(0),
        gap_tokens=np.empty(0, dtype=np.int32),
        gap_start=np.zeros(num + 1, dtype=np.int64),
        errors=Counter(),
        error_examples={},
        token_sources=Counter(),
        request_ids=[f"run-1-{number}" for number in range(num)],
    )


def answered(intended_at: Floats, took_s: Floats) -> Table:
    """Requests that were sent on time and answered as a whole after `took_s`."""
    done = intended_at + took_s
    tokens = np.full(len(done), 20.0)
    columns = {"sent_at": intended_at, "first_token_at": done, "last_token_at": done, "done_at": done}
    return table_of({"intended_at": intended_at, "num_output_tokens": tokens} | columns)


def _labels(texts: Sequence[str | None]) -> Labels:
    names = tuple(dict.fromkeys(text for text in texts if text is not None))
    return Labels(np.array([-1 if text is None else names.index(text) for text in texts], dtype=np.int32), names)
