"""Tools of Anthropic's Messages API: a client's own, with a schema, and those that the service brings along."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from mockllm.call import Tool
from mockllm.content.schema import SchemaError, check_schema
from mockllm.wire.anthropic_blocks import CacheControl
from mockllm.wire.anthropic_bodies import broken, unknown_tag
from mockllm.wire.errors import ApiError, invalid

__all__ = ["ToolDefinition", "broken_tools", "callable_tools"]

_NAME = r"^[a-zA-Z0-9_-]{1,128}$"
_SCHEMA_DOCS = (
    "It must match JSON Schema draft 2020-12 (https://json-schema.org/draft/2020-12). Learn more about tool use at "
    "https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview."
)
# anthropic-sdk-python 2.12: ToolUnionParam and BetaToolUnionParam. They are accepted and never called.
_BUILT_IN = frozenset(
    (
        "advisor_20260301",
        "bash_20241022",
        "bash_20250124",
        "browser_toolset_20260801",
        "code_execution_20250522",
        "code_execution_20250825",
        "code_execution_20260120",
        "code_execution_20260521",
        "computer_20241022",
        "computer_20250124",
        "computer_20251124",
        "computer_toolset_20260801",
        "mcp_toolset",
        "memory_20250818",
        "text_editor_20241022",
        "text_editor_20250124",
        "text_editor_20250429",
        "text_editor_20250728",
        "tool_search_tool_bm25",
        "tool_search_tool_bm25_20251119",
        "tool_search_tool_regex",
        "tool_search_tool_regex_20251119",
        "web_fetch_20250910",
        "web_fetch_20260209",
        "web_fetch_20260309",
        "web_fetch_20260318",
        "web_search_20250305",
        "web_search_20260209",
        "web_search_20260318",
    )
)


class ToolDefinition(msgspec.Struct, kw_only=True):
    """A tool of any kind; what only the service's own tools have is not looked at."""

    type: str | None = None
    name: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    cache_control: CacheControl | None = None

    @property
    def custom(self) -> bool:
        return self.type in (None, "custom")

    @property
    def text(self) -> str:
        """What the model reads of it."""
        said = {
            "type": self.type,
            "name": self.name,
            "description": self.description,
            "input_schema": self.input_schema,
        }
        return msgspec.json.encode({name: value for name, value in said.items() if value is not None}).decode()


def broken_tools(tools: Sequence[ToolDefinition]) -> ApiError | None:
    """A tool that the API does not take."""
    names: set[str] = set()
    for index, tool in enumerate(tools):
        if error := _broken_tool(tool, f"tools.{index}"):
            return error
        if tool.name is not None and tool.name in names:
            return invalid("tools: Tool names must be unique.", "tools")
        names.add(tool.name or "")
    return None


def callable_tools(tools: Sequence[ToolDefinition]) -> tuple[Tool, ...]:
    """The client's own tools."""
    return tuple(Tool(tool.name or "", tool.input_schema or {}) for tool in tools if tool.custom)


def _broken_tool(tool: ToolDefinition, path: str) -> ApiError | None:
    if not tool.custom:
        return None if tool.type in _BUILT_IN else broken(path, unknown_tag(tool.type, [*_BUILT_IN, "custom"]))
    path += ".custom"
    if tool.name is None:
        return broken(f"{path}.name", "Field required")
    if not re.fullmatch(_NAME.strip("^$"), tool.name):
        return broken(f"{path}.name", f"String should match pattern '{_NAME}'")
    schema = tool.input_schema
    if schema is None:
        return broken(f"{path}.input_schema", "Field required")
    if schema.get("type") != "object":
        return broken(f"{path}.input_schema.type", "Input should be 'object'" if "type" in schema else "Field required")
    try:
        check_schema(schema)
    except SchemaError as error:
        return broken(f"{path}.input_schema", f"JSON schema is invalid: {error}. {_SCHEMA_DOCS}")
    return None
