"""What a server says of itself in the headers of its answer: which replica gave it, what the response cache did, how long the
request waited.

The mock's own words, and those that gateways document: AIBrix (`target-pod`), Cloudflare AI Gateway (`cf-aig-cache-status`),
Helicone (`helicone-cache`), Kong and nginx (`x-cache-status`), LiteLLM (`x-litellm-model-id`, a deployment; `x-litellm-cache-key`),
llm-d's simulator (`x-inference-pod`), OpenRouter (`x-openrouter-cache-status`), Portkey (`x-portkey-cache-status`), Text Generation
Inference (`x-queue-time`).
`openai-processing-ms` and `x-envoy-upstream-service-time` are no waits: they hold the work too.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from harness.records import RequestRecord

__all__ = ["cache_outcome", "note_served", "queue_s", "replica"]

_MOST_CHARS = 128  # a name; what is longer was not meant for people
_MOST_QUEUE_S = 86_400.0

_REPLICA = ("x-mock-replica", "x-inference-pod", "x-litellm-model-id", "target-pod")
_CACHE = (
    "x-mock-cache",
    "x-portkey-cache-status",
    "helicone-cache",
    "cf-aig-cache-status",
    "x-openrouter-cache-status",
    "x-cache-status",
)
# To the three words of a record; no word for a cache that was not asked (DISABLED, BYPASS). Semantic hits are Portkey's, refresh
# is Portkey's and Kong's, the rest nginx's ($upstream_cache_status): each says who gave the answer.
_OUTCOMES = {
    "hit": "hit",
    "semantic hit": "hit",
    "revalidated": "hit",
    "stale": "stale",
    "updating": "stale",
    "miss": "miss",
    "semantic miss": "miss",
    "refresh": "miss",
    "expired": "miss",
}


def note_served(record: RequestRecord, headers: Mapping[str, str]) -> None:
    """Write into the record what the headers say, names in lower case. A body that names its model goes before a header.

    To be called last: a header says which model served only where something was served.
    """
    record.server_request_id = _name(headers, ("x-request-id", "request-id"))
    record.replica, record.cache_outcome, record.queue_s = replica(headers), cache_outcome(headers), queue_s(headers)
    if record.model_served is None and record.outcome == "ok":
        record.model_served = _name(headers, ("x-mock-model",))


def replica(headers: Mapping[str, str]) -> str | None:
    """Which of several servers of one model answered; None: not said."""
    return _name(headers, _REPLICA)


def cache_outcome(headers: Mapping[str, str]) -> str | None:
    """`hit`, `stale` or `miss` by the response cache, in the words of virtual time; None: not said, or it was not asked.

    LiteLLM names the key of a cached answer and of no other, so an answer of it without a key is a miss.
    """
    for name in _CACHE:
        if name in headers:
            return _OUTCOMES.get(headers[name].strip().lower())
    if "x-litellm-cache-key" in headers:
        return "hit"
    return "miss" if "x-litellm-call-id" in headers else None


def queue_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that the request waited before anybody worked on it; None: not said.

    The mock's header holds the waits for its policies; that none of them let it wait says nothing about the engine's queue, so 0 is
    no answer. Text Generation Inference writes milliseconds, for answers that are no streams; others mean seconds with the same
    name, so it counts only beside `x-compute-type`, which only that server sends.
    """
    waited_s = _milliseconds(headers.get("x-mock-waited-ms"))
    if waited_s:
        return waited_s
    return _milliseconds(headers.get("x-queue-time")) if "x-compute-type" in headers else None


def _name(headers: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    """The first of these headers that says something, as printable text that is not too long."""
    for name in names:
        said = headers.get(name, "")[: 8 * _MOST_CHARS].strip()
        if said:
            text = "".join(each if each.isprintable() else "\ufffd" for each in said)
            return text if len(text) <= _MOST_CHARS else text[: _MOST_CHARS - 1] + "…"
    return None


def _milliseconds(text: str | None) -> float | None:
    """Seconds; None for what is no duration that a request can have waited."""
    try:
        seconds = float(text or "") / 1000
    except ValueError:
        return None
    return round(seconds, 6) if isfinite(seconds) and 0 <= seconds <= _MOST_QUEUE_S else None
