"""The simulated GPUs follow the batch: activity from FLOP and bytes counted by hand, energy as the integral of power."""

from __future__ import annotations

import re
from math import inf
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockllm import Request
from mockllm.building import build_engine
from mockllm.deployment import Deployment, load_profile
from mockllm.engine.batching import BatchedReplica
from mockllm.engine.engine import Serving
from mockllm.engine.gpu import Gpu, GpuMeter, GpuReading
from mockllm.engine.latency import StepLoad
from mockllm.hardware import load_gpu, load_llm
from mockllm.profile import BatchedProfile, Profile
from mockllm.server.dcgm import dcgm_text
from tests.laws.load import BATCHED
from tests.mockllm.exposition import Exposed

# Meta's Llama-3.1-8B in bf16 on NVIDIA's H100 SXM, from their data sheets.
PARAMS, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 8.03e9, 32, 32, 8, 128
PEAK_FLOPS, PEAK_BYTES = 989.5e12, 3.35e12
IDLE_W, MAX_W = 70.0, 700.0


def profile(name: str = "h100-8b", **changes: object) -> BatchedProfile:
    found = load_profile(name)
    assert isinstance(found, BatchedProfile)
    return found.model_copy(update=changes)


def serve(*profiles: BatchedProfile) -> Serving:
    models: dict[str, Profile] = {f"m{number}": one for number, one in enumerate(profiles)}
    return build_engine(Deployment(name="gpus", seed=3, profiles=models), every_token=True)


def replica_of(engine: Serving, model: str = "m0") -> BatchedReplica:
    replica = engine.models[model].replica
    assert isinstance(replica, BatchedReplica)
    return replica


def read(engine: Serving, now: float, model: str = "m0") -> GpuReading:
    """What a scrape at `now` reads; the engine has done what was due, as its driver sees to."""
    engine.advance(now)
    replica = replica_of(engine, model)
    assert replica.gpus is not None
    return replica.gpus.read(now, replica.running_stretch(now))


def ask(number: int, prompt: int, answer: int, model: str = "m0") -> Request:
    return Request(f"r{number}", f"k{number}", model, prompt, max_tokens=answer, min_tokens=answer, ignore_eos=True)


def by_hand(load: StepLoad, num_steps: int) -> tuple[float, float]:
    """Seconds at the peaks, step after step: 2 FLOP a parameter and token, 4 a head, dimension and attended token;
    all weights once a step, and the keys and values of everything in the cache."""
    tensor = dram = 0.0
    kv_tokens = load.num_kv_tokens
    for _ in range(num_steps):
        flop = 2 * PARAMS * (load.num_prefill_tokens + load.num_decodes)
        flop += 4 * LAYERS * HEADS * HEAD_DIM * load.attention_work
        tensor += flop / PEAK_FLOPS
        dram += (2 * PARAMS + kv_tokens * 2 * LAYERS * KV_HEADS * HEAD_DIM * 2) / PEAK_BYTES
        kv_tokens += load.num_decodes
    return tensor, dram


class Witness(GpuMeter):
    """A meter that remembers what it was told."""

    def __init__(self, meter: GpuMeter) -> None:
        super().__init__(meter.gpu, meter.num_gpus, meter._roofline)
        self.told: list[tuple[float, float, int, StepLoad]] = []

    def ran(self, started_at: float, ended_at: float, num_steps: float, load: StepLoad) -> None:
        self.told.append((started_at, ended_at, int(num_steps), load))
        super().ran(started_at, ended_at, num_steps, load)


requests = st.lists(st.tuples(st.floats(0, 0.6), st.integers(1, 6000), st.integers(1, 300)), min_size=1, max_size=20)


def arrivals(drawn: list[tuple[float, int, int]]) -> list[tuple[float, Request]]:
    out, now = [], 0.0
    for number, (gap, prompt, answer) in enumerate(drawn):
        now += gap
        out.append((now, ask(number, prompt, answer)))
    return out


def finish(engine: Serving, load: list[tuple[float, Request]]) -> float:
    """Everything to its end, which is returned."""
    now = 0.0
    for at, request in load:
        while engine.due() <= at:
            engine.advance(engine.due())
        engine.submit(request, at)
    while (due := engine.due()) < inf:
        now = due
        engine.advance(now)
    return now


