"""`vllm bench serve` of vLLM 0.33.0 with its chat client: `benchmarks/serve.py`, `benchmarks/lib/endpoint_request_func.py`."""

from __future__ import annotations

import numpy as np

from harness.dictionary.figures import Figure, ToolFigures
from harness.dictionary.lines import number, spread
from harness.dictionary.sight import MS, Sight, both, rate, total
from harness.dictionary.spread import linear
from harness.table import Floats, Mask

__all__ = ["VERSION", "answered", "time_per_output_token", "vllm"]

VERSION = "0.33.0"

# What its chat client does not notice, once a chunk with content has come. Its client for the Responses API does.
_UNNOTICED = ("no_end", "ended_inside_event", "in_band_error", "two_finishes", "content_after_end")
_LINEAR = "numpy's linear percentiles"


def vllm(sight: Sight) -> ToolFigures:
    """Its printed result: milliseconds, by request; ITL by chunk."""
    rows, ours = answered(sight), sight.ours
    sent, first, last = sight.sent_at[rows], sight.first_at[rows], sight.last_at[rows]
    figures = [
        *_counts(sight, rows),
        *spread(
            "TTFT", MS, linear(first - sent), ours.ttft, f"first output chunk - send; {_LINEAR}",
            "Its clock starts at the send, ours at the intended time; it counts broken streams that had begun, and interpolates.",
        ),
        *spread(
            "TPOT", MS, linear(time_per_output_token(sight)[rows]), ours.tpot,
            f"(E2EL - TTFT) / (output tokens - 1), answers of one token left out; {_LINEAR}",
            "The same definition, as its E2EL ends at the last content chunk; it counts broken streams, and interpolates.",
        ),
        *spread(
            "ITL", MS, sight.gaps(rows), ours.itl, f"every gap between two output chunks, whatever they hold; {_LINEAR}",
            "It takes a chunk for a token: chunks of several tokens make it larger than ours, chunks read together make zeros.",
        ),
        *spread(
            "E2EL", MS, linear(last - sent), ours.e2e, f"last output chunk - send; {_LINEAR}",
            "It ends at the last content chunk, ours at the end of the answer, and it starts at the send, ours at the intended time.",
        ),
        *_rates(sight, rows),
    ]  # fmt: skip
    return ToolFigures(tool="vllm bench serve", version=VERSION, figures=figures)


def answered(sight: Sight) -> Mask:
    """What it counts as successful."""
    begun = ~np.isnan(sight.first_at)
    broken = sight.answered(_UNNOTICED) & begun & ~sight.table.labels["protocol"].is_("openai-responses")
    return np.asarray(sight.ok | broken)


def time_per_output_token(sight: Sight) -> Floats:
    """Its TPOT in seconds, of every row; NaN where there is none."""
    after_first = np.where(sight.output > 1, sight.output - 1, np.nan)
    return np.asarray((sight.last_at - sight.first_at) / after_first)


def _counts(sight: Sight, rows: Mask) -> list[Figure]:
    why = (
        "A stream that begins and then closes without an end, or says `error` in its body, is a success to its chat client;"
        " failed answers are in no latency of either side."
    )
    return [
        number(
            "Successful requests", "requests", int(rows.sum()), sight.ours.num,
            "status 200 and at least one output chunk, no exception while reading", why,
        ),
        number(
            "Failed requests", "requests", int((sight.sent & ~rows).sum()), sight.ours.num_failed,
            "all others that were sent; throttled ones among them", why,
        ),
    ]  # fmt: skip


def _rates(sight: Sight, rows: Mask) -> list[Figure]:
    seconds, ours = sight.span_s, sight.ours
    output, prompt = total(sight.output[rows]), total(sight.prompt[rows])
    why = "Its time also holds the failed requests, up to the last that ended; its tokens those of broken streams."
    return [
        number("Request throughput", "req/s", rate(int(rows.sum()), seconds), ours.request_rate, "successful / duration", why),
        number(
            "Output token throughput", "tok/s", rate(output, seconds), ours.output_rate,
            "sum of usage.completion_tokens (else of its tokenizer's count) / duration", why,
        ),
        number(
            "Total token throughput", "tok/s", rate(both(prompt, output), seconds), ours.total_rate,
            "(prompt tokens + output tokens) / duration", why,
        ),
    ]  # fmt: skip
