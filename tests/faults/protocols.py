"""How each protocol says the parts of one answer, written out by hand from the published formats.

Sources: openai-python's types and recordings, OpenAI's openapi.yaml, anthropic-sdk-python's streaming fixtures. The answer
is the same in all of them: three pieces of text, five tokens in, three out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from harness.dialects import Dialect
from harness.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from harness.dialects.openai_chat import OPENAI_CHAT
from harness.dialects.openai_completions import OPENAI_COMPLETIONS
from harness.dialects.openai_responses import OPENAI_RESPONSES

from . import transcripts
from .transcripts import DONE, TEXT, WORDS

__all__ = ["MESSAGES", "PROTOCOLS", "Said", "Spoken", "compact", "framed"]


@dataclass(frozen=True)
class Said:
    """One event: its data, and its name where the protocol gives it one."""

    data: bytes
    name: str | None = None


def framed(events: Iterable[Said], newline: bytes = b"\n", field: bytes = b"data: ") -> bytes:
    """Server-sent events of one data line each."""
    return b"".join(
        (b"" if event.name is None else b"event: " + event.name.encode() + newline)
        + field
        + event.data
        + newline
        + newline
        for event in events
    )


@dataclass(frozen=True)
class Spoken:
    """The parts of an answer in one protocol, in the order in which they come: what opens it, its words, what says why and
    how it ended, and the mark after which nothing comes (of which there may be none)."""

    dialect: Dialect
    opening: list[Said]
    words: list[Said]
    finish: list[Said]
    end: list[Said]
    finish_reason: str
    finish_without_usage: list[Said]
    empty_word: Said
    error_in_data: Said  # as its clients raise it from a stream
    error_event: Said  # with a name of its own
    other_shape: Said  # JSON of another shape than the protocol's
    call: list[Said]  # a call of a tool without arguments, and the end
    whole: bytes
    whole_empty: bytes
    error_body: bytes

    @property
    def name(self) -> str:
        return self.dialect.name

    @property
    def begun(self) -> list[Said]:
        return [*self.opening, *self.words]

    @property
    def good(self) -> list[Said]:
        return [*self.begun, *self.finish, *self.end]


def plain(*data: bytes) -> list[Said]:
    return [Said(item) for item in data]


CHAT = Spoken(
    OPENAI_CHAT,
    opening=plain(transcripts.ROLE),
    words=plain(*map(transcripts.delta, WORDS)),
    finish=plain(transcripts.FINISH, transcripts.USAGE),
    end=plain(DONE),
    finish_reason="stop",
    finish_without_usage=plain(transcripts.FINISH),
    empty_word=Said(transcripts.delta("")),
    error_in_data=Said(transcripts.ERROR_BODY),
    error_event=Said(b'{"type":"error","message":"out of luck"}', "error"),
    other_shape=Said(b'{"choices":5}'),
    call=plain(
        transcripts.delta(
            role="assistant", tool_calls=[{"index": 0, "id": "t", "function": {"name": "f", "arguments": ""}}]
        ),
        transcripts.delta(finish="tool_calls"),
        transcripts.USAGE,
        DONE,
    ),
    whole=transcripts.whole(),
    whole_empty=transcripts.whole(None),
    error_body=transcripts.ERROR_BODY,
)


# -- completions -------------------------------------------------------------------------------------------


def text_chunk(text: str = "", finish: str | None = None, **more: Any) -> bytes:
    choices = [{"index": 0, "text": text, "logprobs": None, "finish_reason": finish}]
    return compact(
        {"id": "c1", "object": "text_completion", "created": 1, "model": "served", "choices": choices, **more}
    )


def compact(value: Any) -> bytes:
    """UTF-8 stands as it is, not escaped: the split has to hurt."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


COUNTED = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}

COMPLETIONS = Spoken(
    OPENAI_COMPLETIONS,
    opening=[],
    words=plain(*(text_chunk(word) for word in WORDS)),
    finish=plain(text_chunk(finish="stop"), text_chunk(choices=[], usage=COUNTED)),
    end=plain(DONE),
    finish_reason="stop",
    finish_without_usage=plain(text_chunk(finish="stop")),
    empty_word=Said(text_chunk()),
    error_in_data=Said(transcripts.ERROR_BODY),
    error_event=Said(b'{"error":{"message":"out of luck"}}', "error"),
    other_shape=Said(b'{"choices":[{"text":{}}]}'),
    call=[],
    whole=text_chunk(TEXT, "stop", usage=COUNTED),
    whole_empty=text_chunk("", "stop", usage=COUNTED),
    error_body=transcripts.ERROR_BODY,
)


# -- responses ---------------------------------------------------------------------------------------------


def response(status: str, text: str | None = None, *, usage: bool = False, **more: Any) -> dict[str, Any]:
    parts = [] if text is None else [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    item = {"type": "message", "id": "msg_1", "status": status, "role": "assistant", "content": parts}
    counted = {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 8,
    }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": "served",
        "output": [] if text is None else [item],
        "usage": counted if usage else None,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        **more,
    }


