"""The last line against a leak: nothing that this process prints or logs holds the key of the API, a traceback neither.

Records are scrubbed one by one (`harness.safety.secrets`); what a scenario's own code, a library or a crash says is not ours to
foresee.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from harness.safety.secrets import Scrubber

__all__ = ["be_discreet"]


class _Scrubbed:
    """A text stream that writes no secret. Everything else is the stream's own."""

    def __init__(self, stream: Any, clean: Callable[[str], str]) -> None:
        self._stream, self._clean = stream, clean

    def write(self, text: str) -> int:
        self._stream.write(self._clean(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Formatter(logging.Formatter):
    """What another formatter says, scrubbed: of a message, its arguments and its traceback."""

    def __init__(self, inner: logging.Formatter, clean: Callable[[str], str]) -> None:
        super().__init__()
        self._inner, self._clean = inner, clean

    def format(self, record: logging.LogRecord) -> str:
        return self._clean(self._inner.format(record))


def be_discreet(secret: str | None) -> None:
    """Scrub everything that this process says from now on. Without a secret nothing is touched."""
    if not secret:
        return
    clean = Scrubber([secret]).exactly
    sys.stdout, sys.stderr = _Scrubbed(sys.stdout, clean), _Scrubbed(sys.stderr, clean)
    loggers = [logging.root, *(logging.getLogger(name) for name in logging.root.manager.loggerDict)]
    for handler in {handler for logger in loggers for handler in logger.handlers}:
        handler.setFormatter(_Formatter(handler.formatter or logging.Formatter(), clean))
