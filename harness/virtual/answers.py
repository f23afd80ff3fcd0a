"""Answers as a client would have seen them: from the mock's emissions to a record."""

from __future__ import annotations

from itertools import pairwise

from harness.records import RequestRecord
from harness.virtual.endings import verdict_of
from mockllm import Began, Cut, Emission, Finished, Passage, Refused, Request, Tokens, chunks_of

__all__ = ["Answer"]


class Answer:
    """The answer to one request, filled as it comes. `record` is complete when it has ended."""

    __slots__ = ("_request", "_with_gaps", "record", "tokens")

    def __init__(self, record: RequestRecord, request: Request, with_gaps: bool) -> None:
        self.record, self.tokens = record, list[Tokens]()
        self._request, self._with_gaps = request, with_gaps

    def ended(self, emission: Emission) -> bool:
        """Take in an emission other than tokens; True when the answer has ended with it."""
        if isinstance(emission, Began | Tokens):
            return False
        record, passage = self.record, emission.passage
        record.done_at = round(emission.at, 6)
        damage = () if passage is None else passage.damage
        late_s = sum(each.seconds for each in damage if each.kind == "slow_headers")
        if record.stream and self.tokens:
            self._note_tokens(late_s)
        elif not isinstance(emission, Refused):
            record.done_at = round(emission.at + late_s, 6)
        if isinstance(emission, Finished):
            self._note_usage(emission)
        elif isinstance(emission, Cut) and record.first_token_at is not None:
            record.num_output_tokens, record.token_source = emission.num_output_tokens, "local"
        num_tokens = sum(tokens.num for tokens in self.tokens)
        record.status, verdict = verdict_of(emission, stream=record.stream, num_tokens=num_tokens, damage=damage)
        record.outcome, record.error_kind, record.error_text = verdict.outcome, verdict.error_kind, verdict.error_text
        if passage is not None:
            self._note_passage(passage)
        return True

    def left_open(self) -> None:
        """The run ended before the answer did."""
        self.record.outcome, self.record.error_kind = "incomplete", "run_ended"
        self.record.error_text = "still open when the run ended"

    def left(self, now: float) -> None:
        """The client went away, as the plan said."""
        record = self.record
        record.done_at = round(now, 6)
        record.outcome, record.error_kind, record.error_text = "left", "client_left", None
        if record.stream and self.tokens:
            record.status = 200
            self._note_tokens(0.0)
            record.num_output_tokens = sum(tokens.num for tokens in self.tokens)
            record.token_source = "local"

    def _note_tokens(self, late_s: float) -> None:
        """The instants of the tokens; `late_s` is how long the head of the answer takes."""
        record = self.record
        if self._with_gaps:
            chunks = [chunk for tokens in self.tokens for chunk in chunks_of(tokens)]
            instants = [chunk.at for chunk in chunks]
            sizes = [chunk.num for chunk in chunks]
        else:
            instants, sizes = [next(iter(chunks_of(self.tokens[0]))).at, self.tokens[-1].at], []
        if late_s:  # what came meanwhile waits behind them
            whole_at = instants[0] + late_s
            instants = [max(whole_at, at) for at in instants]
            record.done_at = round(max(whole_at, record.done_at or 0.0), 6)
        record.first_token_at, record.last_token_at = round(instants[0], 6), round(instants[-1], 6)
        record.model_served = self._request.model
        if self._with_gaps:
            record.token_gaps_s = [round(after - before, 6) for before, after in pairwise(instants)]
            record.num_chunks = len(sizes)
            record.chunk_tokens = sizes if max(sizes) > 1 else None

    def _note_usage(self, end: Finished) -> None:
        """The tokens as the server's own count says them."""
        record = self.record
        record.num_prompt_tokens = self._request.num_prompt_tokens
        record.num_cached_tokens = end.cache.num_read
        record.num_cache_write_tokens = end.cache.num_written_5m + end.cache.num_written_1h
        record.num_cache_write_1h_tokens = end.cache.num_written_1h
        record.num_output_tokens, record.token_source = end.num_output_tokens, "server"
        record.num_reasoning_tokens = min(self._request.num_reasoning_tokens, end.num_output_tokens)
        record.finish_reason, record.queue_s, record.replica = end.reason, end.queue_s, end.replica
        record.model_served = self._request.model

    def _note_passage(self, passage: Passage) -> None:
        """What the stack says of the request."""
        record = self.record
        if passage.waited_s:
            record.queue_s = (record.queue_s or 0.0) + sum(passage.waited_s.values())
        if record.model_served is not None:
            record.model_served = passage.model
        if record.num_prompt_tokens is not None:
            record.num_prompt_tokens = passage.num_prompt_tokens or record.num_prompt_tokens
        record.replica, record.cache_outcome = passage.replica, passage.cache_outcome
        record.num_attempts, record.cost_usd = passage.num_attempts, passage.cost_usd
