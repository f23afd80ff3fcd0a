"""Which key of a deployment's `stack` is which policy. A new policy is one file, and one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from mockllm.stack.parts import Parts, StageSettings
from mockllm.stack.stage import Stage

__all__ = ["POLICIES", "Policy"]


class Policy(NamedTuple):
    """What a policy's keys are, and how the stage is built of them."""

    settings: type[StageSettings]
    build: Callable[[Any, Parts], Stage]


POLICIES: dict[str, Policy] = {}
