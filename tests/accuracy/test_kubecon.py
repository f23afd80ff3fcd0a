"""Seven rates over the point of saturation on an H100, with and without prefix cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.accuracy.fidelity import kubecon_rows
from tests.accuracy.kubecon import CHUNKED, PLAIN, knee, plateau, simulated, sweep

VARIANTS = [PLAIN, CHUNKED]


@pytest.mark.parametrize("variant", VARIANTS)
def test_mean_latency_plateau_and_knee(shared_data: Path, variant: str) -> None:
    rows = kubecon_rows(shared_data, variant)
    latency = [row for row in rows if "E2E mean" in row.what]
    assert len(latency) == 7
    for row in latency:
        assert abs(row.error) <= 0.10, row
    (throughput,) = (row for row in rows if "plateau" in row.what)
    assert abs(throughput.error) <= 0.08, throughput
    (knee_row,) = (row for row in rows if "knee" in row.what)
    assert abs(knee_row.error) <= 0.10, knee_row


@pytest.mark.parametrize("variant", VARIANTS)
def test_median_ttft_below_the_knee_is_within_6_ms(shared_data: Path, variant: str) -> None:
    ours, theirs = sweep(shared_data, variant)
    below = [(our, their) for our, their in zip(ours, theirs, strict=True) if their.offered < 0.95 * plateau(theirs)]
    assert len(below) == 4
    for our, their in below:
        assert abs(our.ttft_ms[50] - their.ttft_ms[50]) <= 6


@pytest.mark.parametrize("variant", VARIANTS)
def test_above_saturation_ttft_comes_from_the_cap_of_440(shared_data: Path, variant: str) -> None:
    """Little's law of the client: 440 in flight at the plateau's rate stay 440/rate seconds."""
    ours, theirs = sweep(shared_data, variant)
    for our, their in zip(ours[-2:], theirs[-2:], strict=True):
        assert our.ttft_ms[50] == pytest.approx(their.ttft_ms[50], rel=0.10)
    assert ours[-1].e2e_s == pytest.approx(
        440 / ours[-1].throughput, rel=0.05
    )  # of the rest a part is spent filling up


def test_the_tool_that_reads_knee_and_plateau_reads_the_measured_ones(shared_data: Path) -> None:
    _, theirs = sweep(shared_data, PLAIN)
    assert 92.2 < knee(theirs) < 122.6  # 44.5 ms at the one, 3,036 ms at the other, 31 idle
    assert plateau(theirs) == pytest.approx((101.2 + 101.5 + 103.1) / 3, abs=0.1)


def test_ttft_is_flat_to_nine_tenths_of_capacity_and_then_jumps(shared_data: Path) -> None:
    """The shape that vLLM has: a mock whose TTFT rises in proportion to the load is wrong."""
    ours, _ = sweep(shared_data, PLAIN)
    capacity, idle = plateau(ours), ours[0].ttft_ms[50]
    flat = [simulated(PLAIN, share * capacity).ttft_ms[50] for share in (0.3, 0.5, 0.7, 0.8, 0.9)]
    assert flat == sorted(flat)
    assert flat[-1] < 2 * idle
    assert simulated(PLAIN, 1.15 * capacity).ttft_ms[50] > 50 * idle
