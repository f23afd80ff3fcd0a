"""What a provider says of its limits in the headers of an answer.

OpenAI      x-ratelimit-{limit,remaining,reset}-{requests,tokens}; resets as Go writes durations (6m0s, 20ms)
Anthropic   anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}, each a minute
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from harness.errors import UsageError
from harness.units import parse_duration

__all__ = ["StatedLimits", "retry_after_s", "stated_limits"]

_MINUTE_S = 60.0


class StatedLimits(msgspec.Struct, frozen=True):
    """Limits a minute; None where nothing is said. `tokens` is the tightest of those on all tokens and on those of prompts."""

    requests: float | None = None
    tokens: float | None = None


def stated_limits(headers: Mapping[str, str]) -> StatedLimits:
    """Read from headers whose names are in lower case. What cannot be read is not stated."""
    requests = _openai(headers, "requests"), _number(headers.get("anthropic-ratelimit-requests-limit"))
    tokens = (
        _openai(headers, "tokens"),
        _number(headers.get("anthropic-ratelimit-tokens-limit")),
        _number(headers.get("anthropic-ratelimit-input-tokens-limit")),
    )
    return StatedLimits(_least(requests), _least(tokens))


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long a refusal asks to wait, by retry-after-ms or retry-after in seconds; None: it does not, or gives a date."""
    ms = _number(headers.get("retry-after-ms"))
    return ms / 1e3 if ms is not None else _number(headers.get("retry-after"))


def _openai(headers: Mapping[str, str], kind: str) -> float | None:
    """OpenAI limits some models by the day and does not say so; the reset does: it is the time in which what is used comes
    back, so limit / period = used / reset."""
    limit, left = (_number(headers.get(f"x-ratelimit-{what}-{kind}")) for what in ("limit", "remaining"))
    if limit is None:
        return None
    try:
        reset_s = parse_duration(headers.get(f"x-ratelimit-reset-{kind}", ""))
    except UsageError:
        return limit
    used = 0.0 if left is None else limit - left
    is_daily = used > 0 and reset_s * limit / used > 60 * _MINUTE_S
    return limit / (24 * 60) if is_daily else limit


def _least(values: tuple[float | None, ...]) -> float | None:
    return min((value for value in values if value is not None), default=None)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < 1e12 else None
