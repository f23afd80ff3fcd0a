"""Printing an answer. Whoever stopped reading it (`| head`) has not changed it: the exit code stays the verdict's."""

from __future__ import annotations

import os
import sys

__all__ = ["say"]


def say(text: str) -> None:
    """Print to the terminal, or into nothing from the moment nobody reads any more."""
    try:
        print(text, flush=True)  # noqa: T201
    except BrokenPipeError:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