PLACE = {"item_id": "msg_1", "output_index": 0, "content_index": 0}


def responded(kind: str, **fields: Any) -> Said:
    return Said(compact({"type": kind, "sequence_number": 0, **fields}), kind)


def word_delta(text: str) -> Said:
    return responded("response.output_text.delta", **PLACE, delta=text, logprobs=[])


ITEM = {"type": "message", "id": "msg_1", "status": "in_progress", "role": "assistant", "content": []}
PART = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
DONE_PARTS = [
    responded("response.output_text.done", **PLACE, text=TEXT, logprobs=[]),
    responded("response.content_part.done", **PLACE, part=PART | {"text": TEXT}),
    responded("response.output_item.done", output_index=0, item=response("completed", TEXT)["output"][0]),
]
CALL_ITEM = {"type": "function_call", "id": "fc_1", "call_id": "t", "name": "f", "arguments": "", "status": "completed"}

RESPONSES = Spoken(
    OPENAI_RESPONSES,
    opening=[
        responded("response.created", response=response("in_progress")),
        responded("response.in_progress", response=response("in_progress")),
        responded("response.output_item.added", output_index=0, item=ITEM),
        responded("response.content_part.added", **PLACE, part=PART),
    ],
    words=[word_delta(word) for word in WORDS],
    finish=[*DONE_PARTS, responded("response.completed", response=response("completed", TEXT, usage=True))],
    end=[],
    finish_reason="completed",
    finish_without_usage=[*DONE_PARTS, responded("response.completed", response=response("completed", TEXT))],
    empty_word=word_delta(""),
    error_in_data=Said(transcripts.ERROR_BODY),
    error_event=responded("error", code="server_error", message="out of luck", param=None),
    other_shape=Said(b'{"type":"response.completed","response":5}', "response.completed"),
    call=[
        responded("response.created", response=response("in_progress")),
        responded("response.output_item.added", output_index=0, item=CALL_ITEM | {"status": "in_progress"}),
        responded("response.function_call_arguments.done", item_id="fc_1", output_index=0, name="f", arguments=""),
        responded("response.output_item.done", output_index=0, item=CALL_ITEM),
        responded("response.completed", response=response("completed", usage=True, output=[CALL_ITEM])),
    ],
    whole=compact(response("completed", TEXT, usage=True)),
    whole_empty=compact(response("completed", "", usage=True)),
    error_body=transcripts.ERROR_BODY,
)


# -- messages ----------------------------------------------------------------------------------------------


def message(content: list[Any], stop: str | None, output_tokens: int) -> dict[str, Any]:
    """Five tokens in: one that no cache had to do with, two read from it and two written to it."""
    usage = {
        "input_tokens": 1,
        "cache_creation_input_tokens": 2,
        "cache_read_input_tokens": 2,
        "output_tokens": output_tokens,
        "service_tier": "standard",
    }
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "served",
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": usage,
    }


def told(kind: str, **fields: Any) -> Said:
    return Said(compact({"type": kind, **fields}), kind)


def text_delta(text: str) -> Said:
    return told("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def stopped(reason: str, **usage: int) -> list[Said]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return [told("content_block_stop", index=0), told("message_delta", delta=delta, usage=usage)]


ANTHROPIC_ERROR = b'{"type":"error","error":{"type":"overloaded_error","message":"out of luck"},"request_id":"req_1"}'
START = told("message_start", message=message([], None, 1))
TOOL_USE = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}

MESSAGES = Spoken(
    ANTHROPIC_MESSAGES,
    opening=[
        START,
        told("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        Said(b'{"type": "ping"}', "ping"),
    ],
    words=[text_delta(word) for word in WORDS],
    finish=stopped("end_turn", output_tokens=3),
    end=[told("message_stop")],
    finish_reason="end_turn",
    # The SDK's type wants a usage here; servers that imitate the service leave it out.
    finish_without_usage=[
        told("content_block_stop", index=0),
        told("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}),
    ],
    empty_word=text_delta(""),
    error_in_data=Said(ANTHROPIC_ERROR),
    error_event=Said(ANTHROPIC_ERROR, "error"),
    other_shape=Said(b'{"type":"content_block_delta","delta":[]}', "content_block_delta"),
    call=[
        START,
        told("content_block_start", index=0, content_block=TOOL_USE),
        told("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": ""}),
        *stopped("tool_use", output_tokens=3),
        told("message_stop"),
    ],
    whole=compact(message([{"type": "text", "text": TEXT}], "end_turn", 3)),
    whole_empty=compact(message([], "end_turn", 3)),
    error_body=ANTHROPIC_ERROR,
)

PROTOCOLS = [CHAT, COMPLETIONS, RESPONSES, MESSAGES]
