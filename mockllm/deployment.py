"""What is served: deployments (which models, under which names, behind which policies) and profiles, as their files say it.

Files are strict: an unknown key, a duplicate key or a value outside its range is an error that names
file, line, key, value and rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, TypeAdapter

from mockllm.content.embedders import EmbedderName
from mockllm.errors import DeploymentError
from mockllm.fields import ModelName, Strict
from mockllm.profile import BatchedProfile, HostedProfile, Profile
from mockllm.stack.fault_kinds import KINDS, Fault
from mockllm.stack.parts import StageSettings
from mockllm.stack.pool_settings import PoolSettings
from mockllm.stack.prices import Price
from mockllm.stack.quotas import Limit
from mockllm.stack.table import POLICIES
from mockllm.strictyaml import Document, dotted, read_yaml, validated

__all__ = [
    "Deployment",
    "bundled_deployments",
    "bundled_profiles",
    "load_deployment",
    "load_profile",
    "parse_profile",
    "profile_text",
    "read_faults",
]

_PROFILES = Path(__file__).parent / "profiles"
_DEPLOYMENTS = Path(__file__).parent / "deployments"
_PROFILE: TypeAdapter[BatchedProfile | HostedProfile] = TypeAdapter(Profile)


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
