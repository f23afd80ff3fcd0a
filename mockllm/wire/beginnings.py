"""Where requests begin alike, as a prompt cache sees it: pure, from a body to the name of its beginning.

The beginning is what stands before the last part of the last message: tools, system prompt, earlier messages, the earlier
parts of the last one, all byte for byte as the client wrote them. What a provider puts before a prompt by itself does not count.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec
from msgspec import Raw

__all__ = ["beginning"]

_NONE = Raw(b"")
_MESSAGES = {"/v1/chat/completions": "messages", "/v1/messages": "messages", "/v1/responses": "input"}


class _Body(msgspec.Struct):
    model: Raw = _NONE
    tools: Raw = _NONE
    system: Raw = _NONE
    instructions: Raw = _NONE
    previous_response_id: Raw = _NONE
    conversation: Raw = _NONE
    messages: Raw = _NONE
    input: Raw = _NONE


class _Message(msgspec.Struct):
    content: Raw = _NONE


_BODY = msgspec.json.Decoder(_Body)
_MESSAGE = msgspec.json.Decoder(_Message)
_LIST = msgspec.json.Decoder(list[Raw])


def beginning(path: str, body: bytes) -> bytes | None:
    """A digest of the model and of how the prompt of this body begins; None where nothing stands before its last part."""
    if path not in _MESSAGES:
        return None
    try:
        read = _BODY.decode(body)
        *messages, last = _items(getattr(read, _MESSAGES[path])) or [_NONE]
        *parts, _ = _items(_MESSAGE.decode(last).content if bytes(last) else _NONE) or [_NONE]
    except msgspec.MsgspecError:
        return None  # the endpoint will say what is wrong with it
    before = (read.tools, read.system, read.instructions, read.previous_response_id, read.conversation)
    pieces = [*map(bytes, before), b"messages", *map(bytes, messages), b"parts", *map(bytes, parts)]
    if not (any(map(bytes, before)) or messages or parts):
        return None
    return blake2b(b"\x00".join([bytes(read.model), *pieces]), digest_size=16).digest()


def _items(value: Raw) -> list[Raw]:
    """The members of a list; none of anything else."""
    return _LIST.decode(value) if bytes(value).startswith(b"[") else []
