"""How much each request asks for: prompt and output lengths, drawn in the order of the plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import exp, inf, log
from statistics import NormalDist

import numpy as np

from harness.arrivals.pacing import Gaps, Piece, arrival_times, describe_pacing
from harness.errors import UsageError
from harness.plan import Arrival
from harness.streams import stream

__all__ = ["AZURE_CONVERSATION_OUTPUT", "AZURE_CONVERSATION_PROMPT", "Lognormal", "SyntheticPlan", "conversations"]

_STANDARD_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Lengths in tokens, lognormal by median and sigma of the logarithm, clipped to at least 1 and at most `most`."""

    median: float
    sigma: float
    most: int

    def __post_init__(self) -> None:
        """Raises UsageError for numbers that make no length."""
        if not 0 < self.median < inf or not 0 <= self.sigma < inf:
            raise UsageError(
                f"lengths with median {self.median:g} and sigma {self.sigma:g} cannot be; write a median above 0"
            )

    def draw(self, generator: np.random.Generator) -> int:
        return self._length(generator.standard_normal())

    def at(self, uniform: float) -> int:
        """The length that a share of `uniform`, between 0 and 1, does not exceed."""
        return self._length(_STANDARD_NORMAL.inv_cdf(uniform))

    def _length(self, normal: float) -> int:
        size = log(self.median) + self.sigma * normal
        return int(self.most) if size >= log(self.most) else max(1, round(exp(size)))

    def describe(self) -> str:
        return f"lognormal(median {self.median:g}, sigma {self.sigma:g}, at most {self.most})"


# Maximum-likelihood fits to the 19,366 requests of the Azure LLM inference trace 2023, conversation
# (Microsoft, AzurePublicDataset, CC-BY-4.0): mu 6.633, sigma .985 and mu 5.019, sigma .859. The bounds are
# the trace's own maxima. Correlation of the logarithms is .09, so both are drawn independently.
AZURE_CONVERSATION_PROMPT = Lognormal(exp(6.633), 0.985, 14_050)
AZURE_CONVERSATION_OUTPUT = Lognormal(exp(5.019), 0.859, 1_000)


@dataclass(frozen=True)
class SyntheticPlan:
    """Drawn arrivals and lengths. Each kind of draw has its own stream, so they do not disturb each other."""

    pieces: Sequence[Piece]
    gaps: Gaps
    prompt_tokens: Lognormal
    output_tokens: Lognormal
    seed: int

    @property
    def duration_s(self) -> float:
        return self.pieces[-1].end_s

    @cached_property
    def num_arrivals(self) -> int:
        return sum(1 for _ in arrival_times(self.pieces, self.gaps, stream(self.seed, "arrivals")))

    def arrivals(self) -> Iterator[Arrival]:
        prompts, outputs = stream(self.seed, "prompt tokens"), stream(self.seed, "output tokens")
        times = arrival_times(self.pieces, self.gaps, stream(self.seed, "arrivals"))
        for index, (at_s, phase) in enumerate(times):
            yield Arrival(index, at_s, self.prompt_tokens.draw(prompts), self.output_tokens.draw(outputs), phase)

    def describe(self) -> dict[str, object]:
        return {
            **describe_pacing(self.pieces, self.gaps),
            "prompt_tokens": self.prompt_tokens.describe(),
            "output_tokens": self.output_tokens.describe(),
            "seed": self.seed,
        }


def conversations(pieces: Sequence[Piece], gaps: Gaps, seed: int) -> SyntheticPlan:
    """Requests as long as those of Azure's conversations."""
    return SyntheticPlan(pieces, gaps, AZURE_CONVERSATION_PROMPT, AZURE_CONVERSATION_OUTPUT, seed)