@pytest.mark.parametrize("num_steps", [1, 2, 1000])
def test_the_work_of_a_run_is_that_of_its_steps(num_steps: int) -> None:
    """The cache grows by a token a decode and step: 200 of them move half as much again after 1,000 steps."""
    meter = replica_of(serve(profile())).gpus
    assert meter is not None
    load = StepLoad(0, 0, 0.0, 200, 50_000, 200)
    assert meter._roofline.work(load, num_steps) == pytest.approx(by_hand(load, num_steps), rel=1e-3)


@given(requests)
@settings(max_examples=25, deadline=None)
def test_energy_is_idle_power_and_the_work_of_every_step(drawn: list[tuple[float, int, int]]) -> None:
    engine = serve(profile())
    replica = replica_of(engine)
    assert replica.gpus is not None
    witness = replica.gpus = Witness(replica.gpus)
    end = finish(engine, arrivals(drawn))
    driven_s = steps = 0.0
    for started_at, ended_at, num_steps, load in witness.told:
        tensor, dram = by_hand(load, num_steps)
        took = ended_at - started_at
        driven_s += min(took, 0.1 * took + 1.5 * tensor + 0.7 * dram)
        steps += num_steps
    assert steps == replica.num_steps, "a stretch was not told, or told twice"
    assert sum(b - a for a, b, _, _ in witness.told) == pytest.approx(replica.busy_s(end))
    energy_j = read(engine, end + 1).energy_j
    assert energy_j == pytest.approx(IDLE_W * (end + 1) + (MAX_W - IDLE_W) * driven_s, rel=2e-3)  # 8.03e9 is rounded


@given(requests)
@settings(max_examples=25, deadline=None)
def test_power_read_every_second_adds_up_to_the_energy(drawn: list[tuple[float, int, int]]) -> None:
    """Means over the last second, read every second, tile the time; so do the shares of it that were busy."""
    engine, load = serve(profile()), arrivals(drawn)
    joules = busy_s = 0.0
    second = 0
    while load or engine.due() < inf:
        second += 1
        while load and load[0][0] <= second:
            at, request = load.pop(0)
            engine.advance(at)
            engine.submit(request, at)
        now = read(engine, second)
        assert now.power_w is not None
        assert IDLE_W <= now.power_w <= MAX_W
        assert all(0 <= share <= 1 for share in (now.busy, now.tensor, now.dram))
        joules += now.power_w
        busy_s += now.busy
        assert busy_s == pytest.approx(replica_of(engine).busy_s(second), abs=1e-6)
        # Within a stretch power is its mean so far, and the last second of a long one is a little above the mean.
        assert joules == pytest.approx(now.energy_j, rel=5e-3)
    assert read(engine, second + 2).power_w == IDLE_W


@given(requests, st.lists(st.floats(0, 0.02), min_size=5, max_size=40))
@settings(max_examples=25, deadline=None)
def test_energy_never_falls(drawn: list[tuple[float, int, int]], pauses: list[float]) -> None:
    """Whenever it is read: in the middle of a step, at an arrival that ends a stretch early, after a late alarm."""
    engine, load = serve(profile()), arrivals(drawn)
    now = last = 0.0
    turn = 0
    while load or engine.due() < inf:
        now += 1e-4 + pauses[turn % len(pauses)] * (1 if load or turn < 400 else 100)
        turn += 1
        while load and load[0][0] <= now:
            engine.advance(load[0][0])
            engine.submit(load[0][1], load[0][0])
            load.pop(0)
        energy_j = read(engine, now).energy_j
        assert energy_j is not None
        assert energy_j >= last
        last = energy_j


def test_a_late_alarm_does_not_count_the_end_of_a_stretch_twice() -> None:
    engine = serve(profile())
    engine.submit(ask(0, 100, 50), 0.0)
    engine.advance(0.2)
    replica = replica_of(engine)
    assert replica.gpus is not None
    before = [replica.gpus.read(now, replica.running_stretch(now)).energy_j for now in (0.2, 5.0)]  # nobody rang
    after = read(engine, 5.0).energy_j
    assert before[0] is not None
    assert before[1] is not None
    assert after is not None
    assert before[0] < before[1] <= after


