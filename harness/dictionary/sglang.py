"""`sglang.bench_serving` of SGLang 0.5.23 against an OpenAI-compatible chat endpoint: `benchmark/serving.py`."""

from __future__ import annotations

import numpy as np

from harness.dictionary.figures import Figure, ToolFigures
from harness.dictionary.lines import number, spread
from harness.dictionary.sight import MS, Sight, both, rate, total
from harness.dictionary.spread import linear
from harness.table import Floats, Mask

__all__ = ["VERSION", "sglang"]

VERSION = "0.5.23"

# A stream is a success when reading it raises nothing: one that is empty, or broken off without an exception, is one too.
_UNNOTICED = ("no_end", "in_band_error", "two_finishes", "content_after_end", "empty_answer")
_LINEAR = "numpy's linear percentiles"


def sglang(sight: Sight) -> ToolFigures:
    """Its printed result: milliseconds, by request; ITL by chunk."""
    rows, ours = sight.answered(_UNNOTICED), sight.ours
    e2e, ttft = sight.done_at - sight.sent_at, _ttft(sight)
    requested = np.where(np.isnan(planned := sight.table["planned_output_tokens"]), sight.output, planned)
    figures = [
        *_counts(sight, rows),
        *spread(
            "TTFT", MS, linear(ttft[rows]), ours.ttft,
            f"first chunk with content - send; 0 for an empty stream, E2E for an answer that is not streamed; {_LINEAR}",
            "Its clock starts at the send, ours at the intended time; it counts broken and empty streams, and interpolates.",
        ),
        *spread(
            "TPOT", MS, linear(((e2e - ttft) / _but_first(requested))[rows]), ours.tpot,
            f"(E2E - TTFT) / (requested tokens - 1); {_LINEAR}",
            "Its E2E ends at [DONE], so the tail after the last token is shared among the tokens; it asks for no usage, and takes"
            " the requested length for the length of the answer.",
        ),
        *spread(
            "ITL", MS, sight.gaps(rows), ours.itl, f"every gap between two chunks with content; {_LINEAR}",
            "It takes a chunk for a token: chunks of several tokens make it larger than ours, chunks read together make zeros.",
        ),
        *spread(
            "E2E latency", MS, linear(e2e[rows]), ours.e2e, f"last line of the stream, [DONE], - send; {_LINEAR}",
            "Its clock starts at the send, ours at the intended time; it counts broken streams, and interpolates.",
        ),
        *_rates(sight, rows, np.asarray(requested)),
    ]  # fmt: skip
    return ToolFigures(tool="sglang.bench_serving", version=VERSION, figures=figures)


def _ttft(sight: Sight) -> Floats:
    ttft = np.where(sight.table.stream, sight.first_at, sight.done_at) - sight.sent_at
    return np.asarray(np.where(np.isnan(ttft) & sight.table.stream, 0.0, ttft))


def _but_first(tokens: Floats) -> Floats:
    return np.asarray(np.where(tokens > 1, tokens - 1, np.nan))


def _counts(sight: Sight, rows: Mask) -> list[Figure]:
    why = "Streams that closed without an end, said `error` in their body or held nothing at all are successes to it."
    return [
        number(
            "Successful requests", "requests", int(rows.sum()), sight.ours.num,
            "status 200 and no exception while reading", why,
        ),
    ]  # fmt: skip


def _rates(sight: Sight, rows: Mask, requested: Floats) -> list[Figure]:
    seconds, ours = sight.span_s, sight.ours
    output, counted = total(requested[rows]), total(sight.output[rows])
    prompt = total(_planned_prompt(sight)[rows])
    why = "Its time also holds the failed requests, up to the last that ended."
    requested_why = (
        "It asks for no usage and counts the tokens that it asked for, also those of an answer that broke off: a server that dies"
        " half-way looks faster. " + why
    )
    return [
        number("Request throughput", "req/s", rate(int(rows.sum()), seconds), ours.request_rate, "successful / duration", why),
        number(
            "Output token throughput", "tok/s", rate(output, seconds), ours.output_rate,
            "sum of the requested output lengths of successful requests / duration", requested_why,
        ),
        number(
            "Output token throughput, usage asked for", "tok/s", rate(counted, seconds), ours.output_rate,
            "sum of usage.completion_tokens / duration, with stream_options.include_usage in --extra-request-body",
            why + " It then counts what the server counted.",
        ),
        number(
            "Total token throughput", "tok/s", rate(both(prompt, output), seconds),
            ours.total_rate, "(prompt lengths of its data set + requested output lengths) / duration", requested_why,
        ),
    ]  # fmt: skip


def _planned_prompt(sight: Sight) -> Floats:
    planned = sight.table["planned_prompt_tokens"]
    return np.asarray(np.where(np.isnan(planned), sight.prompt, planned))
