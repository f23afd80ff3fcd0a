"""What is not the same in the manifests of several runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from harness.store import Manifest

__all__ = ["Field", "differing_fields"]

_PARTS = (
    "scenario",
    "target",
    "model",
    "seed",
    "clock",
    "duration_s",
    "warmup_s",
    "num_planned",
    "max_in_flight",
    "num_workers",
)
_TREES = ("plan", "options", "objectives", "slo", "labels", "prices", "gpu_price_per_hour", "machine", "versions")


@dataclass(frozen=True)
class Field:
    """A field by its path, like `options.rate`, and its value in each run; None: it is not there."""

    name: str
    values: list[Any]


def differing_fields(manifests: Sequence[Manifest]) -> list[Field]:
    """Every field in which at least one run differs from another, in the order of the manifest."""
    columns = [dict(_leaves(manifest)) for manifest in manifests]
    names = dict.fromkeys(name for column in columns for name in column)
    found = [Field(name, [column.get(name) for column in columns]) for name in names]
    return [field for field in found if any(value != field.values[0] for value in field.values)]


def _leaves(manifest: Manifest) -> Iterator[tuple[str, Any]]:
    for name in (*_PARTS, *_TREES):
        yield from _below(name, msgspec.to_builtins(getattr(manifest, name)))


def _below(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _below(f"{path}.{name}", part)
    else:
        yield path, value
