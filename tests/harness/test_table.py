"""Records as columns."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harness.records import RequestRecord
from harness.table import OUTCOMES, tabulate
from tests.harness.builders import LAW, bare_record, record


def test_the_outcomes_are_those_of_a_record() -> None:
    assert OUTCOMES == ("ok", "throttled", "failed", "cut", "incomplete", "refused", "left")


def test_no_records() -> None:
    table = tabulate([])
    assert len(table) == 0
    assert table["sent_at"].shape == (0,)
    assert table.gap_start.tolist() == [0]
    assert table.errors == {}


def test_values_and_missing_values() -> None:
    table = tabulate([record(0), bare_record(1), record(2, done_at=None, num_output_tokens=0)])
    assert len(table) == 3
    assert table.request_ids == ["run-1-0", "run-1-1", "run-1-2"]
    assert table["intended_at"].tolist() == [0.0, 0.5, 1.0]
    np.testing.assert_array_equal(table["done_at"], [0.2, np.nan, np.nan])
    np.testing.assert_array_equal(table["num_output_tokens"], [10, np.nan, 0])  # 0 is a count, None is none
    np.testing.assert_array_equal(table["num_attempts"], [1, 0, 1])


def test_rows_by_outcome() -> None:
    table = tabulate(bare_record(number, outcome=name) for number, name in enumerate([*OUTCOMES, "ok"]))
    for number, name in enumerate(OUTCOMES):
        rows = np.flatnonzero(table.is_outcome(name)).tolist()
        assert rows == ([0, len(OUTCOMES)] if name == "ok" else [number])


def test_stream_and_phase() -> None:
    table = tabulate([record(0, phase="burst"), record(1, stream=False), record(2, phase="quiet")])
    assert table.labels["phase"].texts() == ["burst", None, "quiet"]
    assert table.stream.tolist() == [True, False, True]


def test_gaps_carry_the_tokens_of_the_later_chunk() -> None:
    table = tabulate(
        [
            record(0, token_gaps_s=[0.1, 0.2], chunk_tokens=[7, 1, 4]),
            record(1, token_gaps_s=None),
            record(2, token_gaps_s=[0.3], chunk_tokens=None),
            record(3, token_gaps_s=[], chunk_tokens=[5]),
        ]
    )
    assert table.gaps.tolist() == [0.1, 0.2, 0.3]
    assert table.gap_tokens.tolist() == [1, 4, 1]
    assert table.gap_start.tolist() == [0, 2, 2, 3, 3]


def test_errors_are_counted_by_outcome_and_kind_with_the_first_text() -> None:
    table = tabulate(
        [
            record(0),
            record(1, outcome="failed", error_kind="http_500", error_text="first"),
            record(2, outcome="failed", error_kind="http_500", error_text="second"),
            record(3, outcome="throttled", error_kind="http_429"),
            record(4, outcome="cut", error_kind="http_500", error_text="other"),
        ]
    )
    assert table.errors == {("failed", "http_500"): 2, ("throttled", "http_429"): 1, ("cut", "http_500"): 1}
    assert table.error_examples == {
        ("failed", "http_500"): "first",
        ("throttled", "http_429"): "",
        ("cut", "http_500"): "other",
    }


def test_token_sources() -> None:
    sources = ["server", "local", None, "server"]
    table = tabulate(record(number, token_source=source) for number, source in enumerate(sources))
    assert table.token_sources == {"server": 2, "local": 1, "unknown": 1}


def test_token_sources_of_a_part() -> None:
    sources = ["server", "server", "local", "local", None, "server"]
    records = [record(number, token_source=source) for number, source in enumerate(sources)]
    records[4].num_output_tokens, records[5].outcome = None, "failed"
    table = tabulate(records)
    assert table.select(table["intended_at"] >= 0).token_sources == table.token_sources
    assert table.select(table["intended_at"] >= 0.5).token_sources == {"server": 1, "local": 2, "unknown": 1}
    assert table.select(table["intended_at"] < 0).token_sources == {}


_ROWS = st.lists(
    st.tuples(
        st.sampled_from(OUTCOMES),
        st.none() | st.floats(0, 1e6),
        st.none() | st.integers(0, 10**6),
        st.lists(st.tuples(st.floats(0, 10), st.integers(1, 9)), max_size=5),
    ),
    max_size=20,
)


@LAW
@given(_ROWS)
def test_every_row_can_be_got_back(
    rows: list[tuple[str, float | None, int | None, list[tuple[float, int]]]],
) -> None:
    records: list[RequestRecord] = [
        bare_record(
            number,
            outcome=outcome,
            sent_at=sent_at,
            num_output_tokens=count,
            token_gaps_s=[gap for gap, _ in gaps],
            chunk_tokens=[1, *(tokens for _, tokens in gaps)],
        )
        for number, (outcome, sent_at, count, gaps) in enumerate(rows)
    ]
    table = tabulate(iter(records))
    for number, (outcome, sent_at, count, gaps) in enumerate(rows):
        assert bool(table.is_outcome(outcome)[number])
        for name, value in (("sent_at", sent_at), ("num_output_tokens", count)):
            found = table[name][number]
            assert np.isnan(found) if value is None else found == value
        part = slice(table.gap_start[number], table.gap_start[number + 1])
        assert list(zip(table.gaps[part].tolist(), table.gap_tokens[part].tolist(), strict=True)) == gaps
    assert Counter(OUTCOMES[number] for number in table.outcome) == Counter(row[0] for row in rows)


_LABELLED: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict,
    phase=st.sampled_from(["quiet", "burst", None]),
    class_name=st.sampled_from(["chat", "agent", None]),
    cache_outcome=st.sampled_from(["hit", "miss", None]),
    outcome=st.sampled_from(OUTCOMES),
    token_gaps_s=st.sampled_from([None, [], [0.01], [0.01, 0.5]]),
)


@LAW
@given(st.lists(st.tuples(_LABELLED, st.booleans()), max_size=30))
def test_the_selection_of_rows_is_the_table_of_those_records(drawn: list[tuple[dict[str, Any], bool]]) -> None:
    records = [bare_record(number, **fields) for number, (fields, _) in enumerate(drawn)]
    kept = np.array([keep for _, keep in drawn], dtype=np.bool_)
    selected = tabulate(records).select(kept)
    alone = tabulate(each for each, (_, keep) in zip(records, drawn, strict=True) if keep)
    assert selected.request_ids == alone.request_ids
    assert selected.outcome.tolist() == alone.outcome.tolist()
    assert selected.gap_start.tolist() == alone.gap_start.tolist()
    assert selected.gaps.tolist() == alone.gaps.tolist()
    for name, column in alone.columns.items():
        assert np.array_equal(selected[name], column, equal_nan=True)
    for name, labels in alone.labels.items():
        assert selected.labels[name].texts() == labels.texts()


@LAW
@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=50))
def test_labels_are_those_of_the_records(names: list[str | None]) -> None:
    labels = tabulate(bare_record(number, tenant=name) for number, name in enumerate(names)).labels["tenant"]
    assert labels.texts() == names
    assert labels.counts() == {name: names.count(name) for name in labels.names}
    assert labels.names == tuple(dict.fromkeys(name for name in names if name is not None))
    for name in ("a", "z", None):
        assert labels.is_(name).tolist() == [each == name for each in names]
