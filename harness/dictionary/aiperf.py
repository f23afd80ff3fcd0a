"""AIPerf 0.13.0, the successor of genai-perf: `metrics/types/*`, `transports/sse_utils.py`, `records/inference_result_parser.py`."""

from __future__ import annotations

import numpy as np

from harness.dictionary.figures import Figure, ToolFigures
from harness.dictionary.lines import STATISTICS, number, spread
from harness.dictionary.sight import MS, Sight, both, rate, span_s, total
from harness.dictionary.spread import linear
from harness.table import Floats, Mask

__all__ = ["VERSION", "aiperf"]

VERSION = "0.13.0"

# It looks for `event: error` only and skips what it cannot read.
_UNNOTICED = ("no_end", "ended_inside_event", "in_band_error", "bad_json", "two_finishes", "content_after_end")
_SAYS_ERROR = ("openai-responses", "anthropic-messages")  # their streams name the event of an error
_LINEAR = "numpy's linear percentiles"
_RECOUNTED = "It counts the text again with a tokenizer of its own, and a record holds no text; --use-server-token-count is below."
_FLAG = "--use-server-token-count"


def aiperf(sight: Sight) -> ToolFigures:
    """Its console table: milliseconds, by request. What it says of tokens is known only with the server's counts."""
    rows, ours = _answered(sight), sight.ours
    ttft = sight.first_at - sight.sent_at
    latency = np.where(sight.table.stream, sight.last_at, sight.done_at) - sight.sent_at
    itl = (latency - ttft) / np.where(sight.output > 1, sight.output - 1, np.nan)
    itl_formula = f"(request latency - TTFT) / (output tokens - 1), one value a request; {_LINEAR}"
    figures = [
        *spread(
            "TTFT", MS, linear(ttft[rows]), ours.ttft, f"first chunk with content - send; {_LINEAR}",
            "Its clock starts at the send, ours at the intended time; it counts broken streams that had begun, and interpolates.",
        ),
        *(number(f"ITL {each}", "ms", None, None, itl_formula, _RECOUNTED) for each in STATISTICS),
        *spread(
            f"ITL, {_FLAG}", MS, linear(itl[rows]), ours.itl, itl_formula,
            "One value a request, which others call TPOT: a stall inside an answer is averaged away, and long answers count as one.",
        ),
        *spread(
            "Inter chunk latency", MS, sight.gaps(rows), ours.itl, "every gap between two chunks with content; a t-digest, exact to 0.05 %",
            "It takes a chunk for a token: chunks of several tokens make it larger than ours.",
        ),
        *spread(
            "Request latency", MS, linear(latency[rows]), ours.e2e, f"last chunk with content - send; {_LINEAR}",
            "It ends at the last content chunk, ours at the end of the answer, and it starts at the send, ours at the intended time.",
        ),
        *_rates(sight, rows, np.asarray(sight.sent_at + latency)),
    ]  # fmt: skip
    return ToolFigures(tool="aiperf", version=VERSION, figures=figures)


def _answered(sight: Sight) -> Mask:
    said = np.zeros_like(sight.ok)
    for protocol in _SAYS_ERROR:
        said |= sight.table.labels["protocol"].is_(protocol)
    said &= sight.table.labels["error_kind"].is_("in_band_error")
    return np.asarray(sight.ok | (sight.answered(_UNNOTICED) & ~np.isnan(sight.first_at) & ~said))


def _rates(sight: Sight, rows: Mask, ended_at: Floats) -> list[Figure]:
    seconds, ours = span_s(sight.sent_at[rows], ended_at[rows]), sight.ours
    num, num_sent = int(rows.sum()), int(sight.sent.sum())
    output, prompt = total(sight.output[rows]), total(sight.prompt[rows])
    why = "Its time ends with the last content chunk of an answer that it takes for good, ours with the end of the last answer."
    return [
        number("Request throughput", "req/s", rate(num, seconds), ours.request_rate, "valid requests / duration", why),
        number("Output token throughput", "tok/s", None, ours.output_rate, "sum of output lengths / duration", _RECOUNTED),
        number(
            f"Output token throughput, {_FLAG}", "tok/s", rate(output, seconds), ours.output_rate, "sum of usage.completion_tokens / duration",
            why,
        ),
        number(
            f"Total token throughput, {_FLAG}", "tok/s", rate(both(prompt, output), seconds),
            ours.total_rate, "(prompt + output tokens) / duration", why,
        ),
        number("Request count", "requests", num, ours.num, "no error and at least one chunk with content", _SEES),
        number(
            "Request error rate", "%", 100 * (num_sent - num) / num_sent if num_sent else None,
            100 * ours.num_failed / num_sent if num_sent else None, "100 * errors / (requests + errors)", _SEES,
        ),
    ]  # fmt: skip


_SEES = "An `error` in the data of a stream and a stream without an end are successes to it: it looks for `event: error` only."
