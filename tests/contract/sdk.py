"""The official SDK's types as an oracle: what they do not accept strictly is not the provider's format."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import TypeVar

from openai.types.shared import ErrorObject
from pydantic import BaseModel, ConfigDict

__all__ = ["error_of", "event_data", "strict", "unknown_fields"]

Model = TypeVar("Model", bound=BaseModel)


class _ErrorBody(BaseModel):
    """The envelope around the SDK's error: one key, and nothing beside it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    error: ErrorObject


def event_data(body: bytes) -> list[bytes]:
    """The data of each event of a stream whose every event is exactly one `data: ` line."""
    assert body.endswith(b"\n\n"), body[-40:]
    events = body.removesuffix(b"\n\n").split(b"\n\n")
    for event in events:
        assert event.startswith(b"data: "), event[:40]
        assert b"\n" not in event, event
        assert b"\r" not in event, event
    return [event.removeprefix(b"data: ") for event in events]


def strict(kind: type[Model], data: bytes, *, beside: Container[str] = ()) -> Model:
    """`data` as the SDK's type: no coercion, and no field that the type does not know, at any depth.

    `beside` are names of fields that others have added to the format (vLLM's `reasoning_content`).
    """
    value = kind.model_validate_json(data, strict=True)
    unknown = [path for path in unknown_fields(value, kind.__name__) if path.rpartition(".")[2] not in beside]
    assert not unknown, f"fields that the SDK does not know: {unknown}"
    return value


def error_of(body: bytes) -> ErrorObject:
    """An error body: the SDK's type, strictly, and all four keys of the published schema present."""
    error = _ErrorBody.model_validate_json(body).error
    assert error.model_fields_set | set(error.model_extra or {}) == {"message", "type", "param", "code"}
    assert error.message
    assert error.type
    return error


def unknown_fields(value: object, path: str) -> Iterator[str]:
    """The paths of fields that the types of a parsed value do not know, at any depth."""
    if isinstance(value, BaseModel):
        yield from (f"{path}.{name}" for name in value.model_extra or {})
        for name in type(value).model_fields:
            yield from unknown_fields(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from unknown_fields(item, f"{path}[{index}]")
