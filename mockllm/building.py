"""The engine that is built of a deployment: replicas with their laws of time, policies before them, doors and faults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from mockllm.content.embedders import EMBEDDERS
from mockllm.deployment import Deployment
from mockllm.engine.batching import BatchedReplica, BatchLimits
from mockllm.engine.drafts import Drafts
from mockllm.engine.engine import Engine, Overhead, Replica, ServedModel, Serving
from mockllm.engine.gpu import Gpu, GpuMeter
from mockllm.engine.hosted import ColdStart, Faultiness, HostedLatency, HostedReplica
from mockllm.engine.kv_cache import KvCache
from mockllm.engine.latency import LinearStepTime, StepTime
from mockllm.engine.length import AnswerLength, ReasoningLength
from mockllm.engine.noise import StepNoise
from mockllm.engine.prompt_cache import PromptCache
from mockllm.engine.roofline import RooflineStepTime, num_kv_blocks
from mockllm.errors import DeploymentError
from mockllm.hardware import GpuModel, LlmModel, load_gpu, load_llm
from mockllm.profile import BatchedProfile, HardwareModel, HostedProfile, KvCacheModel
from mockllm.stack.faults import Faults
from mockllm.stack.limits import ModelLimits
from mockllm.stack.parts import Fallback, Parts
from mockllm.stack.pool import build_pool
from mockllm.stack.pool_settings import PoolSettings
from mockllm.stack.stack import Stack
from mockllm.stack.stage import Door, Stage
from mockllm.stack.table import POLICIES
from mockllm.stack.timeline import Timeline
from mockllm.streams import Streams

__all__ = ["build_engine", "build_stack", "num_blocks", "step_time", "weight_bytes"]

_GIB = 2**30
_LEAST_KV_TOKENS = 16  # a prompt, an answer and some drafts


def build_engine(
    deployment: Deployment, *, seed: int | None = None, every_token: bool, with_gpus: bool | None = None
) -> Serving:
    """What serves a deployment: an engine, with a stack before it where the deployment asks for one.

    `seed` overrides the file's; `every_token`: see `BatchedReplica`; `with_gpus`: whether the simulated GPUs are metered, by
    default where every token is told. Raises DeploymentError when a profile's model does not
    fit its GPU.
    """
    stack = build_stack(deployment, seed=seed, every_token=every_token, with_gpus=with_gpus)
    return stack if deployment.has_stack else stack.engine


def build_stack(
    deployment: Deployment, *, seed: int | None = None, every_token: bool, with_gpus: bool | None = None
) -> Stack:
    """The stack of a deployment, also where nothing stands in it: faults may still come. Otherwise as `build_engine`."""
    streams = Streams(deployment.seed if seed is None else seed)
    timeline = Timeline()
    pools = {name: entry.replicas for name, entry in deployment.models.items()}
    models = {
        name: _served(name, profile, pools.get(name), streams, timeline, every_token=every_token, with_gpus=with_gpus)
        for name, profile in deployment.profiles.items()
    }
    engine = Engine(models, streams)
    prices = {name: entry.price for name, entry in deployment.models.items()}
    fallbacks: list[Fallback] = []
    stages: list[Stage] = []
    aliases: dict[str, str] = {}
    for stage in deployment.stages:
        parts = Parts(stage.name, streams, engine, timeline, prices, EMBEDDERS[deployment.embedder], fallbacks)
        stages.append(POLICIES[stage.policy].build(stage.settings, parts))
        aliases.update(stage.settings.aliases())
    # The routers' names first: whoever asks for no model by name takes the first, and shall meet the policies.
    served = {alias: replace(models[target], name=alias) for alias, target in aliases.items()} | models
    replay = HostedReplica(HostedLatency.exactly(0.0, 0.0), streams, every_token=every_token)
    doors: dict[str, list[Door]] = {name: [] for name in models}
    for name, entry in deployment.models.items():
        if entry.limits is not None:
            doors[name].append(ModelLimits(name, entry.limits, models))
    faults = Faults(deployment.faults, models, timeline, streams)
    return Stack(
        engine, stages, replay=replay, models=served, doors=doors, prices=prices, timeline=timeline, faults=faults
    )


def _served(
    name: str,
    profile: BatchedProfile | HostedProfile,
    pool: PoolSettings | None,
    streams: Streams,
    timeline: Timeline,
    *,
    every_token: bool,
    with_gpus: bool | None = None,
) -> ServedModel:
    overhead = Overhead(profile.overhead.median_s, profile.overhead.sigma)
    reasoning = ReasoningLength(**profile.reasoning.model_dump())

    make: Callable[[str], Replica]
    if isinstance(profile, BatchedProfile):
        make = _batched_replicas(profile, streams, every_token=every_token, with_gpus=with_gpus)
    else:
        make = _hosted_replicas(profile, streams, every_token=every_token)
    # The only replica; where there is a pool, what demands its own timing stands beside it here.
    single = make(name)
    replica: Replica = single
    if pool is not None:
        weights = weight_bytes(profile)
        replica = build_pool(name, pool, make, streams=streams, timeline=timeline, weight_bytes=weights)
    if isinstance(profile, HostedProfile):
        length = _answer_length(profile, profile.max_model_len)
        return ServedModel(name, length, overhead, replica, single, reasoning)
    assert isinstance(single, BatchedReplica)
    kv, max_model_len = single.kv, profile.max_model_len
    if kv.num_blocks is not None:  # vLLM refuses to start with more; the mock serves what fits
        drafts = profile.speculative.num_draft_tokens if profile.speculative else 0
        max_model_len = min(max_model_len, kv.num_blocks * kv.block_size - drafts - 1)
    step_s = single.lone_step_s()
    aside = HostedReplica(HostedLatency.exactly(step_s, step_s), streams, every_token=every_token)
    length = _answer_length(profile, max_model_len)
    return ServedModel(name, length, overhead, replica, aside, reasoning, kv.block_size, kv.prefix_caching)


def weight_bytes(profile: BatchedProfile | HostedProfile) -> float | None:
    """What a new replica loads; None where the profile names no hardware."""
    if isinstance(profile, HostedProfile) or profile.hardware is None:
        return None
    return _gpu_and_llm(profile.hardware)[1].transformer().weight_bytes


def _answer_length(profile: BatchedProfile | HostedProfile, max_model_len: int) -> AnswerLength:
    """How long this profile's answers are."""
    return AnswerLength(profile.answer_length.median_tokens, profile.answer_length.sigma, max_model_len)


