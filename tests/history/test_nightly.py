"""The nightly script and its workflow: valid, with commands that exist, and right about good and bad nights."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from harness.cli import app
from harness.judgement.slo import load_slo
from tests.conftest import REPOSITORY
from tests.history import warm

SCRIPT = REPOSITORY / "nightly" / "gate.sh"
WORKFLOW = REPOSITORY / ".github" / "workflows" / "nightly.yml"
README = (REPOSITORY / "nightly" / "README.md").read_text()

# Notes what it is told to do, makes what a run leaves behind, and ends as the test says: CODE_gate=1, CODE_trend=0.
FAKE = """#!/usr/bin/env bash
echo "$@" >> "$FAKE_LOG"
verb=$1 out= previous=
for word in "$@"; do
    if [[ $previous == --out ]]; then out=$word; fi
    if [[ $previous == -o ]]; then touch "$word"; fi
    if [[ $previous == --into ]]; then mkdir -p "$word" && touch "$word/$verb"; fi
    previous=$word
done
if [[ -n $out && -z ${NO_RUNS:-} ]]; then mkdir -p "$out" && touch "$out/summary.json"; fi
if [[ -n $out && -z ${NO_RUNS:-}${NO_PAGES:-} ]]; then touch "$out/report.html"; fi
name="CODE_$verb"
exit "${!name:-0}"
"""


@pytest.fixture
def night(tmp_path: Path) -> Callable[..., tuple[int, str, list[str]]]:
    """Runs the script with a harness that does nothing; returns its exit code, its words and the commands that it gave."""
    fake = tmp_path / "fake"
    fake.write_text(FAKE)
    fake.chmod(0o755)
    log = tmp_path / "log"

    def run(**options: str) -> tuple[int, str, list[str]]:
        log.write_text("")
        said = {
            "HARNESS": str(fake),
            "FAKE_LOG": str(log),
            "HISTORY": str(tmp_path / "history"),
            "OUT": str(tmp_path / "out"),
        }
        said |= {"STAMP": "night", "STACKS": "one", "SEEDS": "1 2", "REAL_PAIRS": "0"} | options
        return *_run(said), log.read_text().splitlines()

    return run


def _run(options: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        ["bash", str(SCRIPT)],
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")} | options,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


pytestmark = pytest.mark.realtime

Night = Callable[..., tuple[int, str, list[str]]]


def test_the_first_night_makes_the_baseline_and_says_so(night: Night) -> None:
    code, text, commands = night()
    assert code == 0
    assert "one: there was no baseline; the runs of this night are it now" in text
    assert [line.split()[0] for line in commands] == ["simulate", "simulate", "keep", "keep", "trend"]
    code, text, commands = night(STAMP="second")
    assert [line.split()[0] for line in commands] == ["simulate", "simulate", "keep", "gate", "trend"]
    assert "--baseline" in commands[3]
    code, text, commands = night(STAMP="third", REBASE="1")
    assert "the runs of this night are it now" in text


@pytest.mark.parametrize(
    ("codes", "expected", "word"),
    [
        ({}, 0, "PASS"),
        ({"CODE_gate": "3"}, 3, "INCONCLUSIVE"),
        ({"CODE_gate": "3", "CODE_trend": "1"}, 1, "FAIL"),
        ({"CODE_gate": "1", "CODE_trend": "0"}, 1, "FAIL"),
        ({"CODE_gate": "2", "CODE_trend": "1"}, 2, "INVALID"),
        ({"CODE_gate": "137"}, 2, "INVALID"),
        ({"CODE_simulate": "1"}, 0, "PASS"),  # a run with failures is the gate's to judge
        ({"NO_RUNS": "1"}, 2, "INVALID"),
        (
            {"NO_PAGES": "1", "CODE_simulate": "1"},
            2,
            "INVALID",
        ),  # it ended in the middle; the night goes on and says so
    ],
)
def test_the_worst_answer_is_the_nights(night: Night, codes: dict[str, str], expected: int, word: str) -> None:
    night(STAMP="first")
    code, text, _ = night(**codes)
    assert (code, f"NIGHT night: {word}" in text) == (expected, True)


def test_a_changed_plan_says_how_to_begin_again(night: Night) -> None:
    night(STAMP="first")
    assert "REBASE=1 makes a new baseline" in night(CODE_gate="2")[1]


def test_runs_in_real_time_take_turns(night: Night, tmp_path: Path) -> None:
    program = tmp_path / "other" / ".venv" / "bin" / "harness"
    program.parent.mkdir(parents=True)
    program.write_text(FAKE)
    program.chmod(0o755)
    _, _, commands = night(STACKS="", REAL_PAIRS="4", BASELINE_DIR=str(tmp_path / "other"))
    order = [re.search(r"variant=(\w+)", line)[1] for line in commands if line.startswith("run ")]  # type: ignore[index]
    a, b = "baseline", "candidate"
    assert order == [a, b, b, a, a, b, b, a]
    (gate,) = [line for line in commands if line.startswith("gate ")]
    assert gate.count("--baseline") == 4


def test_the_same_code_on_both_sides_fails_no_night(night: Night) -> None:
    code, text, _ = night(STACKS="", REAL_PAIRS="1", CODE_gate="1")
    assert code == 0
    assert "real time, against itself, not counted: FAIL" in text
    assert night(STACKS="", REAL_PAIRS="1", CODE_gate="2", STAMP="again")[0] == 2


def test_a_backend_is_loaded_only_with_a_budget(night: Night) -> None:
    code, text, commands = night(TARGET="http://127.0.0.1:1")
    assert (code, commands) == (2, [])
    assert "TARGET is given without BUDGET" in text
    _, _, commands = night(TARGET="http://127.0.0.1:1", BUDGET="2", PRICES="openai", STACKS="")
    (run,) = [line for line in commands if line.startswith("run ")]
    assert "--target http://127.0.0.1:1" in run
    assert "--budget 2 --prices openai" in run


def test_every_command_and_option_exists(night: Night) -> None:
    commands = [*night(STAMP="first")[2]]
    commands += night(REAL_PAIRS="1", TARGET="http://127.0.0.1:1", BUDGET="1", PRICES="p", MODEL="m", ALLOW_HOST="h")[2]
    known: Any = typer.main.get_command(app)
    scenario = (REPOSITORY / "harness" / "swarm" / "options.py").read_text()
    assert {line.split()[0] for line in commands} == {"simulate", "keep", "gate", "run", "compare", "trend"}
    for verb, *words in (line.split() for line in commands):
        options = {option for each in known.commands[verb].params for option in each.opts}
        for word in (word for word in words if word.startswith("-")):
            assert word in options or (verb == "run" and f'"{word}"' in scenario), f"harness {verb} has no {word}"


def test_what_the_script_names_is_there() -> None:
    text = SCRIPT.read_text()
    for name in re.findall(r"\b(?:scenarios|nightly)/\w+\.(?:py|yaml)", text):
        assert (REPOSITORY / name).is_file(), name
    rule = load_slo(REPOSITORY / "nightly" / "slo.yaml")
    assert rule.objectives
    assert rule.gate.measures
    variables = set(re.findall(r"`([A-Z_]+)`", README)) - {"PASS", "FAIL", "INVALID", "INCONCLUSIVE"}
    assert variables
    assert [name for name in sorted(variables) if name not in text and name != "HARNESS_API_KEY"] == []


def test_the_workflow_is_valid_and_gives_nothing_away() -> None:
    text = WORKFLOW.read_text()
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    assert {"schedule", "workflow_dispatch"} <= set(workflow[True])  # YAML 1.1 reads `on` so
    assert {"target", "budget"} <= set(workflow[True]["workflow_dispatch"]["inputs"])
    steps = [(job, step) for job, each in workflow["jobs"].items() for step in each["steps"]]
    for job, step in steps:
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z/-]+@v\d+", step["uses"])
        assert "${{" not in step.get("run", "")  # text of a person is never part of a command
        assert "secrets." not in str(step) or job == "backend"
    assert text.count("secrets.") == 1
    assert workflow["jobs"]["backend"]["if"].startswith("github.event_name == 'workflow_dispatch'")
    runs = " ".join(step.get("run", "") for _, step in steps)
    assert "nightly/gate.sh" in runs
    uploads = [step for _, step in steps if "upload-artifact" in step.get("uses", "")]
    assert all(step["if"] == "always()" for step in uploads)
    written = {line.strip() for step in uploads for line in step["with"]["path"].splitlines()}
    assert {"nightly-out/pages", "nightly-out/junit", "nightly-history"} <= written
    assert "OUT:-nightly-out" in SCRIPT.read_text()
    assert "HISTORY:-nightly-history" in SCRIPT.read_text()


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[str]:
    """A harness that starts in no time, as a command."""
    door = tmp_path / "door"
    client = tmp_path / "client.py"
    client.write_text(warm.CLIENT.format(path=str(door)))
    server = subprocess.Popen(
        [sys.executable, warm.__file__, str(door)], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield f"{sys.executable} -I -S {client}"
    finally:
        server.terminate()
        server.wait(20)
        assert server.stdout is not None
        server.stdout.close()


def test_a_regression_fails_its_night_and_a_night_without_one_passes(harness: str, tmp_path: Path) -> None:
    slo = tmp_path / "slo.yaml"
    slo.write_text("gate: {measures: [ttft_p50(ok), tpot_p50(ok)]}\n")
    options = {
        "HARNESS": harness,
        "HISTORY": str(tmp_path / "history"),
        "SLO": str(slo),
        "SEEDS": "1 2 3 4 5 6",
        "SIM_FOR": "10s",
        "SIM_RATE": "10/s",
        "REAL_PAIRS": "0",
    }

    def night(stamp: str, stacks: str) -> tuple[int, str]:
        return _run(options | {"OUT": str(tmp_path / stamp), "STAMP": stamp, "STACKS": stacks})

    code, text = night("first", "h100-8b")
    assert code == 0, text
    assert "there was no baseline" in text
    code, text = night("second", "h100-8b")
    assert code == 0, text
    assert "h100-8b: PASS" in text
    code, text = night("third", "h100-8b=a100-8b")
    assert code == 1, text
    assert "h100-8b: FAIL" in text
    kept = sorted(path.name for path in (tmp_path / "history" / "nights").iterdir())
    assert len(kept) == 18
    assert len(list((tmp_path / "history" / "baseline" / "h100-8b").iterdir())) == 6
    assert "<testcase" in (tmp_path / "third" / "junit" / "h100-8b.xml").read_text()
    assert {path.name for path in (tmp_path / "third" / "pages").iterdir()} == {"h100-8b.html", "trend.html"}
