"""The record: one line for every request, plan and fact side by side. Everything else is a fold over these.

Instants (`_at`) are seconds from the run's origin, durations (`_s`) seconds; a missing value is null, never 0.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from harness.errors import RunError
from harness.run_files import readable

__all__ = [
    "SCHEMA",
    "Footer",
    "Header",
    "Outcome",
    "RecordFile",
    "RecordWriter",
    "RequestRecord",
    "read_record_file",
]

SCHEMA = 1

Outcome = Literal["ok", "throttled", "failed", "cut", "incomplete", "refused", "left"]


class RequestRecord(msgspec.Struct, kw_only=True, omit_defaults=False, gc=False):  # it can hold no cycle
    """One request.

    `intended_at` is when the plan wanted it sent, `sent_at` when it was sent, which for a new
    connection is when connecting began. `first_token_at` is the arrival
    of the first chunk with content; `token_gaps_s` are the gaps between content chunks, `chunk_tokens` the tokens in
    each chunk (null: one each). `token_source` says who counted the output tokens: `server` (its usage) or `local`.
    `outcome`: throttled is 429, 529 or 503 with Retry-After; failed any other error; cut a stream the server broke;
    incomplete one that was open when the run ended; refused one that we kept back ourselves (the cap on requests in
    flight, a budget, no descriptor or port left on our machine); left one that our client went away from, as the plan said. `num_stale_sockets` counts kept-alive
    connections that turned out dead before a byte came and were replaced; `throttled_s` is time spent waiting because the
    server asked for it. `doubt` says why the sample's times may be wrong by our own fault, as labels joined by commas;
    `read_lag_s` is the longest that bytes of the answer lay in the kernel before they were read, null where the kernel gave
    no stamps (TLS, other systems than Linux): the instants are then those of our reads.
    """

    kind: Literal["request"] = "request"
    # the plan
    request_id: str
    scenario: str | None = None
    user_class: str | None = None
    class_name: str | None = None
    tenant: str | None = None
    feature: str | None = None
    phase: str | None = None
    protocol: str | None = None
    model: str | None = None
    stream: bool = True
    planned_prompt_tokens: int | None = None
    planned_output_tokens: int | None = None
    intended_at: float
    # the facts
    sent_at: float | None = None
    connected_at: float | None = None
    first_byte_at: float | None = None
    first_token_at: float | None = None
    last_token_at: float | None = None
    done_at: float | None = None
    token_gaps_s: list[float] | None = None
    chunk_tokens: list[int] | None = None
    num_chunks: int | None = None
    num_merged_chunks: int | None = None
    # tokens
    num_prompt_tokens: int | None = None
    num_cached_tokens: int | None = None
    num_cache_write_tokens: int | None = None
    num_cache_write_1h_tokens: int | None = None  # of them, those that are kept for an hour and cost more (Anthropic)
    num_output_tokens: int | None = None
    num_reasoning_tokens: int | None = None
    token_source: Literal["server", "local"] | None = None
    # what became of it
    status: int | None = None
    outcome: Outcome = "incomplete"
    error_kind: str | None = None
    error_text: str | None = None
    finish_reason: str | None = None
    num_attempts: int = 0
    num_stale_sockets: int = 0
    throttled_s: float | None = None
    # what the server said of itself
    model_served: str | None = None
    server_request_id: str | None = None
    cache_outcome: str | None = None
    queue_s: float | None = None
    replica: str | None = None
    # judgement
    doubt: str | None = None
    read_lag_s: float | None = None
    cost_usd: float | None = None


class Header(msgspec.Struct, kw_only=True):
    """First line of a record file: who writes it, and how its instants relate to the machine's clocks.

    `clock_offset_s`: the master's monotonic clock minus this one's, wrong by at most `clock_error_s`, from an exchange that
    was `rtt_s` under way; null where there was no master.
    """

    kind: Literal["header"] = "header"
    schema_version: int = SCHEMA
    run_id: str
    scenario: str
    host: str
    pid: int
    boot_id: str | None
    clocks: dict[str, float]
    origin_monotonic: float
    worker_index: int
    num_workers: int
    clock_offset_s: float | None = None
    clock_error_s: float | None = None
    rtt_s: float | None = None


class Footer(msgspec.Struct, kw_only=True):
    """Last line of a record file: the writer ended in order and says how much it wrote."""

    kind: Literal["footer"] = "footer"
    num_opened: int
    num_closed: int
    sha256: str
    closed_at: float


_ENCODE = msgspec.json.Encoder().encode


class RecordWriter:
    """Writes one file, one `write` a line, unbuffered: what a finished request left survives SIGKILL of the process."""

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self.num_opened = 0
        self.num_closed = 0
        self._broken: str | None = None
        self._digest = hashlib.sha256()
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise RunError(f"cannot write records to {path}: {error.strerror}") from error
        self._write(header)

    def opened(self) -> None:
        """A request was sent; its record will follow."""
        self.num_opened += 1

    def write(self, record: RequestRecord) -> None:
        """A request is over. Raises RunError when the line cannot be written whole."""
        self._write(record)
        self.num_closed += 1

    def close(self, at: float) -> None:
        """Write the footer and close the file."""
        footer = Footer(
            num_opened=self.num_opened,
            num_closed=self.num_closed,
            sha256=self._digest.hexdigest(),
            closed_at=at,
        )
        try:
            self._write(footer)
            os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)

    def _write(self, value: Header | RequestRecord | Footer) -> None:
        if self._broken is not None:
            raise RunError(self._broken)  # a line after a torn one would make the whole file unreadable
        line = _ENCODE(value) + b"\n"
        try:
            written = os.write(self._descriptor, line)
        except OSError as error:
            self._broken = f"cannot write records to {self.path}: {error.strerror}"
            raise RunError(self._broken) from error
        if written != len(line):
            self._broken = f"only {written} of {len(line)} bytes of a record went to {self.path}; is the disk full?"
            raise RunError(self._broken)
        self._digest.update(line)


@dataclass
class RecordFile:
    """What one record file holds. `problems` says in words what is wrong with it; a whole file has none."""

    path: Path
    header: Header | None = None
    footer: Footer | None = None
    num_records: int = 0
    num_torn: int = 0
    problems: list[str] = field(default_factory=list)


_BUFFER = 1 << 20
_HEADER = msgspec.json.Decoder(Header)
_RECORD = msgspec.json.Decoder(RequestRecord)
_FOOTER = msgspec.json.Decoder(Footer)
_Line = TypeVar("_Line")


def read_record_file(path: Path, into: RecordFile) -> Iterator[RequestRecord]:
    """Yield the records of one file and note in `into` what is found.

    Tolerates exactly one torn line, the last: a process that was killed left it. Raises RunError for any other
    line that cannot be read, because then a number computed from this file would be wrong.
    """
    digest, decode, num = hashlib.sha256(), _RECORD.decode, 0
    with readable(path), path.open("rb", buffering=_BUFFER) as file:
        for number, line in enumerate(file, start=1):
            if line.startswith(b'{"kind":"request"') and line.endswith(b"\n") and into.footer is None:
                try:
                    record = decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise RunError(f"{path}:{number}: {error}") from error
                num += 1
                yield record
            elif not line.endswith(b"\n"):
                into.num_torn += 1
                break
            else:
                into.num_records = num
                if into.footer is not None:
                    into.problems.append(f"{path.name}:{number}: a line after the footer")
                if line.startswith(b'{"kind":"request"'):
                    num += 1
                    yield _decode(_RECORD, line, path, number)
                else:
                    _take_other(line, number, into, digest.hexdigest())
            digest.update(line)
    into.num_records = num
    if into.header is None:
        into.problems.append(f"{path.name} has no header")
    if into.footer is None:
        torn = " and its last line is torn" if into.num_torn else ""
        into.problems.append(f"{path.name} has no footer{torn}: its writer was killed")


def _take_other(line: bytes, number: int, into: RecordFile, digest: str) -> None:
    """A line that is no record: the header, the footer, or what should not be there."""
    path = into.path
    if line.startswith(b'{"kind":"header"'):
        into.header = _decode(_HEADER, line, path, number)
        if into.header.schema_version != SCHEMA:
            raise RunError(f"{path}: schema {into.header.schema_version}; this version reads schema {SCHEMA}")
    elif line.startswith(b'{"kind":"footer"'):
        into.footer = _decode(_FOOTER, line, path, number)
        _check_footer(into, digest)
    else:
        raise RunError(f"{path}:{number}: a line of no known kind: {line[:60]!r}")


def _decode(decoder: msgspec.json.Decoder[_Line], line: bytes, path: Path, number: int) -> _Line:
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path}:{number}: {error}") from error


def _check_footer(into: RecordFile, digest: str) -> None:
    footer = into.footer
    assert footer is not None
    if footer.num_closed != into.num_records:
        into.problems.append(f"{into.path.name} holds {into.num_records} records, its footer says {footer.num_closed}")
    elif footer.sha256 != digest:
        into.problems.append(f"{into.path.name} was changed after it was written: its checksum differs")
    if footer.num_opened != footer.num_closed:
        missing = footer.num_opened - footer.num_closed
        into.problems.append(f"{into.path.name}: {missing} requests were sent and left no record")
