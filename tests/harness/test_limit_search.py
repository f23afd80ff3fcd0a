"""The limit search, against limiters that are known: buckets of any size, windows of a minute, and the mock's quotas."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil, floor
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.plan import Arrival, ReactivePlan
from harness.reactive.limit_plan import LimitPlan
from harness.reactive.limit_report import Limits, limits_of, limits_text, phase_of
from harness.reactive.limit_search import LimitSettings, Step
from harness.records import RequestRecord
from tests.harness.reactive import Reply, send_all, simulated

SETTINGS = LimitSettings()
LATENCY_S = 0.05


@dataclass
class Bucket:
    """A token bucket, written anew: full at first, `limit` a minute, holds what comes in `burst_s`."""

    limit: float
    burst_s: float = 60.0
    level: float = field(init=False)
    at: float = 0.0

    def __post_init__(self) -> None:
        self.level = max(1.0, self.limit / 60 * self.burst_s)

    def take(self, now: float, amount: float = 1.0) -> float | None:
        """None: it passes. Else the seconds until it would."""
        most = max(1.0, self.limit / 60 * self.burst_s)
        self.level, self.at = min(most, self.level + (now - self.at) * self.limit / 60), now
        if self.level >= amount - 1e-9:
            self.level -= amount
            return None
        return (amount - self.level) / (self.limit / 60)


@dataclass
class Window:
    """A counter that starts anew every minute."""

    limit: float
    offset_s: float = 0.0
    minute: int = -1
    used: float = 0.0

    def take(self, now: float, amount: float = 1.0) -> float | None:
        minute = floor((now + self.offset_s) / 60)
        if minute != self.minute:
            self.minute, self.used = minute, 0.0
        if self.used + amount <= self.limit:
            self.used += amount
            return None
        return (minute + 1) * 60 - self.offset_s - now


def provider(
    requests: Bucket | Window,
    tokens: Bucket | Window | None = None,
    *,
    tells: bool = True,
    stated: dict[str, str] | None = None,
) -> Callable[[Arrival], Reply]:
    def serve(arrival: Arrival) -> Reply:
        size = arrival.num_prompt_tokens + (arrival.num_output_tokens or 0)
        wait_s = requests.take(arrival.at_s)
        if wait_s is None and tokens is not None:
            wait_s = tokens.take(arrival.at_s, size)
        if wait_s is None:
            return Reply(LATENCY_S, headers=stated or {})
        return Reply(0.001, "throttled", headers={"retry-after": str(ceil(wait_s))} if tells else {})

    return serve


def found(plan: LimitPlan, done: list[tuple[Arrival, RequestRecord]]) -> Limits:
    return limits_of(msgspec.json.decode(msgspec.json.encode(plan.describe())), [record for _, record in done])


@settings(max_examples=40, deadline=None)
@given(st.floats(15, 600), st.floats(1, 60), st.booleans())
def test_bounds_hold_the_truth_whatever_the_bucket(limit: float, burst_s: float, tells: bool) -> None:
    plan = LimitPlan(msgspec.structs.replace(SETTINGS, most_requests=30_000), 1e5, 0)
    assert isinstance(plan, ReactivePlan)
    answer = found(plan, send_all(plan, provider(Bucket(limit, burst_s), tells=tells)))
    assert answer.num_throttled <= 5
    requests = answer.requests
    assert requests.low is not None
    assert requests.low <= limit * 1.03
    assert requests.high is None or requests.high >= limit * 0.97


@settings(max_examples=20, deadline=None)
@given(st.floats(15, 600))
def test_a_minutes_bucket_is_measured_within_a_tenth(limit: float) -> None:
    plan = LimitPlan(msgspec.structs.replace(SETTINGS, most_requests=30_000), 1e5, 0)
    answer = found(plan, send_all(plan, provider(Bucket(limit))))
    assert answer.requests.measured == pytest.approx(limit, rel=0.1)
    assert answer.requests.high is not None
    assert answer.requests.low is not None
    assert answer.requests.high <= 1.26 * answer.requests.low
    # Large requests met no limit of their own.
    assert answer.tokens.measured is None


@settings(max_examples=20, deadline=None)
@given(st.integers(15, 600), st.floats(0, 59))
def test_bounds_hold_for_windows_of_a_minute_too(limit: int, offset_s: float) -> None:
    plan = LimitPlan(msgspec.structs.replace(SETTINGS, most_requests=30_000), 1e5, 0)
    answer = found(plan, send_all(plan, provider(Window(limit, offset_s))))
    assert answer.num_throttled <= 5
    assert answer.requests.low is not None
    # Two windows meet in a minute: what was not used of the first may be used at its end.
    assert answer.requests.low <= limit * 1.03
    assert answer.requests.high is None or answer.requests.high >= limit * 0.97


_LIMITED = """
summary: a provider with quotas
models:
  - {{name: limited, profile: golden, limits: {{requests: {requests}/min, tokens: {tokens}/min}}}}
