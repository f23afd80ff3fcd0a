"""One request on its way through the server: what was asked, what will be said, and what the ledger notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from mockllm.call import Call, Usage
from mockllm.clock import Clock
from mockllm.content.reply import Reply
from mockllm.model import CacheUse, Cut, Finished, Refused, Request
from mockllm.passage import Passage
from mockllm.server.driver import Deliver, Driver
from mockllm.server.ledger import Entry, Ledger
from mockllm.wire.dialect import Context, Dialect, End, Writer

__all__ = ["Exchange"]


@dataclass
class Exchange:
    """All that one answer needs. `requests` and `replies`: one a choice. `passage`: what it met in the stack, if it met one.

    `clock_epoch` is the second of the epoch at which the clock was 0.
    """

    call: Call
    dialect: Dialect
    context: Context
    request_id: str
    requests: Sequence[Request]
    replies: Sequence[Reply]
    entry: Entry
    driver: Driver
    ledger: Ledger
    clock: Clock
    clock_epoch: int
    passage: Passage | None = field(default=None, init=False)

    @property
    def provider(self) -> str:
        """Whose errors and headers the answer has."""
        return self.dialect.provider

    @cached_property
    def writer(self) -> Writer:
        """Made when the answer begins: who answers, and what, is known by then."""
        return self.dialect.writer(self.call, self.context, self.replies)

    def met(self, passage: Passage | None) -> None:
        """What the stack did with the request: another model may have answered, or a cache with what it kept."""
        if passage is None or self.passage is not None:
            return
        self.passage = passage
        if passage.model != self.requests[0].model:
            self.call = replace(self.call, model=passage.model)
        if isinstance(passage.payload, Reply):
            self.replies = [passage.payload]

    def submit(self, listeners: Sequence[Deliver]) -> None:
        """Give every choice to the engine; choice number i is told to `listeners[i]`."""
        for request, listener in zip(self.requests, listeners, strict=True):
            submitted_at = self.driver.submit(request, listener)
            self.entry.submitted_at = submitted_at if self.entry.submitted_at is None else self.entry.submitted_at

    def abandon(self) -> None:
        """Called at every end: what is not over yet is cancelled, and without another outcome it was the client."""
        for request in self.requests:
            self.driver.cancel(request.request_id)
        if self.entry.outcome is None:
            self.entry.num_output_tokens = sum(self.entry.num_tokens)
            self._close("cancelled", None, self.clock.now())

    def prompt_usage(self, cache: CacheUse) -> Usage:
        """What the prompt costs, known when the answer begins."""
        entry = self.entry
        entry.num_cached_tokens = cache.num_read
        entry.num_cache_write_tokens = cache.num_written_5m + cache.num_written_1h
        changed = None if self.passage is None else self.passage.num_prompt_tokens
        num_prompt = entry.num_prompt_tokens if changed is None else changed
        return Usage(num_prompt, 0, cache.num_read, cache.num_written_5m, cache.num_written_1h)

    def usage(self, ends: Sequence[Finished | Cut], cache: CacheUse) -> Usage:
        """What the whole answer costs."""
        prompt, entry = self.prompt_usage(cache), self.entry
        num_output = num_reasoning = 0
        for reply, end in zip(self.replies, ends, strict=True):
            num_output += end.num_output_tokens
            num_reasoning += reply.num_reasoning_tokens(end.num_output_tokens) if len(reply.parts) > 1 else 0
        entry.num_output_tokens, entry.num_reasoning_tokens = num_output, num_reasoning
        return Usage(
            prompt.num_prompt_tokens,
            num_output,
            prompt.num_cached_tokens,
            prompt.num_written_5m,
            prompt.num_written_1h,
            num_reasoning,
        )

    def finished(self, ends: Sequence[Finished]) -> None:
        """Every choice is complete and written."""
        self.entry.finish_reason, self.entry.queue_s = ends[0].reason, ends[0].queue_s
        self._add_up([end.passage for end in ends[1:] if end.passage is not None])
        self._close("ok", 200, max(end.at for end in ends))

    def _add_up(self, others: Sequence[Passage]) -> None:
        """The calls and the price of all choices, on the passage of the first."""
        if self.passage is None:
            return
        for other in others:
            self.passage.num_attempts += other.num_attempts
            if other.cost_usd is not None:
                self.passage.cost_usd = (self.passage.cost_usd or 0.0) + other.cost_usd

    def cut(self, end: Cut, status: int | None = 200) -> None:
        """The answer broke off as the model decided. `status` None: the connection was reset before there was one."""
        self.entry.num_output_tokens = sum(self.entry.num_tokens) or end.num_output_tokens
        self._close("cut", status, end.at)

    def refused(self, refusal: Refused) -> None:
        """The engine did not take the request."""
        self.met(refusal.passage)
        self._close("refused", refusal.status or None, refusal.at)

    def end_of(self, end: Finished | Cut) -> End:
        """The end of a choice as its writer wants it."""
        return End(end.reason if isinstance(end, Finished) else "stop", end.num_output_tokens)

    def _close(self, outcome: str, status: int | None, at: float) -> None:
        self.entry.outcome, self.entry.status, self.entry.finished_at = outcome, status, at
        if self.passage is not None:
            self.entry.met(self.passage)
        self.ledger.close(self.entry)
