"""The words of `harness gate`: a list of baselines typed in one piece."""

from __future__ import annotations

import pytest

from harness.cli_after import spread


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("gate a b --baseline c d", "gate a b --baseline c --baseline d"),
        ("gate a --baseline c d --slo s.yaml", "gate a --baseline c --baseline d --slo s.yaml"),
        ("gate a --baseline c --baseline d e", "gate a --baseline c --baseline d --baseline e"),
        ("gate a --slo s.yaml --baseline c", "gate a --slo s.yaml --baseline c"),
        ("gate a --baseline=c d", "gate a --baseline=c d"),
        ("run x.py --mock golden", "run x.py --mock golden"),
        ("gate a --baseline", "gate a"),
    ],
)
def test_every_run_after_the_option_has_the_option_of_its_own(typed: str, meant: str) -> None:
    assert spread(typed.split(), "--baseline") == meant.split()
