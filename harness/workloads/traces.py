"""Traces of real traffic: Azure, Mooncake, and plain CSV or JSON lines.

    Azure      CSV     TIMESTAMP, ContextTokens, GeneratedTokens
    Mooncake   JSONL   timestamp (ms), input_length, output_length, hash_ids (one per 512 prompt tokens)
    plain CSV  CSV     arrival_s, prompt_tokens, output_tokens
    plain      JSONL   the same three names

Both plain formats may also have class_name, user and model, each empty where nothing is to be said. ServeGen's tables are
no traces but clients: `harness/workloads/clients.py`.

A line that cannot be read ends the reading with file, line and column: a trace that is only almost
replayed would answer another question.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby, pairwise
from math import floor, inf, isfinite
from pathlib import Path

import msgspec

from harness.asks import Ask
from harness.errors import TraceError, UsageError
from harness.plan import Arrival, LoadPlan, Materialized
from harness.streams import keyed_integer, stream

__all__ = ["TraceRow", "read_trace", "trace_plan"]

_MOONCAKE_BLOCK = 512


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One request of a trace; `at_s` counts from its first request."""

    at_s: float
    num_prompt_tokens: int
    num_output_tokens: int
    blocks: tuple[int, ...] = ()
    class_name: str | None = None
    user: str | None = None
    model: str | None = None


def read_trace(path: Path) -> list[TraceRow]:
    """All rows of a trace in order of time, the first at 0. Raises TraceError for the first bad line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            rows = list(_jsonl(path, file) if first.lstrip().startswith("{") else _csv(path, file))
    except OSError as error:
        raise TraceError(path, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TraceError(path, f"is not UTF-8: {error.reason}", line=_first_bad_line(path)) from error
    if not rows:
        raise TraceError(path, "holds no request")
    origin = rows[0].at_s
    return _spread([replace(row, at_s=row.at_s - origin) for row in rows])


def trace_plan(
    path: Path,
    *,
    window: tuple[float, float] | None = None,
    speed: float = 1.0,
    scale: float = 1.0,
    seed: int = 0,
) -> LoadPlan:
    """A plan that replays a trace.

    `window` takes the requests from the first instant up to the second, seconds of the trace. `speed` 2 plays them twice
    as fast. `scale` 2 sends each request twice (a copy comes up to a second later), 0.5 keeps half of them by lot.
    """
    if not (1e-6 <= speed < inf and 0 < scale < inf):
        raise UsageError(
            f"--speed {speed:g} and --scale {scale:g} must be positive and finite, the speed at least 1e-06"
        )
    rows = read_trace(path)
    start, end = window if window is not None else (0.0, inf)
    chosen = [replace(row, at_s=row.at_s - start) for row in rows if start <= row.at_s < end]
    if not chosen:
        raise UsageError(
            f"no request of {path} lies in the window {start:g}s:{end:g}s; the trace is {rows[-1].at_s:.1f} s long"
        )
    span = min(end, rows[-1].at_s) - start
    scaled = chosen if scale == 1 else _scaled(chosen, scale, seed)
    items = tuple(_arrival(index, row, speed) for index, row in enumerate(scaled))
    # A plan lasts at least a second, so that a trace of one request has a rate.
    duration_s = max(span / speed, items[-1].at_s, 1.0)
    about: dict[str, object] = {
        "arrivals": f"trace {path.name}",
        "trace": path.name,
        "trace_requests": len(rows),
        "window_s": [start, end],
        "window_requests": len(chosen),
        "speed": speed,
        "scale": scale,
    }
    return Materialized(items, duration_s, about)


def _arrival(index: int, row: TraceRow, speed: float) -> Arrival:
    block = _MOONCAKE_BLOCK if row.blocks else 0
    labelled = row.user is not None or row.model is not None
    return Arrival(
        index,
        row.at_s / speed,
        row.num_prompt_tokens,
        row.num_output_tokens,
        class_name=row.class_name,
        prefix_blocks=row.blocks,
        block_tokens=block,
        ask=Ask((), user=row.user, model=row.model) if labelled else None,
    )


def _scaled(rows: list[TraceRow], scale: float, seed: int) -> list[TraceRow]:
    """`floor(scale)` copies of each row, and one more for a share of them drawn by lot."""
    whole, share = floor(scale), scale - floor(scale)
    jitter = stream(seed, "trace copies")
    copies: list[TraceRow] = []
    for number, row in enumerate(rows):
        lot = keyed_integer(seed, "trace lot", str(number)) / 2**64
        num = whole + (1 if lot < share else 0)
        copies += [row if copy == 0 else replace(row, at_s=row.at_s + jitter.random()) for copy in range(num)]
    if not copies:
        raise UsageError(f"--scale {scale:g} leaves no request of {len(rows)}; make it larger")
    return sorted(copies, key=lambda row: row.at_s)


def _spread(rows: list[TraceRow]) -> list[TraceRow]:
    """Spread requests that share an instant evenly over the bin that their instants were rounded to.

    Mooncake's timestamps are rounded to 3 s: replayed as they stand they would be bursts nobody sent.
    """
    groups = [list(group) for _, group in groupby(rows, key=lambda row: row.at_s)]
    if all(len(group) == 1 for group in groups):
        return rows
    spread: list[TraceRow] = []
    starts = [group[0].at_s for group in groups]
    # The bin is the smallest step between instants: requests of one bin must not reach into an empty one.
    width = min((after - before for before, after in pairwise(starts)), default=0.0)
    for group in groups:
        spread += [replace(row, at_s=row.at_s + width * place / len(group)) for place, row in enumerate(group)]
    return spread


def _first_bad_line(path: Path) -> int | None:
    """The number of the first line that is not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return None


