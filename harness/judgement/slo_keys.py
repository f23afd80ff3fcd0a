"""The keys of `slo.yaml` but for its objectives: latency budgets, alerts, and what a gate may let pass."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from harness.judgement.measuring import BY_CHUNK, parse_measure
from harness.judgement.quantities import parse_quantity, parse_share
from harness.metrics.latencies import STAGES
from harness.strictkeys import Duration, Keys, checked

__all__ = [
    "ALERTS",
    "AlertKeys",
    "BudgetKeys",
    "CapacityKeys",
    "CostSpikeKeys",
    "ErrorRateKeys",
    "GateKeys",
    "LatencyKeys",
]

_PERCENTILE = re.compile(r"p[0-9]{1,2}(\.[0-9]{1,4})?")
_AFTER_FIRST_TOKEN = ("decode", "tail")
_MOST_ALLOWED = 10.0  # a gate that lets something get more than ten times worse watches nothing


def _share_reader(most: float) -> BeforeValidator:
    def read(value: object) -> object:
        if isinstance(value, int | float) and value > 1:
            raise ValueError(f"{value!r} is more than the whole, which is 1; write {value:g} %")
        return checked(lambda text: parse_share(text, most), value) if isinstance(value, str) else value

    return BeforeValidator(read)


def _duration(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} has no unit; write {value}ms or {value}s")
    return checked(lambda text: parse_quantity(text, "s"), value)


def _percent(value: object) -> float:
    if not isinstance(value, str) or not _PERCENTILE.fullmatch(value) or not 0 < float(value[1:]) < 100:
        raise ValueError(f"{value!r} is no percentile; write p50, p95, p99.9")
    return float(value[1:])


def _stages(value: object) -> object:
    for stage in value if isinstance(value, dict) else ():
        if stage not in STAGES:
            raise ValueError(f"{stage!r} is no stage; there are {', '.join(STAGES)}")
    return value


def _measure_name(text: str) -> str:
    name: str = checked(parse_measure, text).name
    return name


Part = Annotated[float, _share_reader(1.0), Field(gt=0, lt=1)]
Filling = Annotated[float, _share_reader(1.0), Field(gt=0, le=1)]
Allowed = Annotated[float, _share_reader(_MOST_ALLOWED), Field(ge=0, le=_MOST_ALLOWED)]
Seconds = Annotated[float, BeforeValidator(_duration)]
MeasureName = Annotated[str, AfterValidator(_measure_name)]
Factor = Annotated[float, Field(gt=1, le=1000)]


class BudgetKeys(Keys):
    """Where the time of `of` may go: at the percentile `at`, each of these stages takes no longer than so many seconds."""

    of: Literal["ttft", "e2e"] = "ttft"
    at: Annotated[float, BeforeValidator(_percent)]
    stages: Annotated[dict[str, Seconds], BeforeValidator(_stages), Field(min_length=1)]

    @model_validator(mode="after")
    def _on_the_way(self) -> BudgetKeys:
        late = [stage for stage in self.stages if self.of == "ttft" and stage in _AFTER_FIRST_TOKEN]
        if late:
            raise ValueError(f"{late[0]} comes after the first token; write of: e2e")
        return self


class _Watched(Keys):
    """`fail`: whether the run fails when the alert fires; otherwise it is only pointed out. `window`: seconds that are looked at
    together."""

    window: Annotated[Duration, Field(ge=1)] = 30.0
    fail: bool = False


class _Compared(_Watched):
    """`baseline`: the first seconds of the run, with which its windows are compared; None: so many windows as it takes."""

    baseline: Duration | None = None

    @model_validator(mode="after")
    def _whole(self) -> _Compared:
        if self.baseline is not None and self.baseline < self.window:
            raise ValueError(f"baseline {self.baseline:g} s is shorter than one window of {self.window:g} s")
        return self


class LatencyKeys(_Compared):
    """A percentile of a window is more than `factor` times what it was in the first windows of the run."""

    kind: Literal["latency_degradation"]
    measure: MeasureName = "ttft_p95"
    factor: Factor = 1.5

    @model_validator(mode="after")
    def _of_requests(self) -> LatencyKeys:
        if parse_measure(self.measure).percent is None or self.measure.startswith(
            tuple(f"{each}_p" for each in BY_CHUNK)
        ):
            raise ValueError(
                f"{self.measure} is no percentile of requests; write one as ttft_p95, tpot_p50(ok), e2e_p99"
            )
        return self


class CostSpikeKeys(_Compared):
    """An answered request of a window costs more than `factor` times what it cost in the first windows of the run."""

    kind: Literal["cost_spike"]
    factor: Factor = 2.0


class ErrorRateKeys(_Watched):
    """More than this share of a window's requests failed, were cut or stayed open."""

    kind: Literal["error_rate"]
    above: Part


class CapacityKeys(_Watched):
    """So much of what there is was in use: of the cap on requests in flight, of the blocks of a KV cache, of a GPU's time.
    Times that lie less than `window` apart are one alert."""

    kind: Literal["capacity"]
    in_flight: Filling | None = None
    kv_cache: Filling | None = None
    gpu: Filling | None = None

    @property
    def bounds(self) -> dict[str, float]:
        """The shares that are given, by what they are of."""
        named = {"in_flight": self.in_flight, "kv_cache": self.kv_cache, "gpu": self.gpu}
        return {name: share for name, share in named.items() if share is not None}

    @model_validator(mode="after")
    def _of_something(self) -> CapacityKeys:
        if not self.bounds:
            raise ValueError("capacity of what? write in_flight: 80 %, kv_cache: 90 % or gpu: 95 %")
        return self


class GateKeys(Keys):
    """What a gate compares, and by what share each may get worse; `default` holds for those that are not named. Empty: the gate's
    own choice."""

    allowed: dict[str, Allowed] = Field(default_factory=dict)
    measures: list[MeasureName] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        """Measures are known by their names without spaces."""
        allowed = value.get("allowed") if isinstance(value, dict) else None
        if not isinstance(allowed, dict):
            return value
        named = {name if name == "default" else _measure_name(str(name)): share for name, share in allowed.items()}
        if len(named) < len(allowed):
            raise ValueError("allowed: a measure stands twice; they are the same without spaces")
        return {**value, "allowed": named}

    @model_validator(mode="after")
    def _once(self) -> GateKeys:
        twice = next((name for name in self.measures if self.measures.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"measures: {twice} stands twice")
        return self


AlertKeys = LatencyKeys | CostSpikeKeys | ErrorRateKeys | CapacityKeys
ALERTS: dict[str, type[AlertKeys]] = {
    "latency_degradation": LatencyKeys,
    "cost_spike": CostSpikeKeys,
    "capacity": CapacityKeys,
    "error_rate": ErrorRateKeys,
}
