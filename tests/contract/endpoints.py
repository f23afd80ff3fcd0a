"""Every endpoint that takes a body, with a good one and the places where a client's own values stand in it."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["BODY_ENDPOINTS", "Endpoint"]

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`text` is where words stand, `items` the list that may be long and `item` one of it, `model` the model's name.

    `schema` is where a JSON Schema stands in `with_schema`, `image` where a picture's base64 stands in `with_image`, and
    `ids` a list of token ids.
    """

    path: str
    good: dict[str, Any]
    provider: Literal["openai", "anthropic"] = "openai"
    method: str = "POST"
    text: Place | None = None
    items: Place | None = None
    item: Any = None
    model: bool = True
    tools: Any = None
    with_schema: dict[str, Any] | None = None
    schema: Place | None = None
    with_image: dict[str, Any] | None = None
    image: Place | None = None
    ids: str | None = None
    stop: str | None = None
    limit: str | None = None

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    def body(self, **fields: object) -> bytes:
        """A good body with these fields put in."""
        return json.dumps({**self.good, **fields}).encode()

    def at(self, place: Place, value: object, body: dict[str, Any] | None = None) -> bytes:
        """A body with a value at a place."""
        return json.dumps(_put(self.good if body is None else body, place, value)).encode()

    def raw_at(self, place: Place, raw: bytes, body: dict[str, Any] | None = None) -> bytes:
        """A body with bytes in place of the JSON of one value."""
        return self.at(place, "@@here@@", body).replace(b'"@@here@@"', raw)

    def raw(self, members: bytes) -> bytes:
        """A good body that ends with these bytes where another member may stand."""
        good = json.dumps(self.good).encode()
        return good[:-1] + (b"," if self.good else b"") + members


def _put(body: dict[str, Any], place: Place, value: object) -> dict[str, Any]:
    changed = deepcopy(body)
    *way, last = place
    inner: Any = changed
    for step in way:
        inner = inner[step]
    inner[last] = value
    return changed


_USER = {"role": "user", "content": "hi"}
_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
_FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}
_URL = "data:image/png;base64,"

BODY_ENDPOINTS = [
    Endpoint(
        "/v1/chat/completions",
        {"model": "instant", "messages": [_USER]},
        text=("messages", 0, "content"),
        items=("messages",),
        item=_USER,
        tools=_TOOL,
        with_schema={"model": "instant", "messages": [_USER], "response_format": _FORMAT},
        schema=("response_format", "json_schema", "schema"),
        with_image={
            "model": "instant",
            "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": _URL}}]}],
        },
        image=("messages", 0, "content", 0, "image_url", "url"),
        stop="stop",
        limit="max_tokens",
    ),
    Endpoint(
        "/v1/completions",
        {"model": "instant", "prompt": "hi"},
        text=("prompt",),
        items=("prompt",),
        item="hi",
        ids="prompt",
        stop="stop",
        limit="max_tokens",
    ),
    Endpoint(
        "/v1/responses",
        {"model": "instant", "input": [_USER]},
        text=("input", 0, "content"),
        items=("input",),
        item=_USER,
        tools={"type": "function", "name": "f", "parameters": {"type": "object"}},
        with_schema={"model": "instant", "input": "hi", "text": {"format": {"type": "json_schema", "name": "x"}}},
        schema=("text", "format", "schema"),
        with_image={
            "model": "instant",
            "input": [{"role": "user", "content": [{"type": "input_image", "image_url": _URL}]}],
        },
        image=("input", 0, "content", 0, "image_url"),
        limit="max_output_tokens",
    ),
    Endpoint(
        "/v1/responses/input_tokens",
        {"model": "instant", "input": [_USER]},
        text=("input", 0, "content"),
        items=("input",),
        item=_USER,
        tools={"type": "function", "name": "f", "parameters": {"type": "object"}},
    ),
    Endpoint("/v1/responses/resp_none/cancel", {}, model=False),
    Endpoint(
        "/v1/embeddings",
        {"model": "instant", "input": "hi"},
        text=("input",),
        items=("input",),
        item="hi",
        ids="input",
        limit="dimensions",
    ),
    Endpoint(
        "/v1/messages",
        {"model": "instant", "max_tokens": 8, "messages": [_USER]},
        provider="anthropic",
        text=("messages", 0, "content"),
        items=("messages",),
        item=_USER,
        tools={"name": "f", "input_schema": {"type": "object"}},
        with_schema={
            "model": "instant",
            "max_tokens": 64,
            "messages": [_USER],
            "output_config": {"format": {"type": "json_schema", "schema": {}}},
        },
        schema=("output_config", "format", "schema"),
        with_image={
            "model": "instant",
            "max_tokens": 8,
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}],
                }
            ],
        },
        image=("messages", 0, "content", 0, "source", "data"),
        stop="stop_sequences",
        limit="max_tokens",
    ),
    Endpoint(
        "/v1/messages/count_tokens",
        {"model": "instant", "messages": [_USER]},
        provider="anthropic",
        text=("messages", 0, "content"),
        items=("messages",),
        item=_USER,
        tools={"name": "f", "input_schema": {"type": "object"}},
    ),
    Endpoint(
        "/v1/messages/batches",
        {"requests": [{"custom_id": "a", "params": {"model": "instant", "max_tokens": 1, "messages": [_USER]}}]},
        provider="anthropic",
        text=("requests", 0, "custom_id"),
        items=("requests",),
        item={"custom_id": "a", "params": {}},
        model=False,
    ),
    Endpoint("/v1/messages/batches/msgbatch_none/cancel", {}, provider="anthropic", model=False),
    Endpoint("/tokenize", {"model": "instant", "prompt": "hi"}, text=("prompt",)),
    Endpoint("/detokenize", {"model": "instant", "tokens": [1]}, items=("tokens",), item=1, ids="tokens"),
    Endpoint(
        "/v1/batches",
        {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"},
        text=("input_file_id",),
        model=False,
    ),
    Endpoint("/v1/batches/batch_none/cancel", {}, model=False),
    Endpoint("/v1/files", {}, model=False),
    Endpoint("/mock/settings", {"ready": True}, method="PATCH", model=False),
    Endpoint("/mock/settings", {"ready": True}, method="PUT", model=False),
    Endpoint("/mock/faults", {"kind": "errors", "status": 503, "at": "30d"}, model=False),
    Endpoint("/mock/faults", {"kind": "stall", "at": "30d", "for": "1s"}, method="PUT", model=False),
    Endpoint("/mock/timeline", {}, model=False),
]
