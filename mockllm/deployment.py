"""What is served: deployments (which models, under which names), and the engine that is built of their profiles.

Files are strict: an unknown key, a duplicate key or a value outside its range is an error that names
file, line, key, value and rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, TypeAdapter

from mockllm.content.embeddings import default_embedder
from mockllm.engine.batching import BatchedReplica, BatchLimits
from mockllm.engine.drafts import Drafts
from mockllm.engine.engine import Engine, Overhead, Replica, ServedModel, Serving
from mockllm.engine.gpu import Gpu, GpuMeter
from mockllm.engine.hosted import ColdStart, Faultiness, HostedLatency, HostedReplica
from mockllm.engine.kv_cache import KvCache
from mockllm.engine.latency import LinearStepTime, StepLoad, StepTime
from mockllm.engine.length import AnswerLength, ReasoningLength
from mockllm.engine.noise import StepNoise
from mockllm.engine.prompt_cache import PromptCache
from mockllm.engine.roofline import RooflineStepTime, num_kv_blocks
from mockllm.errors import DeploymentError
from mockllm.fields import ModelName, Strict
from mockllm.hardware import GpuModel, LlmModel, load_gpu, load_llm
from mockllm.profile import BatchedProfile, HardwareModel, HostedProfile, KvCacheModel, Profile
from mockllm.stack.parts import Fallback, Parts, StageSettings
from mockllm.stack.pool import PoolSettings, build_pool
from mockllm.stack.prices import Price
from mockllm.stack.stack import Stack
from mockllm.stack.stage import Stage
from mockllm.stack.table import POLICIES
from mockllm.stack.timeline import Timeline
from mockllm.streams import Streams
from mockllm.strictyaml import Document, dotted, read_yaml, validated

__all__ = [
    "BatchedProfile",
    "Deployment",
    "HostedProfile",
    "Profile",
    "answer_length",
    "batched_replica",
    "build_engine",
    "bundled_deployments",
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
_DEPLOYMENTS = Path(__file__).parent / "deployments"
_PROFILE: TypeAdapter[BatchedProfile | HostedProfile] = TypeAdapter(Profile)
_GIB = 2**30
_LEAST_KV_TOKENS = 16  # a prompt, an answer and some drafts


class ModelEntry(Strict):
    """One served model: its public name and the profile it behaves like, bundled or a file beside the deployment's."""

    name: ModelName
    profile: str
    price: Price = Price()
    replicas: PoolSettings | None = None


class _DeploymentFile(Strict):
    seed: int = 0
    summary: str = ""
    embedder: Literal["static"] = "static"
    models: Annotated[list[ModelEntry], Field(min_length=1)]
    stack: tuple[Any, ...] = Field(default=(), strict=False)


class StageEntry(NamedTuple):
    """One stage of the stack: the policy's key, a name that is unique in the deployment, and its settings."""

    policy: str
    name: str
    settings: StageSettings


@dataclass(frozen=True)
class Deployment:
    """Everything that one mock server serves. `profiles` are by public name, in the file's order, `models` what else the
    file says about them: nothing, where a profile is served by itself."""

    name: str
    seed: int
    profiles: Mapping[str, BatchedProfile | HostedProfile]
    models: Mapping[str, ModelEntry] = field(default_factory=dict)
    stages: tuple[StageEntry, ...] = ()
    summary: str = ""
    embedder: str = "static"

    @property
    def has_stack(self) -> bool:
        """Requests pass policies before they meet a model."""
        return bool(self.stages)

    @property
    def names(self) -> list[str]:
        """What clients may ask for: the models, and the names that routers stand behind."""
        aliases = [alias for stage in self.stages for alias, _ in stage.settings.aliases()]
        return [*self.profiles, *aliases]


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


def bundled_deployments() -> list[str]:
    """The names of the ready stacks that come with the package."""
    return sorted(path.stem for path in _DEPLOYMENTS.glob("*.yaml"))


