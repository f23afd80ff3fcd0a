"""What closed ledger entries say about latencies and tokens, under vLLM's definitions and OpenTelemetry's.

Every number here is a fold over entries, counted once when an entry closes: the ledger's lines give the same again.

    TTFT     received -> first content write         streams only: a whole answer does not show its first token
    gap      between two content writes              one observation a write, not divided by its tokens; that is how
                                                     vLLM observes inter-token latency (one an engine output)
    decode   first -> last content write
    TPOT     decode / (output tokens - 1)            undefined for one token
    queue    the scheduler's wait, as the engine says
    E2E      received -> last content write, or the end of a request that wrote nothing

Gaps, decode and TPOT need an answer with one choice: the writes of several are not told apart in the ledger.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mockllm.server.histograms import Histogram, one_two_five
from mockllm.server.ledger import Entry

__all__ = ["GenAiFold", "GenAiKey", "Latencies", "VllmFold", "latencies"]

# vLLM's own bounds, seconds (vllm/v1/metrics/loggers.py).
_FIRST_TOKEN = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
)  # fmt: skip
_TOKEN = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
_REQUEST = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
)  # fmt: skip

# OpenTelemetry's, seconds (semantic conventions for generative AI metrics, status Development).
_GEN_AI_REQUEST = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_GEN_AI_FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_GEN_AI_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)

# Everything else that is served is a chat to OpenTelemetry, the Responses API included.
_OPERATIONS = {"openai-completions": "text_completion", "openai-embeddings": "embeddings"}


class Latencies(NamedTuple):
    """Of one closed entry, seconds. None: the ledger does not know."""

    e2e_s: float
    ttft_s: float | None
    decode_s: float | None
    tpot_s: float | None


def latencies(entry: Entry) -> Latencies:
    """The latencies of a closed entry, as the module defines them."""
    assert entry.finished_at is not None
    writes = entry.written_at
    ended_at = max(entry.finished_at, writes[-1]) if writes else entry.finished_at
    e2e_s = ended_at - entry.received_at
    if not entry.stream or not writes:
        return Latencies(e2e_s, None, None, None)
    ttft_s = writes[0] - entry.received_at
    if entry.num_choices > 1:
        return Latencies(e2e_s, ttft_s, None, None)
    decode_s, num_tokens = writes[-1] - writes[0], entry.num_output_tokens or 0
    return Latencies(e2e_s, ttft_s, decode_s, decode_s / (num_tokens - 1) if num_tokens > 1 else None)


class VllmFold:
    """One model's counters and histograms under vLLM's names, without the prefix `vllm:`.

    Counted as vLLM V1 counts: a prompt when its first token is there, a client that goes away in the token counters
    but in no per-request metric (vllm-project/vllm#31503, #55634). So is an answer that the mock breaks off. A refused
    request counts nowhere, one with several choices once. `prefill` is TTFT less the queue: the ledger does not
    separate the time between the arrival and the scheduler, so it is in there, and queue + prefill + decode = E2E.
    """

    def __init__(self, max_model_len: int) -> None:
        num_tokens = one_two_five(max_model_len)
        self.num_prompt_tokens = 0
        self.num_output_tokens = 0
        self.num_finished = {"stop": 0, "length": 0, "abort": 0}  # vLLM shows the last and never counts it
        self.first_token = Histogram(_FIRST_TOKEN)
        self.gap = Histogram(_TOKEN)
        self.tpot = Histogram(_TOKEN)
        self.e2e = Histogram(_REQUEST)
        self.queue = Histogram(_REQUEST)
        self.inference = Histogram(_REQUEST)
        self.prefill = Histogram(_REQUEST)
        self.decode = Histogram(_REQUEST)
        self.prompt_tokens = Histogram(num_tokens)
        self.output_tokens = Histogram(num_tokens)

    def observe(self, entry: Entry, took: Latencies) -> None:
        """Count an entry that was closed just now."""
        if entry.outcome == "refused":
            return
        if entry.num_tokens:
            self.num_prompt_tokens += entry.num_prompt_tokens
        self.num_output_tokens += entry.num_output_tokens or 0
        if took.ttft_s is not None:
            self.first_token.observe(took.ttft_s)
        if took.decode_s is not None:
            self.gap.observe_all(np.diff(entry.written_at))
        if entry.outcome == "ok":
            self._finish(entry, took)

    def _finish(self, entry: Entry, took: Latencies) -> None:
        reason = entry.finish_reason or "stop"
        self.num_finished[reason] = self.num_finished.get(reason, 0) + 1
        self.e2e.observe(took.e2e_s)
        self.prompt_tokens.observe(entry.num_prompt_tokens)
        self.output_tokens.observe(entry.num_output_tokens or 0)
        if took.tpot_s is not None:
            self.tpot.observe(took.tpot_s)
        if took.decode_s is not None:
            self.decode.observe(took.decode_s)
        if entry.queue_s is None:
            return
        self.queue.observe(entry.queue_s)
        self.inference.observe(took.e2e_s - entry.queue_s)
        if took.ttft_s is not None:
            self.prefill.observe(took.ttft_s - entry.queue_s)


class GenAiKey(NamedTuple):
    """The attributes of OpenTelemetry's server metrics, None where there is no error.

    `model` is the served name of the deployment, for the request and the response alike: names that clients make up
    would become series. `error_type`: the HTTP status of a refusal, else `reset`, `cut` or `cancelled`.
    """

    operation: str
    provider: str
    model: str
    error_type: str | None


class GenAiFold:
    """OpenTelemetry's three server histograms. The two of tokens are of successful answers, as the convention says."""

    def __init__(self) -> None:
        self.duration: dict[GenAiKey, Histogram] = {}
        self.first_token: dict[GenAiKey, Histogram] = {}
        self.tpot: dict[GenAiKey, Histogram] = {}

    def observe(self, model: str, entry: Entry, took: Latencies) -> None:
        """Count an entry that was closed just now."""
        operation = _OPERATIONS.get(entry.protocol, "chat")
        key = GenAiKey(operation, entry.protocol.split("-")[0], model, _error_type(entry))
        self.duration.setdefault(key, Histogram(_GEN_AI_REQUEST)).observe(took.e2e_s)
        if key.error_type is not None:
            return
        if took.ttft_s is not None:
            self.first_token.setdefault(key, Histogram(_GEN_AI_FIRST_TOKEN)).observe(took.ttft_s)
        if took.tpot_s is not None:
            self.tpot.setdefault(key, Histogram(_GEN_AI_TOKEN)).observe(took.tpot_s)


def _error_type(entry: Entry) -> str | None:
    if entry.outcome == "ok":
        return None
    return str(entry.status or "reset") if entry.outcome == "refused" else entry.outcome
