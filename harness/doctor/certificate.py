"""The calibration certificate of a machine: what its instrument adds to latencies, and up to which load.

It is made by `harness doctor`, kept in the user's state directory, and attached to every later run of the same machine and the
same software.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from harness.clock import day_of
from harness.errors import RunError

__all__ = [
    "BUDGET_S",
    "Attached",
    "Certificate",
    "Clocks",
    "Level",
    "attached",
    "best_of",
    "certificate_path",
    "certificate_text",
    "judge",
    "read_certificate",
    "stale_because",
    "write_certificate",
]

BUDGET_S = 0.005  # added TTFT, of the worst hundredth: up to here a load still counts as measured well
_BASE_P50_S = 0.0005
_BASE_TAIL_S = 0.003
_TIMER_TAIL_S = 0.005
_RESOLUTION_S = 1e-4
_BUSY_LOAD = 0.5  # of the CPUs, before we began

# What a measurement depends on. A host's name is not among it: a container has a new one every time.
_MACHINE = ("system", "architecture", "cpu", "num_cpus", "memory_bytes")


class Level(msgspec.Struct, kw_only=True, frozen=True):
    """One load of the golden mock: `streams` at once, each of 50 tokens/s. Seconds; None: too few samples.

    Added TTFT: arrival of the first content here minus its write in the mock's ledger. `added_tail_s` is its highest
    percentile that the samples support, `tail_percent`. ITL error: the gap between two chunks here minus that there.
    `limit` says why the load was not measured well; None: it was.
    """

    streams: int
    num_requests: int
    num_chunks: int
    duration_s: float
    added_p50_s: float | None
    added_tail_s: float | None
    tail_percent: float
    itl_error_p50_s: float | None
    itl_error_p99_s: float | None
    send_lag_tail_s: float | None
    cpu_max: float | None
    mock_late_p99_s: float | None
    instrument: str
    limit: str | None = None

    @property
    def streams_per_s(self) -> float:
        return self.num_requests / self.duration_s

    @property
    def chunks_per_s(self) -> float:
        return self.num_chunks / self.duration_s


class Clocks(msgspec.Struct, kw_only=True, frozen=True):
    """Clock and timers of a load process. `resolution_s`: the smallest step of the monotonic clock; `timer_late_*`: how much
    later than asked a wait of a millisecond ended; `receive_stamps`: whether the kernel says when bytes came."""

    resolution_s: float
    timer_late_p50_s: float
    timer_late_p99_s: float
    timer_late_max_s: float
    receive_stamps: bool


class Certificate(msgspec.Struct, kw_only=True):
    """`certificate.json`. `base` is the load of 40 streams; `best` the highest load that was measured well, `limit` why no
    higher one was (None: no higher one was tried)."""

    schema_version: int = 1
    made_wall: float
    state: str  # OK or LIMITED
    reasons: list[str]
    quick: bool
    machine: dict[str, Any]
    versions: dict[str, str]
    load_average: float | None
    clocks: Clocks
    base: Level
    best: Level | None
    limit: str | None
    levels: list[Level]


class Attached(msgspec.Struct, kw_only=True):
    """A certificate as a run's manifest carries it. `stale`: what has changed since it was made; empty: it holds."""

    made_wall: float
    state: str
    added_p50_s: float | None
    added_tail_s: float | None
    tail_percent: float
    itl_error_p99_s: float | None
    max_streams: int | None
    max_chunks_per_s: float | None
    resolution_s: float
    receive_stamps: bool
    stale: list[str]


def judge(clocks: Clocks, base: Level, load_average: float | None, num_cpus: int | None) -> tuple[str, list[str]]:
    """OK, or LIMITED and why."""
    reasons = []
    if base.limit is not None:
        reasons.append(f"already {base.streams} streams are not measured well: {base.limit}")
    if base.added_p50_s is not None and base.added_p50_s > _BASE_P50_S:
        reasons.append(
            f"{base.added_p50_s * 1e3:.2f} ms are added to the median TTFT, more than {_BASE_P50_S * 1e3:g} ms"
        )
    if base.added_tail_s is not None and base.added_tail_s > _BASE_TAIL_S:
        tail = f"p{base.tail_percent:g}"
        reasons.append(
            f"{base.added_tail_s * 1e3:.2f} ms are added to TTFT at {tail}, more than {_BASE_TAIL_S * 1e3:g} ms"
        )
    if clocks.timer_late_p99_s > _TIMER_TAIL_S:
        reasons.append(f"timers are {clocks.timer_late_p99_s * 1e3:.1f} ms late at p99: requests will be sent late")
    if clocks.resolution_s > _RESOLUTION_S:
        reasons.append(f"the clock steps by {clocks.resolution_s * 1e6:.0f} µs")
    if load_average is not None and num_cpus and load_average > _BUSY_LOAD * num_cpus:
        reasons.append(
            f"other programs kept {load_average:.1f} of {num_cpus} CPUs busy before it began: run it again alone"
        )
    return ("LIMITED" if reasons else "OK"), reasons


