"""Who asks what, where a plan says more than how many tokens: for caches, limits, queues and routers.

A real server reads the messages. The mock also reads who asks and what the workload knows of the question, from
headers (`mock_headers`): they are the truth by which its policies are judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Ask", "Said", "mock_headers"]


@dataclass(frozen=True, slots=True)
class Said:
    """One message of `num_tokens` tokens. `name` stands for its words: equal names, equal words; `text` None: words of the
    prompt book."""

    role: Literal["system", "user", "assistant"]
    name: int
    num_tokens: int
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """The question of an arrival, the last of `messages`, and on whose behalf it comes. None: not said. Without messages the
    prompt is as long as the arrival says, in words of its own.

    `tools` are functions that the model may call, as OpenAI writes them; `images` are data URLs that the last message
    shows; both add tokens to the prompt (`attachments.py`). `model` None: the run's. `exact_length`: the answer is to have the planned length; otherwise that is a limit. `intent`,
    `task` and `difficulty` (0 to 1) are labels. `urgency` is P0, P1 or P2; `batch`: asked for at a batch's price.
    """

    messages: tuple[Said, ...]
    model: str | None = None
    stream: bool = True
    exact_length: bool = True
    user: str | None = None
    organization: str | None = None
    feature: str | None = None
    tier: str | None = None
    region: str | None = None
    session: str | None = None
    urgency: Literal["P0", "P1", "P2"] | None = None
    batch: bool = False
    intent: str | None = None
    task: str | None = None
    difficulty: float | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    images: tuple[str, ...] = ()
    num_tool_tokens: int = 0
    num_image_tokens: int = 0

    @property
    def num_attached_tokens(self) -> int:
        """What stands in the prompt beside the messages."""
        return self.num_tool_tokens + self.num_image_tokens

    @property
    def num_prompt_tokens(self) -> int:
        return sum(said.num_tokens for said in self.messages) + self.num_attached_tokens


def mock_headers(ask: Ask) -> dict[str, str]:
    """What a mock is told in headers; a real server leaves them unread."""
    told = {
        "X-Mock-User": ask.user,
        "X-Mock-Feature": ask.feature,
        "X-Mock-Tier": ask.tier,
        "X-Mock-Region": ask.region,
        "X-Mock-Session": ask.session,
        "X-Mock-Priority": ask.urgency,
        "X-Mock-Batch": "workload" if ask.batch else None,
        "X-Mock-Intent": ask.intent,
        "X-Mock-Task": ask.task,
        "X-Mock-Difficulty": None if ask.difficulty is None else str(ask.difficulty),
        "OpenAI-Organization": ask.organization,
    }
    return {name: value for name, value in told.items() if value is not None}
