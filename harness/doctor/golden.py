"""One load of the golden mock, run and compared with its ledger: the rim of `harness doctor`, and of `make bench`."""

from __future__ import annotations

import subprocess  # only our own programs are started, never a shell
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from math import ceil
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from harness.doctor.certificate import BUDGET_S, Clocks, Level
from harness.errors import HarnessError, TargetError
from harness.launch import start_mock
from harness.quantiles import Distribution, distribution, samples_needed
from harness.records import RecordFile
from harness.store import RunDirectory, open_run
from harness.summary import Summary, load_run, summarize

__all__ = ["GoldenLoad", "gap_errors", "measure_clocks", "measure_level", "run_golden"]

# The profile `golden`: its first token after 200 ms, then one every 20 ms, as many as are asked for.
_FIRST_S = 0.2
_STEP_S = 0.02
_PROMPT_TOKENS = 50
# A mock that lets its chunks out later than this no longer makes the load that was asked for.
_MOCK_LATE_S = 0.010
_PATIENCE_S = 60.0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class GoldenLoad:
    """`streams` answers at once, each of `num_tokens` at 50 tokens/s, for `seconds`."""

    streams: int
    seconds: float
    num_tokens: int = 48

    @property
    def answer_s(self) -> float:
        return _FIRST_S + (self.num_tokens - 1) * _STEP_S

    @property
    def rate(self) -> float:
        """New answers per second that keep so many going."""
        return self.streams / self.answer_s

    @classmethod
    def for_p99(cls, streams: int, at_least_s: float) -> GoldenLoad:
        """A load that lasts until there are samples enough for a 99th percentile."""
        one = cls(streams, at_least_s)
        return cls(streams, max(at_least_s, ceil(samples_needed(99) / one.rate + 0.5)))


def run_golden(load: GoldenLoad, folder: Path, *words: str) -> RunDirectory:
    """Put the load on a golden mock and leave the run, with its ledger, in the folder. `words` go to Locust.

    Raises TargetError when the mock or Locust cannot be run.
    """
    name = f"golden-{load.streams}"
    trace, ledger, out = folder / f"{name}.csv", folder / f"{name}.jsonl", folder / name
    num = max(1, round(load.rate * load.seconds))
    rows = "".join(f"{number / load.rate:.6f},{_PROMPT_TOKENS},{load.num_tokens}\n" for number in range(num))
    trace.write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}")
    command = [sys.executable, "-m", "locust", "-f", str(_scenario()), "--headless", "--only-summary"]
    with start_mock("golden", ledger=ledger, seed=0) as mock:
        command += ["--host", mock.url, "--trace", str(trace), "--out", str(out), *words]
        done = _run(command, load.seconds + load.answer_s + _PATIENCE_S)
    if not (out / "manifest.json").exists():
        raise TargetError(f"the golden load did not run (exit code {done.returncode}): {done.stderr.strip()[-500:]}")
    ledger.replace(out / "ledger.jsonl")
    return open_run(out)


def _scenario() -> Path:
    """The file of the scenario that replays a trace; found, not imported: it brings Locust along."""
    found = find_spec("scenarios")
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0]) / "trace_replay.py"


def measure_level(load: GoldenLoad, folder: Path) -> Level:
    """Run a load and say what the instrument added to it."""
    directory = run_golden(load, folder)
    run = load_run(directory)
    summary = summarize(run)
    if summary.truth is None:
        raise HarnessError("the mock's ledger and the records are on different clocks; nothing can be compared")
    added, tail_percent, tail = summary.truth.ttft_error, *_tail(summary.truth.ttft_error)
    gaps = distribution(gap_errors(directory))
    _, lag = _tail(summary.instrument.send_lag)
    return Level(
        streams=load.streams,
        num_requests=summary.load.num_sent,
        num_chunks=summary.tokens.num_output or 0,
        duration_s=run.manifest.duration_s,
        added_p50_s=added.at(50),
        added_tail_s=tail,
        tail_percent=tail_percent,
        itl_error_p50_s=gaps.at(50),
        itl_error_p99_s=gaps.at(99),
        send_lag_tail_s=lag,
        cpu_max=summary.instrument.cpu_max,
        mock_late_p99_s=summary.truth.lateness.at(99),
        instrument=summary.instrument.state,
        limit=_limit(summary, tail_percent, tail),
    )


def _limit(summary: Summary, tail_percent: float, tail: float | None) -> str | None:
    """Why this load was not measured well; None: it was."""
    assert summary.truth is not None
    late = summary.truth.lateness.at(99)
    if late is not None and late > _MOCK_LATE_S:
        return f"the mock itself was {late * 1e3:.1f} ms late at p99, so no more can be asked of this machine"
    if tail is not None and tail > BUDGET_S:
        return f"{tail * 1e3:.1f} ms are added to TTFT at p{tail_percent:g}, more than {BUDGET_S * 1e3:g} ms"
    if summary.instrument.state == "INVALID":
        return summary.instrument.reasons[0]
    if summary.verdict.answer != "PASS":
        return summary.verdict.reasons[0]
    return None


def _tail(metric: Distribution) -> tuple[float, float | None]:
    """The highest percentile that the samples support: which, and its value; the worst when there is none."""
    for percent in (99.0, 95.0, 90.0):
        if (value := metric.at(percent)) is not None:
            return percent, value
    return 100.0, metric.maximum


# -- gaps against the ledger ---------------------------------------------------------------------------------


class _Written(msgspec.Struct):
    client_request_id: str | None = None
    written_at: list[float] = []


def gap_errors(directory: RunDirectory) -> Floats:
    """How much each gap between two chunks was longer here than in the ledger, seconds; absolute values. Only of answers
    whose chunks came one by one."""
    decode = msgspec.json.Decoder(_Written).decode
    lines = (directory.path / "ledger.jsonl").read_bytes().splitlines(keepends=True)[1:]
    written = {
        entry.client_request_id: entry.written_at for entry in map(decode, (x for x in lines if x.endswith(b"\n")))
    }
    errors: list[Floats] = []
    files: list[RecordFile] = []
    for record in directory.records(files):
        there = np.diff(np.array(written.get(record.request_id, ()), dtype=np.float64))
        here = np.array(record.token_gaps_s or (), dtype=np.float64)
        if record.outcome == "ok" and len(here) == len(there):
            errors.append(np.abs(here - there))
    return np.concatenate(errors) if errors else np.array([])


# -- clocks --------------------------------------------------------------------------------------------------


def measure_clocks() -> Clocks:
    """Clock and timers as a load process has them, measured in one. Raises TargetError when it cannot be run."""
    done = _run([sys.executable, "-m", "harness.swarm.selfcheck"], _PATIENCE_S)
    try:
        return msgspec.json.decode(done.stdout, type=Clocks)
    except msgspec.DecodeError:
        raise TargetError(f"a load process cannot be started: {done.stderr.strip()[-500:]}") from None


def _run(command: list[str], limit_s: float) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise TargetError(f"{' '.join(command[1:4])} did not end within {limit_s:.0f} s") from None
