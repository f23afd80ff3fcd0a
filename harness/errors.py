"""Failures of the harness. A failing request under test is data in its record, never an exception.

HarnessError              exit code 2 unless said otherwise
 ├── UsageError           an option or a combination of options that makes no sense
 ├── TargetError          the server under test cannot be reached or does not speak the protocol
 ├── TraceError           a trace file breaks its format (file, line, column, value, rule)
 ├── WorkloadError        a workload file breaks its format (file, line, key, value, rule)
 └── RunError             a run directory is missing, incomplete or of another schema
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["HarnessError", "RunError", "TargetError", "TraceError", "UsageError", "WorkloadError"]


class HarnessError(Exception):
    """Base of all failures of this package."""


class UsageError(HarnessError):
    """The command as given makes no sense; the message says what to write instead."""


class TargetError(HarnessError):
    """The server under test cannot be used at all."""


class RunError(HarnessError):
    """A run directory cannot be written or read."""


class TraceError(HarnessError):
    """A trace file breaks its format."""

    def __init__(self, path: Path | str, rule: str, *, line: int | None = None, column: str | None = None) -> None:
        where = f"{path}:{line}" if line is not None else str(path)
        super().__init__(f"{where}: column {column}: {rule}" if column else f"{where}: {rule}")
        self.path, self.line, self.column, self.rule = path, line, column, rule


class WorkloadError(HarnessError):
    """A workload file breaks its format, or a rule between its keys."""

    def __init__(self, path: Path | str, rule: str, *, line: int | None = None, key: str | None = None) -> None:
        where = f"{path}:{line}" if line is not None else str(path)
        super().__init__(f"{where}: {key}: {rule}" if key else f"{where}: {rule}")
        self.path, self.line, self.key, self.rule = path, line, key, rule
