"""Traces: what is replayed is what the file says, and a file that cannot be read says where."""

from __future__ import annotations

import csv
import json
from collections import Counter
from datetime import datetime
from itertools import pairwise
from math import inf, nan, sqrt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import TraceError, UsageError
from harness.plan import Arrival, Materialized, cut_at
from harness.workloads.prompts import PromptBook
from harness.workloads.traces import read_trace, trace_plan
from tests.harness.builders import LAW

_FIRST = '{"arrival_s": 10.5, "prompt_tokens": 7, "output_tokens": 3}'
_PLAIN = "arrival_s,prompt_tokens,output_tokens\n"
_EPOCH = datetime.fromisoformat("1970-01-01 00:00:00")
_AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def _file(tmp_path: Path, content: str | bytes, name: str = "trace.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _plain(tmp_path: Path, rows: list[tuple[float, int, int]]) -> Path:
    return _file(tmp_path, _PLAIN + "".join(f"{at!r},{prompt},{output}\n" for at, prompt, output in rows))


def _mooncake(tmp_path: Path, stamps_ms: list[int]) -> Path:
    lines = [
        json.dumps({"timestamp": at, "input_length": 10 + n, "output_length": 1 + n, "hash_ids": [0, n]})
        for n, at in enumerate(stamps_ms)
    ]
    return _file(tmp_path, "\n".join(lines) + "\n", "trace.jsonl")


# -- formats ---------------------------------------------------------------------------------------------


def test_plain_csv(tmp_path: Path) -> None:
    rows = read_trace(_file(tmp_path, _PLAIN + "10.5,7,3\n11,8,4\n"))
    assert [(r.at_s, r.num_prompt_tokens, r.num_output_tokens, r.blocks) for r in rows] == [
        (0, 7, 3, ()),
        (0.5, 8, 4, ()),
    ]


@pytest.mark.parametrize(
    "content",
    [
        "output_tokens,note,arrival_s,prompt_tokens\n3,x,10.5,7\n4,y,11,8\n",  # other columns, another order
        "\ufeff" + _PLAIN + "10.5,7,3\n11,8,4\n",
        _PLAIN.replace("\n", "\r\n") + "10.5,7,3\r\n\r\n11,8,4",
        '"arrival_s","prompt_tokens","output_tokens"\n"10.5","7","3"\n"11","8","4"\n',
        _FIRST + '\n\n{"output_tokens": 4, "arrival_s": 11, "prompt_tokens": 8, "note": "x"}',
        "\ufeff" + _FIRST + '\r\n{"arrival_s": 11, "prompt_tokens": 8, "output_tokens": 4}\r\n',
        _AZURE + "2023-11-16 23:59:59.7500000,7,3\n2023-11-17 00:00:00.2500000,8,4\n",
        _AZURE + "2023-11-16 23:59:59.5,7,3\n2023-11-17 00:00:00,8,4\n",
    ],
)
def test_the_same_trace_in_other_clothes(tmp_path: Path, content: str) -> None:
    rows = read_trace(_file(tmp_path, content))
    assert [(r.at_s, r.num_prompt_tokens, r.num_output_tokens) for r in rows] == [(0, 7, 3), (0.5, 8, 4)]


def test_mooncake_blocks(tmp_path: Path) -> None:
    content = (
        '{"timestamp": 3000, "input_length": 700, "output_length": 5, "hash_ids": [0, 9]}\n'
        '{"timestamp": 4500, "input_length": 30, "output_length": 6}\n'
    )
    rows = read_trace(_file(tmp_path, content))
    assert [(r.at_s, r.num_prompt_tokens, r.num_output_tokens, r.blocks) for r in rows] == [
        (0.0, 700, 5, (0, 9)),
        (1.5, 30, 6, ()),
    ]
    arrivals = list(trace_plan(_file(tmp_path, content)).arrivals())
    assert arrivals == [
        Arrival(0, 0.0, 700, 5, prefix_blocks=(0, 9), block_tokens=512),
        Arrival(1, 1.5, 30, 6),
    ]


def _azure_rows(path: Path) -> list[tuple[float, int, int]]:
    with path.open(newline="") as file:
        rows = [
            (row["TIMESTAMP"], int(row["ContextTokens"]), int(row["GeneratedTokens"])) for row in csv.DictReader(file)
        ]

    def ticks(text: str) -> int:  # of 100 ns, exactly
        whole, _, fraction = text.partition(".")
        return round((datetime.fromisoformat(whole) - _EPOCH).total_seconds()) * 10**7 + int(fraction)

    origin = ticks(rows[0][0])
    return [((ticks(stamp) - origin) / 1e7, prompt, output) for stamp, prompt, output in rows]


def test_the_first_two_minutes_of_the_azure_trace(shared_data: Path) -> None:
    path = shared_data / "azure2023" / "AzureLLMInferenceTrace_conv.csv"
    expected = [row for row in _azure_rows(path) if row[0] < 120]
    assert (len(expected), sum(r[1] for r in expected), sum(r[2] for r in expected)) == (
        456,
        423_048,
        121_045,
    )
    plan = trace_plan(path, window=(0.0, 120.0))
    arrivals = list(plan.arrivals())
    assert plan.num_arrivals == len(arrivals) == 456
    assert plan.duration_s == 120.0
    assert [(a.num_prompt_tokens, a.num_output_tokens) for a in arrivals] == [row[1:] for row in expected]
    assert [a.at_s for a in arrivals] == pytest.approx([row[0] for row in expected], abs=1e-6)


def test_the_whole_azure_trace(shared_data: Path) -> None:
    path = shared_data / "azure2023" / "AzureLLMInferenceTrace_conv.csv"
    expected, rows = _azure_rows(path), read_trace(path)
    assert len(rows) == len(expected) == 19_366
    assert [(r.num_prompt_tokens, r.num_output_tokens) for r in rows] == [row[1:] for row in expected]
    assert [r.at_s for r in rows] == pytest.approx([row[0] for row in expected], abs=1e-6)


def test_the_mooncake_trace_keeps_order_count_and_bins(shared_data: Path) -> None:
    path = shared_data / "mooncake" / "conversation_trace.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    rows = read_trace(path)
    assert len(rows) == len(lines) == 12_031
    assert [(r.num_prompt_tokens, r.num_output_tokens, list(r.blocks)) for r in rows] == [
        (line["input_length"], line["output_length"], line["hash_ids"]) for line in lines
    ]
    stamps = sorted({line["timestamp"] for line in lines})
    following = dict(pairwise(stamps))
    for row, line in zip(rows, lines, strict=True):
        start = line["timestamp"] / 1000
        end = following.get(line["timestamp"], line["timestamp"] + 3000) / 1000
        assert start <= row.at_s < end or row.at_s == start
    assert all(before.at_s <= after.at_s for before, after in pairwise(rows))
    per_instant = Counter(row.at_s for row in rows if row.at_s < stamps[-1] / 1000)
    assert max(per_instant.values()) == 1  # no burst is left that nobody sent


# -- instants that are shared ----------------------------------------------------------------------------


def test_requests_of_one_instant_are_spread_evenly(tmp_path: Path) -> None:
    rows = read_trace(_mooncake(tmp_path, [0, 0, 0, 3000, 3000, 6000]))
    assert [row.at_s for row in rows] == pytest.approx([0, 1, 2, 3, 4.5, 6])
    assert [row.num_prompt_tokens for row in rows] == [10, 11, 12, 13, 14, 15]


@LAW
@given(st.lists(st.integers(0, 8), min_size=1, max_size=40))
def test_spreading_keeps_order_count_and_bin(tmp_path_factory: pytest.TempPathFactory, bins: list[int]) -> None:
    path = _mooncake(tmp_path_factory.mktemp("spread"), [3000 * number for number in sorted(bins)])
    rows, first = read_trace(path), min(bins)
    assert [row.num_prompt_tokens for row in rows] == [10 + n for n in range(len(bins))]
    assert all(before.at_s <= after.at_s for before, after in pairwise(rows))
    filled = sorted(set(bins))
    for row, number in zip(rows, sorted(bins), strict=True):
        start = 3.0 * (number - first)
        following = next((3.0 * (other - first) for other in filled if other > number), inf)
        assert start - 1e-9 <= row.at_s < following
        assert len(filled) > 1 or row.at_s == 0  # one instant alone does not say how wide its bin is


def test_distinct_instants_are_left_as_they_are(tmp_path: Path) -> None:
    instants = [0.0, 0.1, 0.10000001, 5.0, 60.0]
    rows = read_trace(_plain(tmp_path, [(at, 1, 1) for at in instants]))
    assert [row.at_s for row in rows] == instants


def test_spreading_stays_inside_the_bin_when_the_next_is_empty(tmp_path: Path) -> None:
    rows = read_trace(_mooncake(tmp_path, [0, 0, 3000, 3000, 600_000]))
    assert [row.at_s for row in rows][:2] == pytest.approx([0, 1.5])
    assert 3.0 <= rows[3].at_s < 6.0


def test_requests_of_the_last_instant_are_spread_too(tmp_path: Path) -> None:
    rows = read_trace(_mooncake(tmp_path, [0, 3000, 3000, 3000]))
    assert len({row.at_s for row in rows}) == 4


# -- window, speed, scale --------------------------------------------------------------------------------

_TEN = [(float(second), 100 + second, 10 + second) for second in range(10)]


def test_a_window_takes_from_the_first_instant_up_to_the_second(tmp_path: Path) -> None:
    plan = trace_plan(_plain(tmp_path, _TEN), window=(3.0, 7.0))
    assert [(a.index, a.at_s, a.num_prompt_tokens) for a in plan.arrivals()] == [
        (0, 0.0, 103),
        (1, 1.0, 104),
        (2, 2.0, 105),
        (3, 3.0, 106),
    ]
    assert plan.duration_s == 4.0
    assert plan.describe()["trace_requests"] == 10
    assert plan.describe()["window_requests"] == 4


def test_windows_that_meet_take_each_request_once(tmp_path: Path) -> None:
    path = _plain(tmp_path, _TEN)
    prompts = [
        a.num_prompt_tokens
        for window in ((0.0, 3.0), (3.0, 5.5), (5.5, 9.5))
        for a in trace_plan(path, window=window).arrivals()
    ]
    assert prompts == [row[1] for row in _TEN]


def test_a_window_without_requests_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"20s:30s.*9\.0 s long"):
        trace_plan(_plain(tmp_path, _TEN), window=(20.0, 30.0))


