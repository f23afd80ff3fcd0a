"""Extras that a command needs, asked for before its work and not after it."""

from __future__ import annotations

from importlib.util import find_spec

from harness.errors import UsageError

__all__ = ["require_extra"]


def require_extra(extra: str, *modules: str) -> None:
    """Raises UsageError when a module of an extra is not installed."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise UsageError(f"{', '.join(missing)} is not installed; pip install 'llm-load-harness[{extra}]'")
