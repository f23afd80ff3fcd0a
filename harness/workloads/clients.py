"""Load as the sum of its clients: each with a rate, a burstiness and lengths of its own.

Production traffic is bursty because a few clients are (ServeGen, Alibaba, arXiv:2505.09999): a Poisson process of the same
rate is not what a server meets. ServeGen's table of clients is read here: one line a client, with its rate and CV while it
is active, in how many windows of ten minutes it was, and quantiles of its lengths.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from heapq import merge
from math import exp, log
from pathlib import Path
from statistics import NormalDist, median

from harness.arrivals.gaps import GapLaw
from harness.arrivals.pacing import Piece, arrival_times, expected_count
from harness.asks import Ask
from harness.errors import TraceError, UsageError
from harness.plan import Arrival
from harness.streams import keyed_uniform, stream
from harness.workloads.synthetic import Lognormal

__all__ = ["Client", "SumOfClients", "clients_plan"]

_WINDOW_S = 600.0
_NORMAL = NormalDist()
# A CV is measured in windows of ten minutes, where an idle stretch counts as a gap: the table's 172.8 would be tens of
# thousands of requests at one instant. Nine of ten of its clients lie below 13.
_MOST_CV = 15.0
_LEAST_CV = 0.05
_MOST = 1e9  # of whatever stands in a table


@dataclass(frozen=True)
class Client:
    """One client. It starts where its first piece does."""

    name: str
    pieces: tuple[Piece, ...]
    gaps: GapLaw
    prompt_tokens: Lognormal
    output_tokens: Lognormal


@dataclass(frozen=True)
class SumOfClients:
    """All requests of independent clients in order of time, merged as they are read. Every client has random streams of its
    own: to change one, or to take one away, moves no request of another."""

    clients: Sequence[Client]
    duration_s: float
    seed: int
    class_name: str | None = None
    about: dict[str, object] = field(default_factory=dict)

    @cached_property
    def num_arrivals(self) -> int:
        return sum(1 for client in self.clients for _ in self._times(client))

    def arrivals(self) -> Iterator[Arrival]:
        # Clients of one instant stand in the order of the list: the place decides before arrivals are compared.
        merged = merge(*(self._of(place, client) for place, client in enumerate(self.clients)))
        for index, (_, _, _, arrival) in enumerate(merged):
            yield replace(arrival, index=index)

    def describe(self) -> dict[str, object]:
        return {
            "arrivals": f"sum of {len(self.clients)} clients",
            "expected_count": sum(expected_count(client.pieces) for client in self.clients),
            "seed": self.seed,
            **self.about,
        }

    def _of(self, place: int, client: Client) -> Iterator[tuple[float, int, int, Arrival]]:
        prompts = stream(self.seed, f"client {client.name} prompt tokens")
        outputs = stream(self.seed, f"client {client.name} output tokens")
        ask = Ask((), user=client.name)
        for number, at_s in enumerate(self._times(client)):
            num_prompt, num_output = client.prompt_tokens.draw(prompts), client.output_tokens.draw(outputs)
            yield at_s, place, number, Arrival(0, at_s, num_prompt, num_output, class_name=self.class_name, ask=ask)

    def _times(self, client: Client) -> Iterator[float]:
        generator = stream(self.seed, f"client {client.name} arrivals")
        return (at_s for at_s, _ in arrival_times(client.pieces, client.gaps, generator))


def clients_plan(
    path: Path, *, workload: str | None, duration_s: float, seed: int, rate: float | None = None
) -> SumOfClients:
    """A table of ServeGen's clients as a plan. `workload`: which of its workloads; None, where it holds only one.

    In every window of ten minutes of the plan a client is active by lot, with the share of windows in which it was. `rate`
    scales all clients alike, so that their rates have that mean over the plan; None: as the table says. Gaps are Gamma or
    Weibull, whichever fitted more of the client's windows, with its CV, at most 15. Lengths are lognormal through the
    median and the 99th percentile, cut at the 99.99th. A client without lengths has the middle ones of its workload; a
    workload of pictures, whose table has no prompt lengths, its mean of text tokens. A client that was never active is left
    out. Raises TraceError for what cannot be read, UsageError for a workload that is not there.
    """
    rows = _chosen(path, _read(path), workload)
    name = rows[0].workload
    span = max(row.num_active for row in rows)
    windows = _windows(duration_s)
    rates = {
        row.client: [
            row.rate if keyed_uniform(seed, "client active", f"{row.client} {n}") < row.num_active / span else 0.0
            for n in range(len(windows))
        ]
        for row in rows
    }
    total = sum(each * (end - start) for of in rates.values() for each, (start, end) in zip(of, windows, strict=True))
    if total == 0:
        raise UsageError(f"none of the {len(rows)} clients of {name} in {path} is active with this seed; take another")
    factor = 1.0 if rate is None else rate * duration_s / total
    fallback = _Fallback.of(path, rows)
    clients = [
        Client(
            row.client,
            tuple(
                Piece(start, end, each * factor, "clients")
                for each, (start, end) in zip(rates[row.client], windows, strict=True)
            ),
            row.gaps,
            row.prompt or fallback.prompt,
            row.output or fallback.output,
        )
        for row in rows
        if any(rates[row.client])
    ]
    about: dict[str, object] = {"clients": path.name, "workload": name, "rate": rate}
    return SumOfClients(clients, duration_s, seed, name, about)


def _windows(duration_s: float) -> list[tuple[float, float]]:
    num = int(-(-duration_s // _WINDOW_S))
    return [(n * _WINDOW_S, min((n + 1) * _WINDOW_S, duration_s)) for n in range(num)]


# -- the table -------------------------------------------------------------------------------------------

_NAMES = (
    "workload", "client", "mean_rate_rps", "active_windows", "rate_weighted_cv", "gamma_windows", "weibull_windows",
    "in_p50", "in_p99", "out_p50", "out_p99", "other_field", "other_mean",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Row:
    """A client as its line says. `prompt` and `output` None: the table does not know."""

    workload: str
    client: str
    rate: float
    num_active: int
    gaps: GapLaw
    prompt: Lognormal | None
    output: Lognormal | None
    num_text_tokens: float | None


def _read(path: Path) -> list[_Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in _NAMES if name not in (reader.fieldnames or [])]
            if missing:
                raise TraceError(path, f"is no table of clients: it has no column {', '.join(missing)}", line=1)
            rows = [row for cells in reader if (row := _Cells(path, reader.line_num, cells).row()) is not None]
    except OSError as error:
        raise TraceError(path, f"cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise TraceError(path, f"is not CSV in UTF-8: {error}") from error
    if not rows:
        raise TraceError(path, "holds no client that was ever active")
    return rows


def _chosen(path: Path, rows: list[_Row], workload: str | None) -> list[_Row]:
    names = sorted({row.workload for row in rows})
    if workload is None and len(names) > 1:
        raise UsageError(f"{path} holds several workloads; say which: {', '.join(names)}")
    if workload is not None and workload not in names:
        raise UsageError(f"{path} holds no workload {workload!r}; it holds {', '.join(names)}")
    return [row for row in rows if workload in (None, row.workload)]


@dataclass(frozen=True, slots=True)
class _Cells:
    """One line of the table."""

    path: Path
    line: int
    cells: dict[str, str | None]

    def row(self) -> _Row | None:
        """None for a client that was never active."""
        rate, num_active = self._number("mean_rate_rps"), int(self._number("active_windows") or 0)
        if not rate or not num_active:
            return None
        cv = min(max(self._number("rate_weighted_cv") or 1.0, _LEAST_CV), _MOST_CV)
        weibull = (self._number("weibull_windows") or 0) > (self._number("gamma_windows") or 0)
        is_text = self.cells["other_field"] == "text_tokens"
        return _Row(
            workload=self.cells["workload"] or "",
            client=f"client-{self.cells['client']}",
            rate=rate,
            num_active=num_active,
            gaps=GapLaw("weibull" if weibull else "gamma", cv),
            prompt=self._lengths("in"),
            output=self._lengths("out"),
            num_text_tokens=self._number("other_mean") if is_text else None,
        )

    def _lengths(self, which: str) -> Lognormal | None:
        middle, tail = self._number(f"{which}_p50"), self._number(f"{which}_p99")
        return None if middle is None or tail is None else _through(middle, tail)

    def _number(self, column: str) -> float | None:
        text = self.cells[column]
        if not text:
            return None
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not 0 <= number <= _MOST:
            raise TraceError(self.path, f"{text!r} is not a number from 0 to {_MOST:g}", line=self.line, column=column)
        return number


def _through(middle: float, tail: float) -> Lognormal:
    """The lognormal with this median and 99th percentile, cut at the 99.99th. Lengths below a token count as one."""
    middle = max(middle, 1.0)
    sigma = log(max(tail, middle) / middle) / _NORMAL.inv_cdf(0.99)
    return Lognormal(middle, sigma, max(1, round(middle * exp(sigma * _NORMAL.inv_cdf(0.9999)))))


@dataclass(frozen=True, slots=True)
class _Fallback:
    """Lengths for clients whose line has none."""

    prompt: Lognormal
    output: Lognormal

    @classmethod
    def of(cls, path: Path, rows: Sequence[_Row]) -> _Fallback:
        texts = [row.num_text_tokens for row in rows if row.num_text_tokens]
        prompt = _middle([row.prompt for row in rows if row.prompt is not None])
        if prompt is None and texts:
            prompt = _through(median(texts), median(texts))
        output = _middle([row.output for row in rows if row.output is not None])
        if prompt is None or output is None:
            which = "prompt" if prompt is None else "answer"
            raise TraceError(path, f"no client of {rows[0].workload} has {which} lengths")
        return cls(prompt, output)


def _middle(laws: Sequence[Lognormal]) -> Lognormal | None:
    """Median of medians, of sigmas and of bounds."""
    if not laws:
        return None
    return Lognormal(
        median(law.median for law in laws), median(law.sigma for law in laws), round(median(law.most for law in laws))
    )
