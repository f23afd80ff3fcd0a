"""Which class an ended request falls into, and under which label. A table of rules, the first that applies wins.

A stream is a success only with content and an end that the protocol knows. What other tools count as
success (an error inside the stream, a clean close without an end, an empty answer) has its own label here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from harness.reading import StreamFacts
from harness.records import Outcome

__all__ = ["Ending", "Verdict", "classify"]

# How the exchange of bytes ended, as the transport saw it.
Ending = Literal[
    "complete",
    "closed",
    "reset",
    "timeout",
    "unreachable",
    "no_socket",
    "bad_http",
    "run_ended",
    "left",
    "scenario_error",
    "unanswered",
]

_SSE = ("text/event-stream",)


@dataclass(frozen=True, slots=True)
class Verdict:
    outcome: Outcome
    error_kind: str | None = None
    error_text: str | None = None


def classify(
    *,
    ending: Ending,
    detail: str | None,
    status: int | None,
    headers: Mapping[str, str],
    error_body: str | None,
    stream: bool,
    facts: StreamFacts | None,
    stream_types: Sequence[str] = _SSE,
) -> Verdict:
    """The class and label of one request. Header names are lower case. `stream_types` are the media types under which the
    protocol's streams come."""
    early = _before_answer(ending, detail, status, headers, error_body)
    if early is not None:
        return early
    if stream and not any(known in headers.get("content-type", "").lower() for known in stream_types):
        return Verdict("failed", "wrong_content_type", f"a stream was asked for, {headers.get('content-type')!r} came")
    assert facts is not None
    broken = _broken_off(ending, detail, facts, stream)
    if broken is not None and not stream:
        return broken  # half a JSON body is unreadable because it is half
    return _said_by_server(facts) or broken or _breaks_contract(facts) or Verdict("ok")


def _before_answer(
    ending: Ending, detail: str | None, status: int | None, headers: Mapping[str, str], error_body: str | None
) -> Verdict | None:
    if ending == "run_ended":
        return Verdict("incomplete", "run_ended", "still open when the run ended")
    if ending == "left":
        return Verdict("left", "client_left", detail)
    if ending == "no_socket":  # it never left this machine
        return Verdict("refused", "no_socket", detail)
    if ending in ("unreachable", "bad_http", "scenario_error", "unanswered"):
        return Verdict("failed", ending, detail)
    if status is None:
        return Verdict("failed", f"{ending}_before_headers", detail)
    if status in (429, 529) or (status == 503 and "retry-after" in headers):
        return Verdict("throttled", f"http_{status}", error_body)
    if 300 <= status < 400:
        return Verdict("failed", "redirect", _where_to(status, headers))
    if status != 200:
        return Verdict("failed", f"http_{status}", error_body)
    if headers.get("content-encoding", "identity").lower() != "identity":
        return Verdict(
            "failed",
            "encoded_body",
            f"content-encoding {headers['content-encoding']!r} although identity was asked for",
        )
    return None


def _where_to(status: int, headers: Mapping[str, str]) -> str:
    """Names the host alone: a path or a query may hold what is not for a report."""
    try:
        parts = urlsplit(headers.get("location", ""))
        port = f":{parts.port}" if parts.port else ""
        host = f"{parts.hostname}{port}" if parts.hostname else "another path of this host"
    except ValueError:
        host = "what is no URL"
    return f"{status} to {host}; redirects are not followed, give the address itself"


def _said_by_server(facts: StreamFacts) -> Verdict | None:
    if facts.error is not None:
        return Verdict("failed", "in_band_error", facts.error)
    if facts.unreadable is not None:
        return Verdict("failed", "bad_json", facts.unreadable)
    return None


def _broken_off(ending: Ending, detail: str | None, facts: StreamFacts, stream: bool) -> Verdict | None:
    if ending == "timeout":
        return Verdict("failed", "stalled", detail)
    if ending in ("closed", "reset"):
        where = "inside an event" if facts.cut_inside_event else f"after {len(facts.pieces)} chunks"
        return Verdict("cut", f"{ending}_mid_answer", f"{detail or 'connection ' + ending} {where}")
    if stream and facts.cut_inside_event:
        return Verdict("cut", "ended_inside_event", f"the body ended inside an event, after {len(facts.pieces)} chunks")
    if stream and not facts.complete:
        num = len(facts.pieces)
        return Verdict("cut", "no_end", f"the stream closed without the end that the protocol has, after {num} chunks")
    return None


def _breaks_contract(facts: StreamFacts) -> Verdict | None:
    if not facts.complete:
        return Verdict("failed", "no_end", "the answer has no finish_reason")
    if facts.num_too_many_finishes > 0:
        return Verdict("failed", "two_finishes", f"finish reasons {facts.finish_reasons}")
    if facts.content_after_end:
        return Verdict("failed", "content_after_end", "content came after the end of the answer")
    if not facts.pieces and not facts.wordless:
        return Verdict("failed", "empty_answer", "the answer ended without any content")
    return None
