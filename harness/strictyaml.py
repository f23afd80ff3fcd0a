"""YAML as a strict format: plain types, unique keys, no aliases, and the line of every key.

What stands in a file and is not understood is an error that names file, line, key, value and rule: a workload that is
only almost read answers another question.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from harness.errors import WorkloadError

__all__ = ["Document", "KeyPath", "broken_rule", "read_yaml"]

KeyPath = tuple[str | int, ...]

_MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Document:
    """A parsed file: its plain values, and on which line each key stands."""

    path: Path
    value: Any
    lines: dict[KeyPath, int]

    def error(self, at: KeyPath, rule: str) -> WorkloadError:
        """What is wrong there: with the line of the longest beginning of the key path that stands in the file."""
        known = (at[:length] for length in range(len(at), 0, -1) if at[:length] in self.lines)
        line = next((self.lines[part] for part in known), None)
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in at).removeprefix(".")
        return WorkloadError(self.path, rule, line=line, key=key or None)


def read_yaml(path: Path) -> Document:
    """Read one file. Raises WorkloadError for what is not YAML, not a mapping, or stands twice."""
    try:
        raw = path.read_bytes()
        text = raw.decode()
    except OSError as error:
        raise WorkloadError(path, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise WorkloadError(path, f"is not UTF-8: {error.reason} at byte {error.start}") from error
    if len(raw) > _MAX_BYTES:
        raise WorkloadError(path, f"is {len(raw)} bytes long; at most {_MAX_BYTES} are read")
    lines: dict[KeyPath, int] = {}
    try:
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                line = event.start_mark.line + 1 if event.start_mark else None
                raise WorkloadError(path, f"alias *{event.anchor} is not allowed", line=line)
        _walk(path, yaml.compose(text, yaml.SafeLoader), (), lines)
        value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise WorkloadError(path, f"is not YAML: {error.problem}", line=line) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # ValueError: dates and numbers that cannot be
        raise WorkloadError(path, f"is not YAML: {error}") from error
    if not isinstance(value, dict):
        raise WorkloadError(path, "must be a mapping of keys to values")
    return Document(path, value, lines)


def _walk(path: Path, node: yaml.Node | None, at: KeyPath, lines: dict[KeyPath, int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            key, line = (*at, str(key_node.value)), key_node.start_mark.line + 1
            if key in lines:
                rule = f"stands twice (first on line {lines[key]}); keys must be unique"
                raise WorkloadError(path, rule, line=line, key=str(key_node.value))
            lines[key] = line
            _walk(path, value_node, key, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*at, index)] = item.start_mark.line + 1
            _walk(path, item, (*at, index), lines)


def broken_rule(error: ValidationError) -> tuple[KeyPath, str]:
    """The first broken rule: where, and in words with the value that broke it."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "extra_forbidden":
        return first["loc"], "is no key that belongs here"
    if first["type"] in ("missing", "value_error"):  # our own words name the value already
        return first["loc"], first["msg"].removeprefix("Value error, ")
    return first["loc"], f"{first['msg']} (got {first['input']!r})"
