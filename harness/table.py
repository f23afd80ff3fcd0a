"""Records as columns: read once, fold many times."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import nan
from typing import get_args

import numpy as np
import numpy.typing as npt

from harness.records import Outcome, RequestRecord

__all__ = ["OUTCOMES", "Floats", "Ints", "Table", "tabulate"]

OUTCOMES: tuple[str, ...] = get_args(Outcome)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_INSTANTS = (
    "intended_at",
    "sent_at",
    "connected_at",
    "first_byte_at",
    "first_token_at",
    "last_token_at",
    "done_at",
)
_NUMBERS = (
    "planned_prompt_tokens", "planned_output_tokens", "num_prompt_tokens", "num_output_tokens", "num_chunks",
    "num_merged_chunks", "num_attempts", "num_stale_sockets", "num_cached_tokens", "throttled_s", "read_lag_s", "cost_usd",
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """Columns of equal length, one row a record; NaN is missing.

    `outcome` indexes OUTCOMES. Gaps are flat: those of row i are `gaps[gap_start[i]:gap_start[i + 1]]`, each between two
    content chunks, with the tokens of the later chunk in `gap_tokens`.
    """

    columns: dict[str, Floats]
    outcome: npt.NDArray[np.int8]
    stream: npt.NDArray[np.bool_]
    counted_by_server: npt.NDArray[np.bool_]
    phase: list[str | None]
    class_name: list[str | None]
    doubt: list[str | None]
    gaps: Floats
    gap_tokens: Ints
    gap_start: Ints
    errors: Counter[tuple[str, str]]
    error_examples: dict[tuple[str, str], str]
    token_sources: Counter[str]
    request_ids: list[str] = field(default_factory=list)

    def __getitem__(self, name: str) -> Floats:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.outcome)

    def is_outcome(self, name: str) -> npt.NDArray[np.bool_]:
        return np.asarray(self.outcome == OUTCOMES.index(name))


def tabulate(records: Iterable[RequestRecord]) -> Table:
    """Read records into columns."""
    columns = {name: array("d") for name in (*_INSTANTS, *_NUMBERS)}
    by_server = array("b")
    outcome, stream, gaps, gap_tokens, gap_start = (
        array("b"),
        array("b"),
        array("d"),
        array("q"),
        array("q", [0]),
    )
    phase: list[str | None] = []
    class_name: list[str | None] = []
    doubt: list[str | None] = []
    request_ids: list[str] = []
    errors: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    sources: Counter[str] = Counter()
    for record in records:
        for name, column in columns.items():
            value = getattr(record, name)
            column.append(nan if value is None else value)
        outcome.append(OUTCOMES.index(record.outcome))
        stream.append(record.stream)
        by_server.append(record.token_source == "server")
        phase.append(record.phase)
        class_name.append(record.class_name)
        doubt.append(record.doubt)
        request_ids.append(record.request_id)
        if record.token_gaps_s:
            gaps.extend(record.token_gaps_s)
            gap_tokens.extend((record.chunk_tokens or [1] * (len(record.token_gaps_s) + 1))[1:])
        gap_start.append(len(gaps))
        if record.error_kind is not None:
            label = (record.outcome, record.error_kind)
            errors[label] += 1
            examples.setdefault(label, record.error_text or "")
        if record.outcome == "ok":
            sources[record.token_source or "unknown"] += 1
    return Table(
        {name: np.array(column) for name, column in columns.items()},
        np.array(outcome, dtype=np.int8),
        np.array(stream, dtype=np.bool_),
        np.array(by_server, dtype=np.bool_),
        phase,
        class_name,
        doubt,
        np.array(gaps),
        np.array(gap_tokens, dtype=np.int64),
        np.array(gap_start, dtype=np.int64),
        errors,
        examples,
        sources,
        request_ids,
    )