def test_prompts_work_the_tensor_cores_and_tokens_the_memory() -> None:
    prompts, tokens, idle = serve(profile()), serve(profile()), serve(profile())
    for number in range(40):
        prompts.submit(ask(number, 8000, 1), 0.0)
    for number in range(8):
        tokens.submit(ask(number, 16, 2000), 0.0)
    reading, writing, resting = (read(engine, 3.0) for engine in (prompts, tokens, idle))
    assert reading.busy == pytest.approx(1.0)
    assert writing.busy == pytest.approx(1.0)
    assert 0.5 < reading.tensor < 0.75  # .667 of the peak is what this GPU reaches when it serves
    assert reading.dram < 0.25
    assert 0.6 < writing.dram < 0.85  # DCGM's documentation: about .8 is the most that can be reached
    assert writing.tensor < 0.05
    assert reading.power_w == pytest.approx(MAX_W, rel=0.05)
    assert writing.power_w is not None
    assert 0.5 * MAX_W < writing.power_w < 0.75 * MAX_W  # Patel et al. 2024: below the prompts', and steady
    assert resting == (0.0, 0.0, 0.0, IDLE_W, IDLE_W * 3.0)


def test_a_larger_batch_draws_more_and_a_second_later_nothing() -> None:
    drawn = []
    for num_requests in (1, 16, 64, 256):
        engine = serve(profile())
        for number in range(num_requests):
            engine.submit(ask(number, 16, 400), 0.0)
        drawn.append(read(engine, 2.0))
    assert [now.tensor for now in drawn] == sorted(now.tensor for now in drawn)
    assert [now.power_w for now in drawn] == sorted(now.power_w or 0 for now in drawn)
    engine = serve(profile())
    engine.submit(ask(0, 16, 100), 0.0)
    end = finish(engine, [])
    assert read(engine, end).busy > 0.5
    assert read(engine, end + 0.5).busy == pytest.approx(min(end, 0.5), abs=0.02)
    assert read(engine, end + 1.0)[:3] == pytest.approx((0, 0, 0), abs=1e-9)


def test_a_stall_is_time_without_work() -> None:
    """The GPU waits for its host: nothing computed, nothing moved, and the power falls."""
    stalls = {"step_cv": 0.0, "stall_probability": 1.0, "stall_min_s": 0.05, "stall_max_s": 0.05}
    smooth, stalled = serve(profile()), serve(profile(noise=profile().noise.model_copy(update=stalls)))
    for engine in (smooth, stalled):
        engine.submit(ask(0, 16, 2000), 0.0)
    free, held = read(smooth, 2.0), read(stalled, 2.0)
    assert held.busy == pytest.approx(1.0)
    assert held.dram < free.dram / 3
    assert (held.power_w or 0) < (free.power_w or 0) - 100


def test_memory_is_allocated_before_the_first_request_and_never_changes() -> None:
    engine = serve(profile())
    before = Exposed(dcgm_text(engine.models, 0.0).encode())
    for number in range(64):
        engine.submit(ask(number, 4000, 200), 0.0)
    engine.advance(3.0)
    assert replica_of(engine).kv.usage > 0.1
    loaded = Exposed(dcgm_text(engine.models, 3.0).encode())
    for name in ("DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE"):
        assert before.series(name) == loaded.series(name)
    (used,), (free,) = (before.series(f"DCGM_FI_DEV_FB_{name}").values() for name in ("USED", "FREE"))
    assert used == pytest.approx(0.9 * 79 * 1024, abs=4)  # gpu_memory_utilization, less the rest of a block
    assert used + free == 79 * 1024


def test_every_gpu_of_a_group_has_its_series_and_models_follow_each_other() -> None:
    engine = serve(profile("h100-70b"), profile("h100-8b"))
    engine.submit(ask(0, 2000, 500), 0.0)
    engine.advance(2.0)
    exposed = Exposed(dcgm_text(engine.models, 2.0).encode())
    power = {
        dict(labels)["gpu"]: (dict(labels), value)
        for labels, value in exposed.series("DCGM_FI_DEV_POWER_USAGE").items()
    }
    assert sorted(power) == ["0", "1", "2", "3", "4"]
    assert len({labels["UUID"] for labels, _ in power.values()}) == 5
    assert len({value for number, (_, value) in power.items() if number != "4"}) == 1  # a group does the same
    assert power["0"][1] > power["4"][1] == IDLE_W
    for number, (labels, _) in power.items():
        assert labels.keys() == {"gpu", "UUID", "device", "modelName", "Hostname"}
        assert labels["device"] == f"nvidia{number}"
        assert re.fullmatch(r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", labels["UUID"])
        assert labels["Hostname"] == "mockllm"
        assert labels["modelName"] == "h100-sxm"


def test_the_exporter_has_its_own_names_and_kinds() -> None:
    """As NVIDIA's dcgm-exporter writes them (etc/default-counters.csv, etc/dcp-metrics-included.csv)."""
    text = dcgm_text(serve(profile()).models, 1.0)
    assert dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M)) == {
        "DCGM_FI_DEV_POWER_USAGE": "gauge",
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": "counter",
        "DCGM_FI_DEV_GPU_UTIL": "gauge",
        "DCGM_FI_DEV_FB_FREE": "gauge",
        "DCGM_FI_DEV_FB_USED": "gauge",
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE": "gauge",
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": "gauge",
        "DCGM_FI_PROF_DRAM_ACTIVE": "gauge",
    }
    assert re.search(r"^DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION\{.*\} 70000$", text, re.M)  # mJ: 70 W for a second


