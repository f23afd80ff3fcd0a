"""Answers with usage as the providers document it, and what each costs by the providers' price pages, worked out by hand.

OpenAI: platform.openai.com/docs/api-reference/chat/object, .../chat-streaming, .../responses/object, .../batch/request-output, guide
"Prompt caching"; prices of gpt-5-mini and gpt-4.1 from platform.openai.com/docs/pricing. Anthropic: docs.claude.com, "Messages",
"Streaming", "Prompt caching" (usage.cache_creation), "Batch processing"; prices of Claude Sonnet 4.5 from "Pricing", with the long
context's beyond 200,000 tokens.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal as D  # noqa: N817 - the sums below are read by people
from typing import Any

from harness.dialects import Call, Dialect
from harness.dialects.table import dialect_of

PRICE_FILE = """\
gpt-5-mini: {input: 0.25, cached_input: 0.025, output: 2, batch: 0.5}
gpt-4.1: {input: 2, cached_input: 0.5, output: 8, batch: {input: 1, cached_input: 0.5, output: 4}}
claude-sonnet-4-5:
  input: 3
  cached_input: 0.3
  cache_write: 3.75
  cache_write_1h: 6
  output: 15
  above: {200000: {input: 6, cached_input: 0.6, cache_write: 7.5, cache_write_1h: 12, output: 22.5}}
  batch: 0.5
"""
_M = D(1_000_000)


@dataclass(frozen=True)
class Case:
    """One answer. `usd` is its price by hand; `usage` in the words of genai-prices, `flavor` its name for the shape of the body."""

    name: str
    protocol: str
    model: str
    body: bytes
    usd: D
    usage: dict[str, int]
    stream: bool = False
    flavor: str = ""

    @property
    def dialect(self) -> Dialect:
        return dialect_of(self.protocol)

    @property
    def in_batch(self) -> bool:
        return self.protocol.endswith("-batch")


def _sse(*events: dict[str, Any], named: bool = False, done: bool = False) -> bytes:
    lines = [(f"event: {event['type']}\n" if named else "") + f"data: {json.dumps(event)}\n\n" for event in events]
    return "".join([*lines, *(["data: [DONE]\n\n"] if done else [])]).encode()


def _openai_usage(prompt: int, cached: int, output: int, thought: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": thought,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _completion(model: str, usage: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "Hello! How can I assist you today?",
        "refusal": None,
        "annotations": [],
    }
    return {
        "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
        "object": "chat.completion",
        "created": 1741569952,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": usage,
        "service_tier": "default",
    }


def _chunk(
    model: str, delta: dict[str, Any] | None, finish: str | None, usage: dict[str, Any] | None
) -> dict[str, Any]:
    return {
        "id": "chatcmpl-123",
        "object": "chat.completion.chunk",
        "created": 1694268190,
        "model": model,
        "system_fingerprint": "fp_44709d6fcb",
        "choices": [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
        "usage": usage,
    }


def _chat_stream(model: str, usage: dict[str, Any]) -> bytes:
    return _sse(
        _chunk(model, {"role": "assistant", "content": ""}, None, None),
        _chunk(model, {"content": "Hello"}, None, None),
        _chunk(model, {}, "stop", None),
        _chunk(model, None, None, usage),
        done=True,
    )


def _response(model: str, prompt: int, cached: int, output: int, thought: int) -> bytes:
    text = {"type": "output_text", "text": "In a peaceful grove beneath a silver moon.", "annotations": []}
    return json.dumps(
        {
            "id": "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b",
            "object": "response",
            "status": "completed",
            "error": None,
            "incomplete_details": None,
            "model": model,
            "output": [{"type": "message", "id": "msg_67", "status": "completed", "role": "assistant", "content": [text]}],
            "usage": {
                "input_tokens": prompt,
                "input_tokens_details": {"cached_tokens": cached},
                "output_tokens": output,
                "output_tokens_details": {"reasoning_tokens": thought},
                "total_tokens": prompt + output,
            },
        }
    ).encode()  # fmt: skip


def _claude_usage(plain: int, read: int, written_5m: int, written_1h: int, output: int) -> dict[str, Any]:
    return {
        "input_tokens": plain,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written_5m + written_1h,
        "cache_creation": {"ephemeral_5m_input_tokens": written_5m, "ephemeral_1h_input_tokens": written_1h},
        "output_tokens": output,
        "service_tier": "standard",
    }


def _message(usage: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5-20250929",
        "content": [{"type": "text", "text": "Hi! My name is Claude."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }


def _message_stream(first: dict[str, Any], num_output: int) -> bytes:
    begun = _message(first) | {"content": [], "stop_reason": None}
    return _sse(
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": num_output},
        },
        {"type": "message_stop"},
        named=True,
    )


def _of_openai_batch(body: dict[str, Any]) -> bytes:
    """The body that a job of OpenAI's batch API gives for its one request."""
    batch = {"id": "batch_abc123", "status": "completed", "output_file_id": "file-cvaTdG", "error_file_id": None}
    response = {"status_code": 200, "request_id": "req_c1", "body": body}
    line = {"id": "batch_req_wnaDys", "custom_id": "0", "response": response, "error": None}
    return _of_job("openai-batch", {"id": "file-abc123"}, batch, line)


