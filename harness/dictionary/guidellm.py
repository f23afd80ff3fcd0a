"""GuideLLM 0.8.1: `schemas/base/request_stats.py`, `schemas/base/statistics.py`, `benchmark/schemas/metrics.py`."""

from __future__ import annotations

import numpy as np

from harness.dictionary.figures import Figure, ToolFigures
from harness.dictionary.lines import number, spread
from harness.dictionary.sight import MS, S, Sight, both, rate, span_s, total
from harness.dictionary.spread import weighted
from harness.table import Mask

__all__ = ["VERSION", "guidellm"]

VERSION = "0.8.1"

# It sees an error in the body and a broken JSON; a stream may end as it likes.
_UNNOTICED = ("no_end", "two_finishes", "content_after_end")
_RANKED = "percentiles are observed values (nearest rank)"
_START = "Its clock starts when the head of the request is written, so that connecting is not in it; ours starts at the intended time."


def guidellm(sight: Sight) -> ToolFigures:
    """Its tables and JSON: TTFT, ITL and TPOT in milliseconds, latency in seconds."""
    rows, ours = _answered(sight), sight.ours
    output, first, opened = sight.output[rows], sight.first_at[rows], sight.opened_at[rows]
    last = np.where(np.isnan(sight.last_at), sight.done_at, sight.last_at)[rows]
    once = np.ones(len(first))
    itl = np.where(np.isnan(first), 0.0, (sight.last_at[rows] - first) / np.where(output > 1, output - 1, np.nan))
    figures = [
        *_counts(sight, rows),
        *spread(
            "TTFT", MS, weighted(first - opened, once), ours.ttft, f"first chunk with content - head of the request; {_RANKED}", _START,
        ),
        *spread(
            "ITL", MS, weighted(itl, np.nan_to_num(output, nan=1.0) - 1), ours.itl,
            f"(last - first chunk) / (output tokens - 1) of a request, as often as it has gaps; 0 for an answer without chunks; {_RANKED}",
            "The mean of a request stands for each of its gaps: a stall inside an answer does not show in its percentiles.",
        ),
        *spread(
            "TPOT", MS, weighted((last - opened) / np.where(output > 0, output, np.nan), np.nan_to_num(output)), ours.tpot,
            f"(last chunk - head of the request) / output tokens of a request, as often as it has tokens; {_RANKED}",
            "TTFT is in its TPOT, and the first token among those that it is divided by.",
        ),
        *spread(
            "Request latency", S, weighted(sight.done_at[rows] - opened, once), ours.e2e, f"end of the stream - head of the request; {_RANKED}",
            _START,
        ),
        *_rates(sight, rows),
    ]  # fmt: skip
    return ToolFigures(tool="guidellm", version=VERSION, figures=figures)


def _answered(sight: Sight) -> Mask:
    empty = sight.table.labels["error_kind"].is_("empty_answer") & sight.sent & (sight.output > 0)
    return np.asarray(sight.answered(_UNNOTICED) | empty)


def _counts(sight: Sight, rows: Mask) -> list[Figure]:
    why = "A stream that closes without an end is a success to it, and so is an empty one whose usage counts tokens."
    return [
        number(
            "Successful requests", "requests", int(rows.sum()), sight.ours.num,
            "status 200, no `error` in the body, and text or output tokens", why,
        ),
        number("Errored requests", "requests", int((sight.sent & ~rows).sum()), sight.ours.num_failed, "all others that ended", why),
    ]  # fmt: skip


def _rates(sight: Sight, rows: Mask) -> list[Figure]:
    """One report holds two tables with two rates of output tokens."""
    seconds, ours = sight.span_s, sight.ours
    made = np.where(
        rows, sight.output, sight.table["num_chunks"]
    )  # a failed answer has no usage: its chunks are its tokens
    ends = sight.done_at[rows]
    all_output, all_prompt = total(made[sight.sent]), total(sight.prompt[sight.sent])
    why = "It counts every request that ended, failed ones too, and of those the tokens that had come."
    return [
        number(
            "Requests per second", "req/s", rate(int(sight.sent.sum()), seconds), ours.request_rate,
            "requests that ended, failed ones among them / duration", why,
        ),
        number(
            "Output tokens per second (server throughput table)", "tok/s", rate(all_output, seconds), ours.output_rate,
            "output tokens of all requests / duration", why,
        ),
        number(
            "Output tokens per second (text metrics table)", "tok/s", rate(total(sight.output[rows]), span_s(ends, ends)),
            ours.output_rate, "output tokens of successful requests / (last end - first end)",
            "The tokens of all answers are divided by a time that begins only when the first of them has ended.",
        ),
        number(
            "Tokens per second", "tok/s", rate(both(all_prompt, all_output), seconds),
            ours.total_rate, "(prompt + output tokens) of all requests / duration", why,
        ),
    ]  # fmt: skip