def test_power_that_nobody_gave_is_absent_and_not_zero(tmp_path: Path) -> None:
    lines = (Path(load_gpu.__code__.co_filename).parent / "profiles/gpus/h100-sxm.yaml").read_text().splitlines()
    file = tmp_path / "unknown.yaml"
    file.write_text("\n".join(line for line in lines if not line.startswith(("idle_power_w", "max_power_w"))))
    hardware = profile().hardware
    assert hardware is not None
    engine = serve(profile(hardware=hardware.model_copy(update={"gpu": str(file)})))
    text = dcgm_text(engine.models, 1.0)
    assert "DCGM_FI_DEV_GPU_UTIL" in text
    assert "POWER" not in text
    assert "ENERGY" not in text


def test_without_hardware_there_is_no_gpu() -> None:
    assert dcgm_text(serve(BATCHED).models, 1.0) == ""


def test_in_virtual_time_nothing_is_metered() -> None:
    engine = build_engine(Deployment(name="v", seed=1, profiles={"m0": profile()}), every_token=False)
    assert replica_of(engine).gpus is None


@pytest.mark.parametrize("name", ["h100-8b", "h100-moe-30b", "a100-70b", "rtx4090-8b", "b200-32b", "l40s-70b"])
@pytest.mark.parametrize(
    "load",
    [
        StepLoad(0, 0, 0.0, 1, 100, 1),
        StepLoad(8192, 1, 8192**2 / 2, 0, 0, 0),
        StepLoad(2048, 1, 2048**2 / 2, 200, 90_000, 200),
    ],
)
def test_no_step_works_more_than_its_gpu_can(name: str, load: StepLoad) -> None:
    """Bytes and FLOP per GPU from the sizes in the model's own file, within what the step's time allows."""
    hardware = profile(name).hardware
    assert hardware is not None
    replica = replica_of(serve(profile(name)))
    assert replica.gpus is not None
    llm, gpu = load_llm(hardware.llm), load_gpu(hardware.gpu)
    work = replica.gpus._roofline.work(load)
    step_s = replica.gpus._roofline.pace(load).first
    num_tokens = load.num_prefill_tokens + load.num_decode_tokens
    flop = 2 * (llm.active_params_b or llm.params_b) * 1e9 * num_tokens
    flop += 4 * llm.num_layers * llm.num_heads * llm.head_dim * load.attention_work
    assert work.tensor_s == pytest.approx(flop / (hardware.tensor_parallel * gpu.peak_tflops * 1e12))
    if llm.experts is None:
        moved = llm.params_b * 1e9 * llm.bytes_per_param + load.num_kv_tokens * llm.kv_bytes_per_token
        assert work.dram_s == pytest.approx(moved / (hardware.tensor_parallel * gpu.bandwidth_tb_s * 1e12))
    assert work.dram_s <= step_s
    assert work.tensor_s <= step_s * max(1.0, gpu.efficiency.compute)  # a card that runs above its nominal clock


def test_a_reading_before_any_time_has_passed_is_idle() -> None:
    meter = replica_of(serve(profile())).gpus
    assert meter is not None
    assert meter.read(0.0, None) == (0.0, 0.0, 0.0, IDLE_W, 0.0)


def test_phases_are_forgotten_after_their_second() -> None:
    engine = serve(profile())
    meter = replica_of(engine).gpus
    assert meter is not None
    for number in range(300):
        engine.submit(ask(number, 50, 20), number * 0.05)
        engine.advance(number * 0.05)
    finish(engine, [])
    assert len(meter._recent) < 200  # a second of steps, not fifteen
    assert isinstance(meter.gpu, Gpu)
