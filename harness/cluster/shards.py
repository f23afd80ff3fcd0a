"""A worker's files on their way to the run directory: in pieces, each asked for, the whole proven by size and checksum."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from harness.errors import RunError

__all__ = ["PIECE_BYTES", "Download", "ShardFile", "describe_file", "read_piece", "verify_file"]

PIECE_BYTES = 256 * 1024
# A file's name comes from another machine: nothing but what a load process calls its files may be written.
_NAME = re.compile(r"(records|samples)-[0-9]{1,10}-[0-9a-f]{8}\.jsonl")


class ShardFile(msgspec.Struct, frozen=True):
    """A file that a worker has closed."""

    name: str
    size: int
    sha256: str


def describe_file(path: Path) -> Iterator[ShardFile | None]:
    """Read a file in pieces and yield None after each, so that the caller can do other things between; the last thing
    yielded is its description. Raises OSError."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while data := file.read(PIECE_BYTES):
            digest.update(data)
            size += len(data)
            yield None
    yield ShardFile(path.name, size, digest.hexdigest())


def read_piece(path: Path, offset: int) -> bytes:
    """Up to PIECE_BYTES of a file from `offset`; nothing beyond its end. Raises OSError."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(PIECE_BYTES)


def verify_file(directory: Path, file: ShardFile) -> str | None:
    """What is wrong with a file that should be in the directory as described; None when it is there whole."""
    try:
        size = (directory / file.name).stat().st_size
    except OSError as error:
        return f"{file.name}: {error.strerror}"
    return None if size == file.size else f"{file.name} holds {size} bytes, its worker wrote {file.size}"


class Download:
    """One file on its way. It appears under its name only when every byte is there and the checksum is right.

    Raises RunError when the name is none of ours, the disk is full or what came is not what was announced.
    """

    def __init__(self, directory: Path, file: ShardFile) -> None:
        if not _NAME.fullmatch(file.name) or file.size < 0:
            raise RunError(f"a worker offers {file.name!r}, {file.size} bytes: that is no record file")
        self.file = file
        self.offset = 0  # the piece to ask for
        self._target = directory / file.name
        self._draft = directory / f".{file.name}.part"
        self._digest = hashlib.sha256()
        self._draft.unlink(missing_ok=True)
        if file.size == 0:
            self._finish()

    def take(self, offset: int, data: bytes) -> None:
        """A piece came. One that is not the next is left out: it comes twice, or too late."""
        if offset != self.offset or not data:
            return
        if offset + len(data) > self.file.size:
            raise RunError(f"{self.file.name} was announced with {self.file.size} bytes and is longer")
        try:
            with self._draft.open("ab") as file:
                file.write(data)
        except OSError as error:
            raise RunError(f"cannot write {self._target}: {error.strerror}") from error
        self._digest.update(data)
        self.offset += len(data)
        if self.offset == self.file.size:
            self._finish()

    def abandon(self) -> None:
        """Leave no half file behind."""
        self._draft.unlink(missing_ok=True)

    def _finish(self) -> None:
        if self._digest.hexdigest() != self.file.sha256:
            self.abandon()
            raise RunError(f"{self.file.name} did not arrive as its worker wrote it: the checksum differs")
        try:
            with self._draft.open("ab") as file:
                os.fsync(file.fileno())
            os.replace(self._draft, self._target)
        except OSError as error:
            raise RunError(f"cannot write {self._target}: {error.strerror}") from error