def test_a_window_beyond_the_end_is_no_longer_than_the_trace(tmp_path: Path) -> None:
    assert trace_plan(_plain(tmp_path, _TEN), window=(0.0, 7200.0)).duration_s == pytest.approx(9.0, abs=1.0)


@pytest.mark.parametrize("speed", [0.5, 1.0, 2.0, 10.0])
def test_speed(tmp_path: Path, speed: float) -> None:
    plan = trace_plan(_plain(tmp_path, _TEN), window=(2.0, 8.0), speed=speed)
    assert [a.at_s for a in plan.arrivals()] == pytest.approx([second / speed for second in range(6)])
    assert plan.duration_s == pytest.approx(max(6.0 / speed, 1.0))  # a plan lasts at least a second
    assert [a.num_output_tokens for a in plan.arrivals()] == [row[2] for row in _TEN[2:8]]


@pytest.mark.parametrize(
    ("speed", "scale"),
    [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (1.0, -2.0), (nan, 1.0), (1e-300, 1.0), (inf, 1.0), (1.0, nan), (1.0, inf)],
)
def test_speed_and_scale_are_positive(tmp_path: Path, speed: float, scale: float) -> None:
    with pytest.raises(UsageError, match="must be positive"):
        trace_plan(_plain(tmp_path, _TEN), speed=speed, scale=scale)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5, 2.0, 2.25, 3.0])
