"""Content blocks of Anthropic's Messages API: their shapes, what each adds to the prompt, and marks of the prompt cache.

Shapes: anthropic-sdk-python 2.12, `types/*_param.py`, and blocks that only its beta endpoints know. What server tools
and features of the service left in a conversation is taken as it is and counted as text.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import ceil
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from mockllm.call import Segment
from mockllm.wire.anthropic_bodies import broken
from mockllm.wire.errors import ApiError, invalid
from mockllm.wire.images import UNKNOWN_SIZE, anthropic_image_tokens, image_size

__all__ = [
    "Block",
    "BrokenBlockError",
    "CacheControl",
    "Mark",
    "Message",
    "PromptSegments",
    "RedactedThinkingBlock",
    "Strict",
    "TextBlock",
    "ThinkingBlock",
    "ToolResultBlock",
    "ToolUseBlock",
    "marks_error",
]

_MAX_MARKS = 4
# A page costs 1,500 to 3,000 tokens of text (PDF guide, 2026). Pages are not parsed: one for every 50,000 bytes, judgement.
_PDF_BYTES_PER_PAGE = 50_000
_PDF_TOKENS_PER_PAGE = 2_000
# How the base64 of each kind of picture begins.
_MAGIC = {"image/png": "iVBORw0KGgo", "image/jpeg": "/9j/", "image/gif": "R0lGOD", "image/webp": "UklGR"}


class Strict(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An object in which the API permits no other fields."""


class CacheControl(Strict):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None
    scope: str | None = None

    @property
    def ttl_s(self) -> float:
        return 3600.0 if self.ttl == "1h" else 300.0


class _Base64Image(Strict, tag_field="type", tag="base64"):
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: str


class _Base64Pdf(Strict, tag_field="type", tag="base64"):
    media_type: Literal["application/pdf"]
    data: str


class _PlainText(Strict, tag_field="type", tag="text"):
    media_type: Literal["text/plain"]
    data: str


class _Url(Strict, tag_field="type", tag="url"):
    url: str


class _File(Strict, tag_field="type", tag="file"):
    file_id: str


class TextBlock(Strict, tag_field="type", tag="text"):
    text: str
    cache_control: CacheControl | None = None
    citations: list[dict[str, Any]] | None = None


class _ImageBlock(Strict, tag_field="type", tag="image"):
    source: _Base64Image | _Url | _File
    cache_control: CacheControl | None = None
    transformations: dict[str, Any] | None = None


class _Content(Strict, tag_field="type", tag="content"):
    content: str | list[TextBlock | _ImageBlock]


class _DocumentBlock(Strict, tag_field="type", tag="document"):
    source: _Base64Pdf | _PlainText | _Content | _Url | _File
    title: str | None = None
    context: str | None = None
    citations: dict[str, Any] | None = None
    cache_control: CacheControl | None = None


class _SearchResultBlock(Strict, tag_field="type", tag="search_result"):
    source: str
    title: str
    content: list[TextBlock]
    citations: dict[str, Any] | None = None
    cache_control: CacheControl | None = None


class ThinkingBlock(Strict, tag_field="type", tag="thinking"):
    thinking: str
    signature: str


class RedactedThinkingBlock(Strict, tag_field="type", tag="redacted_thinking"):
    data: str


class ToolUseBlock(Strict, tag_field="type", tag="tool_use"):
    id: Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]+$")]
    name: Annotated[str, Meta(min_length=1, max_length=200)]
    input: dict[str, Any]
    cache_control: CacheControl | None = None
    caller: dict[str, Any] | None = None
    toolset_name: str | None = None


class _Carried(msgspec.Struct, kw_only=True, tag_field="type"):
    """What the service itself put into the conversation; other fields are not looked at."""

    name: str | None = None
    input: dict[str, Any] | None = None
    content: Any = None
    cache_control: CacheControl | None = None


class _ServerToolUse(_Carried, tag="server_tool_use"):
    id: str
    name: str
    input: dict[str, Any]


class _McpToolUse(_Carried, tag="mcp_tool_use"):
    id: str
    name: str
    input: dict[str, Any]


