"""`harness doctor` as a person types it, on this machine; and the certificate in the next run's manifest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.doctor.certificate import read_certificate
from tests.conftest import REPOSITORY

pytestmark = [pytest.mark.realtime, pytest.mark.alone]


def _harness(state: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", *words],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "XDG_STATE_HOME": str(state), "COLUMNS": "100"},
    )


def test_a_quick_certificate_is_made_kept_and_attached_to_the_next_run(tmp_path: Path) -> None:
    done = _harness(tmp_path, "doctor", "--quick")
    assert done.returncode in (0, 1), done.stdout + done.stderr  # 1: this machine is busy or slow, which is data
    certificate = read_certificate(tmp_path / "llm-load-harness" / "certificate.json")
    assert certificate is not None
    assert certificate.state == ("OK" if done.returncode == 0 else "LIMITED")
    assert bool(certificate.reasons) == (certificate.state == "LIMITED")
    base = certificate.base
    assert base.streams == 40
    # 40 streams of 48 tokens, each 1.14 s: 87.7 of them in 2.5 s, and every token is a chunk.
    assert base.num_requests == 88
    assert base.num_chunks == 88 * 48
    assert base.added_p50_s is not None
    assert base.added_tail_s is not None
    assert -0.001 < base.added_p50_s < 0.02  # our stamp may come before the mock's own
    assert base.added_p50_s <= base.added_tail_s
    assert 0 < certificate.clocks.resolution_s < 0.01
    assert 0 <= certificate.clocks.timer_late_p50_s <= certificate.clocks.timer_late_max_s
    assert certificate.state in done.stdout
    assert "certificate.json" in done.stdout

    out = tmp_path / "run"
    words = ["run", "scenarios/burst.py", "--mock", "instant", "--rate", "5", "--duration", "1s", "--out", str(out)]
    ran = _harness(tmp_path, *words)
    attached = json.loads((out / "manifest.json").read_text())["certificate"]
    assert attached is not None, ran.stdout + ran.stderr
    assert attached["stale"] == []
    assert attached["state"] == certificate.state
    assert attached["added_p50_s"] == base.added_p50_s