def test_scale_multiplies_the_requests(tmp_path: Path, scale: float) -> None:
    rows = [(number * 0.25, number + 1, 5) for number in range(2000)]
    path = _plain(tmp_path, rows)
    plan = trace_plan(path, scale=scale, seed=3)
    arrivals = list(plan.arrivals())
    assert plan.num_arrivals == len(arrivals)
    assert [a.index for a in arrivals] == list(range(len(arrivals)))
    assert all(before.at_s <= after.at_s for before, after in pairwise(arrivals))
    assert plan.duration_s >= arrivals[-1].at_s
    share = scale % 1
    assert abs(len(arrivals) - 2000 * scale) <= 4 * sqrt(2000 * share * (1 - share))
    copies: dict[int, list[float]] = {}
    for arrival in arrivals:
        copies.setdefault(arrival.num_prompt_tokens - 1, []).append(arrival.at_s)
    for number, instants in copies.items():
        assert number * 0.25 in instants  # the request itself
        assert int(scale) <= len(instants) <= int(scale) + (share > 0)
        assert all(0.0 <= at - number * 0.25 <= 1.0 for at in instants)
    if scale >= 1:
        assert len(copies) == 2000
    assert list(trace_plan(path, scale=scale, seed=3).arrivals()) == arrivals


def test_scale_draws_by_seed(tmp_path: Path) -> None:
    path = _plain(tmp_path, [(float(number), number + 1, 5) for number in range(100)])
    kept = [[a.num_prompt_tokens for a in trace_plan(path, scale=0.5, seed=seed).arrivals()] for seed in (1, 2)]
    assert kept[0] != kept[1]