"""


@pytest.mark.parametrize(("requests", "tokens"), [(500, 400_000), (60, 30_000), (120, 100_000), (900, 150_000)])
def test_the_mocks_quotas_are_found_in_virtual_time(requests: int, tokens: int, tmp_path: Path) -> None:
    plan = LimitPlan(SETTINGS, 7200.0, 0)
    directory = simulated(tmp_path, _LIMITED.format(requests=requests, tokens=tokens), plan)
    answer = limits_of(directory.manifest().plan, directory.records([]))
    assert answer.num_throttled <= 5
    assert answer.num_aborted == 0
    assert answer.requests.measured == pytest.approx(requests, rel=0.1)
    assert answer.tokens.measured == pytest.approx(tokens, rel=0.1)
    for limit, truth in ((answer.requests, requests), (answer.tokens, tokens)):
        assert limit.low is not None
        assert limit.high is not None
        assert limit.low <= truth * 1.02
        assert limit.high >= truth * 0.98
        assert limit.stated is None  # there are no headers in virtual time


def test_when_requests_end_first_the_tokens_are_only_bounded(tmp_path: Path) -> None:
    plan = LimitPlan(SETTINGS, 7200.0, 0)
    directory = simulated(tmp_path, _LIMITED.format(requests=40, tokens=900_000), plan)
    answer = limits_of(directory.manifest().plan, directory.records([]))
    assert answer.requests.measured == pytest.approx(40, rel=0.1)
    assert (answer.tokens.measured, answer.tokens.behind) == (None, "requests")
    assert answer.tokens.low is not None
    assert 40 * 2001 * 0.7 < answer.tokens.low <= 40 * 2001 * 1.03
    assert "that on requests comes first" in limits_text(answer)[2]


def test_what_is_stated_is_where_the_search_begins_and_stands_in_the_records() -> None:
    stated = {"x-ratelimit-limit-requests": "300", "anthropic-ratelimit-input-tokens-limit": "90000"}
    plan = LimitPlan(SETTINGS, 1e5, 0)
    done = send_all(plan, provider(Bucket(200), Bucket(90_000), stated=stated))
    phases = [arrival.phase for arrival, _ in done]
    assert phases[1] == "small 1, 2.5/s, stated 300/min"  # half of it
    answer = found(plan, done)
    assert (answer.requests.stated, answer.tokens.stated) == (300, 90_000)
    assert answer.requests.measured == pytest.approx(200, rel=0.1)  # the header was wrong
    assert answer.tokens.measured == pytest.approx(90_000, rel=0.1)
    assert limits_text(answer)[1].split()[:5] == ["requests", "a", "minute", f"{answer.requests.measured:,.0f}", "300"]


def test_every_step_stops_at_its_first_refusal_and_waits_as_asked() -> None:
    plan = LimitPlan(SETTINGS, 1e5, 0)
    done = send_all(plan, provider(Bucket(100), Bucket(20_000)))
    steps: dict[int, list[tuple[Arrival, RequestRecord]]] = {}
    for arrival, record in sorted(done, key=lambda each: each[0].at_s):
        steps.setdefault(arrival.turn, []).append((arrival, record))
    for turn, each in steps.items():
        refused = [place for place, (_, record) in enumerate(each) if record.outcome == "throttled"]
        assert refused in ([], [len(each) - 1])
        if refused and turn + 1 in steps:
            wait_s = steps[turn + 1][0][0].at_s - each[-1][0].at_s
            assert wait_s >= 0.99  # never at once: a bucket that lacks one request asks for a second at least


@pytest.mark.parametrize("most", [2, 3, 5, 8])
def test_no_more_refusals_are_provoked_than_allowed(most: int) -> None:
    plan = LimitPlan(msgspec.structs.replace(SETTINGS, most_throttled=most), 1e5, 0)
    answer = found(plan, send_all(plan, provider(Bucket(300, 7.0), Bucket(70_000, 7.0))))
    assert 1 <= answer.num_throttled <= most


def test_caps_hold_and_what_they_left_out_is_not_known() -> None:
    search = msgspec.structs.replace(SETTINGS, most_requests=300, most_tokens=100_000)
    plan = LimitPlan(search, 1e5, 0)
    answer = found(plan, send_all(plan, provider(Bucket(100_000), Bucket(10**9))))
    assert answer.num_requests <= 301
    assert answer.num_tokens <= 100_000 + 17
    assert (answer.num_throttled, answer.requests.high, answer.tokens.high) == (0, None, None)
    assert "not met" in limits_text(answer)[1]
    short = LimitPlan(SETTINGS, 200.0, 0)
    assert max(arrival.at_s for arrival, _ in send_all(short, provider(Bucket(10**6)))) < 200.0


@pytest.mark.parametrize("outcome", ["refused", "failed", "incomplete"])
def test_a_step_that_was_disturbed_is_no_bound_and_ends_the_search(outcome: str) -> None:
    def serve(arrival: Arrival) -> Reply:
        broken = (arrival.phase or "").startswith("small 3,") and arrival.index % 3 == 0
        return Reply(0.05, outcome if broken else "ok")

    plan = LimitPlan(SETTINGS, 1e5, 0)
    done = send_all(plan, serve)
    answer = found(plan, done)
    assert answer.num_aborted == 1
    assert max(arrival.turn for arrival, _ in done) == 3
    assert answer.requests.high is None
    assert answer.requests.low is not None
    assert answer.requests.low < 0.75 * 60


def test_a_run_that_is_stopped_counts_only_whole_steps() -> None:
    plan = LimitPlan(SETTINGS, 1e5, 0)
    done = send_all(plan, provider(Bucket(1000)), until_s=170.0)  # in the middle of the third step
    answer = found(plan, done)
    assert answer.num_aborted == 1
    random.Random(1).shuffle(done)
    assert found(plan, done) == answer
    assert answer.requests.low == pytest.approx(
        75 / (118.6 + 60) * 60, rel=0.01
    )  # two steps, and a minute that was saved


def test_phases_can_be_read_again() -> None:
    assert phase_of(Step("large", 3, 0.2338), 30_000.0) == "large 3, 0.2338/s, stated 30000/min"
    assert phase_of(Step("small", 12, 19.23), None) == "small 12, 19.23/s"


@pytest.mark.parametrize(
    "changes", [{"factor": 1.0}, {"most_throttled": 1}, {"resolution": 0.05}, {"large_prompt": 100}]
)
def test_settings_that_make_no_search_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        LimitSettings(**changes)  # type: ignore[arg-type]
