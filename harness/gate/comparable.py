"""What must be the same in two runs before their figures may be compared, and what is worth saying when it is not.

Comparable: the plan and the options that change the load, the clock, the protocol, the model that was asked for, the
objectives that make a request good, and, where a real clock ran, the machine that measured. The seed may differ: it draws
another sample of the same plan. What one tests may differ too, and is said: the target, versions, prices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from harness.store import Manifest

__all__ = ["differences", "remarks"]

# Options that change no request: where the run is written, who may be asked, what it may cost, how it is shown and judged.
_NOT_OF_THE_LOAD = frozenset({
    "seed", "out", "progress", "model", "objective", "slo", "label", "gpu_price", "per_month", "warmup", "allow_host",
    "allow_plain_http", "prices", "budget", "deployment", "gaps_of",
})  # fmt: skip
_MACHINE = ("system", "architecture", "cpu", "num_cpus")
_MEMORY_TOLERANCE = 0.02  # a virtual machine of one size has a few MB more or less at every start


def differences(a: Manifest, b: Manifest) -> list[str]:
    """What forbids to compare two runs: each field that differs, with both values. Empty: they are comparable."""
    found = [*_differing(_load_of(a), _load_of(b))]
    if a.clock == b.clock == "real":
        found += _differing(_machine_of(a), _machine_of(b))
        memory_a, memory_b = a.machine.get("memory_bytes"), b.machine.get("memory_bytes")
        if memory_a and memory_b and abs(memory_a / memory_b - 1) > _MEMORY_TOLERANCE:
            found.append(f"machine.memory_bytes: {memory_a} and {memory_b}")
    return found


def remarks(a: Manifest, b: Manifest) -> list[str]:
    """What differs and may: the target, versions, prices, labels; each field with both values."""
    return [*_differing(_tested_of(a), _tested_of(b))]


def _load_of(manifest: Manifest) -> dict[str, Any]:
    return {
        "clock": manifest.clock,
        "scenario": manifest.scenario,
        "model": manifest.model,
        "plan": _without_seeds(manifest.plan),
        "duration_s": manifest.duration_s,
        "warmup_s": manifest.warmup_s,
        "max_in_flight": manifest.max_in_flight,
        "num_workers": manifest.num_workers,
        "objectives": msgspec.to_builtins(manifest.objectives),
        "options": {name: value for name, value in manifest.options.items() if name not in _NOT_OF_THE_LOAD},
    }


def _machine_of(manifest: Manifest) -> dict[str, Any]:
    return {"machine": {name: manifest.machine.get(name) for name in _MACHINE}}


def _tested_of(manifest: Manifest) -> dict[str, Any]:
    return {
        "target": manifest.target,
        "versions": manifest.versions,
        "prices": manifest.prices,
        "gpu_price_per_hour": manifest.gpu_price_per_hour,
        "labels": manifest.labels,
    }


def _without_seeds(value: Any) -> Any:
    """Plans within plans name the seed again."""
    if isinstance(value, Mapping):
        return {name: _without_seeds(part) for name, part in value.items() if name != "seed"}
    return [_without_seeds(part) for part in value] if isinstance(value, list | tuple) else value


def _differing(a: Any, b: Any, at: str = "") -> Iterator[str]:
    """The leaves that differ. A key that only one side has counts as off: an older version did not have the option."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for name in sorted({*a, *b}, key=str):
            yield from _differing(a.get(name), b.get(name), f"{at}.{name}" if at else str(name))
    elif a != b and (a or b):
        yield f"{at}: {_shown(a)} and {_shown(b)}"


def _shown(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
