"""A line of progress on stderr while the run goes: over the same line on a terminal, every five seconds elsewhere."""

from __future__ import annotations

import logging
import os
import sys
from math import inf

from harness.live.report import LiveReport
from harness.live.text import progress_line

__all__ = ["Progress"]

_EVERY_S = 5.0
_WIDTH_OF_A_FILE = 200
_CLEAR_TO_END = "\x1b[K"


class Progress:
    """Writes the line, makes room for what is logged in between, and leaves nothing behind."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._colour = self._on_terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self._shown_at = -inf
        self._handlers = list(logging.getLogger().handlers) if self._on_terminal else []
        for handler in self._handlers:
            handler.addFilter(self._make_room)

    def show(self, report: LiveReport) -> None:
        """The state of the run, now."""
        if self._on_terminal:
            # Written over, not cleared before: nothing flickers. The last column stays free, or the terminal would wrap.
            line = progress_line(report, _columns() - 1, colour=self._colour)
            self._write(f"\r{line}{_CLEAR_TO_END}")
        elif report.now_s - self._shown_at >= _EVERY_S:
            self._shown_at = report.now_s
            self._write(f"{progress_line(report, _WIDTH_OF_A_FILE)}\n")

    def end(self) -> None:
        """The line is no longer needed."""
        for handler in self._handlers:
            handler.removeFilter(self._make_room)
        if self._on_terminal:
            self._write(f"\r{_CLEAR_TO_END}")

    def _make_room(self, _: logging.LogRecord) -> bool:
        """Something is about to be logged; it must not stand at the end of our line."""
        self._write(f"\r{_CLEAR_TO_END}")
        return True

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            return  # the terminal is gone; the run goes on


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
