"""The gate's quality, measured: a small version of `benchmarks.gate`, and what its full card says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.gate import DEFAULT, STRICT, Tally, gates_of, tally
from benchmarks.gate_replays import Noise, golden_like, made_up, served, slower
from harness.gate.decide import gate
from tests.conftest import REPOSITORY

_ABBA = "ABBA" * 4


def _made_up(num: int, change: float, order: str = _ABBA, noise: Noise | None = None) -> Tally:
    replays = (made_up(number, change=change, noise=noise or Noise(), order=order) for number in range(num))
    return tally(replays, STRICT)


def test_an_unchanged_build_fails_once_in_twenty_at_most_and_one_that_is_a_tenth_slower_nearly_always() -> None:
    """Of 120 gates 5 % are 6; 13 and more would come up once in 200 times if it were true."""
    unchanged, changed = _made_up(120, 0.0), _made_up(60, 0.10)
    assert unchanged.answers["FAIL"] <= 12
    assert unchanged.answers["PASS"] <= 12
    assert changed.share("FAIL") >= 0.9


def test_all_of_one_side_first_never_fails_however_the_machine_drifts() -> None:
    drifting = _made_up(20, 0.0, "A" * 8 + "B" * 8, Noise(run=0.005, drift=0.02))
    assert drifting.answers == {"INCONCLUSIVE": 20}
    assert min(drifting.changes["tpot_p50(ok)"]) > 0.1  # which would have been a failure every time


def test_what_is_said_to_be_detectable_is_detected() -> None:
    """At the median of what 60 gates said they could have seen in TPOT, nine gates in ten see it."""
    seen = _made_up(60, 0.0, noise=Noise(drift=0.0)).detectable["tpot_p50(ok)"]
    truth = sorted(seen)[30]
    found = 0
    for number in range(100):
        result = gate(*made_up(number, change=truth, noise=Noise(drift=0.0), order=_ABBA), STRICT)
        found += next(each for each in result.measures if each.name == "tpot_p50(ok)").answer == "FAIL"
    assert 80 <= found <= 97


def test_a_mock_that_is_a_tenth_slower_fails_by_the_default_rule_and_the_same_one_does_not(tmp_path: Path) -> None:
    """Real records; eight runs a side."""
    base = list(served("h100-8b", range(8)))
    other = list(served("h100-8b", range(8, 16)))
    changed = list(served(slower(tmp_path, 0.10), range(8)))
    assert tally(gates_of(base, other), DEFAULT).answers["FAIL"] == 0
    assert tally(gates_of(changed, other), DEFAULT).answers == {"FAIL": 1}
    assert tally(gates_of(changed, base), DEFAULT).answers == {"FAIL": 1}


def test_a_true_change_of_two_in_a_thousand_shows_as_that(tmp_path: Path) -> None:
    sides = [list(served(each, range(8), duration_s=10)) for each in ("golden", golden_like(tmp_path, 0.002))]
    result = gate(sides[1], sides[0], STRICT)
    changes = {each.name: each.change for each in result.measures}
    assert changes["tpot_p50(ok)"] == pytest.approx(0.002, abs=2e-5)
    assert changes["ttft_p50(ok)"] == pytest.approx(0.002, abs=2e-5)
    assert changes["e2e_p50(ok)"] == pytest.approx(0.002, abs=2e-5)
    assert result.answer == "FAIL"
    assert gate(sides[0], [*sides[0]], STRICT).answer == "PASS"


def test_the_card_in_the_documents_shows_what_is_promised() -> None:
    rows = re.findall(
        r"^\| ([^|]+) \| (0|default|medians) \| ([0-9.]+)% ", (REPOSITORY / "docs" / "gate.md").read_text(), re.M
    )
    fails = {(name, rule): float(share) for name, rule, share in rows}
    assert len(fails) >= 40
    unchanged = {key: share for key, share in fails.items() if key[0] in ("no change", "no change, other seeds")}
    assert len(unchanged) == 6
    assert max(unchanged.values()) <= 5.0
    assert fails["+10.0%", "0"] >= 90
    assert fails["+10.0%, other seeds", "0"] >= 90
    assert fails["+10.0%, other seeds", "default"] >= 90
    assert fails["+10.0%, same seeds", "default"] >= 90
