"""Laws of lengths in tokens that a workload file may name beside the lognormal one (`synthetic.py`)."""

from __future__ import annotations

import csv
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Protocol

from harness.errors import WorkloadError

__all__ = ["LengthLaw", "Sampled", "Uniform", "Weighted", "read_lengths"]


class LengthLaw(Protocol):
    """How long something is: a function of a uniform number between 0 and 1."""

    def at(self, uniform: float) -> int: ...


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every length from `least` to `most` is as likely as the others."""

    least: int
    most: int

    def at(self, uniform: float) -> int:
        return self.least + int(uniform * (self.most - self.least + 1))


@dataclass(frozen=True)
class Weighted:
    """Lengths by weight."""

    weights: Mapping[int, float]

    @cached_property
    def _edges(self) -> list[float]:
        return list(accumulate(self.weights.values()))

    @cached_property
    def _lengths(self) -> list[int]:
        return list(self.weights)

    def at(self, uniform: float) -> int:
        return self._lengths[bisect_left(self._edges, uniform * self._edges[-1])]


@dataclass(frozen=True, slots=True)
class Sampled:
    """Lengths that were measured, drawn with replacement: one row of the file, so two columns at one number go together."""

    rows: tuple[int, ...]

    def at(self, uniform: float) -> int:
        return self.rows[int(uniform * len(self.rows))]


def read_lengths(path: Path, column: str) -> Sampled:
    """A column of a CSV file. Raises WorkloadError for a file that cannot be read, and for what is no number of tokens."""
    rows: list[int] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            found = list(reader.fieldnames or [])
            if column not in found:
                raise WorkloadError(path, f"has the columns {', '.join(found)!r}, and no {column!r}", line=1)
            for cells in reader:
                rows.append(_tokens(path, reader.line_num, column, cells[column]))
    except (OSError, ValueError, csv.Error) as error:
        raise WorkloadError(path, f"cannot be read: {error}") from error
    if not rows:
        raise WorkloadError(path, "holds no length")
    return Sampled(tuple(rows))


def _tokens(path: Path, line: int, column: str, cell: str | None) -> int:
    text = (cell or "").strip()
    if not (text.isascii() and text.isdecimal() and 0 < len(text) < 10 and int(text)):
        raise WorkloadError(path, f"{cell!r} is no number of tokens: a whole one, 1 or more", line=line, key=column)
    return int(text)
