"""What the model answers: text, reasoning before it, a tool call, or JSON that fits a schema. The same for the same key.

Agent loops end: tools are called while no tool has answered yet, and a tool's result is answered in words.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from mockllm.call import Call, Thinking, Tool
from mockllm.content.reply import JsonTokens, Part, Reply, Words
from mockllm.content.schema import value_for
from mockllm.content.text import Speaker
from mockllm.engine.length import AnswerLength, ReasoningLength
from mockllm.streams import Streams
from mockllm.tokens import Tokenizer

__all__ = ["Composer"]

# How much longer a model thinks when it is asked to try harder; judgement, in the order that providers document.
_EFFORT = {"none": 0.0, "minimal": 0.25, "low": 0.5, "medium": 1.0, "high": 2.0, "xhigh": 3.0, "max": 4.0}
_SEVERAL_CALLS = 0.3  # share of answers with more than one tool call where that is allowed; judgement
_ANY_OBJECT: dict[str, Any] = {
    "type": "object",
    "properties": {"answer": {"type": "string"}, "confidence": {"type": "number", "minimum": 0, "maximum": 1}},
    "required": ["answer", "confidence"],
    "additionalProperties": False,
}


class Composer:
    """Makes replies for one server."""

    def __init__(self, speaker: Speaker, streams: Streams, tokenizer: Tokenizer) -> None:
        self._speaker, self._streams, self._tokenizer = speaker, streams, tokenizer

    def warm_up(self) -> None:
        """Make what is made once, before the first client waits for it."""
        self._speaker.answer("warm-up")
        self._tokenizer.pieces("warm-up")

    def compose(self, call: Call, key: str, length: AnswerLength, reasoning: ReasoningLength) -> Reply:
        """The reply to one choice of a call, no longer than the model's context.

        Raises SchemaError when no JSON fits the client's schema.
        """
        longest = length.max_model_len
        limit = longest if call.max_tokens is None else min(call.max_tokens, longest)
        call = replace(call, max_tokens=limit, min_tokens=min(call.min_tokens, limit))
        thought = self._reasoning(call, key, reasoning)
        before = thought[0].num_tokens if thought else 0
        if tools := self._tools_to_call(call, key):
            return Reply((*thought, *(self._tool_call(tool, key, number) for number, tool in enumerate(tools))))
        if call.schema is not None:
            schema = _ANY_OBJECT if call.schema is True else call.schema
            value = value_for(schema, self._streams, key)
            return Reply((*thought, self._json("text", value)))
        text, stop_word = self._text(call, key, length, before)
        return Reply((*thought, text), stop_word)

    def _reasoning(self, call: Call, key: str, length: ReasoningLength) -> tuple[Part, ...]:
        thinking = call.thinking or (Thinking() if length.always else None)
        if thinking is None or not _EFFORT[thinking.effort]:
            return ()
        num_tokens = length.draw(key, self._streams, _EFFORT[thinking.effort])
        if thinking.budget_tokens is not None:
            num_tokens = min(num_tokens, thinking.budget_tokens)
        if call.max_tokens is not None and call.ignore_eos:
            num_tokens = min(num_tokens, call.max_tokens // 2)
        return (Part("reasoning", self._speaker.answer(f"{key}\x00reasoning"), num_tokens),) if num_tokens else ()

    def _tools_to_call(self, call: Call, key: str) -> list[Tool]:
        if not call.tools or call.tool_choice == "none":
            return []
        if call.tool_choice.startswith("tool:"):
            return [tool for tool in call.tools if tool.name == call.tool_choice[5:]]
        if call.answered and call.tool_choice == "auto":
            return []
        first = self._streams.integer("tool", key) % len(call.tools)
        num = 1
        if call.parallel_tool_calls and self._streams.uniform("several tools", key) < _SEVERAL_CALLS:
            num = min(2, len(call.tools))
        return [call.tools[(first + offset) % len(call.tools)] for offset in range(num)]

    def _tool_call(self, tool: Tool, key: str, number: int) -> Part:
        arguments = value_for(tool.parameters, self._streams, f"{key}\x00{number}")
        if isinstance(arguments, str):  # a tool that takes plain text
            tokens = self._tokenizer.pieces(arguments) or [""]
            return Part("tool_call", JsonTokens(tokens), len(tokens), tool.name, number)
        return self._json("tool_call", arguments if isinstance(arguments, dict) else {}, tool.name, number)

    def _json(self, kind: Any, value: Any, name: str = "", number: int = 0) -> Part:
        tokens = self._tokenizer.pieces(json.dumps(value, ensure_ascii=False))
        return Part(kind, JsonTokens(tokens), len(tokens), name, number)

    def _text(self, call: Call, key: str, length: AnswerLength, before: int) -> tuple[Part, str | None]:
        words: Words = self._speaker.answer(key)
        if call.ignore_eos and call.max_tokens is not None:
            num_tokens = max(1, call.max_tokens - before)
        else:
            drawn = max(length.draw(key, self._streams), call.min_tokens - before)
            num_tokens = min(drawn, length.max_model_len)
        if not call.stop or call.ignore_eos:
            return Part("text", words, num_tokens), None
        return _stopped(words, min(num_tokens, call.max_tokens or num_tokens), num_tokens, call.stop)


def _stopped(words: Words, looked_at: int, num_tokens: int, stop: tuple[str, ...]) -> tuple[Part, str | None]:
    """The text up to the first stop word among its first `looked_at` tokens."""
    text = words.piece(0, looked_at)
    found = min(((at, word) for word in stop if (at := text.find(word)) >= 0), default=None)
    if found is None:
        return Part("text", words, num_tokens), None
    kept: list[str] = []
    left = found[0]
    for number in range(looked_at):
        token = words.piece(number, 1)
        if left <= 0:
            break
        kept.append(token[:left])
        left -= len(token)
    return Part("text", JsonTokens(kept or [""]), max(1, len(kept))), found[1]