def load_deployment(what: str) -> Deployment:
    """A deployment from the name of a bundled profile or stack, from a profile file or from a deployment file.

    Raises DeploymentError for anything that breaks a rule.
    """
    if what in bundled_profiles():
        return _single(load_profile(what))
    path = _DEPLOYMENTS / f"{what}.yaml" if what in bundled_deployments() else Path(what)
    if not path.exists():
        raise DeploymentError(what, f"is neither a file nor a bundled profile or deployment; {_alternatives(what)}")
    document = read_yaml(path)
    if isinstance(document.value, dict) and "kind" in document.value:
        return _single(parse_profile(document))
    if isinstance(document.value, dict) and "models" not in document.value:
        raise DeploymentError(path, "has neither `kind` (a profile: batched or hosted) nor `models` (a deployment)")
    file: _DeploymentFile = validated(document, TypeAdapter(_DeploymentFile))
    profiles: dict[str, BatchedProfile | HostedProfile] = {}
    for index, entry in enumerate(file.models):
        at: tuple[str | int, ...] = ("models", index)
        if entry.name in profiles:
            raise _broken(document, (*at, "name"), f"{entry.name!r} stands twice")
        profiles[entry.name] = _profile_of(document, entry, at)
    models = {entry.name: entry for entry in file.models}
    stages = tuple(_stages(document, file.stack))
    deployment = Deployment(path.stem, file.seed, profiles, models, stages, file.summary, file.embedder)
    _check_names(document, deployment)
    return deployment


def _profile_of(document: Document, entry: ModelEntry, at: tuple[str | int, ...]) -> BatchedProfile | HostedProfile:
    if entry.profile in bundled_profiles():
        return load_profile(entry.profile)
    beside = document.path.parent / entry.profile
    if entry.profile.endswith((".yaml", ".yml")) and beside.exists():
        return parse_profile(read_yaml(beside))
    rule = f"{entry.profile!r} is neither a bundled profile nor a file beside this one; {_alternatives(entry.profile)}"
    raise _broken(document, (*at, "profile"), rule)


def _stages(document: Document, entries: Sequence[Any]) -> Iterator[StageEntry]:
    """The stages of the file, each `- policy: {its keys}`, or `- policy` where every key has a default."""
    seen: Counter[str] = Counter()
    for index, entry in enumerate(entries):
        at: tuple[str | int, ...] = ("stack", index)
        given = {entry: {}} if isinstance(entry, str) else entry
        if not isinstance(given, dict) or len(given) != 1:
            raise _broken(document, at, "must be one policy with its keys, as `- exact_cache: {ttl: 10m}`")
        policy, keys = next(iter(given.items()))
        if policy not in POLICIES:
            near = get_close_matches(str(policy), POLICIES, 3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(POLICIES)}"
            raise _broken(document, (*at, str(policy)), f"{policy!r} is no policy; {hint}")
        adapter = TypeAdapter(POLICIES[policy].settings)
        if isinstance(entry, str) or keys is None:
            settings = validated(document.without_keys(at), adapter)
        else:
            settings = validated(document, adapter, (*at, policy))
        seen[policy] += 1
        yield StageEntry(policy, policy if seen[policy] == 1 else f"{policy}#{seen[policy]}", settings)


def _check_names(document: Document, deployment: Deployment) -> None:
    """Names that policies give are new, and models that they name exist."""
    names = set(deployment.models)
    for index, stage in enumerate(deployment.stages):
        at: tuple[str | int, ...] = ("stack", index, stage.policy)
        for alias, target in stage.settings.aliases():
            if alias in names:
                raise _broken(document, at, f"the name {alias!r} is taken by a model or another policy")
            if target not in deployment.models:
                raise _broken(document, at, _no_such_model(target, deployment))
            names.add(alias)
        for where, model in stage.settings.references():
            if model not in deployment.models:
                raise _broken(document, (*at, *where), _no_such_model(model, deployment))


def _no_such_model(name: str, deployment: Deployment) -> str:
    near = get_close_matches(name, deployment.models, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(deployment.models)}"
    return f"there is no model {name!r} in this deployment; {hint}"


