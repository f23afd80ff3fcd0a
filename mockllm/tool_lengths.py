"""How long the answer to a request with tools is: for drivers that want no words. The same as a server's for the same key.

Making a call that fits its schema needs the packages of the extra `server`; they are imported with the first one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mockllm.call import Call, Tool
from mockllm.engine.engine import ServedModel
from mockllm.streams import Streams

__all__ = ["ToolLengths"]


class ToolLengths:
    """Answers of one server to requests whose tools the model may call."""

    def __init__(self, streams: Streams) -> None:
        from mockllm.content.compose import Composer
        from mockllm.content.text import Speaker
        from mockllm.tokens import o200k

        self._composer = Composer(Speaker(streams), streams, o200k())

    def of(
        self, tools: Sequence[Mapping[str, Any]], key: str, served: ServedModel, max_tokens: int | None, *, exact: bool
    ) -> tuple[int, int]:
        """Tokens of the answer, and how many of them are reasoning. `tools` are functions as OpenAI writes them."""
        offered = tuple(Tool(tool["name"], tool.get("parameters") or {"type": "object"}) for tool in tools)
        call = Call(served.name, (), max_tokens=max_tokens, ignore_eos=exact, tools=offered)
        reply = self._composer.compose(call, key, served.length, served.reasoning)
        return reply.num_tokens, reply.num_reasoning_tokens(reply.num_tokens) if len(reply.parts) > 1 else 0
