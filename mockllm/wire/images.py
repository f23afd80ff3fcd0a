"""How many tokens a picture costs: its size is read from the first bytes, never the pixels.

OpenAI: 85 tokens, and in high detail 170 more for each tile of 512 pixels after scaling to at most 2048 x 2048 and the
shorter side to 768. Anthropic: width * height / 750, scaled to at most 1568 on the longer side. (Vision guides of both, 2026.)
A picture behind a URL is not fetched; it counts as one of 1024 x 1024.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from math import ceil

__all__ = ["anthropic_image_tokens", "data_url", "image_size", "openai_image_tokens"]

UNKNOWN_SIZE = (1024, 1024)
_HEAD_CHARS = 200_000  # base64; a JPEG's size can come after long metadata


def data_url(url: str) -> str | None:
    """The base64 part of a data URL; None for another kind of URL."""
    if not url.startswith("data:"):
        return None
    return url.partition(",")[2]


def image_size(base64_data: str) -> tuple[int, int]:
    """Width and height of a PNG, GIF, WebP or JPEG. Raises ValueError for anything else."""
    head_chars = base64_data[:_HEAD_CHARS]
    try:
        head = b64decode(head_chars[: len(head_chars) // 4 * 4], validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("the image is not valid base64") from error
    size = None
    if head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) >= 24:
        size = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    elif head[:6] in (b"GIF87a", b"GIF89a") and len(head) >= 10:
        size = int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        size = _webp_size(head)
    elif head.startswith(b"\xff\xd8"):
        size = _jpeg_size(head)
    if size is None or min(size) < 1:
        raise ValueError("the image must be a PNG, JPEG, GIF or WebP")
    return size


def openai_image_tokens(size: tuple[int, int], *, low_detail: bool) -> int:
    """Tokens of one picture at OpenAI."""
    if low_detail:
        return 85
    width, height = map(float, size)
    shrink = min(1.0, 2048 / max(width, height))
    width, height = width * shrink, height * shrink
    shrink = min(1.0, 768 / min(width, height))
    return 85 + 170 * ceil(width * shrink / 512) * ceil(height * shrink / 512)


def anthropic_image_tokens(size: tuple[int, int]) -> int:
    """Tokens of one picture at Anthropic."""
    shrink = min(1.0, 1568 / max(size))
    return max(1, ceil(size[0] * shrink * size[1] * shrink / 750))


def _webp_size(head: bytes) -> tuple[int, int] | None:
    kind = head[12:16]
    if kind == b"VP8X" and len(head) >= 30:
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if kind == b"VP8L" and len(head) >= 25:
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and len(head) >= 30:
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return None


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(head[at + 7 : at + 9], "big"), int.from_bytes(head[at + 5 : at + 7], "big")
        at += 2 + int.from_bytes(head[at + 2 : at + 4], "big")
    return None