def _hosted_latency(profile: HostedProfile) -> HostedLatency:
    """The latency law of a hosted profile."""
    numbers = profile.latency.model_dump(exclude={"cold_starts"})
    starts = tuple(ColdStart(**start.model_dump()) for start in profile.latency.cold_starts)
    return HostedLatency(**numbers, cold_starts=starts)


def _hosted_replicas(profile: HostedProfile, streams: Streams, *, every_token: bool) -> Callable[[str], HostedReplica]:
    """What makes a replica of a hosted profile; their names do not matter to them."""
    faultiness, latency = Faultiness(**profile.faultiness.model_dump()), _hosted_latency(profile)

    def make(_: str) -> HostedReplica:
        return HostedReplica(latency, streams, faultiness, every_token=every_token, prompt_cache=PromptCache())

    return make


def _batched_replicas(
    profile: BatchedProfile, streams: Streams, *, every_token: bool, with_gpus: bool | None = None
) -> Callable[[str], BatchedReplica]:
    """What makes a replica of a batched profile by its name. Raises DeploymentError when the model does not fit.

    The files of GPU and model are read here, not by each replica: one that starts while others serve would hold them up.
    """
    scheduler, noise, drafts, cache = profile.scheduler, profile.noise, profile.speculative, profile.kv_cache
    limits = BatchLimits(
        max_num_seqs=scheduler.max_num_seqs,
        max_num_batched_tokens=scheduler.max_num_batched_tokens,
        chunked_prefill=scheduler.chunked_prefill,
        long_prefill_token_threshold=scheduler.long_prefill_token_threshold,
        priority=scheduler.policy == "priority",
        async_scheduling=scheduler.async_scheduling,
    )
    steps, blocks = step_time(profile), num_blocks(profile)
    new_meter = (
        _gpu_meters(profile.hardware, cache, steps, blocks)
        if (every_token if with_gpus is None else with_gpus)
        else None
    )

    def make(name: str) -> BatchedReplica:
        return BatchedReplica(
            steps,
            limits,
            KvCache(blocks, cache.block_size, prefix_caching=cache.prefix_caching),
            every_token=every_token,
            noise=StepNoise(
                streams,
                name,
                step_cv=noise.step_cv,
                stall_probability=noise.stall_probability,
                stall_s=(noise.stall_min_s, noise.stall_max_s),
            )
            if noise.step_cv or noise.stall_probability
            else None,
            drafts=Drafts(drafts.num_draft_tokens, drafts.acceptance_rate, drafts.draft_s) if drafts else None,
            streams=streams,
            gpus=new_meter() if new_meter else None,
        )

    return make


