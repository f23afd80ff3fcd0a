"""What a replica's start takes: the stages from the order to the first request that it can serve.

    decision   a metric is scraped and averaged before anybody acts on it; orders that need no metric skip it
    provision  the node comes up                               60–120 s
    driver     GPU driver and device plugin                    20–40 s
    image      8–15 GB are pulled                              30–180 s
    weights    bytes / bandwidth                               network disk 0.5 GB/s, NVMe 2, page cache 5 and more
    init       compilation, CUDA graphs, engine                35 s from a cache, 90 s without

Defaults and ranges: vLLM issue #20264 (weights, compilation, graphs) and published cold starts of GPU nodes, 2024–2026.
A warm node is there already, with the image and the compiler's cache on its disk. Ready is not warm: the prefix cache of
a new replica is empty.
"""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

from mockllm.fields import Duration, Positive, Spread, Strict

__all__ = ["ColdStart", "ColdStartSettings"]

_CACHED_INIT_S, _COLD_INIT_S = 35.0, 90.0


class ColdStartSettings(Strict):
    """The stages; a warm node skips `provision`, `driver` and `image`. `weights_gb` None: as the profile's hardware says.
    `init` None: 35 s on a warm node, else 90 s."""

    decision: Duration = 30.0
    provision: Duration = 90.0
    driver: Duration = 30.0
    image: Duration = 60.0
    weights_gb: Spread | None = None
    bandwidth_gb_s: Positive = 0.5
    init: Duration | None = None
    warm_node: bool = False

    def plan(self, weight_bytes: float | None) -> ColdStart:
        """The start of a replica whose weights are so large. Raises ValueError where nobody says how large they are."""
        size_gb = self.weights_gb if weight_bytes is None or self.weights_gb is not None else weight_bytes / 1e9
        if size_gb is None:
            raise ValueError(
                "cold_start.weights_gb is missing: the profile names no hardware to take it from; "
                "write how many GB a new replica loads, 0 for none"
            )
        warm = self.warm_node
        stages = (
            ("provision", 0.0 if warm else self.provision),
            ("driver", 0.0 if warm else self.driver),
            ("image", 0.0 if warm else self.image),
            ("weights", size_gb / self.bandwidth_gb_s),
            ("init", (_CACHED_INIT_S if warm else _COLD_INIT_S) if self.init is None else self.init),
        )
        return ColdStart(self.decision, stages)


class ColdStart(NamedTuple):
    """`decision_s` before an order that follows from a metric; then the stages one after the other, in seconds."""

    decision_s: float
    stages: tuple[tuple[str, float], ...]

    @property
    def total_s(self) -> float:
        """From the order to ready."""
        return sum(seconds for _, seconds in self.stages)

    def stage_at(self, elapsed_s: float) -> str:
        """The stage in which a start is so long after its order; before that it is not decided."""
        if elapsed_s < 0:
            return "decision"
        ends = accumulate(seconds for _, seconds in self.stages)
        return next((name for (name, _), end in zip(self.stages, ends, strict=True) if elapsed_s < end), "init")
