"""A client's JSON Schema that cannot be served, in a provider's words."""

from __future__ import annotations

from typing import Any

from mockllm.content.schema import SchemaError, check_schema
from mockllm.wire.errors import ApiError, invalid

__all__ = ["schema_error"]


def schema_error(schema: dict[str, Any], where: str, param: str) -> ApiError | None:
    """None for a schema that an answer can be made for."""
    try:
        check_schema(schema)
    except SchemaError as error:
        return invalid(f"Invalid schema for {where} in '{param}': {error}", param, "invalid_json_schema")
    return None
