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
        if request.answer_share != 1.0:
            wanted = _shortened(wanted, request)
        if wanted > limit or (request.ignore_eos and wanted == limit):
            return Planned(limit, "length")
        return Planned(wanted, "stop")

    def draw(self, key: str, streams: Streams) -> int:
        """How long this model's answer would be if nobody limited it."""
        return max(1, round(streams.lognormal("answer length", key, self.median_tokens, self.sigma)))


def _shortened(wanted: int, request: Request) -> int:
    """What is left of an answer that was asked to be shorter: all of its reasoning, a share of its words, at least one."""
    words = wanted - request.num_reasoning_tokens
    return max(request.num_reasoning_tokens + max(1, round(words * request.answer_share)), request.min_tokens)


@dataclass(frozen=True, slots=True)
class ReasoningLength:
    """Reasoning tokens before an answer: lognormal. `always`: also when the client does not ask for it."""

    median_tokens: float
    sigma: float
    always: bool = False

    def draw(self, key: str, streams: Streams, effort: float = 1.0) -> int:
        """How long the model would think; `effort` is how hard it is asked to try, 1 where nobody said."""
        return max(1, round(streams.lognormal("reasoning length", key, self.median_tokens * effort, self.sigma)))
