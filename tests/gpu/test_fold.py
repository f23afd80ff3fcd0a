"""Readings to a report: on the run's axis, weighted by time, energy once a GPU, and missing where it was not measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from harness.errors import RunError
from harness.gpu.axis import read_run
from harness.gpu.file import FILE, SourceNote, read_gpu_file
from harness.gpu.samples import GpuReport
from harness.records import RecordFile
from harness.summary import load_run, summarize
from tests.gpu.builders import ORIGIN, gpu, report_of, run_of, server, write_readings
from tests.harness.builders import HEADER, bare_record, record, write_run


def _report(path: Path, samples: list[Any], *, begin: float = 0.0, end: float = 10.0, **fields: Any) -> GpuReport:
    directory = run_of(path / "run", begin, end)
    write_readings(directory.path, samples, **fields)
    found = report_of(directory)
    assert found is not None
    return found


def test_nobody_sampled(tmp_path: Path) -> None:
    assert report_of(run_of(tmp_path / "run")) is None


def test_a_mean_is_weighted_by_time_and_stops_at_the_ends_of_the_run(tmp_path: Path) -> None:
    """A step from 0 to 1 between 4 s and 5 s; readings before the first request and after the last answer only bound it."""
    at = [-2, -1, 0.5, 1, 4, 5, 6, 9, 10.5, 12]
    samples = [gpu(second, utilization=float(second > 4), power_w=100.0 + 200 * (second > 4)) for second in at]
    found = _report(tmp_path, samples)
    (series,) = found.gpus
    assert series.mean["utilization"] == pytest.approx((0.5 + 5) / 10)
    assert series.mean["power_w"] == pytest.approx(100 + 200 * 5.5 / 10)
    assert series.maximum == {"utilization": 1.0, "power_w": 300.0}
    assert series.num_samples == 6
    assert series.covered_s == pytest.approx(10)
    assert series.energy_j == found.energy_j == pytest.approx(1000 + 200 * 5.5), "without a counter: the integral"
    assert (found.source, found.aligned_by, found.window_s, found.why_not) == ("nvml", "monotonic clock", 10.0, None)
    assert found.notes == []


def test_the_counter_is_believed_before_the_power(tmp_path: Path) -> None:
    samples = [gpu(at, energy_j=5e9 + 321.0 * at, power_w=100.0) for at in (-1.5, 0.2, 9.9, 11)]
    assert _report(tmp_path, samples).energy_j == pytest.approx(3210)


def test_a_driver_that_was_reloaded(tmp_path: Path) -> None:
    counter = {-1: 900.0, 0: 1000.0, 5: 1500.0, 6: 100.0, 10: 500.0}
    assert _report(tmp_path, [gpu(at, energy_j=value) for at, value in counter.items()]).energy_j == 500 + 100 + 400


def test_absent_is_none_and_never_zero(tmp_path: Path) -> None:
    found = _report(tmp_path, [gpu(at, memory_used=7.0) for at in range(11)])
    (series,) = found.gpus
    assert series.mean == series.maximum == {"memory_used": 7.0}
    assert series.energy_j is None
    assert found.energy_j is None


@pytest.mark.parametrize("field", ["power_w", "energy_j"])
def test_a_second_that_nobody_saw_counts_as_the_others_did(field: str, tmp_path: Path) -> None:
    """500 W throughout, and the sampler was gone for the last 0.9 of 10 s: 5,000 J and not 4,550."""
    samples = [
        gpu(at / 10, power_w=500.0) if field == "power_w" else gpu(at / 10, energy_j=50.0 * at) for at in range(92)
    ]
    assert _report(tmp_path, samples).energy_j == pytest.approx(5000)


def test_half_an_energy_is_none(tmp_path: Path) -> None:
    """One GPU of two has no power reading, or the sampler was there for half of the run: a sum would be too small."""
    both = [gpu(at, gpu="GPU-0", power_w=100.0) for at in range(11)] + [
        gpu(at, gpu="GPU-1", utilization=1.0) for at in range(11)
    ]
    found = _report(tmp_path, both)
    assert [series.energy_j for series in found.gpus] == [pytest.approx(1000), None]
    assert found.energy_j is None
    assert found.notes == ["energy is not stated: it was not measured of GPU-1 over the whole run"]
    late = _report(tmp_path / "late", [gpu(at, energy_j=100.0 * at) for at in range(5, 12)])
    assert late.energy_j is None


def test_the_energy_of_a_gpu_is_counted_once(tmp_path: Path) -> None:
    """An exporter states the whole GPU's power and energy under each of its instances."""
    parts = [
        gpu(at, source="http://b/metrics", mig=mig, energy_j=250.0 * at, engine_active=share)
        for at in range(-1, 12)
        for mig, share in (("1g.10gb/7", 0.25), ("1g.10gb/8", 0.75))
    ]
    found = _report(tmp_path, parts)
    assert [(series.mig, series.mean["engine_active"]) for series in found.gpus] == [
        ("1g.10gb/7", 0.25),
        ("1g.10gb/8", 0.75),
    ]
    assert found.energy_j == pytest.approx(2500)
    assert found.source == "dcgm"


