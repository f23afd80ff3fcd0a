"""`slo.yaml`: what is asked of a run, said before it begins.

    objectives:
      - ttft_p99 < 800 ms
      - goodput(ttft < 1 s, tpot < 60 ms) > 95 %
      - {class: chat, require: [ttft_p95 < 500 ms, e2e_p99 < 20 s]}
    budgets:                 # where the time to the first token, or to the end, may go, at a percentile
      - {of: ttft, at: p95, stages: {send_lag: 5 ms, connect: 20 ms, first_byte: 400 ms, first_content: 100 ms}}
    alerts:                  # what to point out on the way; with `fail: true` it fails the run
      - {kind: latency_degradation, measure: ttft_p95, factor: 1.5, window: 30s}
      - {kind: cost_spike, factor: 2, window: 60s}
      - {kind: capacity, in_flight: 80 %}
      - {kind: error_rate, above: 2 %, window: 30s}
    gate:                    # what may get worse against a baseline, by how much
      allowed: {default: 5 %, ttft_p99: 10 %}
      measures: [ttft_p50, ttft_p99, tpot_p50(ok), error_rate]

Measures are those of `harness.judgement.measures`. Durations have units, shares are `95 %` or 0.95, money is `$4`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from harness.errors import UsageError
from harness.judgement.limits import Limit, contradiction, parse_limit
from harness.judgement.slo_keys import ALERTS, AlertKeys, BudgetKeys, GateKeys
from harness.strictkeys import Keys, Name
from harness.strictyaml import Document, KeyPath, broken_rule, read_yaml

__all__ = ["Requirement", "Slo", "load_slo", "slo_of"]


@dataclass(frozen=True)
class Requirement:
    """A limit for the requests of one class; None: for all of the run."""

    class_name: str | None
    limit: Limit


@dataclass(frozen=True)
class Slo:
    """What stands in the file. `given`: as it stands there."""

    objectives: tuple[Requirement, ...]
    budgets: tuple[BudgetKeys, ...]
    alerts: tuple[AlertKeys, ...]
    gate: GateKeys
    given: Mapping[str, Any] = field(compare=False, repr=False)

    def plain(self) -> dict[str, Any]:
        """As plain values, for the manifest; `slo_of` reads them back."""
        return dict(self.given)


def load_slo(path: Path) -> Slo:
    """Read and check a file. Raises WorkloadError with file, line, key, value and rule."""
    return _slo(read_yaml(path))


def slo_of(plain: Mapping[str, Any]) -> Slo:
    """What `Slo.plain` gave. Raises WorkloadError."""
    return _slo(Document(Path("slo"), dict(plain), {}))


class _File(Keys):
    objectives: list[Any] = Field(default_factory=list)
    budgets: list[Any] = Field(default_factory=list)
    alerts: list[Any] = Field(default_factory=list)
    gate: Any = Field(default_factory=dict)


class _ClassKeys(Keys):
    class_name: Name = Field(alias="class")
    require: Annotated[list[str], Field(min_length=1)]


def _slo(document: Document) -> Slo:
    file = _validated(document, _File, document.value, ())
    if not any((file.objectives, file.budgets, file.alerts, file.gate)):
        raise document.error((), "asks for nothing; write objectives, budgets, alerts or gate")
    return Slo(
        tuple(_objectives(document, file.objectives)),
        tuple(_validated(document, BudgetKeys, each, ("budgets", at)) for at, each in enumerate(file.budgets)),
        tuple(_alert(document, each, ("alerts", at)) for at, each in enumerate(file.alerts)),
        _validated(document, GateKeys, file.gate, ("gate",)),
        document.value,
    )


def _objectives(document: Document, entries: list[Any]) -> Iterator[Requirement]:
    before: dict[str | None, list[Limit]] = {}
    for class_name, text, at in _lines(document, entries):
        try:
            limit = parse_limit(text)
        except UsageError as error:
            raise document.error(at, str(error)) from None
        if class_name is not None and limit.measure.name.startswith("gpu_"):
            raise document.error(at, f"{limit.text!r}: a GPU serves all classes; ask it of the whole run")
        same = before.setdefault(class_name, [])
        same.append(limit)
        if (found := contradiction(same)) is not None:
            raise document.error(at, found[1])
        yield Requirement(class_name, limit)


def _lines(document: Document, entries: list[Any]) -> Iterator[tuple[str | None, str, KeyPath]]:
    for index, entry in enumerate(entries):
        at: KeyPath = ("objectives", index)
        if isinstance(entry, str):
            yield None, entry, at
            continue
        if not isinstance(entry, dict):
            raise document.error(
                at, f"{entry!r} is no objective; write ttft_p99 < 800 ms, or {{class: chat, require: [...]}}"
            )
        keys = _validated(document, _ClassKeys, entry, at)
        yield from ((keys.class_name, text, (*at, "require", place)) for place, text in enumerate(keys.require))


def _alert(document: Document, entry: Any, at: KeyPath) -> AlertKeys:
    kind = entry.get("kind") if isinstance(entry, dict) else None
    if not isinstance(kind, str) or kind not in ALERTS:
        raise document.error(at, f"{kind!r} is no kind of alert; write {{kind: {' | '.join(ALERTS)}, ...}}")
    found: AlertKeys = _validated(document, ALERTS[kind], entry, at)
    return found


def _validated(document: Document, keys: type[Any], value: object, at: KeyPath) -> Any:
    try:
        return keys.model_validate(value)
    except ValidationError as error:
        location, rule = broken_rule(error)
        raise document.error((*at, *location), rule) from None
