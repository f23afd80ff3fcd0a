"""YAML as a strict format: safe types, no duplicate keys, no aliases, and the line of every key.

PyYAML's safe loader lets a second `p99:` silently replace the first and expands aliases without limit;
a configuration that is only almost read is worse than one that is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from mockllm.errors import DeploymentError

__all__ = ["Document", "dotted", "read_yaml", "validated"]

_MAX_BYTES = 1_000_000
_MAPPING, _LIST = "must be a mapping of keys to values", "must be a list"
_IN_YAML = {"model_type": _MAPPING, "dict_type": _MAPPING, "tuple_type": _LIST, "list_type": _LIST}  # Python's words


class Document:
    """A parsed file: its plain values, and the line on which each key path stands."""

    def __init__(self, path: Path, value: Any, lines: dict[tuple[str | int, ...], int]) -> None:
        self.path, self.value, self._lines = path, value, lines

    def line_of(self, key_path: tuple[str | int, ...]) -> int | None:
        """The line of the longest known beginning of this key path."""
        for length in range(len(key_path), -1, -1):
            if key_path[:length] in self._lines:
                return self._lines[key_path[:length]]
        return None

    def without_keys(self, at: tuple[str | int, ...]) -> Document:
        """A document that says nothing at this key path: for what has a default for every key."""
        value: dict[str | int, Any] = {}
        for key in reversed(at):
            value = {key: value}
        return Document(self.path, value, self._lines)


def read_yaml(path: Path) -> Document:
    """Read one YAML file. Raises DeploymentError with file and line for everything that is not plain and unique."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DeploymentError(path, f"cannot be read: {error.strerror}") from error
    if len(raw) > _MAX_BYTES:
        raise DeploymentError(path, f"is {len(raw)} bytes long; at most {_MAX_BYTES} are read")
    try:
        text = raw.decode()
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                line = event.start_mark.line + 1 if event.start_mark else None
                raise DeploymentError(path, f"alias *{event.anchor} is not allowed", line=line)
        node = yaml.compose(text, yaml.SafeLoader)
        value = yaml.safe_load(text)
    except UnicodeDecodeError as error:
        raise DeploymentError(path, f"is not UTF-8: {error.reason} at byte {error.start}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise DeploymentError(path, f"is not YAML: {error.problem}", line=line) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # ValueError: dates and numbers that cannot be
        raise DeploymentError(path, f"is not YAML: {error}") from error
    lines: dict[tuple[str | int, ...], int] = {}
    _walk(path, node, (), lines)
    return Document(path, value, lines)


def _walk(
    path: Path, node: yaml.Node | None, at: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int]
) -> None:
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if (*at, key) in lines:
                first = lines[(*at, key)]
                raise DeploymentError(
                    path, f"stands twice (first on line {first}); keys must be unique", line=line, key=key
                )
            lines[(*at, key)] = line
            _walk(path, value_node, (*at, key), lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*at, index)] = item.start_mark.line + 1
            _walk(path, item, (*at, index), lines)


def validated(document: Document, adapter: TypeAdapter[Any], at: tuple[str | int, ...] = ()) -> Any:
    """The document, or what stands in it at a key path, as the adapter's type.

    Raises DeploymentError with the line of the first broken rule.
    """
    part = document.value
    for key in at:
        part = part[key]
    if not isinstance(part, dict):
        found = "empty" if part is None else f"a {type(part).__name__}"
        rule = f"{_MAPPING}, and is {found}"
        raise DeploymentError(document.path, rule, line=document.line_of(at), key=dotted(at) or None)
    try:
        return adapter.validate_python(part)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        # The discriminator's tag stands in the location; it is not a key of the file.
        location = (*at, *(part for part in first["loc"] if part not in ("batched", "hosted")))
        message = _IN_YAML.get(first["type"], first["msg"].removeprefix("Value error, "))
        value = f" (got {first['input']!r})"
        if first["type"] == "union_tag_invalid":
            location = (*location, "kind")
            message, value = f"is {first['ctx']['tag']!r}; it must be batched or hosted", ""
        elif first["type"] == "extra_forbidden":
            message, value = (
                "is no key that belongs here; keys are spelled as in the documentation and the bundled files",
                "",
            )
        elif first["type"] in ("missing", "value_error"):
            value = ""
        raise DeploymentError(
            document.path, f"{message}{value}", line=document.line_of(location), key=dotted(location) or None
        ) from error


def dotted(location: tuple[str | int, ...]) -> str:
    """A key path as people write it: `models[0].name`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")