# -- formats ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which columns hold what, and how an instant is read."""

    at: str
    prompt: str
    output: str
    instant: Callable[[str], float]


_LABELS = ("class_name", "user", "model")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/ -]{0,99}", re.ASCII)
_DATETIME = re.compile(
    r"(?P<whole>\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?P<fraction>\.\d+)?(?P<zone>Z|[+-]\d\d:\d\d)?", re.ASCII
)


def _datetime_seconds(text: str) -> float:
    # Azure writes seven digits of fraction; datetime reads six.
    parts = _DATETIME.fullmatch(text.strip())
    if parts is None:
        raise ValueError(text)
    whole = datetime.fromisoformat(parts["whole"] + (parts["zone"] or "+00:00"))
    return whole.timestamp() + float(f"0{parts['fraction'] or ''}")


_CSV_FORMATS = (
    _Columns("TIMESTAMP", "ContextTokens", "GeneratedTokens", _datetime_seconds),
    _Columns("arrival_s", "prompt_tokens", "output_tokens", float),
)


def _csv(path: Path, file: Iterator[str]) -> Iterator[TraceRow]:
    reader = csv.DictReader(file, strict=True)
    try:
        columns = _columns(path, list(reader.fieldnames or []))
        before = -inf
        for cells in reader:
            line = reader.line_num
            if None in cells:
                raise TraceError(path, f"has more cells than the {len(reader.fieldnames or [])} columns", line=line)
            before = _instant(path, line, columns, cells[columns.at], before)
            prompt = _count(path, line, columns.prompt, cells[columns.prompt])
            output = _count(path, line, columns.output, cells[columns.output])
            yield TraceRow(before, prompt, output, (), *(_name(path, line, each, cells.get(each)) for each in _LABELS))
    except csv.Error as error:
        # The outer reader counts the lines it has handed on, the inner one those it has read.
        raise TraceError(path, f"is not CSV: {error}", line=reader.reader.line_num) from error


def _columns(path: Path, names: list[str]) -> _Columns:
    for columns in _CSV_FORMATS:
        if {columns.at, columns.prompt, columns.output} <= set(names):
            return columns
    known = " or ".join(f"{c.at},{c.prompt},{c.output}" for c in _CSV_FORMATS)
    raise TraceError(path, f"columns {','.join(names)!r} are none that can be read; expected {known}", line=1)


def _instant(path: Path, line: int, columns: _Columns, text: str | None, before: float) -> float:
    try:
        at = columns.instant(text or "")
    except ValueError:
        raise TraceError(path, f"{text!r} is not an instant", line=line, column=columns.at) from None
    return _in_order(path, line, columns.at, at, before)


def _in_order(path: Path, line: int, column: str, at: float, before: float) -> float:
    if not isfinite(at):
        raise TraceError(path, f"{at} is not an instant", line=line, column=column)
    if at < before:
        raise TraceError(
            path,
            f"{at} lies before the previous row at {before}; rows must be in order of time",
            line=line,
            column=column,
        )
    return at


def _count(path: Path, line: int, column: str, text: str | None) -> int:
    try:
        number = int(text or "")
    except ValueError:
        raise TraceError(path, f"{text!r} is not a whole number of tokens", line=line, column=column) from None
    if number < 1:
        raise TraceError(path, f"{number} tokens; at least 1 is needed", line=line, column=column)
    return number


def _name(path: Path, line: int, column: str, text: str | None) -> str | None:
    """A label that fits into a header; None where the cell is empty."""
    if not text:
        return None
    if not _LABEL.fullmatch(text):
        rule = f"{text!r} is not 1 to 100 of A-Z a-z 0-9 . _ : / - and blanks that start with a letter or digit"
        raise TraceError(path, rule, line=line, column=column)
    return text


class _MooncakeLine(msgspec.Struct):
    timestamp: float
    input_length: int
    output_length: int
    hash_ids: list[int] = []


class _PlainLine(msgspec.Struct):
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    class_name: str | None = None
    user: str | None = None
    model: str | None = None


def _jsonl(path: Path, file: Iterator[str]) -> Iterator[TraceRow]:
    decoder: msgspec.json.Decoder[_MooncakeLine | _PlainLine] | None = None
    before = -inf
    for line, text in enumerate(file, start=1):
        if not text.strip():
            continue
        if decoder is None:
            decoder = msgspec.json.Decoder(_MooncakeLine if '"input_length"' in text else _PlainLine)
        try:
            row = decoder.decode(text)
        except msgspec.ValidationError as error:
            rule, _, column = str(error).partition(" - at ")
            raise TraceError(path, rule, line=line, column=column.strip("`$.") or None) from None
        except msgspec.DecodeError as error:
            raise TraceError(path, f"is not JSON: {error}", line=line) from None
        mooncake = isinstance(row, _MooncakeLine)
        at = row.timestamp / 1000 if isinstance(row, _MooncakeLine) else row.arrival_s
        before = _in_order(path, line, "timestamp" if mooncake else "arrival_s", at, before)
        yield _json_row(path, line, row, at)


def _json_row(path: Path, line: int, row: _MooncakeLine | _PlainLine, at: float) -> TraceRow:
    if isinstance(row, _PlainLine):
        prompt = _count(path, line, "prompt_tokens", str(row.prompt_tokens))
        output = _count(path, line, "output_tokens", str(row.output_tokens))
        labels = (_name(path, line, each, getattr(row, each)) for each in _LABELS)
        return TraceRow(at, prompt, output, (), *labels)
    prompt = _count(path, line, "input_length", str(row.input_length))
    return TraceRow(at, prompt, _count(path, line, "output_length", str(row.output_length)), tuple(row.hash_ids))
