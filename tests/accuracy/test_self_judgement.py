"""The instrument knows when it must not be believed: sample by sample, and as a whole."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.replay import replay
from tests.accuracy.idle import require_idle_machine

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.alone,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux stamps what it receives"),
]

_BURN = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"


def _burn_for_two_seconds(url: str, ledger: Path) -> None:
    """From the first request on: one process for every processor, that does nothing but work."""
    while ledger.read_bytes().count(b"\n") < 2:
        time.sleep(0.01)
    burning = [subprocess.Popen([sys.executable, "-c", _BURN]) for _ in range(os.cpu_count() or 1)]
    try:
        time.sleep(2.2)
    finally:
        for process in burning:
            process.kill()
            process.wait()


def test_no_sample_is_wrong_by_a_millisecond_that_is_not_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Something in the load process burns the CPU for 15, 50 and 200 ms. The truth lies between the instant at which the
    mock was to write the first token and that at which it had written it."""
    played = replay(tmp_path, "golden", gap_s=0.0173, num=230, hogs="15,50,200")
    came, planned, written = played.first_tokens()
    wrong = np.maximum(0.0, np.maximum(came - written, planned - came))
    doubted = np.array([doubt is not None for doubt in played.run.table.labels["doubt"].texts()])
    merged = np.array(["merged_first_token" in (doubt or "") for doubt in played.run.table.labels["doubt"].texts()])
    with capsys.disabled():
        print(
            f"\n  {len(came)} samples, {doubted.sum()} doubted; worst error {wrong[~doubted].max() * 1e3:.3f} ms without "
            f"doubt, {wrong[merged].max() * 1e3:.0f} ms with"
        )
    assert wrong[~doubted].max() <= 0.001
    assert wrong[merged].max() > 0.010  # the doubts are not for nothing
    assert doubted.mean() < 0.5  # and not for everybody
    instrument = played.summary.instrument
    assert instrument.state == "DEGRADED"
    assert instrument.stamped_share == 1.0
    assert instrument.read_lag is not None
    assert 0.1 < (instrument.read_lag.maximum or 0) < 0.3
    assert instrument.doubts["late_send"] > 0
    assert any("the event loop stood still" in reason for reason in instrument.reasons)


def test_a_busy_machine_is_noticed(tmp_path: Path) -> None:
    played = replay(tmp_path, "golden", gap_s=0.02, num=100, meanwhile=_burn_for_two_seconds)
    instrument = played.summary.instrument
    assert instrument.state == "DEGRADED"
    assert any("the machine's processors were busy" in reason for reason in instrument.reasons)


def test_an_idle_machine_is_valid(tmp_path: Path) -> None:
    require_idle_machine()
    instrument = replay(tmp_path, "golden", gap_s=0.02, num=100).summary.instrument
    if any("hypervisor" in reason for reason in instrument.reasons):
        pytest.skip(f"NOT CHECKED: {instrument.reasons}")
    assert (instrument.state, instrument.reasons) == ("VALID", [])
    assert instrument.doubts == {}
