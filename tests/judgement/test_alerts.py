"""Alerts: they fire when something changes, not before, and not when nothing does."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.gpu.samples import GpuSample, ServerSample
from harness.judgement.alerts import ServerSamples, watch
from harness.judgement.capacity import in_flight, over
from harness.judgement.results import Alert
from harness.judgement.slo import Slo, slo_of
from harness.judgement.windows import Finding, joined, windows_of
from harness.store import Manifest
from harness.streams import stream
from harness.table import Floats, Mask, Table, tabulate
from tests.harness.builders import LAW, bare_record, manifest, record
from tests.judgement.tables import table

_RUN = manifest(duration_s=180.0)
_LATENCY = {"kind": "latency_degradation", "measure": "ttft_p95", "factor": 1.5, "window": "30s"}
_COST = {"kind": "cost_spike", "factor": 2, "window": "60s"}
_ERRORS = {"kind": "error_rate", "above": "2 %", "window": "30s"}


def _slo(*keys: dict[str, Any]) -> Slo:
    return slo_of({"alerts": list(keys)})


def alerts(slo: Slo, rows: Table, run: Manifest, samples: ServerSamples = ()) -> list[Alert]:
    return watch(slo, rows, run, samples).alerts


def _arrivals(seed: int, rate: float = 20.0, duration_s: float = 180.0) -> Floats:
    draw = stream(seed, "arrivals")
    return np.sort(draw.uniform(0, duration_s, draw.poisson(rate * duration_s)))


def _between(at: Floats, from_s: float, to_s: float) -> Mask:
    return np.asarray((at >= from_s) & (at < to_s))


# -- a change is found, when it is and not before ------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_latency_that_doubles_at_60_s_fires_from_then_on(seed: int) -> None:
    at = _arrivals(seed)
    ttft = stream(seed, "ttft").lognormal(-1.5, 0.4, len(at)) * np.where(at >= 60, 2, 1)
    (found,) = alerts(_slo(_LATENCY), table(at, ttft=ttft), _RUN)
    assert (found.kind, found.from_s, found.to_s) == ("latency_degradation", 60.0, 180.0)
    first = np.sort(ttft[at < 60])
    assert found.limit == pytest.approx(1.5 * first[int(np.ceil(0.95 * len(first))) - 1])
    windows = [np.sort(ttft[_between(at, start, start + 30)]) for start in (60, 90, 120, 150)]
    assert found.worst == pytest.approx(max(each[int(np.ceil(0.95 * len(each))) - 1] for each in windows))
    assert "it was" in found.text
    assert "in the first 60 s, the limit is 1.5 times that" in found.text


def test_latency_that_comes_back_is_two_alerts_and_is_none_where_the_limit_is_higher() -> None:
    at = _arrivals(1)
    slow = _between(at, 60, 90) | _between(at, 120, 150)
    rows = table(at, ttft=stream(1, "ttft").lognormal(-1.5, 0.3, len(at)) * np.where(slow, 2, 1))
    found = alerts(_slo(_LATENCY), rows, _RUN)
    assert [(each.from_s, each.to_s) for each in found] == [(60.0, 90.0), (120.0, 150.0)]
    assert alerts(_slo(_LATENCY | {"factor": 2.5}), rows, _RUN) == []


def test_requests_that_fail_take_for_ever_and_the_alert_is_still_json() -> None:
    at = _arrivals(2)
    ok = ~(_between(at, 90, 120) & (stream(2, "ok").random(len(at)) < 0.3))
    (found,) = alerts(_slo(_LATENCY), table(at, ttft=np.full(len(at), 0.1), ok=ok), _RUN)
    assert (found.from_s, found.to_s) == (90.0, 120.0)
    assert found.worst is None  # and in JSON there is no infinity
    assert found.limit == pytest.approx(0.15)
    assert found.text.startswith("ttft_p95 rose to +∞; it was 100 ms in the first ")
    assert msgspec.json.decode(msgspec.json.encode(found), type=Alert) == found
    assert (
        alerts(_slo(_LATENCY | {"measure": "ttft_p95(ok)"}), table(at, ttft=np.full(len(at), 0.1), ok=ok), _RUN) == []
    )


def test_the_beginning_may_be_given() -> None:
    at = _arrivals(3)
    ttft = stream(3, "ttft").lognormal(-1.5, 0.3, len(at)) * np.where(_between(at, 30, 180), 2, 1)
    rows = table(at, ttft=ttft)
    (found,) = alerts(_slo(_LATENCY | {"baseline": "30s"}), rows, _RUN)
    assert (found.from_s, found.to_s) == (30.0, 180.0)
    assert alerts(_slo(_LATENCY | {"baseline": "90s"}), rows, _RUN) == []  # most of what it compares with is slow


def test_the_windows_begin_after_the_warm_up() -> None:
    at = _arrivals(4)
    ttft = stream(4, "ttft").lognormal(-1.5, 0.3, len(at)) * np.where(at >= 100, 2, 1)
    late = at >= 40
    (found,) = alerts(_slo(_LATENCY), table(at[late], ttft=ttft[late]), manifest(duration_s=180.0, warmup_s=40.0))
    assert (found.from_s, found.to_s) == (100.0, 180.0)


def test_a_cost_that_triples_fires() -> None:
    at = _arrivals(5, duration_s=300)
    usd = stream(5, "usd").lognormal(-7, 0.8, len(at)) * np.where(_between(at, 180, 240), 3, 1)
    rows, run = table(at, usd=usd), manifest(duration_s=300.0)
    (found,) = alerts(_slo(_COST), rows, run)
    assert (found.kind, found.from_s, found.to_s) == ("cost_spike", 180.0, 240.0)
    assert found.worst == pytest.approx(usd[_between(at, 180, 240)].mean())
    assert found.limit == pytest.approx(2 * usd[at < 120].mean())
    assert alerts(_slo(_COST | {"factor": 4}), rows, run) == []


def test_requests_that_cost_and_are_not_answered_make_answers_dearer() -> None:
    at = _arrivals(6, duration_s=300)
    ok = ~(_between(at, 240, 300) & (np.arange(len(at)) % 3 > 0))  # two of three are paid for nothing
    (found,) = alerts(_slo(_COST), table(at, usd=np.full(len(at), 0.001), ok=ok), manifest(duration_s=300.0))
    assert found.from_s == 240.0
    assert found.worst == pytest.approx(0.003, rel=0.01)


@pytest.mark.parametrize(("share", "fires"), [(0.0, False), (0.01, False), (0.10, True)])
def test_errors_fire_in_the_windows_that_have_them(share: float, fires: bool) -> None:
    at = _arrivals(7)
    ok = ~(_between(at, 90, 150) & (stream(7, "ok").random(len(at)) < share))
    found = alerts(_slo(_ERRORS), table(at, ok=ok), _RUN)
    assert [(each.from_s, each.to_s) for each in found] == ([(90.0, 150.0)] if fires else [])
    if fires:
        shares = [float((~ok)[_between(at, start, start + 30)].mean()) for start in (90, 120)]
        assert found[0].worst == pytest.approx(max(shares))


# -- nothing changes, nothing fires --------------------------------------------------------------------------


def _queue(seed: int, load: float) -> tuple[Floats, Floats]:
    """M/M/1 in its steady state: arrivals and times in the system, 20 requests a second."""
    draw = stream(seed, "queue")
    num = 3600 + 1000
    gaps, work = draw.exponential(1 / 20, num), draw.exponential(load / 20, num)
    walk = np.concatenate([[0.0], work[:-1] - gaps[1:]]).cumsum()
    return gaps[1000:].cumsum(), (walk - np.minimum.accumulate(walk) + work)[1000:]


@pytest.mark.parametrize(
    ("keys", "num_runs"),
    [(_LATENCY | {"factor": 1.001}, 1000), (_ERRORS, 1000), (_COST | {"factor": 1.001, "window": "30s"}, 300)],
    ids=lambda value: value["kind"] if isinstance(value, dict) else str(value),
)
def test_of_the_runs_in_which_nothing_changes_at_most_1_in_100_alerts(keys: dict[str, Any], num_runs: int) -> None:
    """Independent requests, a factor of nearly 1 and an error rate exactly at its limit."""
    slo, num_fired = _slo(keys), 0
    for seed in range(num_runs):
        at, draw = _arrivals(seed, rate=10.0), stream(seed, "still")
        num = len(at)
        ok = draw.random(num) >= 0.02
        rows = table(at, ttft=draw.lognormal(-1.5, 0.5, num), ok=ok, usd=draw.lognormal(-7, 1.0, num))
        found = watch(slo, rows, _RUN)
        assert not found.not_watched
        num_fired += bool(found.alerts)
    assert num_fired <= num_runs / 100


def test_of_1000_runs_against_a_steady_queue_at_most_1_in_100_alerts() -> None:
    """Waits that depend on each other, at half load: taken as independent, they would fire in 233 of the runs."""
    num_fired = 0
    for seed in range(1000):
        at, ttft = _queue(seed, 0.5)
        rows = table(at, ttft=ttft)
        num_fired += bool(alerts(_slo(_LATENCY | {"factor": 1.2}), rows.select(at < 180), _RUN))
    assert num_fired <= 10


# -- capacity ------------------------------------------------------------------------------------------------


def test_requests_of_the_warm_up_are_in_flight_after_it() -> None:
    """One a second for 100 s, each 30 s long: 30 of 40 are in flight until the last was sent, none is a sample of the warm-up."""
    rows = table(np.arange(100.0), ttft=np.full(100, 30.0))
    run = manifest(duration_s=100.0, warmup_s=50.0, max_in_flight=40)
    slo = _slo({"kind": "capacity", "in_flight": "75 %"})
    (found,) = watch(slo, rows.select(rows["intended_at"] >= 50), run, (), rows).alerts
    assert found.from_s == 50
    assert found.to_s == pytest.approx(99 + 1.1, abs=1.2)
    readings = [GpuSample(at=at, gpu="a", utilization=1.0 if at < 50 else 0.1) for at in np.arange(0.0, 100)]
    assert alerts(_slo({"kind": "capacity", "gpu": "95 %", "window": "5s"}), rows, run, readings[51:]) == []
    (found,) = alerts(_slo({"kind": "capacity", "gpu": "5 %", "window": "5s"}), rows, run, readings)
    assert (found.from_s, found.worst) == (50, 0.1)


def _held(*spans: tuple[float, float | None]) -> Table:
    return tabulate(
        [bare_record(number, sent_at=sent, done_at=done, intended_at=sent) for number, (sent, done) in enumerate(spans)]
    )


def test_requests_in_flight_against_their_cap() -> None:
    rows = _held((0, 10), (1, 4), (2, 3), (20, 30), (21, 30), (22, 25), (60, 70), (61, 65), (62, None))
    slo = _slo({"kind": "capacity", "in_flight": "75 %", "window": "20s"})
    found = alerts(slo, rows, manifest(duration_s=180.0, max_in_flight=4))
    assert [(each.from_s, each.to_s, each.worst, each.limit) for each in found] == [
        (2.0, 25.0, 0.75, 0.75),  # less than a window apart, so they are one
        (62.0, 65.0, 0.75, 0.75),
    ]
    assert found[0].text == "requests in flight: 75 % of what there is; the limit is 75 %"
    assert alerts(_slo({"kind": "capacity", "in_flight": "80 %"}), rows, manifest(max_in_flight=4)) == []


@LAW
@given(
    spans=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), min_size=1, max_size=30), limit=st.integers(1, 8)
)
def test_in_flight_is_what_counting_at_every_instant_finds(spans: list[tuple[int, int]], limit: int) -> None:
    rows = _held(*((float(start), float(start + length)) for start, length in spans))
    series = in_flight(rows, manifest(max_in_flight=10))
    assert series is not None
    findings = list(over(series, limit / 10))
    for middle in np.arange(0, 75) + 0.5:
        num = sum(start < middle < start + length for start, length in spans)
        assert any(each.from_s < middle < each.to_s for each in findings) == (num >= limit)
    counts = [sum(s <= t < s + n for s, n in spans) for t in range(75)]
    if findings:
        assert max(each.worst for each in findings) == pytest.approx(max(counts) / 10)


def test_gpus_and_kv_caches_by_their_samples() -> None:
    samples: list[GpuSample | ServerSample] = [
        *(GpuSample(at=float(at), gpu="GPU-a", utilization=0.99 if 10 <= at < 20 else 0.5) for at in range(100)),
        *(GpuSample(at=float(at), gpu="GPU-b", utilization=0.2) for at in range(100)),
        *(ServerSample(at=float(at), model="m", kv_cache_usage=at / 100) for at in range(100)),
    ]
    slo = _slo({"kind": "capacity", "gpu": "95 %", "kv_cache": "90 %", "window": "5s"})
    found = alerts(slo, tabulate([record()]), _RUN, samples)
    assert [(each.from_s, each.to_s, each.worst) for each in found] == [(10.0, 20.0, 0.99), (90.0, 99.0, 0.99)]
    assert [each.text.split(":")[0] for each in found] == ["GPU GPU-a", "KV cache of m"]


def test_equal_instances_of_two_gpus_and_two_servers_of_one_model_are_apart() -> None:
    samples: list[GpuSample | ServerSample] = []
    for at in range(60):
        samples += [
            GpuSample(at=float(at), gpu=f"GPU-{name}", mig="1g.10gb", utilization=1.0 if name == "a" else 0.1)
            for name in "ab"
        ]
        samples += [
            ServerSample(at=float(at), model="m", source=f"http://{name}", kv_cache_usage=1.0 if name == "b" else 0.1)
            for name in "ab"
        ]
    samples += [ServerSample(at=float(at), model=None, source="http://c", kv_cache_usage=1.0) for at in range(60)]
    slo = _slo({"kind": "capacity", "gpu": "95 %", "kv_cache": "90 %", "window": "5s"})
    found = alerts(slo, tabulate([record()]), _RUN, samples)
    assert sorted((each.text.split(": ")[0], each.from_s, each.to_s) for each in found) == [
        ("GPU GPU-a, MIG 1g.10gb", 0.0, 59.0),
        ("KV cache of m at http://b", 0.0, 59.0),
        ("KV cache of the server", 0.0, 59.0),
    ]


def test_a_bound_that_cannot_be_watched_hides_no_other() -> None:
    samples = [ServerSample(at=float(at), model="m", kv_cache_usage=1.0) for at in range(60)]
    slo = _slo({"kind": "capacity", "in_flight": "80 %", "kv_cache": "90 %", "fail": True})
    found = watch(slo, tabulate([record()]), manifest(duration_s=180.0, max_in_flight=None), samples)
    assert [each.text.split(":")[0] for each in found.alerts] == ["KV cache of m"]
    (not_watched,) = found.not_watched
    assert "had no cap" in not_watched.why


# -- what cannot be watched ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "rows", "run", "why"),
    [
        (_COST, tabulate([record(number) for number in range(300)]), _RUN, "the cost is not known: give --prices"),
        (_COST, tabulate([record(number, cost_usd=0.1) for number in range(9)]), _RUN, "too few answers"),
        (_LATENCY, tabulate([record(number) for number in range(50)]), _RUN, "ttft_p95: too few requests"),
        (_LATENCY, tabulate([record(number, intended_at=number * 0.01) for number in range(999)]),
         manifest(duration_s=60.0), "too few windows of 30 s"),
        (_LATENCY | {"baseline": "3m"}, tabulate([record(number, intended_at=number * 0.1) for number in range(999)]),
         _RUN, "too few windows of 30 s"),
        (_ERRORS, tabulate([]), _RUN, "no request was sent"),
        (_ERRORS | {"window": "9999h"}, tabulate([record()]), _RUN, "is longer than the 180 s that are looked at"),
        ({"kind": "capacity", "in_flight": 0.8}, tabulate([record()]), manifest(max_in_flight=None), "had no cap"),
        ({"kind": "capacity", "gpu": 0.8}, tabulate([record()]), _RUN, "no GPU was measured"),
        ({"kind": "capacity", "kv_cache": 0.8}, tabulate([record()]), _RUN, "nobody said how much of the KV cache"),
    ],
)  # fmt: skip
def test_what_cannot_be_watched_says_why(keys: dict[str, Any], rows: Table, run: Manifest, why: str) -> None:
    found = watch(_slo(keys | {"fail": True}), rows, run)
    assert found.alerts == []
    (not_watched,) = found.not_watched
    assert (not_watched.kind, not_watched.fail) == (keys["kind"], True)
    assert why in not_watched.why


def test_several_alerts_stand_in_order_of_time_and_say_whether_they_fail_the_run() -> None:
    at = _arrivals(8)
    ok = ~(_between(at, 60, 90) & (np.arange(len(at)) % 4 == 0))
    ttft = stream(8, "ttft").lognormal(-1.5, 0.3, len(at)) * np.where(at >= 120, 3, 1)
    slo = _slo(_LATENCY | {"measure": "ttft_p95(ok)"}, _ERRORS | {"fail": True})
    found = alerts(slo, table(at, ttft=ttft, ok=ok), _RUN)
    assert [(each.kind, each.from_s, each.fail) for each in found] == [
        ("error_rate", 60.0, True),
        ("latency_degradation", 120.0, False),
    ]


# -- windows -------------------------------------------------------------------------------------------------


@LAW
@given(
    at=st.lists(st.floats(0, 100), max_size=50),
    duration_s=st.floats(1, 120),
    warmup=st.floats(0, 0.9),
    window_s=st.floats(1, 50),
)
def test_every_sample_of_the_load_is_in_one_window_and_no_other_is_in_any(
    at: list[float], duration_s: float, warmup: float, window_s: float
) -> None:
    warmup_s = warmup * duration_s
    windows = windows_of(np.array(at), manifest(duration_s=duration_s, warmup_s=warmup_s), window_s)
    found = [int(row) for window in range(len(windows)) for row in windows.samples(window, window + 1)]
    assert sorted(found) == [row for row, each in enumerate(at) if warmup_s <= each <= duration_s]
    assert (windows.edges[0], windows.edges[-1]) == (warmup_s, pytest.approx(duration_s))
    assert (np.diff(windows.edges) <= window_s * (1 + 1e-9)).all()
    for window in range(len(windows)):
        inside = np.array(at)[windows.samples(window, window + 1)]
        assert ((inside >= windows.edges[window]) & (inside <= windows.edges[window + 1])).all()


def test_findings_side_by_side_are_one() -> None:
    findings = [Finding(0, 10, 1), Finding(10, 20, 3), Finding(40, 50, 2), Finding(52, 53, 1)]
    assert list(joined(findings, 1e-6)) == [Finding(0, 20, 3), Finding(40, 50, 2), Finding(52, 53, 1)]
    assert list(joined(findings, 5)) == [Finding(0, 20, 3), Finding(40, 53, 2)]
    assert list(joined([], 5)) == []
