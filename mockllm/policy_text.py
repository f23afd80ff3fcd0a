"""`mockllm policies`: what can stand in a deployment file, from the very classes that read it."""

from __future__ import annotations

import sys
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mockllm.errors import DeploymentError
from mockllm.fields import duration_text, parse_duration
from mockllm.stack.autoscale import AutoscaleSettings
from mockllm.stack.coldstart import ColdStartSettings
from mockllm.stack.fault_kinds import KINDS
from mockllm.stack.fleet import SpotSettings
from mockllm.stack.pool_settings import PoolSettings
from mockllm.stack.prices import Price
from mockllm.stack.quotas import Limit
from mockllm.stack.table import POLICIES

__all__ = ["policy_names", "policy_summary", "policy_text"]

# What stands elsewhere in the file, by its key.
_ELSEWHERE: dict[str, tuple[type[BaseModel], ...]] = {
    "price": (Price,),
    "limits": (Limit,),
    "replicas": (PoolSettings, AutoscaleSettings, ColdStartSettings, SpotSettings),
    "faults": tuple(KINDS.values()),
}


def policy_names() -> list[str]:
    """Every policy of `stack`, and what else a deployment file may have."""
    return [*POLICIES, *_ELSEWHERE]


def policy_summary(name: str) -> str:
    """The first sentence of what there is to say."""
    return _module_text(_classes(name)[0]).split("\n\n")[0].split(". ")[0].rstrip(".").replace("\n", " ")


def policy_text(name: str) -> str:
    """What a policy does, with its sources, and its keys. Raises DeploymentError for a name that does not exist."""
    if name not in policy_names():
        raise DeploymentError(name, f"is no policy; there are: {', '.join(policy_names())}")
    classes = _classes(name)
    texts = [_module_text(classes[0])]
    titles = list(KINDS) if name == "faults" else [_title(name, settings) for settings in classes]
    for title, settings in zip(titles, classes, strict=True):
        texts.append("\n".join([f"Keys of {title}:", *(f"  {line}" for line in _keys(settings))]))
    return "\n\n".join(texts)


def _classes(name: str) -> tuple[type[BaseModel], ...]:
    return (POLICIES[name].settings,) if name in POLICIES else _ELSEWHERE[name]


def _title(name: str, settings: type[BaseModel]) -> str:
    nested = {AutoscaleSettings: "autoscale", ColdStartSettings: "cold_start", SpotSettings: "spot"}
    return nested.get(settings, name)


def _module_text(settings: type[BaseModel]) -> str:
    return (sys.modules[settings.__module__].__doc__ or "").strip()


def _keys(settings: type[BaseModel]) -> list[str]:
    """A line a key: its name, what it takes, and its default."""
    fields = {field.alias or key: field for key, field in settings.model_fields.items() if key != "kind"}
    width = max(len(key) for key in fields)
    lines = [
        f"{key:<{width}}  {_takes(field.annotation, field.metadata)}{_default(field)}" for key, field in fields.items()
    ]
    return [line.rstrip() for line in lines]


def _takes(annotation: Any, metadata: list[Any]) -> str:
    """A type in the words of a file."""
    if any(getattr(each, "func", None) is parse_duration for each in metadata):
        return "duration"
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _takes(inside[0], list(inside[1:]))
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_takes(each, metadata) for each in inside if each is not NoneType))
    if origin is Literal:
        return " | ".join(str(each) for each in inside)
    if origin in (list, tuple):
        return f"list of {_takes(inside[0], [])}"
    if origin is dict:
        return f"{_takes(inside[0], [])}: {_takes(inside[1], [])}, …"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "{" + ", ".join(field.alias or key for key, field in annotation.model_fields.items()) + "}"
    if any(getattr(getattr(each, "func", None), "__name__", "") == "_per_minute" for each in metadata):
        return "rate"
    return {int: "integer", float: "number", str: "text", bool: "true | false"}.get(annotation, "value")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "   (required)"
    value = field.get_default(call_default_factory=True)
    if value is None or value in ((), {}, []):
        return ""
    if isinstance(value, BaseModel):
        return "   (has a default)"
    if isinstance(value, bool):
        return f"   (default {str(value).lower()})"
    timed = _takes(field.annotation, field.metadata) == "duration" and isinstance(value, float)
    return f"   (default {duration_text(value) if timed else value})"
