"""Numbers in an answer's headers, whose names are in lower case here. They are a stranger's: what cannot be read is not said."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

__all__ = ["number_in", "retry_after_s"]

_MOST = 1e12


def number_in(headers: Mapping[str, str], name: str) -> float | None:
    """A header that holds a number, from 0 to less than 10¹²; None: it does not."""
    try:
        number = float(headers.get(name, ""))
    except ValueError:
        return None
    return number if 0 <= number < _MOST else None


def retry_after_s(headers: Mapping[str, str], wall: float | None = None) -> float | None:
    """How long a refusal asks to wait; None: it does not say. The finer of two headers goes before.

    `retry-after-ms` as OpenAI's and Anthropic's SDKs read it, `retry-after` by RFC 9110, 10.2.3: seconds or an HTTP date. A date is
    read where `wall` is given, the time since 1970 in seconds.
    """
    milliseconds, seconds = number_in(headers, "retry-after-ms"), number_in(headers, "retry-after")
    if milliseconds is not None:
        return milliseconds / 1e3
    if seconds is not None or wall is None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - wall)
    except (ValueError, OverflowError):
        return None