def _broken(document: Document, at: tuple[str | int, ...], rule: str) -> DeploymentError:
    return DeploymentError(document.path, rule, line=document.line_of(at), key=dotted(at))


def build_engine(deployment: Deployment, *, seed: int | None = None, every_token: bool) -> Serving:
    """What serves a deployment: an engine, with a stack before it where the deployment asks for one.

    `seed` overrides the file's; `every_token`: see `BatchedReplica`. Raises DeploymentError when a profile's model does not
    fit its GPU.
    """
    streams = Streams(deployment.seed if seed is None else seed)
    pools = {name: entry.replicas for name, entry in deployment.models.items()}
    models = {
        name: _served(name, profile, pools.get(name), streams, every_token=every_token)
        for name, profile in deployment.profiles.items()
    }
    engine = Engine(models, streams)
    if not deployment.has_stack:
        return engine
    prices = {name: entry.price for name, entry in deployment.models.items()}
    timeline = Timeline()
    fallbacks: list[Fallback] = []
    stages: list[Stage] = []
    aliases: dict[str, str] = {}
    for stage in deployment.stages:
        parts = Parts(stage.name, streams, engine, timeline, prices, default_embedder, fallbacks)
        stages.append(POLICIES[stage.policy].build(stage.settings, parts))
        aliases.update(stage.settings.aliases())
    served = models | {alias: replace(models[target], name=alias) for alias, target in aliases.items()}
    at_once = HostedLatency(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    replay = HostedReplica(at_once, streams, every_token=every_token)
    return Stack(engine, stages, replay=replay, models=served, doors={}, prices=prices, timeline=timeline)


def _served(
    name: str,
    profile: BatchedProfile | HostedProfile,
    pool: PoolSettings | None,
    streams: Streams,
    *,
    every_token: bool,
) -> ServedModel:
    overhead = Overhead(profile.overhead.median_s, profile.overhead.sigma)
    reasoning = ReasoningLength(**profile.reasoning.model_dump())
    max_model_len = profile.max_model_len

    def make(member: str) -> Replica:
        if isinstance(profile, BatchedProfile):
            return batched_replica(member, profile, streams, every_token=every_token)
        faultiness = Faultiness(**profile.faultiness.model_dump())
        latency = hosted_latency(profile)
        return HostedReplica(latency, streams, faultiness, every_token=every_token, prompt_cache=PromptCache())

    replica = make(name) if pool is None else build_pool(name, pool, make)
    if isinstance(profile, HostedProfile):
        length = answer_length(profile, max_model_len)
        return ServedModel(name, length, overhead, replica, replica, reasoning)
    blocks, cache = num_blocks(profile), profile.kv_cache
    if blocks is not None:  # vLLM refuses to start with more; the mock serves what fits
        drafts = profile.speculative.num_draft_tokens if profile.speculative else 0
        max_model_len = min(max_model_len, blocks * cache.block_size - drafts - 1)
    step_s = lone_step_s(profile)
    lone = HostedLatency(step_s, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, step_s, 0.0, 1.0, 0.0, 0.0, 0.0)
    aside = HostedReplica(lone, streams, every_token=every_token)
    length = answer_length(profile, max_model_len)
    return ServedModel(name, length, overhead, replica, aside, reasoning, cache.block_size, cache.prefix_caching)


def lone_step_s(profile: BatchedProfile) -> float:
    """The duration of a step with nothing but one short sequence in it: the fastest token."""
    num_drafts = profile.speculative.num_draft_tokens if profile.speculative else 0
    return step_time(profile).pace(StepLoad(0, 0, 0.0, 1, 1, 1 + num_drafts)).first


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
    known = [*bundled_profiles(), *bundled_deployments()]
    near = get_close_matches(name, known, 3)
    return f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known)}"


def profile_text(name: str) -> str:
    """A bundled profile as it stands in its file, to start one's own from. Raises DeploymentError."""
    load_profile(name)
    return (_PROFILES / f"{name}.yaml").read_text()


def _single(profile: BatchedProfile | HostedProfile) -> Deployment:
    return Deployment(profile.name, 0, {profile.model: profile})
