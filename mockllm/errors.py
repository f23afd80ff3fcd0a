"""Failures of the mock itself. A bad request from a client is not one of these: it is an `ApiError` value.

MockError
 ├── DeploymentError     a profile or deployment file breaks a rule (file, line, key, value, rule)
 ├── DataError           a file of data does not hold what a command needs of it (file, line, rule)
 ├── MissingExtraError   what was asked for needs a package that is not installed (and how to install it)
 └── ServeError          the server cannot start: address in use, unknown profile name
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["DataError", "DeploymentError", "MissingExtraError", "MockError", "ServeError"]


class MockError(Exception):
    """Base of all failures of this package."""


class DeploymentError(MockError):
    """A profile or deployment file breaks a rule."""

    def __init__(self, path: Path | str, rule: str, *, line: int | None = None, key: str | None = None) -> None:
        where = f"{path}:{line}" if line is not None else str(path)
        super().__init__(f"{where}: {key}: {rule}" if key else f"{where}: {rule}")
        self.path, self.line, self.key, self.rule = path, line, key, rule


class DataError(MockError):
    """A file of data does not hold what a command needs of it."""

    def __init__(self, path: Path | str, rule: str, *, line: int | None = None) -> None:
        super().__init__(f"{path}: {rule}" if line is None else f"{path}:{line}: {rule}")


class MissingExtraError(MockError):
    """What was asked for needs packages that are not installed."""

    def __init__(self, what: str, install: str) -> None:
        super().__init__(f"{what} is not installed; install it with: {install}")


class ServeError(MockError):
    """The server cannot be started."""