def test_a_gpu_of_two_sources_is_one(tmp_path: Path) -> None:
    """Their counters began at different times: going to and fro between them would be no energy at all."""
    ours = [gpu(at, energy_j=100.0 * at, power_w=100.0) for at in range(-1, 12)]
    theirs = [gpu(at + 0.5, source="http://b/metrics", energy_j=9e9 + 100.0 * at, sm_active=0.5) for at in range(11)]
    found = _report(tmp_path, ours + theirs)
    (series,) = found.gpus
    assert series.energy_j == found.energy_j == pytest.approx(1000)
    assert series.mean == {"power_w": 100.0, "sm_active": 0.5}
    assert found.source == "dcgm, nvml"


def test_beside_a_mock_this_machines_gpus_served_nothing(tmp_path: Path) -> None:
    real = [gpu(at, gpu="GPU-real", energy_j=1e6 * at, power_w=300.0) for at in range(11)]
    simulated = [gpu(at, gpu="GPU-mock", source="http://m/metrics", simulated=True, power_w=70.0) for at in range(11)]
    found = _report(tmp_path, real + simulated)
    assert [series.gpu for series in found.gpus] == ["GPU-mock"]
    assert (found.source, found.simulated) == ("mock", True)
    assert found.energy_j == pytest.approx(700)


def test_another_machine_is_aligned_by_the_wall_clock(tmp_path: Path) -> None:
    """Its monotonic clock shows something else at the same wall time."""
    there = {"monotonic": HEADER.clocks["monotonic"] + 5000, "wall": HEADER.clocks["wall"] + 2}
    samples = [gpu(at + 4998, power_w=100.0 if at < 5 else 300.0) for at in range(-1, 12)]
    directory = run_of(tmp_path / "run")
    write_readings(directory.path, samples, host="gpu-1", boot_id="boot-b", clocks=there)
    files: list[RecordFile] = []
    list(directory.records(files))
    readings = read_run(directory, files)
    assert readings is not None
    assert [sample.at for sample in readings.gpus] == pytest.approx(list(range(-1, 12)), abs=1e-6)
    found = report_of(directory)
    assert found is not None
    assert found.aligned_by == "wall clock"
    assert "wall clocks" in found.notes[0]
    assert found.energy_j == pytest.approx(4 * 100 + 200 + 5 * 300)


def test_why_nothing_was_measured(tmp_path: Path) -> None:
    notes = [
        SourceNote(at=ORIGIN, source="nvml", why_not="no NVIDIA driver", final=True),
        SourceNote(at=ORIGIN, source="http://a/metrics", why_not="Connection refused"),
        SourceNote(at=ORIGIN + 1, source="http://a/metrics", why_not="HTTP status 503"),
    ]
    found = _report(tmp_path, [], notes=notes)
    assert found == GpuReport(
        source=None,
        why_not="nvml: no NVIDIA driver; http://a/metrics: HTTP status 503",
        window_s=10.0,
        aligned_by="monotonic clock",
    )
    outside = _report(tmp_path / "b", [gpu(at, power_w=1.0) for at in (50, 51)])
    assert outside.why_not == "no reading lies between the first request and the last answer"
    assert not outside.gpus
    engine = _report(tmp_path / "c", [server(at, model="m", num_running=2.0) for at in range(11)], notes=notes[:1])
    assert engine.why_not == "nvml: no NVIDIA driver; http://a/metrics says nothing of GPUs"
    assert engine.servers == {"m": {"num_running_mean": 2.0, "num_running_max": 2.0}}


def test_a_run_that_sent_nothing(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "run", [[bare_record(0)]])
    write_readings(directory.path, [gpu(0, power_w=1.0)])
    found = report_of(directory)
    assert found is not None
    assert found.why_not == "no request was sent"


def test_records_that_do_not_say_when_the_run_began(tmp_path: Path) -> None:
    """A worker was killed, and the first line of its file is gone: the run has a report, and its GPUs have none."""
    directory = run_of(tmp_path / "run")
    (path,) = directory.path.glob("records-*.jsonl")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    write_readings(directory.path, [gpu(at, power_w=100.0) for at in range(11)])
    found = report_of(directory)
    assert found is not None
    assert (found.gpus, found.aligned_by) == ([], None)
    assert found.why_not == "no record file has a header: nothing says when the run began"


def test_a_run_shorter_than_the_beat(tmp_path: Path) -> None:
    (series,) = _report(tmp_path, [gpu(0.3, utilization=0.5)], end=0.5).gpus
    assert (series.mean, series.maximum, series.covered_s) == ({"utilization": 0.5}, {"utilization": 0.5}, 0.0)


