"""Tools and pictures: their tokens, by the tokenizer and by the provider's own examples; and that they are what they seem."""

from __future__ import annotations

import json
import struct
import zlib
from base64 import b64decode
from collections.abc import Iterator

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.tokens import token_counter
from harness.workloads.attachments import MIN_TOOL_TOKENS, made_tools, picture, picture_tokens, tool_tokens
from mockllm.wire.images import image_size, openai_image_tokens
from tests.harness.builders import LAW


@pytest.mark.parametrize("num_tokens", [MIN_TOOL_TOKENS, 61, 62, 75, 99, 150, 151, 400, 1999])
def test_a_made_function_has_its_tokens(num_tokens: int) -> None:
    count = token_counter()
    for seed in range(5):
        for tool in made_tools(6, num_tokens, seed, count):
            assert count(json.dumps(tool, separators=(",", ":"))) == num_tokens


def test_made_functions_are_schemas_and_differ() -> None:
    count = token_counter()
    tools = made_tools(128, 150, 3, count)
    for tool in tools:
        jsonschema.Draft202012Validator.check_schema(tool["parameters"])
        properties = tool["parameters"]["properties"]
        assert set(tool["parameters"]["required"]) <= set(properties)
        assert 2 <= len(properties) <= 8
        assert set(tool) == {"name", "description", "parameters", "strict"}
    assert len({tool["name"] for tool in tools}) == 128
    assert tools == made_tools(128, 150, 3, count)
    assert tools[0] != made_tools(1, 150, 4, count)[0]
    assert tools[:5] == made_tools(5, 150, 3, count)  # more of them change nothing
    assert tool_tokens(tools, count) == 128 * 150


def test_a_function_that_is_too_small_is_refused() -> None:
    with pytest.raises(UsageError, match="of 59 tokens is none"):
        made_tools(1, 59, 0, token_counter())


@pytest.mark.parametrize(
    ("size", "tokens"), [((1024, 1024), 765), ((2048, 4096), 1105), ((512, 512), 255), ((1, 1), 255)]
)
def test_pictures_cost_what_the_provider_says(size: tuple[int, int], tokens: int) -> None:
    """The first two are the examples of OpenAI's vision guide."""
    assert picture_tokens(*size) == tokens


@LAW
@given(st.integers(1, 8192), st.integers(1, 8192), st.integers(0, 2**64 - 1))
def test_a_picture_is_as_large_as_it_says_and_costs_that_at_the_mock(width: int, height: int, name: int) -> None:
    url = picture(width, height, name)
    size = image_size(url.removeprefix("data:image/png;base64,"))
    assert size == (width, height)
    assert picture_tokens(width, height) == openai_image_tokens(size, low_detail=False)
    assert len(url) < 50_000


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """As the PNG specification has them: length, kind, data, CRC of kind and data."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at = 8
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", png, at + 8 + length) == (zlib.crc32(kind + data),)
        yield kind, data
        at += 12 + length


@pytest.mark.parametrize("size", [(1, 1), (64, 3), (333, 77), (1024, 768)])
def test_a_picture_is_a_png(size: tuple[int, int]) -> None:
    width, height = size
    chunks = dict(_chunks(b64decode(picture(width, height, 5).partition(",")[2])))
    assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (width, height, 1, 3, 0, 0, 0)
    assert len(chunks[b"PLTE"]) == 6
    rows = zlib.decompress(chunks[b"IDAT"])
    assert len(rows) == height * (1 + -(-width // 8))
    assert set(rows[:: 1 + -(-width // 8)]) == {0}  # no filter


def test_another_name_is_another_picture() -> None:
    assert len({picture(64, 64, name) for name in range(1000)}) == 1000
    assert picture(64, 64, 7) == picture(64, 64, 7)
