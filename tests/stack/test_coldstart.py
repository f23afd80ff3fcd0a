"""What a start takes: the sum of its stages, and the published totals."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mockllm.building import weight_bytes
from mockllm.deployment import load_profile
from mockllm.stack.coldstart import ColdStartSettings

STAGES = ("provision", "driver", "image", "weights", "init")


def settings(**keys: Any) -> ColdStartSettings:
    return ColdStartSettings.model_validate(keys)


@given(
    st.lists(st.integers(0, 500), min_size=4, max_size=4), st.integers(0, 200), st.sampled_from([0.25, 0.5, 2.0, 5.0])
)
def test_a_start_is_the_sum_of_its_stages(seconds: list[int], size_gb: int, bandwidth: float) -> None:
    names = [name for name in STAGES if name != "weights"]
    keys: dict[str, Any] = {name: f"{each}s" for name, each in zip(names, seconds, strict=True)}
    cold = settings(**keys, bandwidth_gb_s=bandwidth)
    assert cold.plan(size_gb * 1e9).total_s == pytest.approx(sum(seconds) + size_gb / bandwidth)
    warm = settings(**keys, bandwidth_gb_s=bandwidth, warm_node=True)
    assert warm.plan(size_gb * 1e9).total_s == pytest.approx(seconds[3] + size_gb / bandwidth)


@pytest.mark.parametrize(
    ("elapsed_s", "stage"),
    [
        (-5, "decision"),
        (0, "provision"),
        (89, "provision"),
        (90, "driver"),
        (125, "image"),
        (200, "weights"),
        (215, "init"),
    ],
)
def test_a_start_is_in_one_stage_at_a_time(elapsed_s: float, stage: str) -> None:
    assert settings(weights_gb=16).plan(None).stage_at(elapsed_s) == stage


@pytest.mark.parametrize(
    ("profile", "bandwidth", "least_s", "most_s"),
    [
        ("h100-8b", 2.0, 40, 60),  # "8B on a warm node 40-60 s"
        ("h100-70b", 2.0, 90, 360),  # "70B 1.5-6 min"
        ("h100-70b", 0.5, 90, 360),
    ],
)
def test_totals_are_as_published(profile: str, bandwidth: float, least_s: float, most_s: float) -> None:
    size = weight_bytes(load_profile(profile))
    assert least_s <= settings(bandwidth_gb_s=bandwidth, warm_node=True).plan(size).total_s <= most_s


def test_the_size_in_the_file_goes_before_that_of_the_profile() -> None:
    assert settings(weights_gb=10, init="0s", warm_node=True).plan(40e9).total_s == 20
    assert settings(weights_gb=0, init="0s", warm_node=True).plan(40e9).total_s == 0


def test_nobody_guesses_a_size() -> None:
    assert weight_bytes(load_profile("golden")) is None
    with pytest.raises(ValueError, match=r"weights_gb is missing.*write how many GB"):
        settings().plan(None)


@pytest.mark.parametrize("keys", [{"provision": 90}, {"provision": "-1s"}, {"bandwidth_gb_s": 0}, {"warm": True}])
def test_keys_are_strict(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**keys)
