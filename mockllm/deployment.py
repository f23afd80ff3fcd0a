"""What is served: profiles (how one model behaves) and deployments (which models, under which names).

Files are strict: an unknown key, a duplicate key or a value outside its range is an error that names
file, line, key, value and rule. Every number of a bundled profile carries its source in the file.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from mockllm.engine.batching import BatchedReplica, BatchLimits
from mockllm.engine.engine import Engine, Overhead, Replica, ServedModel
from mockllm.engine.hosted import Faultiness, HostedLatency, HostedReplica
from mockllm.engine.latency import StepTime
from mockllm.engine.length import AnswerLength
from mockllm.errors import DeploymentError
from mockllm.streams import Streams
from mockllm.strictyaml import Document, read_yaml

__all__ = [
    "BatchedProfile",
    "Deployment",
    "HostedProfile",
    "Profile",
    "build_engine",
    "bundled_profiles",
    "load_deployment",
    "load_profile",
    "parse_profile",
]

_PROFILES = Path(__file__).parent / "profiles"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


# In strict mode pydantic takes an int for a float, as YAML's `floor_s: 0` needs.
Seconds = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class LengthModel(_Strict):
    """Output lengths when the request does not fix them."""

    median_tokens: Annotated[float, Field(ge=1)]
    sigma: Annotated[float, Field(ge=0)]


class OverheadModel(_Strict):
    median_s: Seconds = 0.0
    sigma: Annotated[float, Field(ge=0)] = 0.0


class _ProfileBase(_Strict):
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,60}$")]
    model: Annotated[str, Field(min_length=1, max_length=200)]
    summary: str
    as_of: date
    sources: list[str]
    max_model_len: Count
    answer_length: LengthModel
    overhead: OverheadModel = OverheadModel()


class StepTimeModel(_Strict):
    """Seconds: b0 a step, b1 a prefill token, b2 a decoding sequence, b3 a token in the KV cache."""

    b0: Seconds
    b1: Seconds
    b2: Seconds
    b3: Seconds


class SchedulerModel(_Strict):
    max_num_seqs: Count
    max_num_batched_tokens: Count
    chunked_prefill: bool = True


class BatchedProfile(_ProfileBase):
    """A GPU replica with continuous batching."""

    kind: Literal["batched"]
    step_time: StepTimeModel
    scheduler: SchedulerModel

    @model_validator(mode="after")
    def _scheduler_can_run_every_request(self) -> BatchedProfile:
        limits = self.scheduler
        if limits.max_num_batched_tokens < limits.max_num_seqs:
            raise ValueError(
                f"scheduler.max_num_batched_tokens {limits.max_num_batched_tokens} must be at least "
                f"max_num_seqs {limits.max_num_seqs}: every running sequence takes one token a step"
            )
        if not limits.chunked_prefill and limits.max_num_batched_tokens < self.max_model_len:
            raise ValueError(
                f"scheduler.max_num_batched_tokens {limits.max_num_batched_tokens} must be at least "
                f"max_model_len {self.max_model_len} when chunked_prefill is off: a longer prompt would wait for ever"
            )
        return self

    def replica(self, streams: Streams, *, every_token: bool) -> Replica:
        limits = BatchLimits(**self.scheduler.model_dump())
        return BatchedReplica(StepTime(**self.step_time.model_dump()), limits, every_token=every_token)


class HostedLatencyModel(_Strict):
    """See `mockllm.engine.hosted` for the formula; times in seconds."""

    floor_s: Seconds
    spread_median_s: Seconds = 0.0
    spread_sigma: Annotated[float, Field(ge=0)] = 0.0
    per_token_s: Seconds = 0.0
    per_token_squared_s: Seconds = 0.0
    spike_probability: Share = 0.0
    spike_mean_s: Seconds = 0.0
    tpot_median_s: Seconds
    tpot_sigma: Annotated[float, Field(ge=0)] = 0.0
    tokens_per_chunk: Annotated[float, Field(ge=1)] = 1.0
    gap_cv: Annotated[float, Field(ge=0)] = 0.0
    stall_probability: Share = 0.0
    stall_mean_tpots: Annotated[float, Field(ge=0)] = 0.0


class FaultinessModel(_Strict):
    server_error_rate: Share = 0.0
    cut_rate: Share = 0.0


class HostedProfile(_ProfileBase):
    """A hosted API seen from outside."""

    kind: Literal["hosted"]
    latency: HostedLatencyModel
    faultiness: FaultinessModel = FaultinessModel()

    def replica(self, streams: Streams, *, every_token: bool) -> Replica:
        latency = HostedLatency(**self.latency.model_dump())
        return HostedReplica(latency, streams, Faultiness(**self.faultiness.model_dump()), every_token=every_token)


Profile = Annotated[BatchedProfile | HostedProfile, Field(discriminator="kind")]
_PROFILE: TypeAdapter[BatchedProfile | HostedProfile] = TypeAdapter(Profile)


class ModelEntry(_Strict):
    """One served model: its public name and the bundled profile it behaves like."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    profile: str