class _McpToolResult(_Carried, tag="mcp_tool_result"):
    tool_use_id: str


class _WebSearchResult(_Carried, tag="web_search_tool_result"):
    tool_use_id: str


class _WebFetchResult(_Carried, tag="web_fetch_tool_result"):
    tool_use_id: str


class _CodeExecutionResult(_Carried, tag="code_execution_tool_result"):
    tool_use_id: str


class _BashCodeExecutionResult(_Carried, tag="bash_code_execution_tool_result"):
    tool_use_id: str


class _TextEditorCodeExecutionResult(_Carried, tag="text_editor_code_execution_tool_result"):
    tool_use_id: str


class _ToolSearchResult(_Carried, tag="tool_search_tool_result"):
    tool_use_id: str


class _AdvisorResult(_Carried, tag="advisor_tool_result"):
    tool_use_id: str


class _ContainerUpload(_Carried, tag="container_upload"):
    file_id: str


class _Compaction(_Carried, tag="compaction"):
    pass


class _ToolReference(_Carried, tag="tool_reference"):
    tool_name: str


class _BrowserState(_Carried, tag="browser_state"):
    pass


class ToolResultBlock(Strict, tag_field="type", tag="tool_result"):
    tool_use_id: Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]+$")]
    content: (
        str
        | list[TextBlock | _ImageBlock | _DocumentBlock | _SearchResultBlock | _ToolReference | _BrowserState]
        | None
    ) = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None
    toolset_name: str | None = None


Block = (
    TextBlock
    | _ImageBlock
    | _DocumentBlock
    | _SearchResultBlock
    | ThinkingBlock
    | RedactedThinkingBlock
    | ToolUseBlock
    | ToolResultBlock
    | _ServerToolUse
    | _McpToolUse
    | _McpToolResult
    | _WebSearchResult
    | _WebFetchResult
    | _CodeExecutionResult
    | _BashCodeExecutionResult
    | _TextEditorCodeExecutionResult
    | _ToolSearchResult
    | _AdvisorResult
    | _ContainerUpload
    | _Compaction
)
_InResult = TextBlock | _ImageBlock | _DocumentBlock | _SearchResultBlock | _ToolReference | _BrowserState


class Message(Strict):
    role: str
    content: str | list[Block]


class BrokenBlockError(ValueError):
    """A block whose fields are right and whose content cannot be used."""

    def __init__(self, path: str, rule: str) -> None:
        super().__init__(f"{path}: {rule}")
        self.error = broken(path, rule)


class Mark(NamedTuple):
    """A client's wish to cache everything up to here."""

    path: str
    ttl_s: float


