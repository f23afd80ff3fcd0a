"""Messages between master and workers: what was said is heard, and what is no message is dropped."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cluster.control import Beat, Echo, Piece, Pull, decode, encode
from harness.cluster.shards import ShardFile
from tests.harness.builders import LAW

_FILE = ShardFile("records-7-0123abcd.jsonl", 12, "ab")
_MESSAGES: list[Any] = [
    Beat(sequence=1, sent_at=2.5, boot_id=None, host="h", pid=7),
    Beat(
        sequence=9, sent_at=0.0, boot_id="b", host="h", pid=7, uid="u", state="closed", finished=True, drained=True,
        stop_reason="why", spool="/x", files=[_FILE], live=b"\x00\xff",
    ),
    Echo(sequence=1, sent_at=2.5, received_at=1.0, replied_at=1.5, boot_id="b", uid="u", origin=3.0, stop="s", taken=True),
    Pull(uid="u", name="n", offset=0),
    Piece(uid="u", name="n", offset=7, data=bytes(range(256))),
]  # fmt: skip
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize("message", _MESSAGES)
def test_what_is_said_is_heard(message: Any) -> None:
    assert decode(type(message), encode(message)) == message


@LAW
@given(st.binary(max_size=200), st.sampled_from([Beat, Echo, Pull, Piece]))
def test_bytes_of_no_meaning_are_dropped(data: bytes, kind: Any) -> None:
    assert decode(kind, data) is None


@LAW
@given(_JSON, st.sampled_from([Beat, Echo, Pull, Piece]))
def test_values_of_another_shape_are_dropped(value: Any, kind: Any) -> None:
    assert decode(kind, msgspec.msgpack.encode(value)) is None
    assert decode(kind, value) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sequence", "1"),
        ("sent_at", None),
        ("state", "asleep"),
        ("files", [{"name": 1}]),
        ("live", "text"),
        ("pid", 1.5),
    ],
)
def test_one_field_of_another_type_is_enough(field: str, value: Any) -> None:
    plain = msgspec.msgpack.decode(encode(_MESSAGES[1]))
    assert decode(Beat, msgspec.msgpack.encode(plain)) == _MESSAGES[1]
    assert decode(Beat, msgspec.msgpack.encode(plain | {field: value})) is None


@LAW
@given(st.sampled_from(_MESSAGES), st.data())
def test_a_message_that_was_cut_or_changed_raises_nothing(message: Any, data: st.DataObject) -> None:
    packed = bytearray(encode(message))
    packed = packed[: data.draw(st.integers(0, len(packed)))]
    if packed:
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    heard = decode(type(message), bytes(packed))
    assert heard is None or isinstance(heard, type(message))


def test_a_nest_without_end_is_dropped() -> None:
    assert decode(Beat, b"\x91" * 100_000) is None
    assert decode(Beat, b"\x81\xa5files" + b"\x91" * 100_000) is None
