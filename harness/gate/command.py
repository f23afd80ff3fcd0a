"""`harness gate`: reads runs, judges them, prints and writes the answer."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import get_terminal_size

import msgspec

from harness.errors import UsageError
from harness.gate.decide import gate, gate_objectives
from harness.gate.facts import JudgedRun, facts_of, fresh_facts
from harness.gate.github import annotations_of, step_summary
from harness.gate.junit import junit_xml
from harness.gate.result import GateResult
from harness.gate.rule import Rule
from harness.gate.text import gate_text
from harness.history.baseline import baseline_runs
from harness.judgement.judging import judge_objectives
from harness.judgement.results import ObjectiveResult
from harness.judgement.slo import Slo, load_slo
from harness.say import say
from harness.store import RunDirectory, open_run
from harness.summary import load_run

__all__ = ["gate_runs", "run_gate"]


def run_gate(
    candidates: Sequence[Path],
    baselines: Sequence[Path],
    *,
    slo: Path | None = None,
    junit: Path | None = None,
    json: Path | None = None,
    environ: Mapping[str, str],
) -> int:
    """Judge, print, and write what is asked for; on GitHub also the step's summary and annotations. Returns the exit code.

    A baseline that is no run is a history, of which the newest comparable runs are taken. Raises UsageError for runs that
    cannot be compared and files that cannot be written, RunError for what is no run.
    """
    result = gate_runs(candidates, baselines_of(candidates, baselines), slo)
    say(gate_text(result, get_terminal_size().columns if sys.stdout.isatty() else None))
    if json is not None:
        _write(json, msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    if junit is not None:
        _write(junit, junit_xml(result))
    if summary := environ.get("GITHUB_STEP_SUMMARY"):
        _write(Path(summary), step_summary(result).encode(), mode="ab")  # the steps before have written to it too
    if environ.get("GITHUB_ACTIONS") == "true":
        say("\n".join(annotations_of(result)))
    return result.exit_code


def baselines_of(candidates: Sequence[Path], baselines: Sequence[Path]) -> list[Path]:
    return baseline_runs(baselines, candidates) if baselines and candidates else []


def gate_runs(candidates: Sequence[Path], baselines: Sequence[Path], slo: Path | None = None) -> GateResult:
    """Judge the runs in these directories. Raises UsageError and RunError."""
    asked = None if slo is None else load_slo(slo)
    rule = Rule() if asked is None else Rule.of(asked.gate.measures, asked.gate.allowed)
    reader = _Reader(rule, asked)
    if not candidates or not (baselines or reader.has_objectives):
        raise UsageError(
            "a gate needs runs, and something to judge them by: harness gate RUN... --baseline RUN..., or --slo FILE with objectives"
        )
    read = [reader.read(open_run(path), with_objectives=True) for path in candidates]
    if not baselines:
        return gate_objectives(read, reader.objectives)
    return gate(read, [reader.read(open_run(path)) for path in baselines], rule, reader.objectives)


class _Reader:
    """Reads one run after the other and keeps what a gate needs of it: the records of sixteen runs need not be in memory at once."""

    def __init__(self, rule: Rule, slo: Slo | None) -> None:
        self.objectives: list[list[ObjectiveResult]] = []
        self._names = rule.names
        self._slo = slo if slo is not None and slo.objectives else None

    @property
    def has_objectives(self) -> bool:
        return self._slo is not None

    def read(self, directory: RunDirectory, *, with_objectives: bool = False) -> JudgedRun:
        slo = self._slo if with_objectives else None
        manifest = directory.manifest()
        facts = fresh_facts(directory, self._names)
        if facts is not None and slo is not None and facts.slo == slo.plain():
            self.objectives.append(facts.objectives)  # by this very file
            slo = None
        if slo is None and facts is not None:
            return JudgedRun(directory.name, manifest, facts)
        if not any(directory.path.glob("records-*.jsonl")):
            raise UsageError(f"{directory.path} has no records, and objectives of a candidate are judged from records")
        run = load_run(directory)
        if slo is not None:
            self.objectives.append(judge_objectives(slo, run.subject()))
        return JudgedRun(directory.name, manifest, facts or facts_of(run, self._names))


def _write(path: Path, content: bytes, mode: str = "wb") -> None:
    try:
        with path.open(mode) as file:
            file.write(content)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