def _gpu_meters(
    hardware: HardwareModel | None, cache: KvCacheModel, steps: StepTime, blocks: int | None
) -> Callable[[], GpuMeter] | None:
    """What makes that which shows the GPUs of a roofline; None where nobody said which they are. In real time only: a
    scrape reads it.

    vLLM allocates weights, activations and all KV blocks before it serves: used memory is constant under load.
    """
    if hardware is None or not isinstance(steps, RooflineStepTime):
        return None
    gpu, llm = _gpu_and_llm(hardware)
    kv_bytes = (blocks or 0) * cache.block_size * llm.kv_bytes_per_token
    weight_bytes = llm.params_b * 1e9 * llm.bytes_per_param
    used = (weight_bytes + kv_bytes) / hardware.tensor_parallel + cache.activations_gib * _GIB
    memory = gpu.memory_gib * _GIB
    installed = Gpu(gpu.name, memory, min(used, memory), gpu.idle_power_w, gpu.max_power_w)
    return partial(GpuMeter, installed, hardware.tensor_parallel, steps)


def step_time(profile: BatchedProfile) -> StepTime:
    """The step time of a batched profile. Raises DeploymentError for a GPU that has no numbers for the model."""
    if profile.step_time is not None:
        return LinearStepTime(**profile.step_time.model_dump())
    assert profile.hardware is not None
    gpu, llm = _gpu_and_llm(profile.hardware)
    if profile.hardware.tensor_parallel > 1 and gpu.interconnect_gb_s is None:
        raise DeploymentError(profile.name, f"{gpu.name} has no interconnect_gb_s, which tensor_parallel needs")
    try:
        accelerator = gpu.accelerator(experts=llm.experts is not None)
    except ValueError as error:
        raise DeploymentError(profile.name, str(error)) from error
    hardware = profile.hardware
    return RooflineStepTime(accelerator, llm.transformer(), hardware.tensor_parallel, hardware.host.host())


def _gpu_and_llm(hardware: HardwareModel) -> tuple[GpuModel, LlmModel]:
    """The GPU and the language model that a profile names."""
    return load_gpu(hardware.gpu), load_llm(hardware.llm)


def num_blocks(profile: BatchedProfile) -> int | None:
    """KV blocks of a replica: as given, else what fits beside the weights; None: unlimited."""
    cache = profile.kv_cache
    if cache.num_gpu_blocks is not None and cache.num_gpu_blocks * cache.block_size < _LEAST_KV_TOKENS:
        rule = (
            f"kv_cache holds {cache.num_gpu_blocks * cache.block_size} tokens; at least {_LEAST_KV_TOKENS} are needed"
        )
        raise DeploymentError(profile.name, rule)
    if cache.num_gpu_blocks is not None or profile.hardware is None:
        return cache.num_gpu_blocks
    gpu, llm = _gpu_and_llm(profile.hardware)
    num = num_kv_blocks(
        gpu.accelerator(experts=llm.experts is not None),
        llm.transformer(),
        profile.hardware.tensor_parallel,
        utilization=cache.gpu_memory_utilization,
        activations=cache.activations_gib * _GIB,
        block_size=cache.block_size,
    )
    if num * cache.block_size < _LEAST_KV_TOKENS:
        rule = f"{llm.name} does not fit on {profile.hardware.tensor_parallel} x {gpu.name}; raise tensor_parallel"
        raise DeploymentError(profile.name, rule)
    return num
