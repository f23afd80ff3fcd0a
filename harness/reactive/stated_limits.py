"""What a provider says of its limits in the headers of an answer.

OpenAI      x-ratelimit-{limit,remaining,reset}-{requests,tokens}; resets as Go writes durations (6m0s, 20ms)
Anthropic   anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}, each a minute
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from harness.errors import UsageError
from harness.headers import number_in
from harness.units import parse_duration

__all__ = ["StatedLimits", "stated_limits"]

_MINUTE_S = 60.0


class StatedLimits(msgspec.Struct, frozen=True):
    """Limits a minute; None where nothing is said. `tokens` is the tightest of those on all tokens and on those of prompts."""

    requests: float | None = None
    tokens: float | None = None


def stated_limits(headers: Mapping[str, str]) -> StatedLimits:
    """Read from headers whose names are in lower case. What cannot be read is not stated."""
    requests = _openai(headers, "requests"), number_in(headers, "anthropic-ratelimit-requests-limit")
    tokens = (
        _openai(headers, "tokens"),
        number_in(headers, "anthropic-ratelimit-tokens-limit"),
        number_in(headers, "anthropic-ratelimit-input-tokens-limit"),
    )
    return StatedLimits(_least(requests), _least(tokens))


def _openai(headers: Mapping[str, str], kind: str) -> float | None:
    """OpenAI limits some models by the day and does not say so; the reset does: it is the time in which what is used comes
    back, so limit / period = used / reset."""
    limit, left = (number_in(headers, f"x-ratelimit-{what}-{kind}") for what in ("limit", "remaining"))
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
