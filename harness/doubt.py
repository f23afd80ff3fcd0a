"""What is doubtful about the times of one sample, by the instrument's own fault. A server's faults are no doubts."""

from __future__ import annotations

from collections.abc import Iterator

from harness.dialects import Dialect, UnreadableEvent
from harness.exchange import Exchange
from harness.reading import StreamFacts
from harness.records import RequestRecord

__all__ = ["doubts_of"]

_LATE_SEND_S = 0.010
_LATE_READ_S = 0.005


def doubts_of(record: RequestRecord, exchange: Exchange, facts: StreamFacts | None, dialect: Dialect) -> Iterator[str]:
    """Why the times of this sample may be wrong by our own fault.

    late_send: sent more than 10 ms after its time. merged_first_token: the first content came in one read with something
    later, and may have come more than 1 ms before it. late_read: without a kernel's stamp, and the process was busy for
    more than 5 ms before it read the first or the last content. clock_step: the wall clock, which stamps are in, was set.
    """
    if exchange.sent_at is not None and exchange.sent_at - record.intended_at > _LATE_SEND_S:
        yield "late_send"
    if facts is not None and record.stream and facts.content_at:
        first, last = facts.content_at[0], facts.content_at[-1]
        vague = exchange.vague.get(first)
        if vague is not None and not _ends_with_content(exchange.reads, facts, dialect):
            yield "merged_first_token"
        ends = [exchange.vague[at] for at in (first, last) if at in exchange.vague]
        if any(not end.stamped and end.width_s > _LATE_READ_S for end in ends):
            yield "late_read"
    if exchange.clock_stepped:
        yield "clock_step"


def _ends_with_content(reads: list[tuple[float, bytes]], facts: StreamFacts, dialect: Dialect) -> bool:
    """Whether the first content was the last thing in its read: then the read's instant is its own."""
    first = facts.content_at[0]
    if len(facts.content_at) > 1 and facts.content_at[1] == first:
        return False
    decoder, last = dialect.framing.decoder(), None
    for at, piece in reads:
        if at > first:
            break
        for event in decoder.feed(piece):
            last = event
    try:
        return last is not None and bool(dialect.event(last).content)
    except UnreadableEvent:
        return False