class _DeploymentFile(_Strict):
    seed: int = 0
    models: Annotated[list[ModelEntry], Field(min_length=1)]


class Deployment(_Strict):
    """Everything that one mock server serves."""

    name: str
    seed: int
    profiles: dict[str, BatchedProfile | HostedProfile]  # by public model name


def bundled_profiles() -> list[str]:
    """The names of the profiles that come with the package."""
    return sorted(path.stem for path in _PROFILES.glob("*.yaml"))


def parse_profile(document: Document) -> BatchedProfile | HostedProfile:
    """A profile from a parsed file. Raises DeploymentError with the line of the first broken rule."""
    profile: BatchedProfile | HostedProfile = _validated(document, _PROFILE)
    return profile


def load_profile(name: str) -> BatchedProfile | HostedProfile:
    """A bundled profile by name. Raises DeploymentError for a name that is not bundled."""
    if name not in bundled_profiles():
        known = ", ".join(bundled_profiles())
        raise DeploymentError(name, f"is not a bundled profile; there are: {known}")
    return parse_profile(read_yaml(_PROFILES / f"{name}.yaml"))


def load_deployment(what: str) -> Deployment:
    """A deployment from a bundled profile's name, a profile file or a deployment file.

    Raises DeploymentError for anything that breaks a rule.
    """
    if what in bundled_profiles():
        return _single(load_profile(what))
    path = Path(what)
    if not path.exists():
        known = ", ".join(bundled_profiles())
        raise DeploymentError(what, f"is neither a file nor a bundled profile; bundled profiles: {known}")
    document = read_yaml(path)
    if isinstance(document.value, dict) and "kind" in document.value:
        return _single(parse_profile(document))
    file = _validated(document, TypeAdapter(_DeploymentFile))
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
            rule = f"{entry.profile!r} is not a bundled profile; there are: {', '.join(bundled_profiles())}"
            raise DeploymentError(
                path,
                rule,
                line=document.line_of(("models", index, "profile")),
                key=f"models[{index}].profile",
            )
        profiles[entry.name] = load_profile(entry.profile)
    return Deployment(name=path.stem, seed=file.seed, profiles=profiles)


def build_engine(deployment: Deployment, *, seed: int | None = None, every_token: bool) -> Engine:
    """The engine of a deployment. `seed` overrides the file's; `every_token`: see `BatchedReplica`."""
    streams = Streams(deployment.seed if seed is None else seed)
    models = {
        name: ServedModel(
            name,
            AnswerLength(profile.answer_length.median_tokens, profile.answer_length.sigma, profile.max_model_len),
            Overhead(profile.overhead.median_s, profile.overhead.sigma),
            profile.replica(streams, every_token=every_token),
        )
        for name, profile in deployment.profiles.items()
    }
    return Engine(models, streams)


def _single(profile: BatchedProfile | HostedProfile) -> Deployment:
    return Deployment(name=profile.name, seed=0, profiles={profile.model: profile})


def _validated(document: Document, adapter: TypeAdapter[Any]) -> Any:
    try:
        return adapter.validate_python(document.value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # The discriminator's tag stands in the location; it is not a key of the file.
        location = tuple(part for part in first["loc"] if part not in ("batched", "hosted"))
        message, value = first["msg"].removeprefix("Value error, "), f" (got {first['input']!r})"
        if first["type"] == "union_tag_invalid":
            location, message, value = (
                (*location, "kind"),
                f"is {first['ctx']['tag']!r}; it must be batched or hosted",
                "",
            )
        elif first["type"] in ("missing", "value_error"):
            value = ""
        raise DeploymentError(
            document.path, f"{message}{value}", line=document.line_of(location), key=_dotted(location) or None
        ) from error


def _dotted(location: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")
