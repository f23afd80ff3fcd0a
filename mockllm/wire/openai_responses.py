"""OpenAI's Responses API (`POST /v1/responses`): replies to events and response objects. Pure: bytes in, bytes out.

Each part of a reply is one item of the output: reasoning, message, function call or call of a custom tool. Event types
and fields follow openai-python's `types/responses`, their order OpenAI's streaming guide: every item is added, streamed
and done, also when the limit of tokens cuts it; the last event is completed, incomplete or failed, and there is no
`[DONE]`. Reasoning is shown as a summary where the client asked for one, and else as it is, as open-weight servers do.
The stream of a background response opens twice: when it is accepted, and when its words begin.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from mockllm.call import Call, Usage
from mockllm.content.reply import Part, Reply, Slice
from mockllm.wire.dialect import Context, End
from mockllm.wire.errors import ApiError
from mockllm.wire.logprobs import logprobs
from mockllm.wire.openai_chat import call_id, served_tier
from mockllm.wire.responses_request import Details, parse, parse_count

__all__ = [
    "Finished",
    "ResponsesWriter",
    "input_tokens_body",
    "parse",
    "parse_count",
    "queued_events",
    "response_object",
    "responses_usage",
]

_NO_PART = -1
_NUM_QUEUED_EVENTS = 2


class Finished(NamedTuple):
    """A complete answer, as whoever keeps the conversations needs it: the response object and the items of its output."""

    tag: str
    body: bytes
    items: tuple[dict[str, object], ...]


class _Shape(NamedTuple):
    """How one kind of item is streamed.

    `prefix` starts its id, `stream` the type of its delta and done events; the done event has the text in `field`.
    `group` names the events around them, and `place` where in the item they belong.
    """

    prefix: str
    stream: str
    field: str
    group: str | None
    place: dict[str, int]


_MESSAGE = _Shape("msg", "response.output_text", "text", "response.content_part", {"content_index": 0})
_REASONING = _Shape("rs", "response.reasoning_text", "text", "response.content_part", {"content_index": 0})
_SUMMARY = _Shape(
    "rs", "response.reasoning_summary_text", "text", "response.reasoning_summary_part", {"summary_index": 0}
)
_FUNCTION = _Shape("fc", "response.function_call_arguments", "arguments", None, {})
_CUSTOM = _Shape("ctc", "response.custom_tool_call_input", "input", None, {})


def responses_usage(usage: Usage) -> dict[str, object]:
    """The usage block of a response object; `input_tokens` includes the cached ones."""
    return {
        "input_tokens": usage.num_prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.num_cached_tokens,
            "cache_write_tokens": usage.num_written_5m + usage.num_written_1h,
        },
        "output_tokens": usage.num_output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.num_reasoning_tokens},
        "total_tokens": usage.num_prompt_tokens + usage.num_output_tokens,
    }


def input_tokens_body(num_tokens: int) -> bytes:
    """The answer of `POST /v1/responses/input_tokens`."""
    return msgspec.json.encode({"object": "response.input_tokens", "input_tokens": num_tokens})


def response_object(
    call: Call,
    context: Context,
    status: str,
    output: Sequence[dict[str, object]] = (),
    *,
    usage: Usage | None = None,
    error: ApiError | None = None,
) -> bytes:
    """A response as it stands; `status` is queued, in_progress, completed, incomplete, failed or cancelled."""
    details: Details = call.details
    waits = status in ("queued", "in_progress")
    failure = None
    if error is not None:
        code = "rate_limit_exceeded" if error.status == 429 else "server_error"
        failure = {"code": code, "message": error.message}
    response = {
        "id": context.tag,
        "object": "response",
        "created_at": context.created,
        "status": status,
        "error": failure,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "model": call.model,
        "output": output,
        "usage": None if usage is None else responses_usage(usage),
        "service_tier": call.service_tier or "auto" if waits else served_tier(call.service_tier),
        **details.echo,
    }
    return msgspec.json.encode(response)


def queued_events(call: Call, context: Context) -> bytes:
    """How the stream of a background response begins: created, and queued."""
    body = response_object(call, context, "queued")
    return _response_event("response.created", 0, body) + _response_event("response.queued", 1, body)


class ResponsesWriter:
    """Writes one answer. `finished` is set by `closing` and by `whole`.

    The API has no second choice: whatever number a method gets for one is ignored.
    """

    def __init__(self, call: Call, context: Context, replies: Sequence[Reply]) -> None:
        self.finished: Finished | None = None
        self._call, self._context, self._reply = call, context, replies[0]
        self._details: Details = call.details
        wanted = self._details.include_obfuscation
        self._endings = _PADDED if (context.hosted if wanted is None else wanted) else _BARE
        # Whoever keeps a background response has let out its first events already, see `queued_events`.
        self._sequence = _NUM_QUEUED_EVENTS if self._details.background else 0
        self._output: list[dict[str, object]] = []  # items that are done
        # The part that is being written: its number, how many of its tokens are out, and what is around a delta.
        self._part, self._num_tokens = _NO_PART, 0
        self._frame: tuple[bytes, bytes, bytes] = (b"", b"", b"")
        self._plain = False  # whether a delta needs nothing but its text
        self._reason = "stop"

    # -- the stream ------------------------------------------------------------------------------------------------

    def opening(self, prompt: Usage) -> bytes:
        """Two events with the empty response; they are not tokens. One of a background response, which is created."""
        body = self.as_it_stands("in_progress")
        created = b"" if self._sequence else self._response_event("response.created", body)
        return created + self._response_event("response.in_progress", body)

    def piece(self, choice: int, piece: Slice) -> bytes:
        """A delta, after the opening of its item and before the end of it where it is the first or the last."""
        begun = b"" if piece.index == self._part else self._begin(piece.index, piece.part)
        if self._plain:
            text = piece.text
            before, place, after = self._frame
            ending = self._endings[len(text) & 15]
            delta = b"%b%d%b%b%b%b" % (before, self._sequence, place, msgspec.json.encode(text), after, ending)
            self._sequence += 1
        else:
            delta = self._delta_with_logprobs(piece)
        self._num_tokens = piece.first + piece.num
        if piece.ends:
            return begun + delta + self._finish("completed")
        return begun + delta if begun else delta

    def end(self, choice: int, end: End) -> bytes:
        """What the limit of tokens cut is done too, as incomplete; nothing where the last part is complete."""
        self._reason = end.reason
        return b"" if self._part == _NO_PART else self._finish(_status(end.reason))

    def closing(self, usage: Usage) -> bytes:
        """The whole response once more, with usage."""
        status = _status(self._reason)
        body = self.as_it_stands(status, usage=usage)
        self.finished = Finished(self._context.tag, body, tuple(self._output))
        return self._response_event(f"response.{status}", body)

    def error(self, error: ApiError) -> bytes:
        """An `error` event; a response that was opened is then declared failed, with what it has said."""
        opened = self._sequence > 0
        event = self._event("error", {"code": error.code, "message": error.message, "param": error.param})
        if not opened:
            return event
        if self._part != _NO_PART:
            self._output.append(self._item(self._reply.parts[self._part], self._num_tokens, "incomplete"))
            self._part = _NO_PART
        return event + self._response_event("response.failed", self.as_it_stands("failed", error=error))

    def cancelled(self) -> bytes:
        """The last event of a background response that was cancelled: it failed, without an error and without output."""
        return self._response_event("response.failed", response_object(self._call, self._context, "cancelled"))

    def as_it_stands(self, status: str, *, usage: Usage | None = None, error: ApiError | None = None) -> bytes:
        """The response object with the items that are done."""
        return response_object(self._call, self._context, status, self._output, usage=usage, error=error)

    # -- the whole answer --------------------------------------------------------------------------------------------

    def whole(self, ends: Sequence[End], usage: Usage) -> bytes:
        """The answer as one JSON body."""
        end = ends[0]
        for piece in self._reply.slices(0, end.num_tokens):
            if piece.num:
                status = "completed" if piece.ends else _status(end.reason)
                self._output.append(self._item(piece.part, piece.num, status))
        body = self.as_it_stands(_status(end.reason), usage=usage)
        self.finished = Finished(self._context.tag, body, tuple(self._output))
        return body

    # -- items -------------------------------------------------------------------------------------------------------

    def _shape(self, part: Part) -> _Shape:
        match part.kind:
            case "text":
                return _MESSAGE
            case "reasoning":
                return _SUMMARY if self._details.summary else _REASONING
            case "tool_call":
                return _CUSTOM if part.name in self._details.custom_tools else _FUNCTION

    def _item_id(self, part: Part) -> str:
        """The id of the item that comes next in the output."""
        unique = self._context.tag.partition("_")[2] or self._context.tag
        return f"{self._shape(part).prefix}_{unique}{len(self._output):04x}"

    def _item(self, part: Part, num_tokens: int, status: str) -> dict[str, object]:
        """The next item of the output with its first `num_tokens` tokens; empty while it is in progress."""
        text = part.text(num_tokens)
        content = [] if status == "in_progress" else [self._content(part, num_tokens)]
        item: dict[str, object] = {"id": self._item_id(part)}
        if part.kind == "text":
            return {**item, "type": "message", "status": status, "content": content, "role": "assistant"}
        if part.kind == "tool_call":
            called: dict[str, object] = {"call_id": call_id(self._context, 0, part), "name": part.name}
            if part.name in self._details.custom_tools:  # has no status in OpenAI's schema
                return {**item, "type": "custom_tool_call", **called, "input": text}
            return {**item, "type": "function_call", "status": status, **called, "arguments": text}
        if self._details.summary:
            item |= {"type": "reasoning", "summary": content, "status": status}
        else:
            item |= {"type": "reasoning", "summary": [], "content": content, "status": status}
        if self._details.encrypted and status != "in_progress":
            item["encrypted_content"] = self._encrypted(text)
        return item

    def _content(self, part: Part, num_tokens: int) -> dict[str, object]:
        """What an item says, as its only part of content or of summary."""
        text = part.text(num_tokens)
        if part.kind == "reasoning":
            return {"type": "summary_text" if self._details.summary else "reasoning_text", "text": text}
        return {"type": "output_text", "annotations": [], "logprobs": self._logprobs(part, 0, num_tokens), "text": text}

    def _encrypted(self, text: str) -> str:
        """As long as real ciphertext of the text would be; there is nothing in it."""
        noise = self._context.streams.generator("encrypted reasoning", f"{self._context.key}\x00{len(self._output)}")
        return "gAAAAA" + urlsafe_b64encode(noise.bytes(64 + len(text.encode()))).decode()

    def _logprobs(self, part: Part, first: int, num: int, *, in_event: bool = False) -> list[dict[str, object]]:
        """Of an answer's text, where they were asked for. Those of an event have no `bytes`."""
        num_top = self._details.num_top_logprobs
        if num_top is None:
            return []
        tokens = [part.words.piece(number, 1) for number in range(first, first + num)]
        show = _event_logprob if in_event else _item_logprob
        return [
            {**show(token, value), "top_logprobs": [show(*other) for other in top]}
            for token, value, top in logprobs(tokens, first, num_top, self._context)
        ]

    # -- events ------------------------------------------------------------------------------------------------------

    def _begin(self, index: int, part: Part) -> bytes:
        """The events that open an item, and the frame of its deltas: only number and text differ from one to the next."""
        shape = self._shape(part)
        self._part, self._num_tokens = index, 0
        self._plain = part.kind != "text" or self._details.num_top_logprobs is None
        before = f'event: {shape.stream}.delta\ndata: {{"type":"{shape.stream}.delta","sequence_number":'
        place = msgspec.json.encode(self._place(part))
        after = b',"logprobs":[]' if part.kind == "text" else b""
        self._frame = before.encode(), b"," + place[1:-1] + b',"delta":', after
        item = self._item(part, 0, "in_progress")
        opened = self._event("response.output_item.added", {"output_index": len(self._output), "item": item})
        if shape.group is None:
            return opened
        return opened + self._event(f"{shape.group}.added", {**self._place(part), "part": self._content(part, 0)})

    def _delta_with_logprobs(self, piece: Slice) -> bytes:
        """A delta of text with its log probabilities."""
        shown = self._logprobs(piece.part, piece.first, piece.num, in_event=True)
        before, place, _ = self._frame
        text = piece.text
        after = b',"logprobs":' + msgspec.json.encode(shown) + self._endings[len(text) & 15]
        delta = b"%b%d%b%b%b" % (before, self._sequence, place, msgspec.json.encode(text), after)
        self._sequence += 1
        return delta

    def _finish(self, status: str) -> bytes:
        """The events that close the item that is open."""
        part, num_tokens = self._reply.parts[self._part], self._num_tokens
        shape, place = self._shape(part), self._place(part)
        done = {**place, shape.field: part.text(num_tokens)}
        if part.kind == "text":
            done["logprobs"] = self._logprobs(part, 0, num_tokens, in_event=True)
        events = self._event(f"{shape.stream}.done", done)
        if shape.group is not None:
            group = {**place, "part": self._content(part, num_tokens)}
            if shape is _SUMMARY and status == "incomplete":
                group["status"] = status
            events += self._event(f"{shape.group}.done", group)
        item = self._item(part, num_tokens, status)
        events += self._event("response.output_item.done", {"output_index": len(self._output), "item": item})
        self._output.append(item)
        self._part = _NO_PART
        return events

    def _place(self, part: Part) -> dict[str, object]:
        """Which item an event is about, and where in it."""
        return {"item_id": self._item_id(part), "output_index": len(self._output), **self._shape(part).place}

    def _event(self, kind: str, fields: dict[str, object]) -> bytes:
        data = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return f"event: {kind}\ndata: ".encode() + msgspec.json.encode(data) + b"\n\n"

    def _response_event(self, kind: str, body: bytes) -> bytes:
        self._sequence += 1
        return _response_event(kind, self._sequence - 1, body)


def _response_event(kind: str, number: int, body: bytes) -> bytes:
    """An event with the whole response in it."""
    data = f'{{"type":"{kind}","sequence_number":{number},"response":'.encode()
    return f"event: {kind}\ndata: ".encode() + data + body + b"}\n\n"


def _status(reason: str) -> str:
    """How an answer or an item ended, by the engine's reason."""
    return "incomplete" if reason == "length" else "completed"


def _event_logprob(token: str, value: float) -> dict[str, object]:
    return {"token": token, "logprob": value}


def _item_logprob(token: str, value: float) -> dict[str, object]:
    return {"token": token, "bytes": list(token.encode()), "logprob": value}


# What ends a delta. OpenAI's `obfuscation` pads it, so that the size of an event does not tell its text.
_PADDED = [f',"obfuscation":"{"w3NqPz8sKd5JtHy6"[length:]}"}}\n\n'.encode() for length in range(16)]
_BARE = [b"}\n\n"] * 16
