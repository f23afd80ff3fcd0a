"""How long an answer is: drawn from the profile, bounded by what the request allows."""

from __future__ import annotations

from dataclasses import dataclass

from mockllm.model import Request
from mockllm.streams import Streams

__all__ = ["AnswerLength", "Planned", "ReasoningLength"]


@dataclass(frozen=True, slots=True)
class Planned:
    """The number of output tokens and why the answer ends there: `stop` or `length`."""

    num_tokens: int
    reason: str


@dataclass(frozen=True, slots=True)
class AnswerLength:
    """Lognormal lengths (tokens), the shape that production traces have.

    Azure's 2023 conversation trace fits median exp(5.019) and sigma 0.859, its code trace exp(2.788)
    and 0.847 (Microsoft, AzurePublicDataset, CC-BY-4.0).
    """

    median_tokens: float
    sigma: float
    max_model_len: int

    def plan(self, request: Request, streams: Streams) -> Planned:
        """The length of this request's answer. The prompt must leave room for one token."""
        room = self.max_model_len - request.num_prompt_tokens
        limit = room if request.max_tokens is None else min(request.max_tokens, room)
        if request.ignore_eos and request.num_answer_tokens is None:
            return Planned(limit, "length")
        wanted = request.num_answer_tokens or max(self.draw(request.key, streams), request.min_tokens)
        if wanted > limit or (request.ignore_eos and wanted == limit):
            return Planned(limit, "length")
        return Planned(wanted, "stop")

    def draw(self, key: str, streams: Streams) -> int:
        """How long this model's answer would be if nobody limited it."""
        return max(1, round(streams.lognormal("answer length", key, self.median_tokens, self.sigma)))


@dataclass(frozen=True, slots=True)
class ReasoningLength:
    """Reasoning tokens before an answer: lognormal. `always`: also when the client does not ask for it."""

    median_tokens: float
    sigma: float
    always: bool = False
