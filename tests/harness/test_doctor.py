"""The certificate: the search for the highest load, its judgement, its text, and when it no longer holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from harness.doctor.certificate import (
    Attached,
    Certificate,
    Clocks,
    Level,
    attached,
    best_of,
    certificate_path,
    certificate_text,
    judge,
    read_certificate,
    stale_because,
    write_certificate,
)
from harness.doctor.checkup import FULL, QUICK, Extent, Rim, examine
from harness.doctor.golden import GoldenLoad, gap_errors
from harness.doctor.search import next_level
from harness.doctor.show import certificate_page
from harness.errors import RunError
from harness.quantiles import samples_needed
from tests.harness.builders import LAW, record, write_run

CLOCKS = Clocks(
    resolution_s=6e-8, timer_late_p50_s=1e-4, timer_late_p99_s=4e-4, timer_late_max_s=1e-3, receive_stamps=True
)
MACHINE = {
    "host": "load-1",
    "system": "Linux 6",
    "architecture": "x86_64",
    "cpu": "A",
    "num_cpus": 2,
    "memory_bytes": 2**34,
}
VERSIONS = {"python": "3.11.7", "locust": "2.47.0"}


def _level(streams: int = 40, *, tail_s: float = 0.001, **changes: Any) -> Level:
    fields: dict[str, Any] = {
        "streams": streams,
        "num_requests": 400,
        "num_chunks": 19_200,
        "duration_s": 10.0,
        "added_p50_s": 0.0001,
        "added_tail_s": tail_s,
        "tail_percent": 99.0,
        "itl_error_p50_s": 0.0001,
        "itl_error_p99_s": 0.002,
        "send_lag_tail_s": 0.001,
        "cpu_max": 0.2,
        "mock_late_p99_s": 0.001,
        "instrument": "VALID",
        "limit": None if tail_s <= 0.005 else "too much is added",
    }
    return Level(**(fields | changes))


# -- the search ----------------------------------------------------------------------------------------------


@LAW
@given(truth=st.integers(1, 5000), first=st.integers(5, 100), most=st.integers(100, 3000))
def test_the_search_brackets_the_true_limit(truth: int, first: int, most: int) -> None:
    """Against a machine that measures up to `truth` streams and not one more."""
    kept: dict[int, bool] = {}
    while (streams := next_level(kept, first=first, most=most)) is not None:
        assert streams not in kept, "no level is tried twice"
        assert 5 <= streams <= most
        kept[streams] = streams <= truth
        assert len(kept) < 25
    good = max((level for level, well in kept.items() if well), default=None)
    bad = min((level for level, well in kept.items() if not well), default=None)
    if good is None:
        assert bad is not None
        assert bad < 10 or truth < 5
    elif bad is None:
        assert good == most
    else:
        assert good <= truth < bad
        assert bad <= max(good * 1.3, good + 1)


def test_a_success_above_a_failure_is_luck() -> None:
    levels = [_level(40), _level(80, tail_s=0.02), _level(160)]
    best, limit = best_of(levels)
    assert best is levels[0]
    assert limit == "80 streams: too much is added"
    assert next_level({40: True, 80: False, 160: True}, first=40, most=1280) == 57


# -- the examination -----------------------------------------------------------------------------------------


class _World:
    """A machine that keeps up to `capacity` streams; each measurement takes its load's seconds and `around_s`."""

    def __init__(self, capacity: int, around_s: float = 4.0) -> None:
        self.now_s, self.capacity, self.around_s = 0.0, capacity, around_s
        self.loads: list[GoldenLoad] = []
        self.told: list[str] = []

    def measure(self, load: GoldenLoad) -> Level:
        self.loads.append(load)
        self.now_s += load.seconds + self.around_s
        return _level(load.streams, tail_s=0.001 if load.streams <= self.capacity else 0.009)

    def examine(self, extent: Extent) -> Certificate:
        rim = Rim(self.measure, lambda: CLOCKS, lambda: self.now_s, self.told.append)
        return examine(rim, extent, machine=MACHINE, versions=VERSIONS, wall=1.8e9, load_average=0.1)


def test_a_full_examination_finds_the_limit_within_a_minute() -> None:
    world = _World(capacity=200)
    certificate = world.examine(FULL)
    assert [load.streams for load in world.loads][:4] == [40, 80, 160, 320]
    assert certificate.best is not None
    assert 160 <= certificate.best.streams <= 200
    assert certificate.limit is not None
    assert world.now_s <= 60
    assert certificate.state == "OK"
    assert len(world.told) == len(world.loads) + 1


def test_a_quick_examination_is_over_in_a_quarter_of_a_minute() -> None:
    world = _World(capacity=10_000, around_s=4.0)
    certificate = world.examine(QUICK)
    assert [load.streams for load in world.loads] == [40, 160]
    assert world.now_s <= 16
    assert certificate.quick


def test_a_machine_that_cannot_do_the_base_load_is_searched_downwards() -> None:
    world = _World(capacity=12)
    certificate = world.examine(FULL)
    assert certificate.state == "LIMITED"
    assert certificate.best is not None
    assert certificate.best.streams <= 12
    assert "already 40 streams are not measured well" in certificate.reasons[0]


def test_loads_last_until_a_99th_percentile_is_supported() -> None:
    for streams in (40, 80, 160, 320):
        load = GoldenLoad.for_p99(streams, 4.0)
        assert round(load.rate * load.seconds) >= samples_needed(99)
    assert FULL.base.seconds <= 12
    # 200 ms to the first of 48 tokens, 20 ms to each further one
    assert GoldenLoad(114, 1.0).rate == pytest.approx(114 / 1.14)