def test_a_server_by_its_gauges_and_counters(tmp_path: Path) -> None:
    """Counters: from the last reading before the run to the first after it, because a request counts when it is over."""
    samples = [
        server(
            at, model="m", num_running=4.0 if 2 <= at <= 8 else 0.0, num_output_tokens=tokens, prefix_cache_queries=0.0
        )
        for at, tokens in ((-3, 10.0), (-1, 50.0), (2, 60.0), (5, 200.0), (8, 300.0), (11, 330.0), (14, 999.0))
    ]
    figures = _report(tmp_path, samples).servers["m"]
    assert figures["num_output_tokens"] == 280.0
    assert figures["num_running_max"] == 4.0
    # 4 from 2 to 8; up to it from -1 to 2 (4/3 at 0), down from 8 to 11 (4/3 at 10).
    assert figures["num_running_mean"] == pytest.approx((24 + 2 * (2 * (4 / 3 + 4) / 2)) / 10)
    assert figures["prefix_cache_queries"] == 0.0, "measured, and nothing: that is 0"
    assert "num_preemptions" not in figures


def test_two_servers_of_one_model(tmp_path: Path) -> None:
    samples = [server(at, source=f"http://{host}", model="m", num_waiting=1.0) for at in range(11) for host in "ab"]
    assert list(_report(tmp_path, samples).servers) == ["m at http://a", "m at http://b"]


def test_killed_in_the_middle_of_a_line(tmp_path: Path) -> None:
    directory = run_of(tmp_path / "run")
    path = write_readings(directory.path, [gpu(at, power_w=100.0) for at in range(11)], whole=False)
    path.write_bytes(path.read_bytes() + b'{"kind":"gpu","at":10')
    found = report_of(directory)
    assert found is not None
    assert found.energy_j == pytest.approx(1000)
    assert found.notes == ["the sampler did not end in order: readings at the end may be missing"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"kind":"gpu","at":1,"gpu":"x"}\n', "before the header"),
        ('{"kind":"header"}\n', "missing required field"),
        ("HEADER{}\n", "kind"),
        ("HEADER\x00\n", "malformed"),
        ("HEADERHEADER", "second header"),
        ("SCHEMA", "this version reads schema 1"),
    ],
)
def test_a_file_that_was_tampered_with(tmp_path: Path, text: str, words: str) -> None:
    header: dict[str, Any] = {"kind": "header", "host": "h", "boot_id": None, "clocks": {}, "every_s": 1, "sources": []}
    text = text.replace("HEADER", json.dumps(header) + "\n").replace(
        "SCHEMA", json.dumps(header | {"schema_version": 2}) + "\n"
    )
    (tmp_path / FILE).write_text(text)
    with pytest.raises(RunError, match=words):
        read_gpu_file(tmp_path / FILE)


def test_a_sampler_that_was_killed_at_once(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b'{"kind":"hea')
    assert read_gpu_file(tmp_path / FILE) is None
    assert read_gpu_file(tmp_path / "nothing.jsonl") is None


def test_figures_by_an_independent_path(tmp_path: Path) -> None:
    """The same file, read by DuckDB: mean power over the run's seconds, and the energy that the counter shows."""
    samples = [gpu(at / 2, power_w=200.0 + 37 * at % 101, energy_j=1e6 + 120.0 * at) for at in range(-4, 26)]
    directory = run_of(tmp_path / "run")
    path = write_readings(directory.path, samples)
    (mean, energy), = duckdb.connect().execute(
        f"""
        with g as (select "at" - {ORIGIN} as t, power_w as p, energy_j as e from read_json_auto('{path}', union_by_name=true)
                   where kind = 'gpu' and "at" - {ORIGIN} between 0 and 10),
             s as (select t - lag(t) over (order by t) as dt, (p + lag(p) over (order by t)) / 2 as p from g)
        select (select sum(p * dt) / sum(dt) from s), (select max(e) - min(e) from g)
        """
    ).fetchall()  # fmt: skip
    found = report_of(directory)
    assert found is not None
    assert found.gpus[0].mean["power_w"] == pytest.approx(mean)
    assert found.energy_j == pytest.approx(energy)


def test_server_samples_lie_on_the_runs_axis(tmp_path: Path) -> None:
    directory = run_of(tmp_path / "run")
    write_readings(directory.path, [server(3, model="m"), server(1, model="m")])
    files: list[RecordFile] = []
    list(directory.records(files))
    readings = read_run(directory, files)
    assert readings is not None
    assert [sample.at for sample in readings.servers] == [1.0, 3.0]
    assert readings.gpus == []


def test_energy_and_tokens_are_of_the_same_requests(tmp_path: Path) -> None:
    """400 W in a warm-up of 4 s, 100 W from then on: what the counted requests took does not have the warm-up's joules in it."""
    records = [
        record(n, intended_at=float(n), sent_at=float(n), done_at=n + 1.0, num_output_tokens=10) for n in range(10)
    ]
    directory = write_run(tmp_path / "run", [records], warmup_s=4.0, gpu_price_per_hour=3600.0)
    write_readings(directory.path, [gpu(at / 4, power_w=400.0 if at < 16 else 100.0) for at in range(41)])
    run = load_run(directory)
    assert run.gpu is not None
    assert run.gpu.window_s == 6.0
    bill = summarize(run).bill
    assert bill is not None
    assert bill.energy_j == pytest.approx(600)
    assert bill.energy_j_per_output_token == pytest.approx(600 / 60)
    assert bill.gpu_usd == pytest.approx(6.0)
