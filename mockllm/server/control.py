"""Orders to the mock itself: headers for one request, settings for all of them.

    X-Mock-TTFT-MS, X-Mock-ITL-MS     first token after so long, then one every so often: beside the queue
    X-Mock-Output-Tokens              the answer has exactly so many tokens
    X-Mock-Error                      refused with this HTTP status; X-Mock-Retry-After-S says when to come back
    X-Mock-Cut-After-Tokens           the connection breaks after so many tokens
    X-Mock-Error-After-Tokens         the stream ends there with an error of the provider's
    X-Mock-Batch                      the request belongs to this batch
    X-Mock-User, -Feature, -Tier, -Region, -Session     on whose behalf it comes, for the policies of a stack
    X-Mock-Priority                   P0, P1 or P2
    X-Mock-Intent, -Task, -Difficulty what it is about, as the workload knows: caches and routers are judged by it

`/mock/settings` holds the same for every request of a model, with a share of requests that it strikes. It changes as a
whole or not at all, and a name that does not exist is an error, in a header as in the settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta, field

from mockllm.model import Forced
from mockllm.passage import Urgency
from mockllm.streams import Streams
from mockllm.wire.errors import ApiError, invalid

__all__ = ["Demand", "Settings", "changed", "demand_of", "merged"]

_PREFIX = "x-mock-"
_MAX_MS = 3_600_000.0

Milliseconds = Annotated[float, Meta(ge=0, le=_MAX_MS)]
Share = Annotated[float, Meta(ge=0, le=1)]
Tokens = Annotated[int, Meta(ge=1, le=10_000_000)]
Label = Annotated[str, Meta(min_length=1, max_length=200)]


class Demand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """What is demanded of one request; None leaves it to the model."""

    ttft_ms: Milliseconds | None = None
    itl_ms: Milliseconds | None = None
    output_tokens: Tokens | None = None
    error: Annotated[int, Meta(ge=400, le=599)] | None = None
    retry_after_s: Annotated[float, Meta(ge=0, le=86_400)] | None = None
    cut_after_tokens: Tokens | None = None
    error_after_tokens: Tokens | None = None
    batch: Annotated[str, Meta(max_length=200)] | None = None
    user: Label | None = None
    feature: Label | None = None
    tier: Label | None = None
    region: Label | None = None
    session: Label | None = None
    priority: Urgency | None = None
    intent: Label | None = None
    task: Label | None = None
    difficulty: Share | None = None

    @property
    def forced(self) -> Forced | None:
        """The engine's share of it."""
        asked = (self.ttft_ms, self.itl_ms, self.error, self.cut_after_tokens, self.error_after_tokens)
        if all(value is None for value in asked):
            return None
        return Forced(
            ttft_s=None if self.ttft_ms is None else self.ttft_ms / 1000,
            itl_s=None if self.itl_ms is None else self.itl_ms / 1000,
            status=self.error,
            retry_after_s=self.retry_after_s,
            cut_after=self.cut_after_tokens,
            error_after=self.error_after_tokens,
        )


class ModelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every request of one model meets; the rates are shares of requests, drawn by the request's key."""

    ttft_ms: Milliseconds | None = None
    itl_ms: Milliseconds | None = None
    output_tokens: Tokens | None = None
    error_status: Annotated[int, Meta(ge=400, le=599)] = 500
    error_rate: Share = 0.0
    retry_after_s: Annotated[float, Meta(ge=0, le=86_400)] | None = None
    cut_after_tokens: Tokens = 1
    cut_rate: Share = 0.0
    stream_error_rate: Share = 0.0

    def demand(self, key: str, streams: Streams) -> Demand:
        """The demand that these settings make of the request with this key."""

        def strikes(what: str, rate: float) -> bool:
            return rate > 0 and streams.uniform(f"setting {what}", key) < rate

        refused = strikes("error", self.error_rate)
        return Demand(
            ttft_ms=self.ttft_ms,
            itl_ms=self.itl_ms,
            output_tokens=self.output_tokens,
            error=self.error_status if refused else None,
            retry_after_s=self.retry_after_s if refused else None,
            cut_after_tokens=self.cut_after_tokens if strikes("cut", self.cut_rate) else None,
            error_after_tokens=self.cut_after_tokens if strikes("stream error", self.stream_error_rate) else None,
        )


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings by model name; `*` is for every model that has none of its own. `ready` false makes `/health` say 503."""

    ready: bool = True
    models: dict[str, ModelSettings] = field(default_factory=dict)

    def demand(self, model: str, key: str, streams: Streams) -> Demand | None:
        """What these settings demand of a request, None for nothing."""
        settings = self.models.get(model) or self.models.get("*")
        return settings.demand(key, streams) if settings else None


def demand_of(headers: Mapping[str, str]) -> Demand | ApiError:
    """The control headers of a request. One that does not exist is an error: a typo must not pass for obedience."""
    given: dict[str, str] = {}
    for name, value in headers.items():
        if name.lower().startswith(_PREFIX):
            given[name.lower().removeprefix(_PREFIX)] = value
    if not given:
        return _NOTHING
    try:
        return msgspec.convert(given, Demand, strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(f"{_PREFIX}{name}" for name in Demand.__struct_encode_fields__)
        return invalid(f"Invalid control header: {_plain(error)}. There are: {known}.", code="invalid_control_header")


def merged(demand: Demand, settings: Demand | None) -> Demand:
    """A request's own headers, and the settings where it is silent."""
    if settings is None:
        return demand
    values = {name: getattr(demand, name) for name in Demand.__struct_fields__}
    return Demand(**{name: getattr(settings, name) if value is None else value for name, value in values.items()})


def changed(current: Settings, body: bytes, known_models: frozenset[str]) -> Settings | ApiError:
    """The settings after a JSON merge patch (RFC 7396) of the current ones. All of it holds, or nothing changes."""
    try:
        patch = msgspec.json.decode(body)
        if not isinstance(patch, dict):
            return invalid("The settings must be a JSON object.", code="invalid_settings")
        settings = msgspec.convert(_merge(msgspec.to_builtins(current), patch), Settings)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        return invalid(f"Invalid settings: {_plain(error)}. Nothing was changed.", code="invalid_settings")
    if "*" not in known_models and (unknown := set(settings.models) - known_models - {"*"}):
        name = sorted(unknown)[0][:200]
        return invalid(
            f"Invalid settings: the model '{name}' is not served. Nothing was changed.", "models", "model_not_found"
        )
    return settings


def _merge(target: object, patch: object) -> object:
    if not isinstance(patch, dict):
        return patch
    merged_: dict[str, object] = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged_.pop(key, None)
        else:
            merged_[key] = _merge(merged_.get(key), value)
    return merged_


def _plain(error: BaseException) -> str:
    return str(error).replace("`", "'").replace("$.", "")


_NOTHING = Demand()
