"""One request from plan to record: what is sent, and what is made of the answer once it has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

import gevent
from gevent.greenlet import Greenlet

from harness.dialects import Dialect, UnreadableEvent
from harness.doubt import doubts_of
from harness.exchange import Exchange
from harness.outcome import classify
from harness.plan import Arrival, Conduct, Heard
from harness.reading import StreamFacts, chunk_tokens, read_stream, read_whole
from harness.records import RequestRecord
from harness.retrying import wait_before_retry
from harness.served import note_served
from harness.swarm.transport import Transport

__all__ = ["complete_record", "open_record", "send", "wants_stream"]

_SLICE = 32  # reads that are parsed without looking whether others have come: about 0.2 ms


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
        stream=wants_stream(arrival, dialect, stream),
        planned_prompt_tokens=arrival.num_prompt_tokens,
        planned_output_tokens=arrival.num_output_tokens,
        intended_at=round(intended_at, 6),
    )


def wants_stream(arrival: Arrival, dialect: Dialect, stream: bool) -> bool:
    """Whether an arrival asks for a stream: the protocol has them, the run wants them, and so does who asks."""
    return dialect.streams and stream and (arrival.ask is None or arrival.ask.stream)


def send(
    transport: Transport,
    dialect: Dialect,
    headers: Mapping[str, str],
    body: bytes,
    exchange: Exchange,
    *,
    conduct: Conduct | None = None,
    num_retries: int = 0,
) -> None:
    """Send a request and read its answer into `exchange`; up to `num_retries` times again when the server asks for that.
    `exchange.throttled_s` is the time spent waiting in between."""
    retries = 0
    while True:
        leaves = conduct is not None and conduct.leave_after_tokens is not None
        listen = _content_counter(dialect) if leaves else None
        transport.request("POST", dialect.path, headers, body, exchange, conduct, listen)
        status = exchange.status if exchange.ending == "complete" else None
        wait = wait_before_retry(status, exchange.headers, retries, num_retries=num_retries, wall=time.time())
        if wait is None:
            return
        since = time.monotonic()
        try:
            gevent.sleep(wait)
        finally:
            exchange.throttled_s = (exchange.throttled_s or 0.0) + time.monotonic() - since
        retries += 1
        exchange.forget_answer()


def _content_counter(dialect: Dialect) -> Callable[[bytes], int]:
    """How many chunks with content the next piece of a stream completes."""
    decoder = dialect.framing.decoder()

    def count(piece: bytes) -> int:
        num = 0
        for event in decoder.feed(piece):
            try:
                num += bool(dialect.event(event).content)
            except UnreadableEvent:
                continue  # the fold over the whole stream will say so
        return num

    return count


def complete_record(record: RequestRecord, exchange: Exchange, dialect: Dialect, count: Callable[[str], int]) -> Heard:
    """The facts' half of a record. Also for an exchange that was broken off: it keeps what had come by then. Returns what
    the answer said."""
    record.sent_at, record.connected_at = _rounded(exchange.sent_at), _rounded(exchange.connected_at)
    record.first_byte_at, record.done_at = _rounded(exchange.first_byte_at), _rounded(exchange.done_at)
    record.status, record.num_attempts = exchange.status, exchange.num_attempts
    record.num_stale_sockets, record.throttled_s = exchange.num_stale_sockets, _rounded(exchange.throttled_s)
    record.read_lag_s = _rounded(exchange.read_lag_s)
    answered = exchange.status == 200
    facts = _facts(record, exchange, dialect) if answered else None
    if facts is not None:
        _tokens(record, facts, count)
    record.doubt = ",".join(doubts_of(record, exchange, facts, dialect)) or None
    verdict = classify(
        ending=exchange.ending,
        detail=exchange.detail,
        status=exchange.status,
        headers=exchange.headers,
        error_body=None if answered else dialect.error_text(exchange.body()),
        stream=record.stream,
        facts=facts,
        stream_types=dialect.framing.media_types,
    )
    record.outcome, record.error_kind, record.error_text = (
        verdict.outcome,
        verdict.error_kind,
        verdict.error_text,
    )
    note_served(record, exchange.headers)
    return Heard(None if facts is None else "".join(facts.pieces), exchange.headers)


def _facts(record: RequestRecord, exchange: Exchange, dialect: Dialect) -> StreamFacts:
    if record.stream:
        reads = _in_slices(exchange.reads) if exchange.ending == "complete" else exchange.reads
        return read_stream(reads, dialect)
    return read_whole(exchange.body(), exchange.done_at or 0.0, dialect)


def _in_slices(reads: list[tuple[float, bytes]]) -> Iterator[tuple[float, bytes]]:
    """The reads, with pauses in which other answers are read: parsing a long one would delay them all.

    A kill that comes in a pause is put off until the record is written: whoever called us blocks no more before that.
    """
    alone = False
    for number, read in enumerate(reads, start=1):
        yield read
        if number % _SLICE == 0 and not alone:
            alone = _killed_in_pause()


def _killed_in_pause() -> bool:
    """Let the event loop poll once."""
    hub = gevent.get_hub()
    timer = hub.loop.timer(0)  # sleep(0) would come back before the next poll
    try:
        hub.wait(timer)
    except gevent.GreenletExit:
        myself = gevent.getcurrent()
        assert isinstance(myself, Greenlet)
        myself.kill(block=False)
        return True
    finally:
        timer.close()
    return False


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
        record.num_cache_write_tokens = facts.usage.num_cache_write_tokens
        record.num_cache_write_1h_tokens = facts.usage.num_cache_write_1h_tokens
        record.num_reasoning_tokens = facts.usage.num_reasoning_tokens
        record.num_output_tokens = facts.usage.num_output_tokens
    if record.num_output_tokens is not None:
        record.token_source = "server"
    elif facts.pieces:
        record.num_output_tokens = sum(counts) if counts else sum(max(1, count(piece)) for piece in facts.pieces)
        record.token_source = "local"


def _rounded(instant: float | None) -> float | None:
    return None if instant is None else round(instant, 6)