def test_a_scale_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leaves no request of 10"):
        trace_plan(_plain(tmp_path, _TEN), scale=1e-9)


def test_the_last_request_of_a_long_trace_is_kept(tmp_path: Path) -> None:
    assert trace_plan(_plain(tmp_path, [(0.0, 1, 1), (1e8, 1, 1)])).num_arrivals == 2


def test_a_plan_of_one_request_lasts(tmp_path: Path) -> None:
    assert trace_plan(_plain(tmp_path, [(5.0, 1, 1)])).duration_s > 0


# -- files that cannot be read ---------------------------------------------------------------------------

_ONE = '{"arrival_s": 0, "prompt_tokens": 7, "output_tokens": 3}\n'
_MOON = '{"timestamp": 0, "input_length": 7, "output_length": 3, "hash_ids": [1]}\n'


@pytest.mark.parametrize(
    ("content", "line", "column", "words"),
    [
        # CSV
        (_PLAIN + "0,10,x\n", 2, "output_tokens", "'x' is not a whole number"),
        (_PLAIN + "0,10,5\n1,,5\n", 3, "prompt_tokens", "'' is not a whole number"),
        (_PLAIN + "0,1.5,5\n", 2, "prompt_tokens", "'1.5' is not a whole number"),
        (_PLAIN + "0,-10,5\n", 2, "prompt_tokens", "-10 tokens; at least 1"),
        (_PLAIN + "0,10,0\n", 2, "output_tokens", "0 tokens; at least 1"),
        (_PLAIN + "0,nan,5\n", 2, "prompt_tokens", "'nan' is not a whole number"),
        (_PLAIN + "soon,10,5\n", 2, "arrival_s", "'soon' is not an instant"),
        (_PLAIN + ",10,5\n", 2, "arrival_s", "'' is not an instant"),
        (_PLAIN + "nan,10,5\n", 2, "arrival_s", "nan is not an instant"),
        (_PLAIN + "0,10,5\ninf,10,5\n", 3, "arrival_s", "inf is not an instant"),
        (_PLAIN + "-inf,10,5\n", 2, "arrival_s", "-inf is not an instant"),
        (_PLAIN + "0,10,5\n2,10,5\n\n1,10,5\n", 5, "arrival_s", "1.0 lies before the previous row at 2.0"),
        (_PLAIN + "0,10,5\n1,10\n", 3, "output_tokens", "None is not a whole number"),
        (_PLAIN + "0,10,5\n1\n", 3, "prompt_tokens", "None is not a whole number"),
        (
            _AZURE + "2023-11-16 18:15:46.68,10,5\n2023-11-16 18:15:46.67,10,5\n",
            3,
            "TIMESTAMP",
            "lies before",
        ),
        (
            _AZURE + "2023-13-16 18:15:46.68,10,5\n",
            2,
            "TIMESTAMP",
            "'2023-13-16 18:15:46.68' is not an instant",
        ),
        (_AZURE + "12.5,10,5\n", 2, "TIMESTAMP", "'12.5' is not an instant"),
        (_AZURE + "2023-11-16 18:15:46.68,10,five\n", 2, "GeneratedTokens", "'five' is not a whole number"),
        ("arrival_s,prompt_tokens\n0,10\n", 1, None, "'arrival_s,prompt_tokens' are none"),
        (
            "a,b,c\n1,2,3\n",
            1,
            None,
            "'a,b,c' are none that can be read; expected TIMESTAMP,ContextTokens,GeneratedTokens or",
        ),
        ("0,10,5\n1,10,5\n", 1, None, "'0,10,5' are none"),
        ("[1, 2]\n", 1, None, "are none"),
        ("", 1, None, "are none"),
        (_PLAIN, None, None, "holds no request"),
        # JSON lines
        (_ONE + '{"arrival_s": 1, "prompt_tok', 2, None, "is not JSON: Input data was truncated"),
        (_ONE + "{arrival_s: 1}\n", 2, None, "is not JSON"),
        (_ONE + '\n{"arrival_s": NaN, "prompt_tokens": 7, "output_tokens": 3}\n', 3, None, "is not JSON"),
        (
            _ONE + '{"arrival_s": "1", "prompt_tokens": 7, "output_tokens": 3}\n',
            2,
            "arrival_s",
            "Expected `float`, got `str`",
        ),
        (
            _ONE + '{"arrival_s": 1, "prompt_tokens": 7.5, "output_tokens": 3}\n',
            2,
            "prompt_tokens",
            "Expected `int`",
        ),
        (
            _ONE + '{"arrival_s": 1, "prompt_tokens": 7, "output_tokens": null}\n',
            2,
            "output_tokens",
            "Expected `int`, got `null`",
        ),
        (
            _ONE + '{"arrival_s": 1, "prompt_tokens": -7, "output_tokens": 3}\n',
            2,
            "prompt_tokens",
            "-7 tokens; at least 1",
        ),
        (
            _ONE + '{"arrival_s": 1, "prompt_tokens": 7, "output_tokens": 0}\n',
            2,
            "output_tokens",
            "0 tokens; at least 1",
        ),
        (
            _ONE + '{"arrival_s": -1, "prompt_tokens": 7, "output_tokens": 3}\n',
            2,
            "arrival_s",
            "-1.0 lies before the previous row",
        ),
        (_ONE + '{"arrival_s": 1, "prompt_tokens": 7}\n', 2, None, "missing required field `output_tokens`"),
        (_ONE + _MOON, 2, None, "missing required field `arrival_s`"),
        (_ONE + "[1]\n", 2, None, "Expected `object`, got `array`"),
        (
            _MOON + '{"timestamp": 1, "input_length": "7", "output_length": 3}\n',
            2,
            "input_length",
            "Expected `int`, got `str`",
        ),
        (_MOON + '{"timestamp": -1, "input_length": 7, "output_length": 3}\n', 2, "timestamp", "lies before"),
        (
            _MOON + '{"timestamp": 1, "input_length": 0, "output_length": 3}\n',
            2,
            "input_length",
            "0 tokens; at least 1",
        ),
        (
            _MOON + '{"timestamp": 1, "input_length": 7, "output_length": 3, "hash_ids": "x"}\n',
            2,
            "hash_ids",
            "Expected `array`",
        ),
        (
            _MOON + '{"timestamp": 1, "input_length": 7, "output_length": 3, "hash_ids": ["x"]}\n',
            2,
            "hash_ids[0]",
            "Expected `int`",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, content: str, line: int | None, column: str | None, words: str) -> None:
    path = _file(tmp_path, content)
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    error = caught.value
    assert (error.line, error.column) == (line, column)
    assert words in str(error)
    assert str(error).startswith(f"{path}:{line}: " if line else f"{path}: ")
    assert column is None or f"column {column}: " in str(error)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"nowhere\.csv: cannot be read: No such file"):
        read_trace(tmp_path / "nowhere.csv")


def test_a_directory_is_no_trace(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read: Is a directory"):
        read_trace(tmp_path)


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    path = _file(tmp_path, _PLAIN.encode() + b"0,10,5\n1,\xff,5\n")
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    assert str(path) in str(caught.value)
    assert f"{path}:3: is not UTF-8: invalid start byte" in str(caught.value)


def test_bytes_that_are_not_utf8_far_on(tmp_path: Path) -> None:
    good = _PLAIN + "".join(f"{second},10,5\n" for second in range(9000))
    path = _file(tmp_path, good.encode() + b"9000,\xff,5\n")
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    assert caught.value.line == 9002


@pytest.mark.parametrize(("bad", "line"), [('1,"10"x,5\n', 3), ('1,"10,5\n', 3)])
def test_a_row_that_is_not_csv_is_named(tmp_path: Path, bad: str, line: int) -> None:
    with pytest.raises(TraceError, match="is not CSV") as caught:
        read_trace(_file(tmp_path, _PLAIN + "0,10,5\n" + bad))
    assert caught.value.line == line


@pytest.mark.parametrize("head", ['"arrival_s"x,prompt_tokens,output_tokens\n', '"arrival_s,prompt_tokens\n'])
def test_a_header_that_is_not_csv(tmp_path: Path, head: str) -> None:
    with pytest.raises(TraceError):
        read_trace(_file(tmp_path, head + "0,10,5\n"))


def test_a_row_with_too_many_cells_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError):
        read_trace(_file(tmp_path, _PLAIN + "0,1,234,20\n"))


@pytest.mark.parametrize("fraction", ["1e3", "5_5"])
def test_a_fraction_of_a_second_has_only_digits(tmp_path: Path, fraction: str) -> None:
    with pytest.raises(TraceError):
        read_trace(_file(tmp_path, _AZURE + f"2023-11-16 18:15:46.{fraction},10,5\n"))


# -- labels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        "arrival_s,prompt_tokens,output_tokens,class_name,user,model\n0,7,3,chat,ann,small\n1,8,4,,,\n2,9,5,code,,\n",
        (
            '{"arrival_s": 0, "prompt_tokens": 7, "output_tokens": 3, "class_name": "chat", "user": "ann", "model": "small"}\n'
            '{"arrival_s": 1, "prompt_tokens": 8, "output_tokens": 4}\n'
            '{"arrival_s": 2, "prompt_tokens": 9, "output_tokens": 5, "class_name": "code", "user": null}\n'
        ),
    ],
)
def test_plain_traces_may_say_who_asks_whom(tmp_path: Path, content: str) -> None:
    labelled, bare, classed = trace_plan(_file(tmp_path, content)).arrivals()
    assert labelled.ask is not None
    assert (labelled.class_name, labelled.ask.user, labelled.ask.model) == ("chat", "ann", "small")
    assert (labelled.num_prompt_tokens, labelled.num_output_tokens) == (7, 3)
    assert bare == Arrival(1, 1.0, 8, 4)
    assert classed == Arrival(2, 2.0, 9, 5, class_name="code")


