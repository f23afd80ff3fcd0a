"""What a run is judged by and filed under, as it comes into the manifest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError, UsageError
from harness.terms import terms
from tests.conftest import REPOSITORY


def asked(cwd: Path, **changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "slo": None,
        "warmup_s": 0.0,
        "duration_s": 60.0,
        "labels": (),
        "gpu_price_per_hour": None,
        "month_requests": None,
        "environ": {},
    }
    return terms(**plain | changes, cwd=cwd)


def test_nothing_was_said(tmp_path: Path) -> None:
    nothing: dict[str, Any] = {
        "slo": None,
        "warmup_s": 0.0,
        "labels": {},
        "gpu_price_per_hour": None,
        "month_requests": None,
    }
    assert asked(tmp_path) == nothing


@pytest.mark.parametrize("warmup_s", [-1.0, 60.0, inf, nan])
def test_a_warm_up_lies_within_the_run(warmup_s: float, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--warmup .*shorter than the run, which has 60 s"):
        asked(tmp_path, warmup_s=warmup_s)


@pytest.mark.parametrize("value", [0.0, -2.5, 1e300, inf, nan])
@pytest.mark.parametrize(("name", "option"), [("gpu_price_per_hour", "--gpu-price"), ("month_requests", "--per-month")])
def test_a_price_and_a_volume_are_more_than_nothing(name: str, option: str, value: float, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"{option} .*more than 0"):
        asked(tmp_path, **{name: value})
    assert asked(tmp_path, **{name: 2.5})[name] == 2.5


@pytest.mark.parametrize(
    "text",
    ["variant", "=new", "variant=", "9lives=1", "a b=c", f"{'k' * 41}=v", f"k={'v' * 201}", "k=a\nb", "k=\x1b[2J"],
)
def test_a_label_is_a_key_and_a_printable_value(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="write KEY=VALUE"):
        asked(tmp_path, labels=[text])


def test_labels_are_kept_and_the_last_of_a_key_counts(tmp_path: Path) -> None:
    found = asked(tmp_path, labels=["variant = new", "gpu.kind=h100", "query=a=b", "variant=newer"])
    assert found["labels"] == {"variant": "newer", "gpu.kind": "h100", "query": "a=b"}


def test_the_commit_is_noted_by_itself_unless_it_is_said(tmp_path: Path) -> None:
    environ = {"GITHUB_SHA": "f" * 40}
    assert asked(tmp_path, environ=environ, labels=["variant=new"])["labels"] == {"variant": "new", "commit": "f" * 40}
    assert asked(tmp_path, environ=environ, labels=["commit=v2"])["labels"] == {"commit": "v2"}


def test_objectives_are_kept_as_they_were_written_and_checked_before_the_run(tmp_path: Path) -> None:
    file = tmp_path / "slo.yaml"
    file.write_text("objectives:\n  - ttft_p99 < 800 ms\n")
    assert "ttft_p99 < 800 ms" in json.dumps(asked(tmp_path, slo=file)["slo"])
    file.write_text("objectives:\n  - ttft_p99 < 800 parsecs\n")
    with pytest.raises(HarnessError, match="parsecs"):
        asked(tmp_path, slo=str(file))


@pytest.mark.realtime
def test_a_run_notes_the_commit_of_the_directory_it_was_started_in(tmp_path: Path) -> None:
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "-m", "one"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True, capture_output=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    environ = {name: value for name, value in os.environ.items() if not name.endswith(("_COMMIT", "_SHA"))}
    words = [sys.executable, "-m", "harness", "simulate", "golden", "--rate", "2", "--for", "5s", "--out", "run"]
    done = subprocess.run(
        words, cwd=tmp_path, env=environ | {"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["labels"] == {"commit": head.strip()}
