"""Runs for the tests of the page: all there can be, nothing at all, and one whose every text is an attack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from harness.records import RequestRecord
from harness.store import RunDirectory, Sample
from harness.summary import load_run, summarize
from reports import write_report
from tests.harness.builders import HEADER, bare_record, record, write_run

HOSTILE = (
    "</script><script>window.broken = 1</script>",
    "<img src=x onerror='window.broken = 1'>",
    '"\' onmouseover="window.broken = 1" x=\'',
    "{{ 7 * 7 }}{% raw %}",
    "<!--<script>",
    "--></title></style></table></pre><h1 id=broken>",
    "<a href='javascript:window.broken=1'>name</a>",
    "]]>&lt;b&gt;&#60;b&#62;\u2028\x00\\u003cb\\u003e",
)

_SAMPLES = [Sample(at=second + 0.5, cpu=0.1 + second / 100, loop_lag_s=0.001, num_in_flight=3) for second in range(20)]


def answered(number: int, **fields: Any) -> RequestRecord:
    """An ok request. Its latencies vary with its number in a fixed way; its chunks carry 1 to 3 tokens."""
    at = number * 0.05
    first = at + 0.002 + 0.1 + (number * 7919 % 101) / 500
    gaps = [0.004 + (number * 31 + step * 17) % 23 / 1000 for step in range(9)]
    last = first + sum(gaps)
    chunk_tokens = [1 + (number + step) % 3 for step in range(10)]
    num_output = sum(chunk_tokens)
    return record(
        number,
        **{
            "intended_at": at,
            "phase": "quiet" if number < 200 else "burst",
            "sent_at": at + 0.002,
            "connected_at": at + 0.003,
            "first_token_at": round(first, 6),
            "last_token_at": round(last, 6),
            "done_at": round(last + 0.001, 6),
            "token_gaps_s": gaps,
            "chunk_tokens": chunk_tokens,
            "planned_output_tokens": num_output,
            "num_output_tokens": num_output,
        }
        | fields,
    )


def _ended(number: int, outcome: str, kind: str, text: str) -> RequestRecord:
    at = number * 0.05
    done = None if outcome == "incomplete" else at + 0.03
    return bare_record(
        number,
        intended_at=at,
        sent_at=at + 0.002,
        done_at=done,
        outcome=outcome,
        error_kind=kind,
        error_text=text,
    )


def mixed(path: Path) -> RunDirectory:
    """400 requests: most ok, one not streamed, two with tokens that were not planned, every other outcome."""
    records = [answered(number) for number in range(390)]
    records[5] = answered(
        5, stream=False, first_token_at=None, last_token_at=None, token_gaps_s=None, chunk_tokens=None
    )
    records[6] = answered(6, planned_output_tokens=30)
    records[7] = answered(7, planned_output_tokens=31, num_prompt_tokens=99)
    records += [_ended(number, "throttled", "http_429", "slow down") for number in range(390, 394)]
    records += [_ended(number, "failed", "http_500", "the server has no answer") for number in range(394, 396)]
    records.append(_ended(396, "failed", "in_band_error", "out of memory"))
    records.append(_ended(397, "cut", "closed_mid_answer", "connection closed after 3 chunks"))
    records.append(_ended(398, "incomplete", "run_ended", "still open when the run ended"))
    records.append(bare_record(399, intended_at=19.95, outcome="refused", error_kind="cap_in_flight"))
    directory = write_run(path, [records], samples=_SAMPLES, duration_s=20.0, command=["harness", "run", "a b.py"])
    _ledger(directory, records)
    return directory


def _ledger(directory: RunDirectory, records: list[RequestRecord]) -> None:
    """A ledger of a mock that wrote every chunk 1 ms before it came, and never saw the first request."""
    header = {"kind": "header", "boot_id": HEADER.boot_id, "monotonic_origin": HEADER.origin_monotonic}
    lines = [msgspec.json.encode(header)]
    for item in records[1:390]:
        first, last = item.first_token_at, item.last_token_at
        written = [first - 0.001, last - 0.001] if first is not None and last is not None else []
        entry = {
            "client_request_id": item.request_id,
            "stream": item.stream,
            "planned_at": [at - 0.0001 for at in written],
            "written_at": written,
            "num_output_tokens": item.num_output_tokens,
            "outcome": "ok",
        }
        lines.append(msgspec.json.encode(entry))
    directory.write_atomically("ledger.jsonl", b"\n".join(lines) + b"\n")


def empty(path: Path) -> RunDirectory:
    """A run that was stopped before it sent anything."""
    return write_run(path, [[]])


def all_failed(path: Path) -> RunDirectory:
    """A run against a server that was not there."""
    return write_run(path, [[_ended(number, "failed", "unreachable", "connection refused") for number in range(40)]])


def one(path: Path) -> RunDirectory:
    """A run of one request."""
    return write_run(path, [[record(0)]])


def texts(path: Path, text: str) -> RunDirectory:
    """A run in which every text that comes from outside is `text`."""
    failed = _ended(40, "failed", text, text)
    failed.phase, failed.model = text, text
    records = [answered(number, phase=text, model=text) for number in range(40)]
    return write_run(
        path,
        [[*records, failed]],
        run_id=text,
        scenario=text,
        target=text,
        model=text,
        command=["harness", "run", text],
        options={"name": text, text: text},
        plan={"arrivals": text, "pieces": [[0, 1, text]]},
        versions={"python": text},
        machine={"host": text},
        ended_how=text,
    )


def page_of(directory: RunDirectory) -> Path:
    """Write the report of a run directory."""
    run = load_run(directory)
    return write_report(run, summarize(run))
