"""dcgm-exporter's text, in the shape that its documentation and its issue tracker show, and the mock's in the same words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.gpu.dcgm import gpu_samples_of
from harness.plain import short_plain
from mockllm import build_engine, load_deployment
from mockllm.server.dcgm import dcgm_text
from tests.harness.builders import LAW

# After github.com/NVIDIA/dcgm-exporter README.md (the first three, with the blank of a card without that sensor) and issue 189 of
# NVIDIA/gpu-monitoring-tools (power and energy of one GPU); help texts from etc/default-counters.csv.
PLAIN = """\
# HELP DCGM_FI_DEV_SM_CLOCK SM clock frequency (in MHz).
# TYPE DCGM_FI_DEV_SM_CLOCK gauge
DCGM_FI_DEV_SM_CLOCK{gpu="0", UUID="GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52"} 139
# HELP DCGM_FI_DEV_MEM_CLOCK Memory clock frequency (in MHz).
# TYPE DCGM_FI_DEV_MEM_CLOCK gauge
DCGM_FI_DEV_MEM_CLOCK{gpu="0", UUID="GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52"} 405
DCGM_FI_DEV_MEM_CLOCK{gpu="1",UUID="GPU-08abd178-8a91-05c5-6a52-1ab4a05bcdaf",device="nvidia1"} 877
# HELP DCGM_FI_DEV_MEMORY_TEMP Memory temperature (in C).
# TYPE DCGM_FI_DEV_MEMORY_TEMP gauge
DCGM_FI_DEV_MEMORY_TEMP{gpu="0", UUID="GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52"} 9223372036854775794
# HELP DCGM_FI_DEV_GPU_TEMP GPU temperature (in C).
# TYPE DCGM_FI_DEV_GPU_TEMP gauge
DCGM_FI_DEV_GPU_TEMP{gpu="0", UUID="GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52"} 9223372036854775794
DCGM_FI_DEV_GPU_TEMP{gpu="1",UUID="GPU-08abd178-8a91-05c5-6a52-1ab4a05bcdaf",device="nvidia1"} 56
# HELP DCGM_FI_DEV_POWER_USAGE Power draw (in W).
# TYPE DCGM_FI_DEV_POWER_USAGE gauge
DCGM_FI_DEV_POWER_USAGE{gpu="0", UUID="GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52"} 140737488355328.000000
DCGM_FI_DEV_POWER_USAGE{gpu="1",UUID="GPU-08abd178-8a91-05c5-6a52-1ab4a05bcdaf",device="nvidia1"} 167.362000
# HELP DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION Total energy consumption since boot (in mJ).
# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="0", UUID="GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52"} 9223372036854775792
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{gpu="1",UUID="GPU-08abd178-8a91-05c5-6a52-1ab4a05bcdaf",device="nvidia1"} 129931554972
# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).
# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{gpu="0", UUID="GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52"} 2147483632
DCGM_FI_DEV_GPU_UTIL{gpu="1",UUID="GPU-08abd178-8a91-05c5-6a52-1ab4a05bcdaf",device="nvidia1"} 97
# HELP DCGM_FI_DEV_FB_FREE Framebuffer memory free (in MiB).
# TYPE DCGM_FI_DEV_FB_FREE gauge
DCGM_FI_DEV_FB_FREE{gpu="1",UUID="GPU-08abd178-8a91-05c5-6a52-1ab4a05bcdaf",device="nvidia1"} 1000
# HELP DCGM_FI_DEV_FB_USED Framebuffer memory used (in MiB).
# TYPE DCGM_FI_DEV_FB_USED gauge
DCGM_FI_DEV_FB_USED{gpu="1",UUID="GPU-08abd178-8a91-05c5-6a52-1ab4a05bcdaf",device="nvidia1"} 15000
DCGM_FI_DEV_FB_RESERVED{gpu="1",UUID="GPU-08abd178-8a91-05c5-6a52-1ab4a05bcdaf",device="nvidia1"} 384
DCGM_FI_PROF_SM_ACTIVE{gpu="1",UUID="GPU-08abd178-8a91-05c5-6a52-1ab4a05bcdaf",device="nvidia1"} 0.412345
DCGM_FI_DEV_XID_ERRORS{gpu="0", UUID="GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52"} 0
"""

# After NVIDIA/dcgm-exporter issues 512 and 713: the labels of MIG instances on Kubernetes.
_MIG = (
    'gpu="0",UUID="GPU-58e8f5ea-13cc-013a-d88f-2bcf5ae8bc77",pci_bus_id="00000000:1A:00.0",device="nvidia0",'
    'modelName="NVIDIA H100 80GB HBM3",GPU_I_PROFILE="1g.10gb",GPU_I_ID="{id}",Hostname="gsrh100-074",'
    'DCGM_FI_DRIVER_VERSION="535.129.03",container="kserve-container",namespace="a",pod="b"'
)


def test_fields_units_and_blanks() -> None:
    blank, real = gpu_samples_of(PLAIN, 12.5, "http://gpu-1:9400/metrics")
    assert (blank.gpu, blank.sm_clock_mhz, blank.memory_clock_mhz) == (
        "GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52",
        139.0,
        405.0,
    )
    assert (blank.temperature_c, blank.power_w, blank.energy_j, blank.utilization) == (None, None, None, None)
    assert (real.at, real.source, real.simulated, real.mig) == (12.5, "http://gpu-1:9400/metrics", False, None)
    assert real.energy_j == pytest.approx(129_931_554.972), "a counter in mJ is larger than the blank of 32 bits"
    assert (real.power_w, real.temperature_c, real.sm_active) == (167.362, 56.0, 0.412345)
    assert real.utilization == pytest.approx(0.97)
    assert (real.memory_used, real.memory_total) == (15000 * 2**20, 16384 * 2**20)
    assert real.engine_active is None


def test_instances_are_told_apart() -> None:
    text = "".join(f"DCGM_FI_PROF_GR_ENGINE_ACTIVE{{{_MIG.format(id=number)}}} 0.{number}\n" for number in (7, 8))
    found = gpu_samples_of(text, 0.0, "x")
    assert [(sample.gpu[-4:], sample.mig, sample.engine_active) for sample in found] == [
        ("bc77", "1g.10gb/7", 0.7),
        ("bc77", "1g.10gb/8", 0.8),
    ]
    assert {sample.name for sample in found} == {"NVIDIA H100 80GB HBM3"}


def test_without_a_uuid_a_gpu_is_its_number_on_its_host() -> None:
    text = (
        'DCGM_FI_DEV_SM_CLOCK{gpu="3",Hostname="node-7"} 1\nDCGM_FI_DEV_SM_CLOCK{gpu="3"} 1\nDCGM_FI_DEV_SM_CLOCK 1\n'
    )
    assert [sample.gpu for sample in gpu_samples_of(text, 0.0, "x")] == ["node-7/3", "3", "?"]


def test_the_mock_speaks_the_same_words_and_says_that_it_is_one() -> None:
    engine = build_engine(load_deployment("h100-70b"), seed=1, every_token=True)
    engine.advance(4.0)
    found = gpu_samples_of(dcgm_text(engine.backends, 4.0), 4.0, "mock")
    assert len(found) == len({sample.gpu for sample in found}) > 1
    for sample in found:
        assert sample.simulated
        assert sample.energy_j == pytest.approx(4.0 * (sample.power_w or 0)), "an idle GPU draws the same all the time"
        assert sample.temperature_c is None


@pytest.mark.parametrize(
    "text",
    [
        'DCGM_FI_DEV_SM_CLOCK{gpu="0',
        'DCGM_FI_DEV_SM_CLOCK{gpu="0"} one',
        'DCGM_FI_DEV_SM_CLOCK{gpu="0"}',
        "".join(f'DCGM_FI_DEV_SM_CLOCK{{gpu="{number}"}} 1\n' for number in range(300)),
    ],
)
def test_what_cannot_be_read_is_said(text: str) -> None:
    with pytest.raises(ValueError, match=r"not Prometheus' text format|more than 256 GPUs"):
        gpu_samples_of(text, 0.0, "x")


def test_other_lines_are_not_even_parsed() -> None:
    assert gpu_samples_of('broken{{{ \nup 1\nDCGM_FI_DEV_SM_CLOCK{gpu="0"} 7\n', 0.0, "x")[0].sm_clock_mhz == 7.0


@LAW
@given(st.text(max_size=300))
def test_any_text_gives_samples_or_a_reason(text: str) -> None:
    for body in (text, f"DCGM_FI_DEV_SM_CLOCK{text}", f'DCGM_FI_DEV_SM_CLOCK{{gpu="{text}"}} 1'):
        try:
            found = gpu_samples_of(body, 0.0, "x")
        except ValueError:
            continue
        assert all(sample.gpu.isprintable() for sample in found)


@pytest.mark.parametrize(
    ("text", "plain"),
    [("NVIDIA H100", "NVIDIA H100"), ("\x1b[2J\u202eevil\n", "�[2J�evil�"), ("x" * 500, "x" * 120)],
)
def test_labels_are_harmless(text: str, plain: str) -> None:
    assert short_plain(text) == plain
