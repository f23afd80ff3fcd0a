"""Rate limits as a provider tells of them: headers on every answer, and the words of a refusal.

OpenAI: API reference and rate limits guide; durations as Go writes them (`20ms`, `6m0s`). Anthropic: Rate limits,
"Response headers": resets in RFC 3339, remaining tokens rounded to the nearest thousand. The words of refusals are those
that users report: semanser/codel#72, TheR1D/shell_gpt#653, OpenBMB/ChatDev#26 for OpenAI, anthropics/claude-code#55132,
cline/cline#4351 for Anthropic. Where a limit is none of the provider's, a user's for instance, they are made alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from math import ceil

from mockllm.passage import Excess, Quota

__all__ = ["ANTHROPIC_ORGANIZATION", "OPENAI_ORGANIZATION", "go_duration", "rate_limit_headers", "rate_limit_words"]

OPENAI_ORGANIZATION = "org-mock"
ANTHROPIC_ORGANIZATION = "00000000-0000-4000-8000-000000000000"

_OPENAI_KINDS = {
    "requests": "requests per min (RPM)",
    "tokens": "tokens per min (TPM)",
    "input_tokens": "input tokens per min (ITPM)",
    "output_tokens": "output tokens per min (OTPM)",
    "concurrency": "concurrent requests",
}
_OPENAI_MORE = "Visit https://platform.openai.com/account/rate-limits to learn more."
_ANTHROPIC_MORE = (
    "For details, refer to: https://docs.claude.com/en/api/rate-limits. You can see the response headers for current "
    "usage. Please reduce the prompt length or the maximum tokens requested, or try again later. You may also contact "
    "sales at https://claude.com/contact-sales to discuss your options for a rate limit increase."
)
_ANTHROPIC_CONNECTIONS = (
    "Number of concurrent connections has exceeded your rate limit. Please try again later or contact sales at "
    "https://www.anthropic.com/contact-sales to discuss your options for a rate limit increase."
)


def rate_limit_headers(provider: str, quotas: Iterable[Quota], clock_epoch: float, now: float) -> dict[str, str]:
    """The provider's headers for the limits that a request met: the tightest of each kind.

    `clock_epoch` is the second of the epoch at which the clock of `now` was 0.
    """
    tightest = _tightest(quotas)
    headers: dict[str, str] = {}
    for kind, quota in tightest.items():
        reset_at = quota.at + quota.reset_s
        if provider == "anthropic":
            name = f"anthropic-ratelimit-{kind.replace('_', '-')}"
            headers[f"{name}-limit"] = str(quota.limit)
            headers[f"{name}-remaining"] = str(_in_thousands(quota))
            headers[f"{name}-reset"] = rfc3339(clock_epoch + reset_at)
        elif kind in ("requests", "tokens"):
            headers[f"x-ratelimit-limit-{kind}"] = str(quota.limit)
            headers[f"x-ratelimit-remaining-{kind}"] = str(quota.remaining)
            headers[f"x-ratelimit-reset-{kind}"] = go_duration(reset_at - now)
    return headers


def rate_limit_words(provider: str, excess: Excess) -> tuple[str, str | None, str]:
    """Type, code and message of the error that says which limit a request would exceed."""
    if provider == "anthropic":
        return "rate_limit_error", None, _anthropic_words(excess)
    kind = "tokens" if excess.kind.endswith("tokens") else "requests"
    return kind, "rate_limit_exceeded", _openai_words(excess)


def go_duration(seconds: float) -> str:
    """As Go writes a duration, in whole milliseconds rounded up: `0s`, `20ms`, `18.642s`, `6m0s`, `1h0m0.5s`."""
    num_ms = max(0, ceil(seconds * 1000 - 1e-6))
    if 0 < num_ms < 1000:
        return f"{num_ms}ms"
    minutes, ms = divmod(num_ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    shown = f"{ms / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{shown}"
    return f"{minutes}m{shown}" if minutes else shown


def rfc3339(epoch: float) -> str:
    """A second of the epoch, rounded up, as RFC 3339 writes it."""
    return datetime.fromtimestamp(ceil(epoch), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _tightest(quotas: Iterable[Quota]) -> dict[str, Quota]:
    """Of each kind the one that has least left. Prompt and answer that are limited apart are shown as a sum too, as
    Anthropic does."""
    found: dict[str, Quota] = {}
    for quota in quotas:
        if quota.kind not in found or quota.remaining < found[quota.kind].remaining:
            found[quota.kind] = quota
    sent, said = found.get("input_tokens"), found.get("output_tokens")
    if sent is not None and said is not None and "tokens" not in found:
        reset_at = max(sent.at + sent.reset_s, said.at + said.reset_s)
        limit, remaining = sent.limit + said.limit, sent.remaining + said.remaining
        found["tokens"] = Quota("tokens", limit, remaining, reset_at - sent.at, sent.scope, sent.at)
    return found


def _in_thousands(quota: Quota) -> int:
    if quota.kind == "requests":
        return quota.remaining
    return min(quota.limit, (quota.remaining + 500) // 1000 * 1000)


def _openai_words(excess: Excess) -> str:
    organization = excess.scope in ("organization", "model")
    label = (excess.label if excess.scope == "organization" else None) or OPENAI_ORGANIZATION
    whose = f"organization {label}" if organization else f"{excess.scope} {excess.label or 'none'}"
    where = f"{excess.model} in {whose} on {_OPENAI_KINDS[excess.kind]}"
    if excess.is_too_large:
        what = f"Request too large for {where}: Limit {excess.limit}, Requested {excess.requested}."
        return f"{what} The input or output tokens must be reduced in order to run successfully. {_OPENAI_MORE}"
    what = f"Rate limit reached for {where}: Limit {excess.limit}, Used {excess.used}, Requested {excess.requested}."
    if excess.wait_s is None:
        return f"{what} {_OPENAI_MORE}"
    return f"{what} Please try again in {go_duration(excess.wait_s)}. {_OPENAI_MORE}"


def _anthropic_words(excess: Excess) -> str:
    if excess.kind == "concurrency":
        return _ANTHROPIC_CONNECTIONS
    organization = excess.scope in ("organization", "model")
    label = (excess.label if excess.scope == "organization" else None) or ANTHROPIC_ORGANIZATION
    whose = f"org: {label}" if organization else f"{excess.scope}: {excess.label or 'none'}"
    amount = f"{excess.limit:,} {excess.kind.replace('_', ' ')} per minute"
    return (
        f"This request would exceed your {'organization' if organization else excess.scope}'s rate limit of {amount} "
        f"({whose}, model: {excess.model}). {_ANTHROPIC_MORE}"
    )