@pytest.mark.parametrize("label", ["\u00e4", " x", "x\ny", "x" * 101, "a,b"])
def test_a_label_that_fits_into_no_header_is_named(tmp_path: Path, label: str) -> None:
    line = json.dumps({"arrival_s": 0, "prompt_tokens": 7, "output_tokens": 3, "user": label})
    with pytest.raises(TraceError) as caught:
        read_trace(_file(tmp_path, line + "\n"))
    assert (caught.value.line, caught.value.column) == (1, "user")
    assert "start with a letter or digit" in str(caught.value)


def test_a_label_changes_no_word(tmp_path: Path) -> None:
    labelled = "arrival_s,prompt_tokens,output_tokens,user\n0,30,3,ann\n1,30,3,ann\n"
    bare = _PLAIN + "0,30,3\n1,30,3\n"
    book = PromptBook(3)
    said = [[book.messages(a) for a in trace_plan(_file(tmp_path, text)).arrivals()] for text in (labelled, bare)]
    assert said[0] == said[1]
    assert said[0][0] != said[0][1]


def test_the_models_of_a_trace_are_known(tmp_path: Path) -> None:
    content = "arrival_s,prompt_tokens,output_tokens,model\n0,7,3,small\n1,7,3,\n2,7,3,large\n"
    plan = trace_plan(_file(tmp_path, content))
    assert isinstance(plan, Materialized)
    assert plan.models == {"small", "large"}
    assert cut_at(plan, 1.0).models == {"small"}  # type: ignore[attr-defined]
