"""How an answer ends for the client that waits for it: what the mock's server makes of an end on the wire, and which class
and label the load side gives it.

Over HTTP the server writes bytes and the client reads them. Here both are left out: from the end of an answer to the facts
that a reader would find, and from there on by the same rules (`harness/outcome.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.outcome import Ending, Verdict, classify
from harness.reading import StreamFacts
from mockllm import Cut, Damage, Finished, Refused

__all__ = ["verdict_of"]

_STREAM = {"content-type": "text/event-stream"}


def verdict_of(
    end: Finished | Refused | Cut, *, stream: bool, num_tokens: int, damage: Sequence[Damage]
) -> tuple[int | None, Verdict]:
    """The HTTP status and the verdict. `num_tokens` came before the end; `damage` is what faults did to the bytes."""
    harm: set[str] = {each.kind for each in damage if stream or each.kind == "garbled"}
    if any(each.kind == "garbled" and stream and each.after >= num_tokens for each in damage):
        harm.discard("garbled")  # the answer was over before
    if isinstance(end, Finished) and not harm & {"garbled", "duplicate_finish"}:
        return 200, Verdict("ok")
    if stream and num_tokens:
        return 200, _of_stream(end, num_tokens, harm)
    if isinstance(end, Finished):
        return 200, _judged("complete", 200, StreamFacts(unreadable="the body is no JSON"))
    if isinstance(end, Refused):
        return _refused(end)
    if end.in_band:
        return 500, _judged("complete", 500, error="the mock answered with an error")
    if stream:
        return None, _judged("reset", None)
    if end.silent:
        return 200, _judged("complete", 200, StreamFacts(unreadable="the body is half an answer"))
    return 200, _judged("closed", 200, StreamFacts())


def _of_stream(end: Finished | Refused | Cut, num_tokens: int, harm: set[str]) -> Verdict:
    """Of a stream that has begun."""
    facts = StreamFacts(pieces=[""] * num_tokens)
    if "garbled" in harm:
        facts.unreadable = "an event is no JSON"
    if isinstance(end, Finished):
        facts.ended, facts.finish_reasons = True, [end.reason] * (2 if "duplicate_finish" in harm else 1)
    elif isinstance(end, Refused) or end.in_band:
        facts.error = "the mock ended the stream with an error"
    breaks = isinstance(end, Cut) and not end.in_band and not end.silent
    return _judged("closed" if breaks else "complete", 200, facts, headers=_STREAM)


def _refused(end: Refused) -> tuple[int | None, Verdict]:
    if end.status == 0:
        return None, _judged("reset", None)
    headers = {} if end.retry_after_s is None else {"retry-after": str(end.retry_after_s)}
    return end.status, _judged("complete", end.status, error=end.message, headers=headers)


def _judged(
    ending: Ending,
    status: int | None,
    facts: StreamFacts | None = None,
    *,
    error: str | None = None,
    headers: dict[str, str] | None = None,
) -> Verdict:
    return classify(
        ending=ending,
        detail=None,
        status=status,
        headers=headers or {},
        error_body=error,
        stream=headers is _STREAM,
        facts=facts,
    )