def _of_claude_batch(body: dict[str, Any]) -> bytes:
    batch = {"id": "msgbatch_01HkcTjaV5uDC8jWR4ZsDV8d", "type": "message_batch", "processing_status": "ended"}
    return _of_job("anthropic-batch", batch, {"custom_id": "0", "result": {"type": "succeeded", "message": body}})


def _of_job(protocol: str, *answers: dict[str, Any]) -> bytes:
    job = dialect_of(protocol).job
    assert job is not None
    flow = job([b"{}"])
    assert isinstance(next(flow), Call)
    try:
        for answer in answers:
            flow.send(json.dumps(answer).encode())
    except StopIteration as end:
        (result,) = end.value.results
        assert result.status == 200
        return bytes(result.body)
    raise AssertionError("the job does not end")


CASES = (
    Case(
        "a stream of OpenAI's, of whose prompt most was cached, and of whose answer most was thought",
        "openai-chat", "gpt-5-mini", _chat_stream("gpt-5-mini-2025-08-07", _openai_usage(2006, 1920, 300, 192)),
        (86 * D("0.25") + 1920 * D("0.025") + (108 + 192) * D(2)) / _M,
        {"input_tokens": 2006, "cache_read_tokens": 1920, "output_tokens": 300}, stream=True,
    ),
    Case(
        "a whole answer of OpenAI's",
        "openai-chat", "gpt-4.1", json.dumps(_completion("gpt-4.1-2025-04-14", _openai_usage(15_019, 8_192, 1_010, 0))).encode(),
        (6_827 * D(2) + 8_192 * D("0.5") + 1_010 * D(8)) / _M,
        {"input_tokens": 15_019, "cache_read_tokens": 8_192, "output_tokens": 1_010}, flavor="chat",
    ),
    Case(
        "a response of OpenAI's",
        "openai-responses", "gpt-5-mini", _response("gpt-5-mini-2025-08-07", 3_600, 0, 870, 640),
        (3_600 * D("0.25") + (230 + 640) * D(2)) / _M,
        {"input_tokens": 3_600, "output_tokens": 870}, flavor="responses",
    ),
    Case(
        "an OpenAI batch: half of everything",
        "openai-batch", "gpt-5-mini", _of_openai_batch(_completion("gpt-5-mini-2025-08-07", _openai_usage(4_000, 1_024, 900, 512))),
        (2_976 * D("0.25") + 1_024 * D("0.025") + (388 + 512) * D(2)) / 2 / _M,
        {"input_tokens": 4_000, "cache_read_tokens": 1_024, "output_tokens": 900}, flavor="chat",
    ),
    Case(
        "an OpenAI batch of a model of which cached tokens cost the same in a batch",
        "openai-batch", "gpt-4.1", _of_openai_batch(_completion("gpt-4.1-2025-04-14", _openai_usage(10_000, 6_144, 700, 0))),
        (3_856 * D(1) + 6_144 * D("0.5") + 700 * D(4)) / _M,
        {"input_tokens": 10_000, "cache_read_tokens": 6_144, "output_tokens": 700}, flavor="chat",
    ),
    Case(
        "a stream of Anthropic's that reads from the cache and writes to it for five minutes and for an hour",
        "anthropic-messages", "claude-sonnet-4-5", _message_stream(_claude_usage(2_048, 1_800, 148, 100, 1), 503),
        (2_048 * D(3) + 1_800 * D("0.3") + 148 * D("3.75") + 100 * D(6) + 503 * D(15)) / _M,
        {
            "input_tokens": 4_096, "cache_read_tokens": 1_800, "cache_write_tokens": 248,
            "cache_write_1h_tokens": 100, "output_tokens": 503,
        },
        stream=True,
    ),
    Case(
        "a whole answer of Anthropic's to a prompt beyond 200,000 tokens",
        "anthropic-messages", "claude-sonnet-4-5", json.dumps(_message(_claude_usage(50, 188_086, 20_000, 0, 393))).encode(),
        (50 * D(6) + 188_086 * D("0.6") + 20_000 * D("7.5") + 393 * D("22.5")) / _M,
        {"input_tokens": 208_136, "cache_read_tokens": 188_086, "cache_write_tokens": 20_000, "output_tokens": 393}, flavor="default",
    ),
    Case(
        "an Anthropic batch with a cache",
        "anthropic-batch", "claude-sonnet-4-5", _of_claude_batch(_message(_claude_usage(11, 5_000, 1_200, 0, 2_400))),
        (11 * D(3) + 5_000 * D("0.3") + 1_200 * D("3.75") + 2_400 * D(15)) / 2 / _M,
        {"input_tokens": 6_211, "cache_read_tokens": 5_000, "cache_write_tokens": 1_200, "output_tokens": 2_400}, flavor="default",
    ),
)  # fmt: skip
