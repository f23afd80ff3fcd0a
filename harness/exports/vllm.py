"""The JSON of `vllm bench serve --save-result --save-detailed`, vLLM 0.33.0 (`benchmarks/serve.py`), so that its plots and sweeps read
our runs. Numbers are by its definitions (`harness.dictionary.vllm`), not by ours, but for the requests that are good: those of the run's
own objectives, from the intended time."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Any

import numpy as np

from harness.dictionary.sight import Sight, rate, total
from harness.dictionary.vllm import answered, time_per_output_token
from harness.exports.measured import TOOL, Measured
from harness.exports.writing import Pieces, json_object
from harness.goodput import good_rows
from harness.table import Floats, Ints, Mask

__all__ = ["vllm_result"]

_PERCENTILES = (50, 90, 95, 99)
_AT_ONCE = 4096


def vllm_result(run: Measured) -> Pieces:
    """The file. Requests in order of their intended times: those that were sent and ended by themselves. Texts are not recorded and
    stand there empty; `errors` holds our label of what went wrong. Times are seconds but for `*_ms`."""
    sight = Sight(run.table)
    order = np.flatnonzero(sight.sent)
    order = order[np.argsort(run.table["intended_at"][order], kind="stable")]
    rows = answered(sight)
    fields = {
        **run.manifest.labels,  # as its --metadata; the names that follow are not for labels
        **_asked(run, len(order)),
        **_totals(run, sight, rows),
        **_details(sight, rows, order),
        **_peaks(sight, rows),
        **_latencies(sight, rows),
    }
    return json_object(fields)


def _asked(run: Measured, num: int) -> dict[str, Any]:
    manifest = run.manifest
    backend = "openai" if "openai-completions" in run.table.labels["protocol"].names else "openai-chat"
    return {
        "date": run.started.strftime("%Y%m%d-%H%M%S"),
        "endpoint_type": backend,
        "backend": backend,
        "label": f"{TOOL} {manifest.run_id}",
        "model_id": manifest.model,
        "tokenizer_id": None,
        "num_prompts": num,
        "request_rate": run.asked_rate or "inf",
        "burstiness": None,
        "max_concurrency": manifest.max_in_flight,
    }


def _totals(run: Measured, sight: Sight, rows: Mask) -> dict[str, Any]:
    seconds = sight.span_s
    num, prompt, output = int(rows.sum()), int(total(sight.prompt[rows]) or 0), int(total(sight.output[rows]) or 0)
    counted, good = good_rows(run.table, run.manifest.objectives)
    return {
        "duration": seconds,
        "completed": num,
        "failed": int((sight.sent & ~rows).sum()),
        "total_input_tokens": prompt,
        "total_output_tokens": output,
        "request_throughput": rate(num, seconds) or 0.0,
        "request_goodput": rate(int(good.sum()), seconds) if counted.any() else None,
        "output_throughput": rate(output, seconds) or 0.0,
        "total_token_throughput": rate(prompt + output, seconds) or 0.0,
        "rtfx": 0.0,
    }


def _details(sight: Sight, rows: Mask, order: Ints) -> dict[str, Iterator[list[Any]]]:
    """One entry a request in each list. What it has not seen of a failed request is 0 in its file."""
    table = sight.table
    ttft, latency = (np.where(rows, each - sight.sent_at, 0.0) for each in (sight.first_at, _ended_at(sight)))
    kinds = table.labels["error_kind"]
    names = np.array([*kinds.names, ""], dtype=object)
    errors = np.where(rows, "", names[kinds.codes])
    return {
        "input_lens": _parts(_whole(sight.prompt), order),
        "output_lens": _parts(_whole(np.where(rows, sight.output, 0.0)), order),
        "ttfts": _parts(_rounded(ttft), order),
        "itls": _gaps(sight, rows, order),
        "latencies": _parts(_rounded(latency), order),
        "start_times": _parts(sight.sent_at, order),
        "queue_times": _parts(np.zeros(len(table)), order),
        "generated_texts": _parts(np.full(len(table), "", dtype=object), order),
        "errors": _parts(errors, order),
    }


def _parts(column: Any, order: Ints) -> Iterator[list[Any]]:
    for start in range(0, len(order), _AT_ONCE):
        yield column[order[start : start + _AT_ONCE]].tolist()


def _gaps(sight: Sight, rows: Mask, order: Ints) -> Iterator[list[list[float]]]:
    starts, gaps = sight.table.gap_start, sight.table.gaps
    for begin in range(0, len(order), _AT_ONCE):
        part = order[begin : begin + _AT_ONCE]
        yield [gaps[starts[row] : starts[row + 1]].tolist() if rows[row] else [] for row in part]


def _whole(column: Floats) -> Ints:
    return np.nan_to_num(column).astype(np.int64)


def _rounded(column: Floats) -> Floats:
    """Instants are whole microseconds, their differences in floats are not."""
    return np.nan_to_num(column).round(6)


def _ended_at(sight: Sight) -> Floats:
    """The last token; of an answer that came as a whole, its end."""
    return np.where(np.isnan(sight.last_at), sight.table["done_at"], sight.last_at)


def _latencies(sight: Sight, rows: Mask) -> dict[str, float]:
    of = {
        "ttft": (sight.first_at - sight.sent_at)[rows],
        "tpot": time_per_output_token(sight)[rows],
        "itl": sight.table.gaps[np.repeat(rows, np.diff(sight.table.gap_start))],
        "e2el": (_ended_at(sight) - sight.sent_at)[rows],
    }
    found: dict[str, float] = {}
    for name, seconds in of.items():
        ms = seconds[~np.isnan(seconds)] * 1e3
        ms = ms if len(ms) else np.zeros(1)  # as it says it itself when nothing succeeded
        found |= {
            f"mean_{name}_ms": float(ms.mean()),
            f"median_{name}_ms": float(np.median(ms)),
            f"std_{name}_ms": float(ms.std()),
        }
        values = np.percentile(ms, _PERCENTILES)
        found |= {f"p{percent}_{name}_ms": float(value) for percent, value in zip(_PERCENTILES, values, strict=True)}
    return found


def _peaks(sight: Sight, rows: Mask) -> dict[str, float]:
    """Its two peaks: chunks in the busiest whole second from the first send on, and requests that touch the busiest second, which are
    more than were ever open at once."""
    rows = rows & ~np.isnan(sight.last_at)
    if not rows.any():
        return {"max_output_tokens_per_s": 0.0, "max_concurrent_requests": 0}
    sent, last = sight.sent_at[rows], sight.last_at[rows]
    origin = sent.min()
    num = ceil(last.max() - origin) + 1
    chunks = np.bincount(_seconds(_chunk_times(sight, rows) - origin, num), minlength=num)
    touched = np.zeros(num + 1, dtype=np.int64)
    np.add.at(touched, _seconds(sent - origin, num), 1)
    np.add.at(touched, _seconds(last - origin, num) + 1, -1)
    return {"max_output_tokens_per_s": float(chunks.max()), "max_concurrent_requests": int(touched.cumsum().max())}


def _chunk_times(sight: Sight, rows: Mask) -> Floats:
    """The arrivals of all chunks: of the first, and by the gaps those of the others."""
    num = np.diff(sight.table.gap_start)
    run = sight.table.gaps.cumsum()
    before = np.concatenate([np.zeros(1), run])[sight.table.gap_start[:-1]]
    later = np.repeat(rows, num)
    return np.concatenate(
        [sight.first_at[rows], (run - np.repeat(before, num) + np.repeat(sight.first_at, num))[later]]
    )


def _seconds(since: Floats, num: int) -> Ints:
    return np.clip(since.round(9).astype(np.int64), 0, num - 1)  # 0.9999999999 is a whole second, not quite added up
