"""genai-bench 0.0.5, on Locust: `user/openai_user.py`, `metrics/request_metrics_collector.py`, `metrics/aggregated_metrics_collector.py`."""

from __future__ import annotations

import numpy as np

from harness.dictionary.figures import Figure, ToolFigures
from harness.dictionary.lines import number, spread
from harness.dictionary.sight import S, Sight, both, rate, total
from harness.dictionary.spread import linear
from harness.table import Mask

__all__ = ["VERSION", "genai_bench"]

VERSION = "0.0.5"

_UNNOTICED = ("no_end", "two_finishes", "content_after_end")
_LINEAR = "numpy's linear percentiles"
_TOO_SHORT_S = 0.001  # a decode shorter than that has no TPOT
_CONNECTS = (
    "Its clock starts at the send and every request opens a connection of its own, which is in a record only where ours did;"
    " ours starts at the intended time."
)


def genai_bench(sight: Sight) -> ToolFigures:
    """Its JSON: seconds, by request."""
    rows, ours = sight.answered(_UNNOTICED) & ~np.isnan(sight.first_at), sight.ours
    e2e, ttft = (sight.done_at - sight.sent_at)[rows], (sight.first_at - sight.sent_at)[rows]
    decode, output = e2e - ttft, sight.output[rows]
    tpot = np.where((output > 1) & (decode >= _TOO_SHORT_S), decode, np.nan) / np.where(output > 1, output - 1, np.nan)
    figures = [
        *_counts(sight, rows),
        *spread("TTFT", S, linear(ttft), ours.ttft, f"first chunk with content - send; {_LINEAR}", _CONNECTS),
        *spread(
            "TPOT", S, linear(tpot), ours.tpot, f"(E2E - TTFT) / (output tokens - 1), none below 1 ms of decode; {_LINEAR}",
            "Its E2E ends when the usage has come, so the tail after the last token is shared among the tokens.",
        ),
        *spread(
            "E2E latency", S, linear(e2e), ours.e2e, f"chunk with the usage, or [DONE], - send; taken as the end of the answer; {_LINEAR}",
            _CONNECTS,
        ),
        *_rates(sight, rows),
    ]  # fmt: skip
    return ToolFigures(tool="genai-bench", version=VERSION, figures=figures)


def _counts(sight: Sight, rows: Mask) -> list[Figure]:
    failed = int((sight.sent & ~rows).sum())
    return [
        number(
            "Completed requests", "requests", int(rows.sum()), sight.ours.num, "status 200 and no `error` in the stream",
            "A stream that closes without an end is a success to it; one without a first token ends the tool with an exception.",
        ),
        number("Error requests", "requests", failed, sight.ours.num_failed, "all other answers", "As with the completed ones."),
        number(
            "Error rate", "share", 0.0, sight.ours.num_failed / int(sight.sent.sum()) if sight.sent.any() else None,
            "error requests / requests, before the requests are counted",
            "It divides before it has counted the requests, and so says 0 however many failed.",
        ),
    ]  # fmt: skip


def _rates(sight: Sight, rows: Mask) -> list[Figure]:
    seconds, ours = sight.span_s, sight.ours
    output, prompt = total(sight.output[rows]), total(sight.prompt[rows])
    why = (
        "Its time goes on to the whole second at which it looks whether enough requests have ended, and those then open are lost:"
        " the tool says less than this, the shorter the run the more."
    )
    return [
        number("Requests per second", "req/s", rate(int(rows.sum()), seconds), ours.request_rate, "completed / run duration", why),
        number("Output throughput", "tok/s", rate(output, seconds), ours.output_rate, "sum of output tokens / run duration", why),
        number(
            "Total throughput", "tok/s", rate(both(prompt, output), seconds), ours.total_rate,
            "sum of prompt and output tokens / run duration", why,
        ),
    ]  # fmt: skip
