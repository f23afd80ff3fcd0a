"""One request from plan to record: what is sent, and what is made of the answer once it has ended."""

from __future__ import annotations

from collections.abc import Callable

from harness.dialects import Dialect
from harness.outcome import classify
from harness.plan import Arrival, Heard
from harness.reading import StreamFacts, chunk_tokens, read_stream, read_whole
from harness.records import RequestRecord
from harness.swarm.transport import Exchange

__all__ = ["complete_record", "open_record"]


def open_record(
    request_id: str,
    arrival: Arrival,
    intended_at: float,
    *,
    scenario: str,
    user_class: str,
    dialect: Dialect,
    model: str,
    stream: bool,
) -> RequestRecord:
    """The plan's half of a record. An arrival that says who asks what goes before `model` and `stream`."""
    ask = arrival.ask
    return RequestRecord(
        request_id=request_id,
        scenario=scenario,
        user_class=user_class,
        class_name=arrival.class_name,
        tenant=None if ask is None else ask.organization or ask.user,
        feature=None if ask is None else ask.feature,
        phase=arrival.phase,
        protocol=dialect.name,
        model=model if ask is None else ask.model or model,
        stream=stream if ask is None else ask.stream,
        planned_prompt_tokens=arrival.num_prompt_tokens,
        planned_output_tokens=arrival.num_output_tokens,
        intended_at=round(intended_at, 6),
    )


def complete_record(record: RequestRecord, exchange: Exchange, dialect: Dialect, count: Callable[[str], int]) -> Heard:
    """The facts' half of a record. Also for an exchange that was broken off: it keeps what had come by then. Returns what
    the answer said."""
    record.sent_at, record.connected_at = _rounded(exchange.sent_at), _rounded(exchange.connected_at)
    record.first_byte_at, record.done_at = _rounded(exchange.first_byte_at), _rounded(exchange.done_at)
    record.status, record.num_attempts = exchange.status, exchange.num_attempts
    record.server_request_id = exchange.headers.get("x-request-id")
    answered = exchange.status == 200
    facts = _facts(record, exchange, dialect) if answered else None
    if facts is not None:
        _tokens(record, facts, count)
    verdict = classify(
        ending=exchange.ending,
        detail=exchange.detail,
        status=exchange.status,
        headers=exchange.headers,
        error_body=None if answered else dialect.error_text(exchange.body()),
        stream=record.stream,
        facts=facts,
    )
    record.outcome, record.error_kind, record.error_text = (
        verdict.outcome,
        verdict.error_kind,
        verdict.error_text,
    )
    return Heard(None if facts is None else "".join(facts.pieces), exchange.headers)


def _facts(record: RequestRecord, exchange: Exchange, dialect: Dialect) -> StreamFacts:
    if record.stream:
        return read_stream(exchange.reads, dialect)
    return read_whole(exchange.body(), exchange.done_at or 0.0, dialect)


def _tokens(record: RequestRecord, facts: StreamFacts, count: Callable[[str], int]) -> None:
    record.model_served = facts.model
    record.finish_reason = facts.finish_reasons[-1] if facts.finish_reasons else None
    counts: list[int] | None = None
    if record.stream and facts.content_at:
        record.num_chunks, record.num_merged_chunks = len(facts.pieces), facts.num_merged
        record.first_token_at, record.last_token_at = (
            _rounded(facts.content_at[0]),
            _rounded(facts.content_at[-1]),
        )
        record.token_gaps_s = facts.gaps()
        record.chunk_tokens = counts = chunk_tokens(facts, count)
    if facts.usage is not None:
        record.num_prompt_tokens, record.num_cached_tokens = (
            facts.usage.num_prompt_tokens,
            facts.usage.num_cached_tokens,
        )
        record.num_reasoning_tokens = facts.usage.num_reasoning_tokens
        record.num_output_tokens = facts.usage.num_output_tokens
    if record.num_output_tokens is not None:
        record.token_source = "server"
    elif facts.pieces:
        record.num_output_tokens = sum(counts) if counts else sum(max(1, count(piece)) for piece in facts.pieces)
        record.token_source = "local"


def _rounded(instant: float | None) -> float | None:
    return None if instant is None else round(instant, 6)
