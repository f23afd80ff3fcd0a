"""The hosted classes against the measurements they were fitted to (in-sample, so the bounds are the fits' own)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.accuracy.fidelity import hosted_rows, length_rows
from tests.accuracy.hosted_apis import PROVIDERS, mock_times


def test_ttft_and_tpot_quantiles_of_the_measured_providers(shared_data: Path) -> None:
    rows = hosted_rows(shared_data)
    assert {row.name for row in rows} == set(PROVIDERS)
    for row in rows:
        assert abs(row.error) <= 0.10, row


def test_ttft_grows_with_the_prompt_as_measured(shared_data: Path) -> None:
    rows = length_rows(shared_data)
    for profile, mean, worst in (("frontier-mid", 0.05, 0.10), ("frontier-large", 0.12, 0.25)):
        errors = [abs(row.error) for row in rows if row.name == profile]
        assert len(errors) >= 8
        assert np.mean(errors) <= mean
        assert max(errors) <= worst


def test_tails_differ_by_class_as_they_do_among_providers() -> None:
    """p99/p50 of TTFT: about 1.3 for a steady API, 1.6 for fast silicon, 2 for `hosted`, 50 for a serverless one."""
    ratio = {name: float(np.divide(*np.percentile(mock_times(name)[0], [99, 50]))) for name in PROVIDERS}
    assert (
        ratio["steady-gpu-api"]
        < 1.5
        < ratio["fast-silicon"]
        < 1.8
        < ratio["hosted"]
        < 3
        < 30
        < ratio["serverless-cold"]
    )


def test_ttft_and_tpot_are_not_correlated() -> None:
    """|r| < .3 for each of the 19 provider files of the leaderboard."""
    for name in PROVIDERS:
        assert abs(np.corrcoef(np.log(mock_times(name)))[0, 1]) < 0.05
