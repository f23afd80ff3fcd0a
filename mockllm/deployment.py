"""What is served: deployments (which models, under which names), and the engine that is built of their profiles.

Files are strict: an unknown key, a duplicate key or a value outside its range is an error that names
file, line, key, value and rule.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from mockllm.engine.batching import BatchedReplica, BatchLimits
from mockllm.engine.drafts import Drafts
from mockllm.engine.engine import Engine, Overhead, ServedModel
from mockllm.engine.gpu import Gpu, GpuMeter
from mockllm.engine.hosted import ColdStart, Faultiness, HostedLatency, HostedReplica
from mockllm.engine.kv_cache import KvCache
from mockllm.engine.latency import LinearStepTime, StepTime
from mockllm.engine.length import AnswerLength, ReasoningLength
from mockllm.engine.noise import StepNoise
from mockllm.engine.prompt_cache import PromptCache
from mockllm.engine.roofline import RooflineStepTime, num_kv_blocks
from mockllm.errors import DeploymentError
from mockllm.hardware import GpuModel, LlmModel, Strict, load_gpu, load_llm
from mockllm.profile import BatchedProfile, HardwareModel, HostedProfile, KvCacheModel, Profile
from mockllm.streams import Streams
from mockllm.strictyaml import Document, read_yaml, validated

__all__ = [
    "BatchedProfile",
    "Deployment",
    "HostedProfile",
    "Profile",
    "answer_length",
    "batched_replica",
    "build_engine",
    "bundled_profiles",
    "gpu_meter",
    "hosted_latency",
    "load_deployment",
    "load_profile",
    "num_blocks",
    "parse_profile",
    "parts",
    "profile_text",
    "step_time",
]

_PROFILES = Path(__file__).parent / "profiles"
_PROFILE: TypeAdapter[BatchedProfile | HostedProfile] = TypeAdapter(Profile)
_GIB = 2**30
_LEAST_KV_TOKENS = 16  # a prompt, an answer and some drafts


class ModelEntry(Strict):
    """One served model: its public name and the bundled profile it behaves like."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    profile: str


class _DeploymentFile(Strict):
    seed: int = 0
    models: Annotated[list[ModelEntry], Field(min_length=1)]


class Deployment(Strict):
    """Everything that one mock server serves."""

    name: str
    seed: int
    profiles: dict[str, BatchedProfile | HostedProfile]  # by public model name


def bundled_profiles() -> list[str]:
    """The names of the profiles that come with the package."""
    return sorted(path.stem for path in _PROFILES.glob("*.yaml"))


def parse_profile(document: Document) -> BatchedProfile | HostedProfile:
    """A profile from a parsed file. Raises DeploymentError with the line of the first broken rule."""
    profile: BatchedProfile | HostedProfile = validated(document, _PROFILE)
    return profile


def load_profile(name: str) -> BatchedProfile | HostedProfile:
    """A bundled profile by name. Raises DeploymentError for a name that is not bundled."""
    if name not in bundled_profiles():
        raise DeploymentError(name, f"is not a bundled profile; {_alternatives(name)}")
    return parse_profile(read_yaml(_PROFILES / f"{name}.yaml"))


def load_deployment(what: str) -> Deployment:
    """A deployment from a bundled profile's name, a profile file or a deployment file.

    Raises DeploymentError for anything that breaks a rule.
    """
    if what in bundled_profiles():
        return _single(load_profile(what))
    path = Path(what)
    if not path.exists():
        raise DeploymentError(what, f"is neither a file nor a bundled profile; {_alternatives(what)}")
    document = read_yaml(path)
    if isinstance(document.value, dict) and "kind" in document.value:
        return _single(parse_profile(document))
    if isinstance(document.value, dict) and "models" not in document.value:
        raise DeploymentError(path, "has neither `kind` (a profile: batched or hosted) nor `models` (a deployment)")
    file = validated(document, TypeAdapter(_DeploymentFile))
    profiles: dict[str, BatchedProfile | HostedProfile] = {}
    for index, entry in enumerate(file.models):
        if entry.name in profiles:
            raise DeploymentError(
                path,
                f"{entry.name!r} stands twice",
                line=document.line_of(("models", index, "name")),
                key=f"models[{index}].name",
            )
        if entry.profile not in bundled_profiles():
            rule = f"{entry.profile!r} is not a bundled profile; {_alternatives(entry.profile)}"
            raise DeploymentError(
                path,
                rule,
                line=document.line_of(("models", index, "profile")),
                key=f"models[{index}].profile",
            )
        profiles[entry.name] = load_profile(entry.profile)
    return Deployment(name=path.stem, seed=file.seed, profiles=profiles)


def build_engine(deployment: Deployment, *, seed: int | None = None, every_token: bool) -> Engine:
    """The engine of a deployment. `seed` overrides the file's; `every_token`: see `BatchedReplica`.

    Raises DeploymentError when a profile's model does not fit its GPU.
    """
    streams = Streams(deployment.seed if seed is None else seed)
    models = {
        name: _served(name, profile, streams, every_token=every_token) for name, profile in deployment.profiles.items()
    }
    return Engine(models, streams)


