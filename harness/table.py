"""Records as columns: read once, fold many times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from operator import attrgetter
from typing import TypeVar, get_args

import numpy as np
import numpy.typing as npt

from harness.records import Outcome, RequestRecord

__all__ = ["LABELS", "OUTCOMES", "Counts", "Floats", "Ints", "Labels", "Mask", "Table", "tabulate"]

OUTCOMES: tuple[str, ...] = get_args(Outcome)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

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
    "num_merged_chunks", "num_attempts", "num_stale_sockets", "num_cached_tokens", "num_cache_write_tokens",
    "num_cache_write_1h_tokens", "num_reasoning_tokens", "throttled_s", "read_lag_s", "queue_s", "status", "cost_usd",
)  # fmt: skip
LABELS = (
    "phase", "class_name", "tenant", "feature", "protocol", "model", "model_served", "cache_outcome", "replica",
    "finish_reason", "error_kind", "doubt",
)  # fmt: skip

_BATCH = 4096
_OUTCOME_CODES = {name: code for code, name in enumerate(OUTCOMES)}
_Scalar = TypeVar("_Scalar", bound=np.generic)
_NUMBER_OF = {name: attrgetter(name) for name in (*_INSTANTS, *_NUMBERS)}
_LABEL_OF = {name: attrgetter(name) for name in LABELS}


@dataclass(frozen=True)
class Labels:
    """A column of text: `names[codes[i]]` is the label of row i; code -1: it has none. Names in order of appearance."""

    codes: Counts
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.codes)

    def texts(self) -> list[str | None]:
        """One a row."""
        names = (*self.names, None)
        return [names[code] for code in self.codes]

    def is_(self, name: str | None) -> Mask:
        """The rows that have this label; None: those that have none."""
        if name is None:
            return np.asarray(self.codes == -1)
        if name not in self.names:
            return np.zeros(len(self.codes), dtype=np.bool_)
        return np.asarray(self.codes == self.names.index(name))

    def counts(self) -> dict[str, int]:
        """How many rows have each label."""
        there = self.codes[self.codes >= 0]
        return dict(zip(self.names, np.bincount(there, minlength=len(self.names)).tolist(), strict=True))


@dataclass(frozen=True)
class Table:
    """Columns of equal length, one row a record; NaN is missing.

    `outcome` indexes OUTCOMES. Gaps are flat: those of row i are `gaps[gap_start[i]:gap_start[i + 1]]`, each between two
    content chunks, with the tokens of the later chunk in `gap_tokens`.
    """

    columns: dict[str, Floats]
    labels: dict[str, Labels]
    outcome: npt.NDArray[np.int8]
    stream: Mask
    counted_by_server: Mask
    gaps: Floats
    gap_tokens: Counts
    gap_start: Ints
    errors: Counter[tuple[str, str]]
    error_examples: dict[tuple[str, str], str]
    token_sources: Counter[str]
    request_ids: list[str] = field(default_factory=list)

    def __getitem__(self, name: str) -> Floats:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.outcome)

    def is_outcome(self, name: str) -> Mask:
        return np.asarray(self.outcome == OUTCOMES.index(name))

    def select(self, rows: Mask) -> Table:
        """Only these rows. Errors and their examples are those of the whole table."""
        num_gaps = np.diff(self.gap_start)
        gaps = np.repeat(rows, num_gaps)
        return Table(
            columns={name: column[rows] for name, column in self.columns.items()},
            labels={name: Labels(each.codes[rows], each.names) for name, each in self.labels.items()},
            outcome=self.outcome[rows],
            stream=self.stream[rows],
            counted_by_server=self.counted_by_server[rows],
            gaps=self.gaps[gaps],
            gap_tokens=self.gap_tokens[gaps],
            gap_start=np.concatenate([np.zeros(1, np.int64), num_gaps[rows]]).cumsum(),
            errors=self.errors,
            error_examples=self.error_examples,
            token_sources=self._sources(rows),
            request_ids=[self.request_ids[row] for row in np.flatnonzero(rows)],
        )

    def _sources(self, rows: Mask) -> Counter[str]:
        """Who counted the output tokens of the ok requests among these rows; whoever counted none is unknown."""
        ok = rows & self.is_outcome("ok")
        server, known = ok & self.counted_by_server, ok & ~np.isnan(self["num_output_tokens"])
        num = {"server": server.sum(), "local": (known & ~server).sum(), "unknown": (ok & ~known & ~server).sum()}
        return Counter({name: int(each) for name, each in num.items() if each})


class _Codes(dict[str | None, int]):
    """Numbers for names in order of appearance."""

    def __missing__(self, name: str | None) -> int:
        code = self[name] = len(self) - 1  # None is in it from the start, as -1
        return code

    def of(self, column: list[str | None]) -> Counts:
        if len(names := set(column)) == 1:  # mostly all have the same, or none has any
            return np.full(len(column), self[names.pop()], dtype=np.int32)
        return np.array(list(map(self.__getitem__, column)), dtype=np.int32)


@dataclass
class _Reader:
    """Takes records in batches: a column at a time is several times faster than a record at a time."""

    numbers: dict[str, list[Floats]] = field(default_factory=lambda: {name: [] for name in _NUMBER_OF})
    codes: dict[str, _Codes] = field(default_factory=lambda: {name: _Codes({None: -1}) for name in LABELS})
    labels: dict[str, list[Counts]] = field(default_factory=lambda: {name: [] for name in LABELS})
    outcome: list[npt.NDArray[np.int8]] = field(default_factory=list)
    stream: list[Mask] = field(default_factory=list)
    by_server: list[Mask] = field(default_factory=list)
    gaps: list[Floats] = field(default_factory=list)
    gap_tokens: list[Counts] = field(default_factory=list)
    num_gaps: list[Ints] = field(default_factory=list)
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], str] = field(default_factory=dict)
    sources: Counter[str] = field(default_factory=Counter)
    request_ids: list[str] = field(default_factory=list)

    def take(self, batch: list[RequestRecord]) -> None:
        for name, of in _NUMBER_OF.items():
            self.numbers[name].append(np.array(list(map(of, batch)), dtype=np.float64))  # None is NaN
        for name, of in _LABEL_OF.items():
            self.labels[name].append(self.codes[name].of(list(map(of, batch))))
        self.outcome.append(np.array([_OUTCOME_CODES[record.outcome] for record in batch], dtype=np.int8))
        self.stream.append(np.array([record.stream for record in batch], dtype=np.bool_))
        self.by_server.append(np.array([record.token_source == "server" for record in batch], dtype=np.bool_))
        self.request_ids += [record.request_id for record in batch]
        self._take_gaps(batch)
        self._take_errors(batch)

    def _take_gaps(self, batch: list[RequestRecord]) -> None:
        gaps = [record.token_gaps_s or () for record in batch]
        num = np.array([len(each) for each in gaps], dtype=np.int64)
        tokens = np.ones(int(num.sum()), dtype=np.int32)
        ends = np.cumsum(num)
        several = [(row, record.chunk_tokens) for row, record in enumerate(batch) if record.chunk_tokens]
        for row, each in several:
            if num[row]:
                tokens[ends[row] - num[row] : ends[row]] = each[1:]
        self.num_gaps.append(num)
        self.gaps.append(np.fromiter(chain.from_iterable(gaps), dtype=np.float64, count=len(tokens)))
        self.gap_tokens.append(tokens)

    def _take_errors(self, batch: list[RequestRecord]) -> None:
        self.sources.update(record.token_source or "unknown" for record in batch if record.outcome == "ok")
        for record in [each for each in batch if each.error_kind is not None]:
            label = (record.outcome, record.error_kind or "")
            self.errors[label] += 1
            self.examples.setdefault(label, record.error_text or "")

    def table(self) -> Table:
        return Table(
            columns={name: _joined(parts, np.float64) for name, parts in self.numbers.items()},
            labels={
                name: Labels(_joined(parts, np.int32), tuple(each for each in self.codes[name] if each is not None))
                for name, parts in self.labels.items()
            },
            outcome=_joined(self.outcome, np.int8),
            stream=_joined(self.stream, np.bool_),
            counted_by_server=_joined(self.by_server, np.bool_),
            gaps=_joined(self.gaps, np.float64),
            gap_tokens=_joined(self.gap_tokens, np.int32),
            gap_start=np.concatenate([np.zeros(1, np.int64), *self.num_gaps]).cumsum(),
            errors=self.errors,
            error_examples=self.examples,
            token_sources=self.sources,
            request_ids=self.request_ids,
        )


def _joined(parts: list[npt.NDArray[_Scalar]], kind: type[_Scalar]) -> npt.NDArray[_Scalar]:
    return np.concatenate([np.empty(0, dtype=kind), *parts])


def tabulate(records: Iterable[RequestRecord]) -> Table:
    """Read records into columns."""
    reader = _Reader()
    for batch in _batches(iter(records)):
        reader.take(batch)
    return reader.table()


def _batches(records: Iterator[RequestRecord]) -> Iterator[list[RequestRecord]]:
    while batch := list(islice(records, _BATCH)):
        yield batch
