"""The gate's quality card: how often it cries wolf, and how often it sees one.

    python -m benchmarks.gate [REPLAYS]

Replays gates whose truth is known (`benchmarks/gate_replays.py`) and writes the tables between the marks in docs/gate.md:
five times as many of made-up runs as of runs of the mock. No run takes part in two gates of a row. With 200, half an hour.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.gate_replays import Noise, Side, golden_like, made_up, served, slower
from benchmarks.machine import machine_line
from harness.gate.decide import gate
from harness.gate.facts import JudgedRun
from harness.gate.figures import change_text
from harness.gate.rule import DEFAULT_MEASURES, Rule
from harness.judgement.binomial import share_interval

__all__ = ["DEFAULT", "STRICT", "Tally", "gates_of", "tally"]

_REPLAYS = 200
_TIMES_MADE_UP = 5
_RUNS = 8
_ABBA = "ABBA" * 4
_PAGE = Path(__file__).parent.parent / "docs" / "gate.md"
_BEGIN, _END = "<!-- card: begin -->", "<!-- card: end -->"

DEFAULT = Rule()
STRICT = Rule(allowed={"default": 0.0, **dict.fromkeys(("error_rate", "goodput"), 0.0)})
MEDIANS = Rule(measures=("ttft_p50(ok)", "tpot_p50(ok)", "e2e_p50(ok)", "error_rate"))
_RULES = {"0": STRICT, "default": DEFAULT, "medians": MEDIANS}
_CHANGES = (0.025, 0.05, 0.075, 0.10, 0.15, 0.20)


@dataclass
class Tally:
    """What the gates of one kind answered, and the smallest changes that they could have seen, by measure."""

    answers: Counter[str] = field(default_factory=Counter)
    detectable: dict[str, list[float]] = field(default_factory=dict)
    changes: dict[str, list[float]] = field(default_factory=dict)

    def share(self, answer: str) -> float:
        return self.answers[answer] / self.answers.total()

    def cell(self, answer: str) -> str:
        """The share with its exact 95 % interval."""
        low, high = share_interval(self.answers[answer], self.answers.total())
        return f"{self.share(answer):.1%} ({low:.1%}–{high:.1%})"


def tally(sides: Iterable[Side], rule: Rule) -> Tally:
    found = Tally()
    for candidates, baselines in sides:
        result = gate(candidates, baselines, rule)
        found.answers[result.answer] += 1
        for each in result.measures:
            if each.detectable is not None:
                found.detectable.setdefault(each.name, []).append(each.detectable)
            if each.change is not None:
                found.changes.setdefault(each.name, []).append(each.change)
    return found


def gates_of(candidates: Sequence[JudgedRun], baselines: Sequence[JudgedRun]) -> Iterator[Side]:
    """Gates of eight runs a side, each run in one of them."""
    for start in range(0, min(len(candidates), len(baselines)) - _RUNS + 1, _RUNS):
        yield list(candidates[start : start + _RUNS]), list(baselines[start : start + _RUNS])


# -- the card ----------------------------------------------------------------------------------------


def _made_up_rows(num: int) -> Iterator[str]:
    kinds = [("no change", 0.0, _ABBA), *((f"{change:+.1%}", change, _ABBA) for change in _CHANGES)]
    kinds += [("no change, ABAB", 0.0, "AB" * 8), ("no change, all A before all B", 0.0, "A" * 8 + "B" * 8)]
    for name, change, order in kinds:
        replays = [made_up(number, change=change, noise=Noise(), order=order) for number in range(num)]
        yield from _rows(name, [(rule, tally(replays, _RULES[rule])) for rule in _RULES])


def _rows(name: str, tallies: Sequence[tuple[str, Tally]]) -> Iterator[str]:
    for allowed, found in tallies:
        cells = " | ".join(found.cell(answer) for answer in ("FAIL", "PASS", "INCONCLUSIVE"))
        yield f"| {name} | {allowed} | {cells} |"


def _served_rows(num: int, folder: Path) -> tuple[list[str], Tally]:
    first, second = range(num * _RUNS), range(num * _RUNS, 2 * num * _RUNS)
    same, other = list(served("h100-8b", first)), list(served("h100-8b", second))
    kinds = [("no change, other seeds", same, other)]
    for change in (0.002, 0.05, 0.10):
        changed = list(served(slower(folder, change), first))
        kinds += [(f"{change:+.1%}, other seeds", changed, other), (f"{change:+.1%}, same seeds", changed, same)]
    rows: list[str] = []
    for name, candidates, baselines in kinds:
        replays = list(gates_of(candidates, baselines))
        rows += _rows(name, [(rule, tally(replays, _RULES[rule])) for rule in _RULES])
    return rows, tally(gates_of(same, other), DEFAULT)


def _small_change(folder: Path) -> Iterator[str]:
    """A true change of 0.2 %, as one gate of eight pairs shows it."""
    for name, deployments in (
        ("golden", ("golden", golden_like(folder, 0.002))),
        ("h100-8b", ("h100-8b", slower(folder, 0.002))),
    ):
        sides = [list(served(deployment, range(_RUNS))) for deployment in deployments]
        result = gate(sides[1], sides[0], STRICT)
        for each in result.measures:
            if each.unit == "s":
                assert each.low is not None
                assert each.high is not None
                yield (
                    f"| {name} | {each.name} | {change_text(each.change, each.unit)} "
                    f"| {each.low:+.3%} … {each.high:+.3%} | {each.answer} |"
                )


def _detectable_rows(made: Tally, real: Tally) -> Iterator[str]:
    for name in DEFAULT_MEASURES:
        if name in made.detectable or name in real.detectable:
            cells = [
                change_text(median(found.detectable[name]), "share" if name == "error_rate" else "s")
                if name in found.detectable
                else "–"
                for found in (made, real)
            ]
            yield f"| {name} | {' | '.join(cells)} |"


def card(num: int) -> str:
    """The tables of docs/gate.md."""
    head = ["| true change | rule | FAIL | PASS | INCONCLUSIVE |", "|---|---|---:|---:|---:|"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = list(_made_up_rows(num * _TIMES_MADE_UP))
        seen = tally((made_up(number, change=0.0, noise=Noise(), order=_ABBA) for number in range(100)), DEFAULT)
        rows, real = _served_rows(num, folder)
        small = list(_small_change(folder))
    return "\n".join([
        (f"{num * _TIMES_MADE_UP} replays a row of made-up runs, {num} of the mock, eight runs a side; in brackets the exact 95 % "
        f"interval. {machine_line()}."),
        "",
        "### Made-up runs: 400 requests, 3 % noise a run, 1 % drift a run, ABBA",
        "",
        *head,
        *made,
        "",
        "### Runs of the mock in virtual time: h100-8b, 6 requests/s for 70 s, every step of the engine changed",
        "",
        *head,
        *rows,
        "",
        "### A true change of 0.2 %, eight pairs of the same seed",
        "",
        "| server | measure | change | 95 % interval | with 0 allowed |",
        "|---|---|---:|---:|---|",
        *small,
        "",
        "### Smallest change that nine in ten gates call worse than the default allows, by measure (median)",
        "",
        "| measure | made-up runs, ABBA | h100-8b, other seeds |",
        "|---|---:|---:|",
        *_detectable_rows(seen, real),
        "",
    ])  # fmt: skip


def main() -> None:
    num = int(sys.argv[1]) if len(sys.argv) > 1 else _REPLAYS
    tables = card(num)
    before, _, rest = _PAGE.read_text().partition(_BEGIN)
    after = rest.partition(_END)[2]
    _PAGE.write_text(f"{before}{_BEGIN}\n{tables}{_END}{after}")


if __name__ == "__main__":
    main()
