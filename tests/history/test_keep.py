"""Runs that are kept without their records, and the baseline that is chosen among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.conclude import conclude
from harness.errors import RunError, UsageError
from harness.gate.facts import KEPT_MEASURES, facts_of, read_facts
from harness.history.baseline import baseline_runs, choose
from harness.history.command import run_keep
from harness.history.keep import keep
from harness.store import RunDirectory
from harness.summary import load_run, summarize
from tests.harness.builders import manifest, record, write_run
from tests.history.past import facts


def folded(path: Path, **fields: Any) -> RunDirectory:
    """A run of forty requests with its summary."""
    directory = write_run(path, [[record(number) for number in range(40)]], run_id=path.name, **fields)
    summary = summarize(load_run(directory))
    directory.write_atomically("summary.json", msgspec.json.encode(summary))
    directory.write_atomically("report.html", b"<!doctype html>")
    return directory


def test_a_kept_run_has_everything_but_its_records(tmp_path: Path) -> None:
    run = folded(tmp_path / "burst-1")
    (kept,) = keep([run.path], tmp_path / "history")
    assert kept == tmp_path / "history" / "burst-1"
    assert sorted(path.name for path in kept.iterdir()) == ["facts.json", "manifest.json", "summary.json"]
    assert RunDirectory(kept).manifest() == run.manifest()
    assert read_facts(RunDirectory(kept)) == facts_of(load_run(run))
    assert set(read_facts(RunDirectory(kept)).measures) == set(KEPT_MEASURES)
    assert sum(path.stat().st_size for path in kept.iterdir()) < 100_000
    assert not (run.path / "facts.json").exists()  # the run itself is left as it was


@pytest.mark.parametrize("slo", [None, "slo.yaml"])
def test_a_kept_run_is_not_folded_again(tmp_path: Path, slo: str | None) -> None:
    """It would be INVALID, without a single request, and the baseline would be lost."""
    (tmp_path / "slo.yaml").write_text("objectives: [ttft_p50 < 1 s]\n")
    (kept,) = keep([folded(tmp_path / "burst-1").path], tmp_path / "history")
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    with pytest.raises(RunError, match="was kept without its records"):
        conclude(RunDirectory(kept), slo=None if slo is None else tmp_path / slo)
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before


def test_its_page_only_when_asked_for(tmp_path: Path) -> None:
    run = folded(tmp_path / "burst-1")
    (kept,) = keep([run.path], tmp_path / "history", with_page=True)
    assert (kept / "report.html").read_bytes() == b"<!doctype html>"


def test_a_kept_run_can_be_kept_elsewhere(tmp_path: Path) -> None:
    (first,) = keep([folded(tmp_path / "burst-1").path], tmp_path / "one")
    (second,) = keep([first], tmp_path / "two")
    assert {path.name: path.read_bytes() for path in first.iterdir()} == {
        path.name: path.read_bytes() for path in second.iterdir()
    }


def test_nothing_is_written_over_and_nothing_half(tmp_path: Path) -> None:
    run, other = folded(tmp_path / "burst-1"), folded(tmp_path / "elsewhere" / "burst-1", seed=2)
    keep([run.path], tmp_path / "history")
    before = (tmp_path / "history" / "burst-1" / "manifest.json").read_bytes()
    with pytest.raises(UsageError, match=r"burst-1 exists and is not empty"):
        keep([other.path], tmp_path / "history")
    with pytest.raises(UsageError, match="two of the runs are called burst-1"):
        keep([run.path, other.path], tmp_path / "new")
    assert (tmp_path / "history" / "burst-1" / "manifest.json").read_bytes() == before
    (other.path / "summary.json").unlink()
    with pytest.raises(RunError, match=r"has no summary.json: fold it first, harness report"):
        keep([other.path], tmp_path / "new")
    assert not list(tmp_path.glob("new/*"))


def test_a_name_that_leads_out_of_the_history_is_refused(tmp_path: Path) -> None:
    run = folded(tmp_path / "burst-1")
    run.write_manifest(msgspec.structs.replace(run.manifest(), run_id="../burst-2"))
    with pytest.raises(UsageError, match="run name"):
        keep([run.path], tmp_path / "history")
    assert not (tmp_path / "burst-2").exists()
    run.write_manifest(msgspec.structs.replace(run.manifest(), run_id=".."))
    with pytest.raises(UsageError, match="run name"):
        keep([run.path], tmp_path / "history")


def test_the_command_says_where_they_are(tmp_path: Path) -> None:
    told: list[str] = []
    run = folded(tmp_path / "burst-1")
    assert run_keep([run.path], tmp_path / "history", tell=told.append) == 0
    assert told == [f"  kept        {tmp_path / 'history' / 'burst-1'}"]


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """Six nights of one plan, one with another duration, one on another machine."""
    folder = tmp_path / "history"
    said: list[dict[str, Any]] = [{} for _ in range(6)]
    said += [{"duration_s": 20.0}, {"machine": {"cpu": "another", "num_cpus": 64}}]
    for number, fields in enumerate(said):
        path = folder / f"night-{number}"
        path.mkdir(parents=True)
        machine = {"cpu": "this", "num_cpus": 2}
        made = manifest(
            **({"run_id": path.name, "started_wall": 1.7e9 + number, "seed": number, "machine": machine} | fields)
        )
        RunDirectory(path).write_manifest(made)
    return folder


def tonight(**fields: Any) -> Any:
    machine = {"cpu": "this", "num_cpus": 2}
    return manifest(**({"run_id": "tonight", "started_wall": 1.8e9, "machine": machine} | fields))


def test_the_newest_runs_that_are_comparable_are_chosen(history: Path) -> None:
    assert [path.name for path in choose(history, tonight(), 2)] == ["night-4", "night-5"]
    assert [path.name for path in choose(history, tonight(), 99)] == [f"night-{number}" for number in range(6)]
    assert [path.name for path in choose(history, tonight(duration_s=20.0), 3)] == ["night-6"]


def test_runs_of_the_same_seeds_are_chosen_where_they_are_there(history: Path) -> None:
    assert [path.name for path in choose(history, tonight(), 3, seeds=[3, 0, 1])] == ["night-3", "night-0", "night-1"]
    assert [path.name for path in choose(history, tonight(), 3, seeds=[3, 0, 9])] == ["night-3", "night-4", "night-5"]
    assert [path.name for path in choose(history, tonight(), 2, seeds=[3, 3])] == ["night-4", "night-5"]


def test_what_was_broken_is_no_baseline(history: Path) -> None:
    """One is INVALID, in one nothing was answered: the nights before them are what tonight has to be as good as."""
    for name, fields in (("night-5", {"state": "INVALID"}), ("night-4", {}), ("night-3", {})):
        said = facts(name, {"error_rate": 1.0 if name == "night-4" else 0.2}, **fields)
        (history / name / "facts.json").write_bytes(msgspec.json.encode(said))
    assert [path.name for path in choose(history, tonight(), 2)] == ["night-2", "night-3"]
    said = facts("night-6", {"error_rate": 1.0})
    (history / "night-6" / "facts.json").write_bytes(msgspec.json.encode(said))
    with pytest.raises(UsageError, match="each is INVALID or broken, or none of its requests was answered"):
        choose(history, tonight(duration_s=20.0), 1)
    (history / "night-3" / "facts.json").write_text("{}")
    assert [path.name for path in choose(history, tonight(), 2)] == ["night-1", "night-2"]


def test_a_run_is_no_baseline_of_itself(history: Path) -> None:
    own = RunDirectory(history / "night-5").manifest()
    assert [path.name for path in choose(history, own, 1)] == ["night-4"]


def test_the_nearest_run_says_what_differs(history: Path) -> None:
    with pytest.raises(UsageError) as caught:
        choose(history, tonight(duration_s=5.0, scenario="spike"), 1)
    text = str(caught.value)
    assert "in the nearest, night-0, differs duration_s: 5.0 and 10.0; scenario: spike and burst" in text
    with pytest.raises(UsageError, match=r"series: gateway and none \(--label series=NAME makes them one\)"):
        choose(history, tonight(labels={"series": "gateway"}), 1)


def test_an_empty_history_says_how_to_begin(tmp_path: Path) -> None:
    (tmp_path / "history").mkdir()
    with pytest.raises(UsageError, match=r"holds no run to compare tonight with; `harness keep RUN --into"):
        choose(tmp_path / "history", tonight(), 1)
    with pytest.raises(RunError, match="is not a directory"):
        choose(tmp_path / "nowhere", tonight(), 1)


def test_a_baseline_is_a_run_or_a_history(history: Path, tmp_path: Path) -> None:
    candidates = []
    for seed in (1, 2, 3):
        path = tmp_path / f"now-{seed}"
        path.mkdir()
        RunDirectory(path).write_manifest(tonight(run_id=path.name, seed=seed))
        candidates.append(path)
    assert [path.name for path in baseline_runs([history], candidates)] == ["night-1", "night-2", "night-3"]
    assert baseline_runs([history / "night-1"], candidates) == [history / "night-1"]
    assert baseline_runs([tmp_path / "missing"], candidates) == [
        tmp_path / "missing"
    ]  # the reader says that it is none
