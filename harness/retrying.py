"""Whether and when a refused request is asked again, as the server says. Pure: the wall clock is an argument.

Source: `x-should-retry` as OpenAI's and Anthropic's SDKs read it. Unlike those we ask again only when the server asks for it: a
load test must not add load that nobody planned.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.headers import retry_after_s

__all__ = ["LONGEST_WAIT_S", "wait_before_retry"]

# As OpenAI's SDK has them (openai 3: MAX_RETRY_AFTER_DELAY, INITIAL_RETRY_DELAY, MAX_RETRY_DELAY), without its jitter.
LONGEST_WAIT_S = 120.0
_FIRST_BACKOFF_S = 0.5
_LONGEST_BACKOFF_S = 8.0

_THROTTLED = frozenset({429, 503, 529})
_IF_TOLD = frozenset({408, 409, 500, 502, 504})


def wait_before_retry(
    status: int | None,
    headers: Mapping[str, str],
    attempt: int,
    *,
    num_retries: int,
    wall: float,
    longest_s: float = LONGEST_WAIT_S,
) -> float | None:
    """Seconds to wait before the request is sent again; None: it is not. Header names are lower case.

    `attempt` counts the retries that were made already, of `num_retries` allowed. 429, 503 and 529 are asked again when the
    server says when, or that they should be; 408, 409, 500, 502 and 504 only with `x-should-retry: true`; nothing with
    `x-should-retry: false`. Told to retry but not when, we wait 0.5 s, 1 s, 2 s up to 8 s. A wait of more than `longest_s`
    is no retry but another request. `wall`: seconds since 1970, for dates.
    """
    if attempt >= num_retries or status is None:
        return None
    told = headers.get("x-should-retry", "").strip().lower()
    if told == "false" or (status not in _THROTTLED and not (status in _IF_TOLD and told == "true")):
        return None
    wait = retry_after_s(headers, wall)
    if wait is None:
        return min(_LONGEST_BACKOFF_S, _FIRST_BACKOFF_S * 2.0 ** min(attempt, 10)) if told == "true" else None
    return wait if wait <= longest_s else None
