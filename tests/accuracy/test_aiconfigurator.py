"""The bundled GPUs against NVIDIA AIConfigurator's kernel times (in-sample: they were fitted to them)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.accuracy.kernels import DENSE_GPUS, EXPERT_GPUS, kernel_error


@pytest.mark.parametrize("gpu", DENSE_GPUS)
def test_dense_models_are_within_8_percent_on_average(shared_data: Path, gpu: str) -> None:
    error = kernel_error(shared_data, gpu, experts=False)
    assert error.num_points >= 36
    assert error.mean <= 0.08
    assert abs(error.bias) <= 0.02
    assert error.worst <= 0.35


@pytest.mark.parametrize("gpu", EXPERT_GPUS)
def test_a_mixture_of_experts_is_within_10_percent_on_average(shared_data: Path, gpu: str) -> None:
    error = kernel_error(shared_data, gpu, experts=True)
    assert error.num_points == 36
    assert error.mean <= (0.10 if gpu == "l40s" else 0.07)
    assert abs(error.bias) <= 0.05
    assert error.worst <= 0.40