# -- judgement and text --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clocks", "base", "load_average", "complaint"),
    [
        ({}, {"added_p50_s": 0.0006}, 0.1, "0.60 ms are added to the median TTFT, more than 0.5 ms"),
        ({}, {"tail_s": 0.004}, 0.1, "4.00 ms are added to TTFT at p99, more than 3 ms"),
        ({"timer_late_p99_s": 0.02}, {}, 0.1, "timers are 20.0 ms late at p99"),
        ({"resolution_s": 0.0156}, {}, 0.1, "the clock steps by 15600 µs"),
        ({}, {}, 1.7, "other programs kept 1.7 of 2 CPUs busy"),
    ],
)
def test_what_makes_a_certificate_limited(
    clocks: dict[str, Any], base: dict[str, Any], load_average: float, complaint: str
) -> None:
    fields = {name: getattr(CLOCKS, name) for name in CLOCKS.__struct_fields__}
    state, reasons = judge(Clocks(**(fields | clocks)), _level(**base), load_average, 2)
    assert state == "LIMITED"
    assert len(reasons) == 1
    assert complaint in reasons[0]


def test_nothing_to_complain_of() -> None:
    assert judge(CLOCKS, _level(), None, None) == ("OK", [])


def _certificate(**changes: Any) -> Certificate:
    certificate = _World(capacity=200).examine(FULL)
    for name, value in changes.items():
        setattr(certificate, name, value)
    return certificate


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    path = tmp_path / "state" / "certificate.json"
    write_certificate(_certificate(), path)
    return path


def test_a_certificate_is_read_back_whole(kept: Path) -> None:
    assert read_certificate(kept) == _certificate()
    assert [path.name for path in kept.parent.iterdir()] == ["certificate.json"]


def test_it_holds_for_the_same_machine_and_software_whatever_the_host_is_called(kept: Path) -> None:
    found = attached(MACHINE | {"host": "load-2"}, VERSIONS, kept)
    assert found is not None
    assert found.stale == []


@pytest.mark.parametrize(
    ("machine", "versions", "why"),
    [
        ({"cpu": "B"}, {}, "cpu: A then, B now"),
        ({"num_cpus": 8}, {}, "num_cpus: 2 then, 8 now"),
        ({"system": "Linux 7"}, {}, "system: Linux 6 then, Linux 7 now"),
        ({}, {"locust": "2.48.0"}, "locust 2.47.0 then, 2.48.0 now"),
        ({}, {"gevent": "26.9"}, "gevent absent then, 26.9 now"),
    ],
)
def test_it_goes_stale_with_machine_and_software(
    kept: Path, machine: dict[str, Any], versions: dict[str, str], why: str
) -> None:
    now, software = MACHINE | machine, VERSIONS | versions
    assert stale_because(_certificate(), now, software) == [why]
    found = attached(now, software, kept)
    assert found is not None
    assert found.stale == [why]
    assert certificate_text(found) == f"of 2027-01-15 no longer holds: {why}; run `harness doctor` again"


def test_the_line_of_a_summary(kept: Path) -> None:
    found = attached(MACHINE, VERSIONS, kept)
    assert certificate_text(found) == (
        "OK, 2027-01-15: adds 0.10 ms to TTFT, p99 1.00 ms; good for 190 streams, 1,920 chunks/s"
    )
    assert certificate_text(None) == "none; `harness doctor` makes one (a minute)"
    assert isinstance(found, Attached)


def test_no_certificate_or_an_unreadable_one_is_none(tmp_path: Path) -> None:
    path = tmp_path / "certificate.json"
    assert attached(MACHINE, VERSIONS, path) is None
    path.write_text('{"schema_version": 99}')
    assert attached(MACHINE, VERSIONS, path) is None


def test_where_it_is_kept() -> None:
    name = "llm-load-harness/certificate.json"
    assert certificate_path({"XDG_STATE_HOME": "/s", "HOME": "/h"}) == Path(f"/s/{name}")
    assert certificate_path({"HOME": "/h"}) == Path(f"/h/.local/state/{name}")
    assert certificate_path({"XDG_STATE_HOME": "relative", "HOME": "/h"}) == Path(f"/h/.local/state/{name}")


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write the certificate"):
        write_certificate(_certificate(), tmp_path / "file" / "certificate.json")


@pytest.mark.parametrize("width", [80, 140])
def test_the_page_fits_the_terminal_and_names_what_matters(width: int) -> None:
    console = Console(width=width, record=True, force_terminal=False)
    with console.capture() as capture:
        console.print(certificate_page(_certificate()))
    text = capture.get()
    assert all(len(line) <= width for line in text.splitlines())
    assert "…" not in text
    for words in ("OK  measures 190 streams at once", "steps of 60 ns", "says when bytes came", "mock"):
        assert words in text


# -- gaps against the ledger ---------------------------------------------------------------------------------


def test_gap_errors_are_those_of_each_chunk(tmp_path: Path) -> None:
    here = [
        record(0, token_gaps_s=[0.020, 0.031], num_chunks=3),
        record(1, token_gaps_s=[0.020], num_chunks=2),  # two chunks were read as one: not compared
        record(2, token_gaps_s=[0.020, 0.020], num_chunks=3, outcome="cut"),
    ]
    directory = write_run(tmp_path / "run", [here])
    entries = "".join(f'{{"client_request_id":"run-1-{n}","written_at":[1.0,1.02,1.05]}}\n' for n in range(3))
    (directory.path / "ledger.jsonl").write_text(f'{{"boot_id":null}}\n{entries}{{"client_request_id":"torn')
    assert gap_errors(directory).tolist() == pytest.approx([0.0, 0.001], abs=1e-12)