# -- where it is kept ----------------------------------------------------------------------------------------


def certificate_path(environment: Mapping[str, str]) -> Path:
    """Where the certificate of this user's machine lies: in $XDG_STATE_HOME, by default ~/.local/state."""
    state = environment.get("XDG_STATE_HOME", "")
    home = Path(state) if state.startswith("/") else Path(environment.get("HOME") or "/") / ".local" / "state"
    return home / "llm-load-harness" / "certificate.json"


def write_certificate(certificate: Certificate, path: Path) -> None:
    """Raises RunError when it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.part")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(certificate), indent=2))
        draft.replace(path)
    except OSError as error:
        raise RunError(f"cannot write the certificate to {path}: {error.strerror}") from error


def read_certificate(path: Path) -> Certificate | None:
    """The certificate at a path; None when there is none, or none that this version can read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Certificate)
    except (OSError, msgspec.DecodeError):
        return None


def stale_because(certificate: Certificate, machine: Mapping[str, Any], versions: Mapping[str, str]) -> list[str]:
    """What is not as it was when the certificate was made, in words; empty: it holds."""
    then, now = certificate.machine, machine
    changed = [
        f"{name}: {then.get(name)} then, {now.get(name)} now" for name in _MACHINE if then.get(name) != now.get(name)
    ]
    names = sorted(certificate.versions.keys() | versions.keys())
    return changed + [
        f"{name} {certificate.versions.get(name, 'absent')} then, {versions.get(name, 'absent')} now"
        for name in names
        if certificate.versions.get(name) != versions.get(name)
    ]


def attached(machine: Mapping[str, Any], versions: Mapping[str, str], path: Path) -> Attached | None:
    """The certificate as a run's manifest carries it, stale or not; None when this machine has none."""
    found = read_certificate(path)
    if found is None:
        return None
    best = found.best
    return Attached(
        made_wall=found.made_wall,
        state=found.state,
        added_p50_s=found.base.added_p50_s,
        added_tail_s=found.base.added_tail_s,
        tail_percent=found.base.tail_percent,
        itl_error_p99_s=found.base.itl_error_p99_s,
        max_streams=None if best is None else best.streams,
        max_chunks_per_s=None if best is None else best.chunks_per_s,
        resolution_s=found.clocks.resolution_s,
        receive_stamps=found.clocks.receive_stamps,
        stale=stale_because(found, machine, versions),
    )


def certificate_text(certificate: Attached | None) -> str:
    """One line for a summary: what is known of this machine as an instrument."""
    if certificate is None:
        return "none; `harness doctor` makes one (a minute)"
    day = day_of(certificate.made_wall)
    if certificate.stale:
        more = f" and {len(certificate.stale) - 1} more" if len(certificate.stale) > 1 else ""
        return f"of {day} no longer holds: {certificate.stale[0]}{more}; run `harness doctor` again"
    tail = f"p{certificate.tail_percent:g} {_ms(certificate.added_tail_s)} ms"
    reach = (
        "no load within the error budget"
        if certificate.max_streams is None
        else f"good for {certificate.max_streams} streams, {certificate.max_chunks_per_s:,.0f} chunks/s"
    )
    return f"{certificate.state}, {day}: adds {_ms(certificate.added_p50_s)} ms to TTFT, {tail}; {reach}"


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{round(seconds * 1e3, 2) + 0.0:.2f}"  # + 0.0: no -0.00


def best_of(levels: Sequence[Level]) -> tuple[Level | None, str | None]:
    """The highest load that was measured well, and why no higher one was."""
    failed = min((level for level in levels if level.limit is not None), key=lambda level: level.streams, default=None)
    good = [level for level in levels if level.limit is None and (failed is None or level.streams < failed.streams)]
    best = max(good, key=lambda level: level.streams, default=None)
    return best, None if failed is None else f"{failed.streams} streams: {failed.limit}"
