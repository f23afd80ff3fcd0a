"""With which earlier runs a run is compared: chosen by what was asked and by the machine, never by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import RunError, UsageError
from harness.gate.facts import FACTS_FILE, read_facts
from harness.history.series import apart, runs_below
from harness.store import Manifest, RunDirectory, open_run

__all__ = ["baseline_runs", "choose"]

_MOST_NAMED = 5


def baseline_runs(given: Sequence[Path], candidates: Sequence[Path]) -> list[Path]:
    """The runs that `--baseline` names: a run stands for itself, any other folder is a history from which as many runs are chosen
    as there are candidates. Raises UsageError when a history holds none that is comparable."""
    found: list[Path] = []
    for path in given:
        if (path / "manifest.json").is_file() or not path.is_dir():
            found.append(path)
        else:
            manifests = [open_run(candidate).manifest() for candidate in candidates]
            seeds = [each.seed for each in manifests]
            found += choose(path, manifests[0], len(candidates), seeds=seeds, without=manifests)
    return found


def choose(
    history: Path, manifest: Manifest, number: int, *, seeds: Sequence[int] = (), without: Sequence[Manifest] = ()
) -> list[Path]:
    """The newest `number` runs of a history that are of this run's series (`harness.history.series`), the oldest first; itself
    and those of `without` never, nor INVALID ones and those without an answered request. Fewer where there are fewer. Where each of `seeds` is there, the newest run of each instead: in
    virtual time runs of one seed make a pair.

    Raises UsageError when there is none, and says of the nearest run what differs.
    """
    own = {_identity(each) for each in (manifest, *without)}
    others = [(run, found) for run in runs_below(history) if _identity(found := run.manifest()) not in own]
    reasons = [(apart(manifest, found), run, found) for run, found in others]
    alike = [(found, run) for why, run, found in reasons if not why]
    if not alike:
        raise UsageError(_none_there(history, manifest, [(why, run) for why, run, _ in reasons]))
    there = [(found, run.path) for found, run in alike if _is_good_enough(run)]
    if not there:
        raise UsageError(
            f"{history}: none of the {len(alike)} runs that {manifest.run_id} can be compared with will do: each is INVALID or broken, or none of "
            "its requests was answered"
        )
    there.sort(key=lambda each: (each[0].started_wall, each[0].run_id))
    newest = {found.seed: path for found, path in there}
    if len(set(seeds)) == len(seeds) == number and newest.keys() >= set(seeds):
        return [newest[seed] for seed in seeds]
    return [path for _, path in there[-number:]]


def _is_good_enough(run: RunDirectory) -> bool:
    """Whether there is something to be as good as. Of a run that was never judged nobody knows yet; the gate will."""
    if not (run.path / FACTS_FILE).exists():
        return True
    try:
        facts = read_facts(run)
    except RunError:
        return False
    errors = facts.measures.get("error_rate")
    return facts.state != "INVALID" and (errors is None or errors.value != 1)


def _identity(manifest: Manifest) -> tuple[str, str, float]:
    """A copy of a run is that run; runs in virtual time have no uid."""
    return manifest.uid or "", manifest.run_id, manifest.started_wall


def _none_there(history: Path, manifest: Manifest, reasons: list[tuple[list[str], RunDirectory]]) -> str:
    if not reasons:
        return f"{history} holds no run to compare {manifest.run_id} with; `harness keep RUN --into {history}` makes it a baseline"
    why, nearest = min(reasons, key=lambda each: len(each[0]))
    named = "; ".join(why[:_MOST_NAMED])
    more = f"; and {len(why) - _MOST_NAMED} more" if len(why) > _MOST_NAMED else ""
    return f"no run in {history} can be compared with {manifest.run_id}; in the nearest, {nearest.name}, differs {named}{more}"
