"""Reading the files of a run directory, where anything may lie: every way of not being readable is a RunError in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG

import msgspec

from harness.errors import RunError

__all__ = ["read_whole", "readable"]


@contextmanager
def readable(path: Path, line: int | None = None) -> Iterator[None]:
    """What goes wrong inside with reading or decoding this file is a RunError that names it.

    Only a regular file is begun with: a pipe would never end, and a directory is none. Whether a file that may be missing is there
    has to be asked before.
    """
    where = str(path) if line is None else f"{path}:{line}"
    try:
        if not S_ISREG(path.stat().st_mode):
            raise RunError(f"{where}: is no regular file")
        yield
    except OSError as error:
        raise RunError(f"{where}: {error.strerror}") from error
    except RecursionError as error:
        raise RunError(f"{where}: is nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{where}: {error}") from error


def read_whole(path: Path) -> bytes:
    """The bytes of a file. Raises RunError."""
    with readable(path):
        return path.read_bytes()
