"""A valid request of any dialect, reduced to what the server needs; the dialect's own details stay with its writer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Call", "Segment", "Thinking", "Tool", "Usage"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of the prompt in the order in which the model reads it.

    `num_tokens` is given for what is not text (an image), `ids` for a prompt that came as token ids. `cache_ttl_s`: the client asked to cache everything up to here.
    """

    text: str
    num_tokens: int | None = None
    cache_ttl_s: float | None = None
    ids: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call; `parameters` is its JSON Schema."""

    name: str
    parameters: dict[str, Any] | bool


@dataclass(frozen=True, slots=True)
class Thinking:
    """The client asks the model to reason first: how hard (`effort`), and for at most how many tokens."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] = "medium"
    budget_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One request for an answer.

    `tool_choice` is auto, none, required, or the name of a tool after `tool:`. `answered` says that the prompt ends with
    the result of a tool. `schema` is what the answer must be valid against; True asks for any JSON object.
    `repeatable`: the client wants the same words for the same prompt (a seed, or temperature 0).
    `details` belongs to the dialect that parsed it.
    """

    model: str
    segments: tuple[Segment, ...]
    stream: bool = False
    num_choices: int = 1
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: str = "auto"
    parallel_tool_calls: bool = True
    answered: bool = False
    schema: dict[str, Any] | bool | None = None
    thinking: Thinking | None = None
    priority: int = 0
    service_tier: str | None = None
    repeatable: bool = False
    user_marks_cache: bool = False  # the dialect caches only what `cache_ttl_s` marks
    details: Any = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as they are billed. `num_prompt_tokens` includes the cached ones, `num_output_tokens` the reasoning."""

    num_prompt_tokens: int
    num_output_tokens: int
    num_cached_tokens: int = 0
    num_written_5m: int = 0
    num_written_1h: int = 0
    num_reasoning_tokens: int = 0