def _served(name: str, profile: BatchedProfile | HostedProfile, streams: Streams, *, every_token: bool) -> ServedModel:
    overhead = Overhead(profile.overhead.median_s, profile.overhead.sigma)
    reasoning = ReasoningLength(**profile.reasoning.model_dump())
    max_model_len = profile.max_model_len
    if isinstance(profile, HostedProfile):
        latency = hosted_latency(profile)
        faultiness = Faultiness(**profile.faultiness.model_dump())
        hosted = HostedReplica(latency, streams, faultiness, every_token=every_token, prompt_cache=PromptCache())
        return ServedModel(name, answer_length(profile, max_model_len), overhead, hosted, hosted, reasoning)
    replica = batched_replica(name, profile, streams, every_token=every_token)
    if replica.kv.num_blocks is not None:  # vLLM refuses to start with more; the mock serves what fits
        drafts = profile.speculative.num_draft_tokens if profile.speculative else 0
        max_model_len = min(max_model_len, replica.kv.num_blocks * replica.kv.block_size - drafts - 1)
    step_s = replica.lone_step_s()
    lone = HostedLatency(step_s, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, step_s, 0.0, 1.0, 0.0, 0.0, 0.0)
    aside = HostedReplica(lone, streams, every_token=every_token)
    return ServedModel(name, answer_length(profile, max_model_len), overhead, replica, aside, reasoning)


def answer_length(profile: BatchedProfile | HostedProfile, max_model_len: int) -> AnswerLength:
    """How long this profile's answers are."""
    return AnswerLength(profile.answer_length.median_tokens, profile.answer_length.sigma, max_model_len)


def hosted_latency(profile: HostedProfile) -> HostedLatency:
    """The latency law of a hosted profile."""
    numbers = profile.latency.model_dump(exclude={"cold_starts"})
    starts = tuple(ColdStart(**start.model_dump()) for start in profile.latency.cold_starts)
    return HostedLatency(**numbers, cold_starts=starts)


def batched_replica(name: str, profile: BatchedProfile, streams: Streams, *, every_token: bool) -> BatchedReplica:
    """One replica of a batched profile. Raises DeploymentError when the model does not fit."""
    scheduler, noise, drafts = profile.scheduler, profile.noise, profile.speculative
    limits = BatchLimits(
        max_num_seqs=scheduler.max_num_seqs,
        max_num_batched_tokens=scheduler.max_num_batched_tokens,
        chunked_prefill=scheduler.chunked_prefill,
        long_prefill_token_threshold=scheduler.long_prefill_token_threshold,
        priority=scheduler.policy == "priority",
        async_scheduling=scheduler.async_scheduling,
    )
    steps, blocks = step_time(profile), num_blocks(profile)
    return BatchedReplica(
        steps,
        limits,
        KvCache(blocks, profile.kv_cache.block_size, prefix_caching=profile.kv_cache.prefix_caching),
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
        gpus=gpu_meter(profile.hardware, profile.kv_cache, steps, blocks) if every_token else None,
    )


def gpu_meter(
    hardware: HardwareModel | None, cache: KvCacheModel, steps: StepTime, blocks: int | None
) -> GpuMeter | None:
    """What shows the GPUs of a roofline; None where nobody said which they are. In real time only: a scrape reads it.

    vLLM allocates weights, activations and all KV blocks before it serves: used memory is constant under load.
    """
    if hardware is None or not isinstance(steps, RooflineStepTime):
        return None
    gpu, llm = parts(hardware)
    kv_bytes = (blocks or 0) * cache.block_size * llm.kv_bytes_per_token
    weight_bytes = llm.params_b * 1e9 * llm.bytes_per_param
    used = (weight_bytes + kv_bytes) / hardware.tensor_parallel + cache.activations_gib * _GIB
    memory = gpu.memory_gib * _GIB
    installed = Gpu(gpu.name, memory, min(used, memory), gpu.idle_power_w, gpu.max_power_w)
    return GpuMeter(installed, hardware.tensor_parallel, steps)


def step_time(profile: BatchedProfile) -> StepTime:
    """The step time of a batched profile. Raises DeploymentError for a GPU that has no numbers for the model."""
    if profile.step_time is not None:
        return LinearStepTime(**profile.step_time.model_dump())
    assert profile.hardware is not None
    gpu, llm = parts(profile.hardware)
    if profile.hardware.tensor_parallel > 1 and gpu.interconnect_gb_s is None:
        raise DeploymentError(profile.name, f"{gpu.name} has no interconnect_gb_s, which tensor_parallel needs")
    try:
        accelerator = gpu.accelerator(experts=llm.experts is not None)
    except ValueError as error:
        raise DeploymentError(profile.name, str(error)) from error
    hardware = profile.hardware
    return RooflineStepTime(accelerator, llm.transformer(), hardware.tensor_parallel, hardware.host.host())


def parts(hardware: HardwareModel) -> tuple[GpuModel, LlmModel]:
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
    gpu, llm = parts(profile.hardware)
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


def _alternatives(name: str) -> str:
    """What was probably meant, or everything there is."""
    near = get_close_matches(name, bundled_profiles(), 3)
    return f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(bundled_profiles())}"


def profile_text(name: str) -> str:
    """A bundled profile as it stands in its file, to start one's own from. Raises DeploymentError."""
    load_profile(name)
    return (_PROFILES / f"{name}.yaml").read_text()


def _single(profile: BatchedProfile | HostedProfile) -> Deployment:
    return Deployment(name=profile.name, seed=0, profiles={profile.model: profile})
