"""What is served: deployments (which models, under which names), and the engine that is built of their profiles.

Files are strict: an unknown key, a duplicate key or a value outside its range is an error that names
file, line, key, value and rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, TypeAdapter

from mockllm.content.embedders import EMBEDDERS, EmbedderName
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
from mockllm.fields import ModelName, Strict
from mockllm.hardware import GpuModel, LlmModel, load_gpu, load_llm
from mockllm.profile import BatchedProfile, HardwareModel, HostedProfile, KvCacheModel, Profile
from mockllm.stack.fault_kinds import KINDS, Fault
from mockllm.stack.faults import Faults
from mockllm.stack.limits import ModelLimits
from mockllm.stack.parts import Fallback, Parts, StageSettings
from mockllm.stack.pool import build_pool
from mockllm.stack.pool_settings import PoolSettings
from mockllm.stack.prices import Price
from mockllm.stack.quotas import Limit
from mockllm.stack.stack import Stack
from mockllm.stack.stage import Door, Stage
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
    "batched_replicas",
    "build_engine",
    "build_stack",
    "bundled_deployments",
    "bundled_profiles",
    "gpu_meters",
    "hosted_latency",
    "hosted_replicas",
    "load_deployment",
    "load_profile",
    "num_blocks",
    "parse_profile",
    "parts",
    "profile_text",
    "read_faults",
    "step_time",
    "weight_bytes",
]

_PROFILES = Path(__file__).parent / "profiles"
_DEPLOYMENTS = Path(__file__).parent / "deployments"
_PROFILE: TypeAdapter[BatchedProfile | HostedProfile] = TypeAdapter(Profile)
_GIB = 2**30
_LEAST_KV_TOKENS = 16  # a prompt, an answer and some drafts


class ModelEntry(Strict):
    """One served model: its public name and the profile it behaves like, bundled or a file beside the deployment's.

    `limits`: what its provider allows, to all callers together.
    """

    name: ModelName
    profile: str
    price: Price = Price()
    replicas: PoolSettings | None = None
    limits: Limit | None = None


class _DeploymentFile(Strict):
    seed: int = 0
    summary: str = ""
    embedder: EmbedderName = "static"
    models: Annotated[list[ModelEntry], Field(min_length=1)]
    stack: tuple[Any, ...] = Field(default=(), strict=False)
    faults: tuple[Any, ...] = Field(default=(), strict=False)


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
    embedder: EmbedderName = "static"
    faults: tuple[Fault, ...] = ()

    @property
    def has_stack(self) -> bool:
        """Requests pass policies, a provider's limits or faults before they meet a model."""
        return bool(self.stages or self.faults) or any(entry.limits is not None for entry in self.models.values())

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
    return replace(deployment, faults=read_faults(document, file.faults, deployment))


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
            settings = validated(document.without_keys((*at, policy)), adapter, (*at, policy))
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
            if alias == "*":
                raise _broken(
                    document, at, "a router cannot be called '*', which stands for any name; give it a name of its own"
                )
            if alias in names:
                raise _broken(document, at, f"the name {alias!r} is taken by a model or another policy")
            if target not in deployment.models:
                raise _broken(document, at, _no_such_model(target, deployment))
            names.add(alias)
        for where, model in stage.settings.references():
            if model not in deployment.models:
                raise _broken(document, (*at, *where), _no_such_model(model, deployment))


def read_faults(document: Document, entries: Sequence[Any], deployment: Deployment) -> tuple[Fault, ...]:
    """The `faults` of a document. Raises DeploymentError for the first rule that one of them breaks."""
    faults: list[Fault] = []
    for index, entry in enumerate(entries):
        at: tuple[str | int, ...] = ("faults", index)
        kind = entry.get("kind") if isinstance(entry, dict) else None
        if not isinstance(kind, str) or kind not in KINDS:
            near = get_close_matches(str(kind)[:100], KINDS, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(KINDS)}"
            rule = f"{kind!r} is no kind of fault; {hint}" if kind is not None else f"must name its kind; {hint}"
            raise _broken(document, at if kind is None else (*at, "kind"), rule)
        fault: Fault = validated(document, TypeAdapter(KINDS[kind]), at)
        if fault.model is not None and fault.model not in deployment.profiles:
            raise _broken(document, (*at, "model"), _no_such_model(fault.model, deployment))
        if fault.part is not None and fault.model is not None:
            _check_replica(document, (*at, "replica"), fault.part, deployment.models.get(fault.model))
        faults.append(fault)
    return tuple(faults)


