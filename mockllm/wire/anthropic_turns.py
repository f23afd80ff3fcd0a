"""Which conversations Anthropic's Messages API takes: roles, empty content, and tool results that answer tool uses.

Wordings are the service's own, as clients published them. Consecutive messages of one role are one turn to the API.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mockllm.wire.anthropic_blocks import (
    Message,
    RedactedThinkingBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from mockllm.wire.anthropic_bodies import broken, shortened
from mockllm.wire.errors import ApiError, invalid

__all__ = ["answers_a_tool", "broken_turns"]

_ROLES = ("user", "assistant", "system")  # system: an instruction in the middle of a conversation
_BLANK = "text content blocks must contain non-whitespace text"
_EMPTY = "all messages must have non-empty content except for the optional final assistant message"


def broken_turns(messages: Sequence[Message]) -> ApiError | None:
    """A conversation that the API does not take."""
    if not messages:
        return invalid("messages: at least one message is required", "messages")
    return _bad_role(messages) or _empty(messages) or _misplaced(messages) or _unpaired(messages)


def answers_a_tool(messages: Sequence[Message]) -> bool:
    """Whether the last thing a user said contains the result of a tool."""
    last = next((message for message in reversed(messages) if message.role == "user"), None)
    return last is not None and any(True for _ in _blocks(last, ToolResultBlock))


def _blocks(message: Message, kind: type[ToolUseBlock] | type[ToolResultBlock]) -> Iterator[tuple[int, object]]:
    if not isinstance(message.content, str):
        yield from ((index, block) for index, block in enumerate(message.content) if isinstance(block, kind))


def _bad_role(messages: Sequence[Message]) -> ApiError | None:
    for index, message in enumerate(messages):
        if message.role not in _ROLES:
            return broken(f"messages.{index}.role", "Input should be 'user' or 'assistant'")
    if messages[0].role != "user":
        return invalid('messages: first message must use the "user" role', "messages")
    return None


def _empty(messages: Sequence[Message]) -> ApiError | None:
    last = len(messages) - 1
    for index, message in enumerate(messages):
        final = index == last and message.role == "assistant"
        if not message.content:
            if not final:
                return broken(f"messages.{index}", _EMPTY)
            continue
        for text in _texts(message):
            if not text:
                return invalid("messages: text content blocks must be non-empty", "messages")
            if text.isspace():
                return invalid(f"messages: {_BLANK}", "messages")
        if final and _last_text(message) != _last_text(message).rstrip():
            return invalid("messages: final assistant content cannot end with trailing whitespace", "messages")
    return None


def _texts(message: Message) -> Iterator[str]:
    if isinstance(message.content, str):
        yield message.content
    else:
        yield from (block.text for block in message.content if isinstance(block, TextBlock))


def _last_text(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    last = message.content[-1]
    return last.text if isinstance(last, TextBlock) else ""


def _misplaced(messages: Sequence[Message]) -> ApiError | None:
    """Blocks that only the other side can say."""
    for index, message in enumerate(messages):
        if isinstance(message.content, str):
            continue
        for number, block in enumerate(message.content):
            path, tag = f"messages.{index}.content.{number}", type(block).__struct_config__.tag
            if isinstance(block, ToolUseBlock | ThinkingBlock | RedactedThinkingBlock) and message.role != "assistant":
                return broken(path, f"`{tag}` blocks can only be in `assistant` messages")
            if isinstance(block, ToolResultBlock) and message.role != "user":
                return broken(path, f"`{tag}` blocks can only be in `user` messages")
            if message.role == "system" and not isinstance(block, TextBlock):
                return broken(path, f"`{tag}` blocks cannot be in `system` messages")
    return None


def _unpaired(messages: Sequence[Message]) -> ApiError | None:
    """Tool results without a tool use in the turn before, and tool uses without a result in the turn after."""
    uses: dict[str, int] = {}  # id to message, of the last assistant turn
    results: set[str] = set()
    speaker = "user"
    for index, message in enumerate(messages):
        if message.role == "assistant":
            if speaker != "assistant":
                if error := _unanswered(uses, results):
                    return error
                uses, results = {}, set()
            for number, block in _blocks(message, ToolUseBlock):
                assert isinstance(block, ToolUseBlock)
                if block.id in uses:
                    return broken(f"messages.{index}.content.{number}", "`tool_use` ids must be unique")
                uses[block.id] = index
        for number, block in _blocks(message, ToolResultBlock):
            assert isinstance(block, ToolResultBlock)
            if rule := _bad_result(block.tool_use_id, uses, results):
                return broken(f"messages.{index}.content.{number}", rule)
            results.add(block.tool_use_id)
        speaker = speaker if message.role == "system" else message.role
    return _unanswered(uses, results)


def _bad_result(id_: str, uses: dict[str, int], results: set[str]) -> str | None:
    if id_ not in uses:
        return (
            f"unexpected `tool_use_id` found in `tool_result` blocks: {shortened(id_)}. Each `tool_result` block must "
            "have a corresponding `tool_use` block in the previous message."
        )
    if id_ in results:
        return f"each tool_use must have a single result. Found multiple `tool_result` blocks with id: {shortened(id_)}"
    return None


def _unanswered(uses: dict[str, int], results: set[str]) -> ApiError | None:
    missing = [id_ for id_ in uses if id_ not in results]
    if not missing:
        return None
    first = uses[missing[0]]
    ids = ", ".join(id_ for id_ in missing if uses[id_] == first)
    rule = (
        f"`tool_use` ids were found without `tool_result` blocks immediately after: {shortened(ids, 500)}. Each "
        "`tool_use` block must have a corresponding `tool_result` block in the next message."
    )
    return broken(f"messages.{first}", rule)