class PromptSegments:
    """The prompt in the order in which the API caches it; every block is a segment, so that a cache can end at it."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.marks: list[Mark] = []

    def add_text(self, text: str) -> None:
        self.segments.append(Segment(text))

    def add(self, block: Block | _InResult, path: str) -> None:
        """Raises BrokenBlockError for a picture or document that is not one."""
        match block:
            case TextBlock():
                self.add_text(block.text)
            case ToolUseBlock():
                self.add_text(f"{block.name} {_json(block.input)}")
            case ToolResultBlock():
                self._add_result(block, f"{path}.tool_result")
            case _ImageBlock():
                self.segments.append(_image(block.source, f"{path}.image.source"))
            case _DocumentBlock():
                self._add_document(block, f"{path}.document")
            case _SearchResultBlock():
                self.add_text(f"{block.title} {block.source}")
                self._add_all(block.content, f"{path}.search_result.content")
            case ThinkingBlock():
                self.add_text(block.thinking)
                return
            case RedactedThinkingBlock():
                self.add_text(block.data)
                return
            case _:
                self.add_text(_carried_text(block))
        self.mark(block.cache_control, path)

    def mark(self, control: CacheControl | None, path: str) -> None:
        """Cache up to the last segment."""
        if control is not None and self.segments:
            self.marks.append(Mark(path, control.ttl_s))
            self.segments[-1] = replace(self.segments[-1], cache_ttl_s=control.ttl_s)

    def mark_automatically(self, control: CacheControl | None) -> ApiError | None:
        """The request's own mark: it stands at the last block. A mark of another time that is there already is an error."""
        there = self.segments[-1].cache_ttl_s
        if control is None or there == control.ttl_s:
            return None
        if there is not None:
            asked, found = _ttl(control.ttl_s), _ttl(there)
            message = f"Top-level cache_control has ttl='{asked}' but the target block already has cache_control"
            return invalid(f"{message} with ttl='{found}'", "cache_control")
        self.mark(control, "")
        return None

    def _add_all(self, blocks: Sequence[_InResult], path: str) -> None:
        for index, block in enumerate(blocks):
            self.add(block, f"{path}.{index}")

    def _add_result(self, block: ToolResultBlock, path: str) -> None:
        if isinstance(block.content, list):
            self._add_all(block.content, f"{path}.content")
        else:
            self.add_text(block.content or "")

    def _add_document(self, block: _DocumentBlock, path: str) -> None:
        if about := " ".join(filter(None, (block.title, block.context))):
            self.add_text(about)
        source = block.source
        match source:
            case _PlainText():
                self.add_text(source.data)
            case _Content():
                if isinstance(source.content, str):
                    self.add_text(source.content)
                else:
                    self._add_all(source.content, f"{path}.source.content.content")
            case _Base64Pdf():
                self.segments.append(Segment(source.data, _pdf_tokens(source.data, f"{path}.source.base64")))
            case _Url():
                self.segments.append(Segment(source.url, _PDF_TOKENS_PER_PAGE))
            case _File():
                self.segments.append(Segment(source.file_id, _PDF_TOKENS_PER_PAGE))


def marks_error(marks: Sequence[Mark]) -> ApiError | None:
    """More marks than the API takes, or a longer one after a shorter."""
    if len(marks) > _MAX_MARKS:
        return invalid(f"A maximum of {_MAX_MARKS} blocks with cache_control may be provided. Found {len(marks)}.")
    for before, after in pairwise(marks):
        if after.ttl_s > before.ttl_s:
            rule = (
                f"a ttl='{_ttl(after.ttl_s)}' cache_control block must not come after a ttl='{_ttl(before.ttl_s)}' "
                "cache_control block. Note that blocks are processed in the following order: `tools`, `system`, `messages`."
            )
            return broken(f"{after.path}.cache_control.ttl".removeprefix("."), rule)
    return None


def _ttl(ttl_s: float) -> str:
    return "1h" if ttl_s == 3600.0 else "5m"


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _carried_text(block: _Carried) -> str:
    parts = [block.name or ""]
    if block.input is not None:
        parts.append(_json(block.input))
    if block.content is not None:
        parts.append(block.content if isinstance(block.content, str) else _json(block.content))
    return " ".join(filter(None, parts))


def _image(source: _Base64Image | _Url | _File, path: str) -> Segment:
    match source:
        case _Url():
            return Segment(source.url, anthropic_image_tokens(UNKNOWN_SIZE))
        case _File():
            return Segment(source.file_id, anthropic_image_tokens(UNKNOWN_SIZE))
    path = f"{path}.base64"
    if not source.data:
        raise BrokenBlockError(path, "image cannot be empty")
    kind = next((kind for kind, magic in _MAGIC.items() if source.data.startswith(magic)), source.media_type)
    if kind != source.media_type:
        raise BrokenBlockError(f"{path}.data", f"Image does not match the provided media type {source.media_type}")
    try:
        return Segment(source.data, anthropic_image_tokens(image_size(source.data)))
    except ValueError as error:
        rule = "invalid base64 data" if "base64" in str(error) else "Could not process image"
        raise BrokenBlockError(path, rule) from error


def _pdf_tokens(data: str, path: str) -> int:
    try:
        begins = b64decode(data[:1024], validate=True)
    except (binascii.Error, ValueError) as error:
        raise BrokenBlockError(path, "invalid base64 data") from error
    if not begins.startswith(b"%PDF-"):
        raise BrokenBlockError(f"{path}.data", "The PDF specified was not valid.")
    return ceil(len(data) * 3 / 4 / _PDF_BYTES_PER_PAGE) * _PDF_TOKENS_PER_PAGE
