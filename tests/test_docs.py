"""What the documents show is true: commands, options, files, profiles, links and changelog."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.dialects import Asked
from harness.dialects.table import DIALECTS
from harness.exports.command import FORMATS
from harness.judgement.slo import load_slo
from harness.prices import load_prices
from harness.sse import SseEvent
from harness.verdict import EXIT_CODES
from harness.workloads.file import read_workload
from mockllm import bundled_deployments, bundled_profiles, load_deployment
from mockllm.policy_text import policy_names
from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
DOCUMENTS = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benchmarks/README.md",
    "docs/fidelity.md",
    "docs/semantic-cache.md",
    "docs/faults.md",
    "docs/gate.md",
    "nightly/README.md",
]


def shown_commands() -> list[str]:
    blocks = re.findall(r"```\n(.*?)```", README, flags=re.DOTALL)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith(("mockllm ", "harness ", "make ", "locust "))]


def help_of(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", *words], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return " ".join(done.stdout.split())


@pytest.mark.parametrize("target", sorted({c.split()[1] for c in shown_commands() if c.startswith("make ")}))
def test_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("command", [c for c in shown_commands() if c.startswith(("mockllm ", "harness "))])
def test_shown_options_exist(command: str) -> None:
    program, verb, *rest = command.split()
    text = help_of(program, verb, "--help")
    known = {
        "--burst-factor",
        "--scenario-help",
        "--objective",
        "--workload",
    }  # the scenario's; tests/scenarios asks them
    for option in [word for word in rest if word.startswith("--") and word not in known]:
        assert option in text, f"{program} {verb} has no {option}"
    for scenario in [word for word in rest if word.startswith("scenarios/")]:
        assert (REPOSITORY / scenario).is_file()


def test_named_profiles_are_the_bundled_ones() -> None:
    """GPUs times models, and the others by name."""
    section = README.partition("| profiles | names |")[2].partition("\n\n")[0]
    gpus, *others = [re.findall(r"`([\w-]+)`", row) for row in section.strip().splitlines()[1:]]
    sizes = [name for name in gpus if name.startswith("-")]
    named = [gpu + size for gpu in gpus if not gpu.startswith("-") for size in sizes]
    assert sorted(named + [name for row in others for name in row]) == bundled_profiles()


def test_named_stacks_are_the_bundled_ones() -> None:
    section = README.partition("| ready stacks | names |")[2].partition("\n\n")[0]
    named = [name for row in section.strip().splitlines()[1:] for name in re.findall(r"`([\w-]+)`", row)]
    assert sorted(named) == bundled_deployments()


def test_named_scenarios_are_those_that_are_there() -> None:
    section = README.partition("| about | scenarios |")[2].partition("\n\n")[0]
    named = re.findall(r"`(\w+)`", section)
    assert sorted(named) == sorted(path.stem for path in Path(REPOSITORY / "scenarios").glob("[!_]*.py"))


def test_options_of_every_scenario_exist() -> None:
    section = README.partition("| option of every scenario | meaning |")[2].partition("\n\n")[0]
    options = re.findall(r"--[a-z][a-z-]+", section)
    text = help_of("locust", "-f", "scenarios/burst.py", "--scenario-help")
    assert len(options) > 10
    assert [option for option in options if option not in text] == []


def test_every_protocol_is_named() -> None:
    row = next(line for line in README.splitlines() if line.startswith("| `--protocol NAME` |"))
    assert re.findall(r"`([a-z]+-[a-z]+)`", row.split("|")[2]) == list(DIALECTS)


def test_the_endpoint_of_the_readme_is_a_dialect() -> None:
    code = next(
        block for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL) if "json_dialect" in block
    )
    names: dict[str, Any] = {}
    exec(code, names)
    body = names["ASSISTANT"].body(Asked("m", (("user", "How late is it?"),)))
    assert json.loads(body) == {"question": "How late is it?", "stream": True}
    assert names["ASSISTANT"].event(SseEvent("message", b'{"delta": {"text": "Late"}}')).content == "Late"


def test_every_policy_is_named() -> None:
    section = README.partition("| policy | what |")[2].partition("\n\n")[0]
    named = {
        name for row in section.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1] if "|" in row else "")
    }
    assert named == set(policy_names()) - {"price"}


def test_the_deployment_and_the_workload_of_the_readme_are_valid(tmp_path: Path) -> None:
    deployment, workload = (
        next(block for block in re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL) if key in block)
        for key in ("stack:", "arrivals:")
    )
    (tmp_path / "stack.yaml").write_text(deployment)
    (tmp_path / "workload.yaml").write_text(workload)
    load_deployment(str(tmp_path / "stack.yaml"))
    read_workload(tmp_path / "workload.yaml")


def test_the_objectives_and_the_prices_of_the_readme_are_valid(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    for name, key in (("slo.yaml", "objectives:"), ("prices.yaml", "cached_input: 0.025")):
        (tmp_path / name).write_text(next(block for block in blocks if key in block and "stack:" not in block))
    slo = load_slo(tmp_path / "slo.yaml")
    assert (len(slo.objectives), len(slo.budgets), len(slo.alerts), len(slo.gate.measures or ())) == (7, 1, 4, 5)
    assert list(load_prices(tmp_path / "prices.yaml").models) == ["gpt-5-mini", "claude-sonnet-4-5"]


def test_the_options_and_formats_of_judgement_exist() -> None:
    table = README.partition("\n| `--slo FILE` |")[2].partition("\n\n")[0]
    options = re.findall(r"--[a-z][a-z-]+", table)
    text = help_of("harness", "run", "--help") + help_of("harness", "simulate", "--help")
    assert len(options) >= 6
    assert [option for option in options if option not in text] == []
    exports = README.partition("| `harness export RUN --format` | what |")[2].partition("\n\n")[0]
    assert [name for row in exports.splitlines()[2:] for name in re.findall(r"`([\w-]+)`", row.split("|")[1])] == list(
        FORMATS
    )


@pytest.mark.parametrize("name", DOCUMENTS)
def test_relative_links_lead_somewhere(name: str) -> None:
    document = REPOSITORY / name
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("name", DOCUMENTS)
def test_named_files_exist(name: str) -> None:
    text = (REPOSITORY / name).read_text()
    for path in re.findall(r"`((?:mockllm|harness|scenarios|reports|tests|benchmarks)/[\w./-]+)`", text):
        assert (REPOSITORY / path).exists(), f"{name} names {path}"


def test_exit_codes_are_those_of_the_code() -> None:
    table = dict(re.findall(r"^\| (\d) \| (\w+) \|", README, flags=re.MULTILINE))
    assert {int(code): answer for code, answer in table.items()} == {
        code: answer for answer, code in EXIT_CODES.items()
    }


def test_every_scenario_says_question_what_to_look_at_and_when_useful() -> None:
    for path in Path(REPOSITORY / "scenarios").glob("[!_]*.py"):
        header = path.read_text().split('"""')[1]
        assert all(
            word in header for word in ("Question:", "Look at:", "Useful when:", f"locust -f scenarios/{path.name}")
        )


def test_the_scenario_of_the_readme_makes_a_plan() -> None:
    code = re.search(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert code is not None
    probe = code[1] + (
        "\nfrom argparse import Namespace\n"
        "plan = Steady.plan(PlanOptions(10.0, 20.0, 5, 1, '', Namespace()))\n"
        "print(plan.duration_s, 150 < plan.num_arrivals < 250)\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["20.0", "True"]
