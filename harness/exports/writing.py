"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from harness.errors import UsageError

__all__ = ["Pieces", "json_object", "replacing", "write_pieces"]

Pieces = Iterable[bytes]
_ENCODE = msgspec.json.Encoder().encode


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path beside the target to write to; what was written takes the target's place at the end, and only then.

    Raises UsageError when it cannot be written there.
    """
    draft = target.with_name(f".{target.name}.part")
    try:
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(draft, target)
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}; name another file with --out") from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def write_pieces(target: Path, pieces: Pieces) -> None:
    """Write a file piece by piece. Raises UsageError when it cannot be written."""
    with replacing(target) as draft, draft.open("wb") as file:
        file.writelines(pieces)


def json_object(fields: dict[str, Any]) -> Iterator[bytes]:
    """One JSON object; a value that is an iterator of lists becomes one long list and is never in memory as a whole."""
    yield b"{"
    for position, (name, value) in enumerate(fields.items()):
        yield (b"," if position else b"") + _ENCODE(name) + b":"
        if isinstance(value, Iterator):
            yield from _long_list(value)
        else:
            yield _ENCODE(value)
    yield b"}\n"


def _long_list(parts: Iterator[list[Any]]) -> Iterator[bytes]:
    yield b"["
    begun = False
    for part in parts:
        if part:
            yield (b"," if begun else b"") + _ENCODE(part)[1:-1]
            begun = True
    yield b"]"
