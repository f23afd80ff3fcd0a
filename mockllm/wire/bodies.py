"""Reading a JSON body against a schema, with errors that name the field.

msgspec parses and checks in one pass; this module turns what it says into a provider's words.
"""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

import msgspec

from mockllm.wire.errors import ApiError, invalid

__all__ = ["read_body"]

T = TypeVar("T")

_AT = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `(?P<field>[^`]+)`")
_TYPES = re.compile(r"^Expected `(?P<expected>[^`]+)`, got `(?P<got>[^`]+)`")
_RANGE = re.compile(r"^Expected `(?P<type>[^`]+)` (?P<bound>[<>]=? ?\S+)$")
_NOT_JSON = "We could not parse the JSON body of your request."


def read_body(body: bytes, decoder: msgspec.json.Decoder[T]) -> T | ApiError:
    """The body as the decoder's type, or the error to answer with. Never raises for a client's bytes."""
    if not body.strip():
        return invalid("The request body is empty; expected a JSON object.", code="empty_body")
    try:
        body.decode()  # the decoder looks only into the fields it knows
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        return _broken_rule(str(error))
    except msgspec.DecodeError as error:
        return _not_json(body, str(error))
    except UnicodeDecodeError as error:
        return invalid(f"{_NOT_JSON} It is not valid UTF-8: {error.reason}.", code="invalid_json")
    except RecursionError:
        return invalid(f"{_NOT_JSON} It is nested too deeply.", code="invalid_json")


def _broken_rule(text: str) -> ApiError:
    located = _AT.search(text)
    path = located["path"] if located else ""
    rule = _AT.sub("", text)
    if missing := _MISSING.match(rule):
        param = f"{path}.{missing['field']}" if path else missing["field"]
        return invalid(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")
    subject = f"'{path}'" if path else "the request body"
    param = path or None
    if types := _TYPES.match(rule):
        expected = types["expected"].removesuffix(" | null").replace(" | ", " or ")
        return invalid(
            f"Invalid type for {subject}: expected {expected}, but got {types['got']} instead.",
            param,
            "invalid_type",
        )
    if bounds := _RANGE.match(rule):
        message = f"Invalid value for {subject}: expected a value {bounds['bound']} ({bounds['type']})."
        return invalid(message, param, "invalid_value")
    return invalid(f"Invalid value for {subject}: {rule.replace('`', '')}.", param, "invalid_value")


def _not_json(body: bytes, reason: str) -> ApiError:
    """Malformed JSON. NaN and Infinity are the commonest case, and the only one with a field to name."""
    if field := _field_of_nan(body):
        return invalid(f"Invalid value for '{field}': NaN and Infinity are not JSON numbers.", field, "invalid_value")
    return invalid(f"{_NOT_JSON} {reason}.", code="invalid_json")


def _field_of_nan(body: bytes) -> str | None:
    marker = object()
    try:
        value = json.loads(body, parse_constant=lambda _: marker)
        return _path_to(marker, value, "")
    except (ValueError, RecursionError):
        return None


def _path_to(marker: object, value: Any, path: str) -> str | None:
    if value is marker:
        return path
    children: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        children = [(f"{path}.{key}" if path else key, child) for key, child in value.items()]
    elif isinstance(value, list):
        children = [(f"{path}[{index}]", child) for index, child in enumerate(value)]
    return next((found for name, child in children if (found := _path_to(marker, child, name))), None)
