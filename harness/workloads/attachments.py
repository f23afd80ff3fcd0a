"""What stands in a prompt beside its messages: functions that the model may call, and pictures.

Both count as they do at OpenAI: a function as the text of its JSON, a picture by its tiles of 512 pixels. Other providers
count them otherwise, so there the prompt has more or fewer tokens than were planned.
"""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import ceil
from typing import Any

import msgspec

from harness.errors import UsageError
from harness.streams import keyed_integer
from harness.workloads.vocabulary import ADJECTIVES, NOUNS, VERBS

__all__ = ["MIN_TOOL_TOKENS", "Tool", "made_tools", "picture", "picture_tokens", "tool_tokens"]

Tool = Mapping[str, Any]

MIN_TOOL_TOKENS = 60
_KINDS: tuple[dict[str, Any], ...] = (
    {"type": "string"},
    {"type": "string", "format": "date"},
    {"type": "integer", "minimum": 0},
    {"type": "number"},
    {"type": "boolean"},
    {"type": "array", "items": {"type": "string"}},
)


# -- functions -------------------------------------------------------------------------------------------


def tool_tokens(tools: Sequence[Tool], count: Callable[[str], int]) -> int:
    """Tokens that functions add to a prompt; `count` counts those of a text."""
    return sum(count(msgspec.json.encode(tool).decode()) for tool in tools)


def made_tools(num: int, num_tokens: int, seed: int, count: Callable[[str], int]) -> tuple[Tool, ...]:
    """`num` functions of exactly `num_tokens` tokens each, with names, parameters and descriptions of their own.

    Raises UsageError for fewer than MIN_TOOL_TOKENS.
    """
    if num_tokens < MIN_TOOL_TOKENS:
        raise UsageError(f"a function of {num_tokens} tokens is none; it takes {MIN_TOOL_TOKENS} or more")
    return tuple(_made_tool(f"{seed} {number}", number, num_tokens, count) for number in range(num))


def _made_tool(key: str, number: int, num_tokens: int, count: Callable[[str], int]) -> Tool:
    """Parameters are added while there is room; words of the description fill up the rest, one token each."""

    def drawn(choices: Sequence[Any], what: str) -> Any:
        return choices[keyed_integer(number, what, key) % len(choices)]

    verb, noun = drawn(VERBS, "verb"), drawn(NOUNS, "noun")
    properties: dict[str, Any] = {}
    words: list[str] = []

    def tool() -> dict[str, Any]:
        return {
            "name": f"{verb}_{noun}_{number}",
            "description": " ".join([verb.capitalize(), "the", noun, *words]) + ".",
            "parameters": {
                "type": "object",
                "properties": properties,
                "required": list(properties)[:2],
                "additionalProperties": False,
            },
            "strict": False,
        }

    size = tool_tokens([tool()], count)
    for place in range(len(NOUNS)):
        name = f"{drawn(ADJECTIVES, f'adjective {place}')}_{NOUNS[(number + 7 * place) % len(NOUNS)]}"
        described = f"The {drawn(ADJECTIVES, f'of {place}')} {drawn(NOUNS, f'about {place}')} of the {noun}."
        properties[name] = {**drawn(_KINDS, f"kind {place}"), "description": described}
        larger = tool_tokens([tool()], count)
        if larger > num_tokens:
            del properties[name]
            break
        size = larger
    for place in range(num_tokens - size):
        words.append(drawn(NOUNS, f"word {place}") if place % 3 else "with")
    return tool()


# -- pictures --------------------------------------------------------------------------------------------

_TILE = 512
_STRIPE = 32  # pixels


def picture_tokens(width: int, height: int) -> int:
    """Tokens of a picture of so many pixels: 85, and 170 for each tile of 512 pixels after it was made smaller to fit into
    2048 x 2048 and to have at most 768 on its shorter side (OpenAI's vision guide, high detail)."""
    smaller = min(1.0, 2048 / max(width, height))
    smaller *= min(1.0, 768 / (min(width, height) * smaller))
    return 85 + 170 * ceil(width * smaller / _TILE) * ceil(height * smaller / _TILE)


def picture(width: int, height: int, name: int) -> str:
    """A PNG of so many pixels as a data URL: stripes in two colours, which its name stands for. Another name, other pixels.

    It is short (1024 x 768: 674 characters), so it loads what reads and what encodes pictures, and not the network.
    """
    header = struct.pack(">IIBBBBB", width, height, 1, 3, 0, 0, 0)  # one bit a pixel, an index of the palette
    colours = name.to_bytes(16, "little", signed=False)[:6]
    png = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"PLTE", colours) + _stripes(width, height)
    return "data:image/png;base64," + b64encode(png + _chunk(b"IEND", b"")).decode()


@lru_cache(maxsize=64)
def _stripes(width: int, height: int) -> bytes:
    row = b"\x00" + (b"\xff" * (_STRIPE // 8) + b"\x00" * (_STRIPE // 8)) * ceil(width / (2 * _STRIPE))
    return _chunk(b"IDAT", zlib.compress(row[: 1 + ceil(width / 8)] * height, 9))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
