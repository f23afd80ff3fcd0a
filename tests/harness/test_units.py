"""Durations, rates and windows as people write them."""

from __future__ import annotations

from math import isfinite

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UsageError
from harness.units import parse_duration, parse_rate, parse_window
from tests.harness.builders import LAW


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("0.25", 0.25),
        ("90s", 90.0),
        ("500ms", 0.5),
        ("2m", 120.0),
        ("2min", 120.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("1d", 86400.0),
        ("1m30s500ms", 90.5),
        ("  10 s ", 10.0),
        ("1m 30s", 90.0),
    ],
)
def test_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "0",
        "0s",
        "0h0m",
        "-5",
        "-5s",
        "abc",
        "5x",
        "s",
        "1e3",
        "nan",
        "inf",
        "5s3",
        "1,5s",
        "1h-3m",
        ".5",
        "5.",
        "5 S",
        "½s",
    ],
)
def test_bad_duration_names_the_value(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_duration(text)
    assert repr(text) in str(caught.value)


def test_duration_is_finite() -> None:
    with pytest.raises(UsageError):
        parse_duration("9" * 400)


@LAW
@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59), st.integers(1, 999))
def test_parts_of_a_duration_add_up(hours: int, minutes: int, seconds: int, millis: int) -> None:
    parsed = parse_duration(f"{hours}h{minutes}m{seconds}s{millis}ms")
    assert parsed == pytest.approx(hours * 3600 + minutes * 60 + seconds + millis / 1000, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "per_second"),
    [
        ("20", 20.0),
        ("0.5", 0.5),
        ("20/s", 20.0),
        ("300/min", 5.0),
        ("300/m", 5.0),
        ("5000/h", 5000 / 3600),
        ("86400/d", 1.0),
        ("1/ms", 1000.0),
        (" 20/s ", 20.0),
    ],
)
def test_rate(text: str, per_second: float) -> None:
    assert parse_rate(text) == pytest.approx(per_second, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0/s",
        "0.0/h",
        "-1",
        "-1/s",
        "20/x",
        "/s",
        "20/s/s",
        "abc",
        "nan",
        "inf",
        "1e3/s",
        "20 per second",
    ],
)
def test_bad_rate_names_the_value(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_rate(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("120s", (0.0, 120.0)),
        ("120", (0.0, 120.0)),
        ("10m:12m", (600.0, 720.0)),
        ("0:30s", (0.0, 30.0)),
        ("0s:1m", (0.0, 60.0)),
        ("0m:1m", (0.0, 60.0)),
        ("0h:1m", (0.0, 60.0)),
        ("0.5s:1s", (0.5, 1.0)),
        ("1h:1h30m", (3600.0, 5400.0)),
    ],
)
def test_window(text: str, window: tuple[float, float]) -> None:
    assert parse_window(text) == pytest.approx(window, rel=1e-12)


@pytest.mark.parametrize("text", ["0ms:5s", "0min:5s", "0d:5s", "0.0:5s", "0h0m:5s"])
def test_window_may_start_at_zero_in_any_unit(text: str) -> None:
    assert parse_window(text) == (0.0, 5.0)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "''"),
        ("abc", "'abc'"),
        ("0", "'0'"),
        ("12m:10m", "'12m:10m'"),
        ("10m:10m", "'10m:10m'"),
        ("1:2:3", "'2:3'"),
        ("x:5s", "'x'"),
        ("5s:y", "'y'"),
        ("-5s:5s", "'-5s'"),
    ],
)
def test_bad_window_names_the_value(text: str, named: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_window(text)
    assert named in str(caught.value)


@pytest.mark.parametrize("text", ["10m:", "0:"])
def test_a_window_without_an_end_is_named(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_window(text)
    assert text in str(caught.value)


@pytest.mark.parametrize("text", ["s:5s", "m:5s", "h:5s"])
def test_a_window_does_not_start_at_a_bare_unit(text: str) -> None:
    with pytest.raises(UsageError):
        parse_window(text)


@LAW
@given(st.text(max_size=12))
def test_any_text_is_a_positive_number_or_a_usage_error(text: str) -> None:
    for parse in (parse_duration, parse_rate):
        try:
            value = parse(text)
        except UsageError:
            continue
        assert value > 0
        assert isfinite(value)