def _check_replica(document: Document, at: tuple[str | int, ...], name: str, model: ModelEntry | None) -> None:
    """Whether a model can have a replica of this name. Where they come and go, every number may come."""
    if model is None or model.replicas is None:
        raise _broken(document, at, f"{name!r}: the model has one replica, which has no name; strike the model")
    pool = model.replicas
    stem, _, number = name.rpartition("-")
    if stem != model.name or not number.isdecimal() or not (pool.elastic or int(number) < pool.num_at_first):
        rule = f"{name!r} is no replica of {model.name!r}; they are called {model.name}-0, {model.name}-1, …"
        raise _broken(document, at, rule)


def _no_such_model(name: str, deployment: Deployment) -> str:
    near = get_close_matches(name, deployment.profiles, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(deployment.profiles)}"
    return f"there is no model {name!r} in this deployment; {hint}"


def _broken(document: Document, at: tuple[str | int, ...], rule: str) -> DeploymentError:
    return DeploymentError(document.path, rule, line=document.line_of(at), key=dotted(at))


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
        make = batched_replicas(profile, streams, every_token=every_token, with_gpus=with_gpus)
    else:
        make = hosted_replicas(profile, streams, every_token=every_token)
    # The only replica; where there is a pool, what demands its own timing stands beside it here.
    single = make(name)
    replica: Replica = single
    if pool is not None:
        weights = weight_bytes(profile)
        replica = build_pool(name, pool, make, streams=streams, timeline=timeline, weight_bytes=weights)
    if isinstance(profile, HostedProfile):
        length = answer_length(profile, profile.max_model_len)
        return ServedModel(name, length, overhead, replica, single, reasoning)
    assert isinstance(single, BatchedReplica)
    kv, max_model_len = single.kv, profile.max_model_len
    if kv.num_blocks is not None:  # vLLM refuses to start with more; the mock serves what fits
        drafts = profile.speculative.num_draft_tokens if profile.speculative else 0
        max_model_len = min(max_model_len, kv.num_blocks * kv.block_size - drafts - 1)
    step_s = single.lone_step_s()
    aside = HostedReplica(HostedLatency.exactly(step_s, step_s), streams, every_token=every_token)
    length = answer_length(profile, max_model_len)
    return ServedModel(name, length, overhead, replica, aside, reasoning, kv.block_size, kv.prefix_caching)


def weight_bytes(profile: BatchedProfile | HostedProfile) -> float | None:
    """What a new replica loads; None where the profile names no hardware."""
    if isinstance(profile, HostedProfile) or profile.hardware is None:
        return None
    return parts(profile.hardware)[1].transformer().weight_bytes


def answer_length(profile: BatchedProfile | HostedProfile, max_model_len: int) -> AnswerLength:
    """How long this profile's answers are."""
    return AnswerLength(profile.answer_length.median_tokens, profile.answer_length.sigma, max_model_len)


def hosted_latency(profile: HostedProfile) -> HostedLatency:
    """The latency law of a hosted profile."""
    numbers = profile.latency.model_dump(exclude={"cold_starts"})
    starts = tuple(ColdStart(**start.model_dump()) for start in profile.latency.cold_starts)
    return HostedLatency(**numbers, cold_starts=starts)


def hosted_replicas(profile: HostedProfile, streams: Streams, *, every_token: bool) -> Callable[[str], HostedReplica]:
    """What makes a replica of a hosted profile; their names do not matter to them."""
    faultiness, latency = Faultiness(**profile.faultiness.model_dump()), hosted_latency(profile)

    def make(_: str) -> HostedReplica:
        return HostedReplica(latency, streams, faultiness, every_token=every_token, prompt_cache=PromptCache())

    return make


def batched_replicas(
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
        gpu_meters(profile.hardware, cache, steps, blocks)
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


def gpu_meters(
    hardware: HardwareModel | None, cache: KvCacheModel, steps: StepTime, blocks: int | None
) -> Callable[[], GpuMeter] | None:
    """What makes that which shows the GPUs of a roofline; None where nobody said which they are. In real time only: a
    scrape reads it.

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
    return partial(GpuMeter, installed, hardware.tensor_parallel, steps)


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
