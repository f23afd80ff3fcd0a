"""The decoder of server-sent events against the rules of WHATWG HTML 9.2, with the bytes cut anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.sse import SseDecoder, SseEvent
from tests.harness.builders import LAW

_BOM = b"\xef\xbb\xbf"


def _decoded(pieces: Iterable[bytes]) -> list[tuple[str, bytes]]:
    decoder = SseDecoder()
    return [(event.type, event.data) for piece in pieces for event in decoder.feed(piece)]


def _message(*data: bytes) -> list[tuple[str, bytes]]:
    return [("message", item) for item in data]


_TRANSCRIPTS: dict[str, tuple[bytes, list[tuple[str, bytes]]]] = {
    "one event": (b"data: a\n\n", _message(b"a")),
    "two events": (b"data: a\n\ndata: b\n\n", _message(b"a", b"b")),
    "no blank after the colon": (b"data:a\n\n", _message(b"a")),
    "only one blank is taken": (b"data:  a \n\n", _message(b" a ")),
    "a tab stays": (b"data:\ta\n\n", _message(b"\ta")),
    "several lines": (b"data: a\ndata: b\ndata\ndata: c\n\n", _message(b"a\nb\n\nc")),
    "a bare name is empty data": (b"data\n\n", _message(b"")),
    "empty data": (b"data:\n\n", _message(b"")),
    "two bare names": (b"data\ndata\n\n", _message(b"\n")),
    "named": (b"event: delta\ndata: a\n\ndata: b\n\n", [("delta", b"a"), ("message", b"b")]),
    "named after its data": (b"data: a\nevent: late\n\n", [("late", b"a")]),
    "the last name counts": (b"event: one\nevent: two\ndata: a\n\n", [("two", b"a")]),
    "an empty name": (b"event:\ndata: a\n\n", _message(b"a")),
    "a name alone is no event": (b"event: ping\n\ndata: a\n\n", _message(b"a")),
    "comments": (b": hello\n\n:\ndata: a\n: inside\ndata: b\n\n:end\n\n", _message(b"a\nb")),
    "other fields": (b"id: 7\nretry: 10\nx: y\ndatax: z\n data: w\nData: v\ndata: a\n\n", _message(b"a")),
    "blank lines": (b"\n\n\ndata: a\n\n\n\n", _message(b"a")),
    "a colon in the value": (b"data: a: b:c\n\n", _message(b"a: b:c")),
    "a byte order mark": (_BOM + b"data: a\n\n", _message(b"a")),
    "only the first mark is taken": (_BOM + _BOM + b"data: a\n\ndata: b\n\n", _message(b"b")),
    "a mark later on is text": (b"data: " + _BOM + b"a\n\n" + _BOM + b"data: b\n\n", _message(_BOM + b"a")),
    "UTF-8": ("event: größe\ndata: → ü 🙂\n\n".encode(), [("größe", "→ ü 🙂".encode())]),
    "json": (b'data: {"a": "x\\ny"}\n\ndata: [DONE]\n\n', _message(b'{"a": "x\\ny"}', b"[DONE]")),
    "an unfinished event is none": (b"data: a\n\ndata: b\n", _message(b"a")),
    "an unfinished line is none": (b"data: a\n\ndata: b", _message(b"a")),
    "nothing": (b"", []),
}

_ENDS = {"LF": b"\n", "CRLF": b"\r\n", "CR": b"\r"}

_ALL = pytest.mark.parametrize(
    ("body", "events"),
    [
        pytest.param(body.replace(b"\n", end), events, id=f"{name}, {end_name}")
        for name, (body, events) in _TRANSCRIPTS.items()
        for end_name, end in _ENDS.items()
    ],
)


@_ALL
def test_whole(body: bytes, events: list[tuple[str, bytes]]) -> None:
    assert _decoded([body]) == events


@_ALL
def test_byte_by_byte(body: bytes, events: list[tuple[str, bytes]]) -> None:
    assert _decoded(bytes([byte]) for byte in body) == events


@_ALL
def test_cut_at_every_byte(body: bytes, events: list[tuple[str, bytes]]) -> None:
    for cut in range(len(body) + 1):
        assert _decoded([body[:cut], body[cut:]]) == events, cut


@_ALL
def test_cut_at_every_two_bytes_with_empty_pieces(body: bytes, events: list[tuple[str, bytes]]) -> None:
    for first, second in combinations(range(len(body) + 1), 2):
        assert _decoded([body[:first], b"", body[first:second], b"", body[second:]]) == events, (
            first,
            second,
        )


def test_mixed_ends_in_one_piece() -> None:
    assert _decoded([b"data: a\r\n\ndata: b\r\rdata: c\n\r\ndata: d\r\n\r\n"]) == _message(b"a", b"b", b"c", b"d")


def test_mixed_ends_byte_by_byte() -> None:
    body = b"data: a\r\n\ndata: b\r\n\n"
    assert _decoded(bytes([byte]) for byte in body) == _message(b"a", b"b")


def test_an_event_comes_with_the_piece_that_ends_it() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: a\n") == []
    assert decoder.feed(b"\nda") == [SseEvent("message", b"a")]
    assert decoder.feed(b"ta: b\r") == []
    assert decoder.feed(b"\n\r") == [SseEvent("message", b"b")]  # a CR ends the line: no waiting for a LF
    assert decoder.feed(b"\n") == []


@pytest.mark.parametrize(
    ("body", "pending"),
    [
        (b"", False),
        (b"data: a\n\n", False),
        (b"data: a\r\n\r\n", False),
        (b": comment\n", False),
        (b"data: a\n", True),
        (b"data: a", True),
        (b"data: a\n\ndata: [DO", True),
        (b"data: a\n\ndata: [DONE]\n", True),
    ],
)
def test_a_cut_inside_an_event_shows(body: bytes, pending: bool) -> None:
    decoder = SseDecoder()
    decoder.feed(body)
    assert decoder.pending is pending


def test_a_cut_after_the_name_of_an_event_shows() -> None:
    decoder = SseDecoder()
    decoder.feed(b"event: delta\n")
    assert decoder.pending


def test_a_cut_inside_a_comment_is_none_inside_an_event() -> None:
    decoder = SseDecoder()
    decoder.feed(b"data: a\n\n: keep-ali")
    assert not decoder.pending


_LINE = st.binary(max_size=12).map(lambda raw: raw.replace(b"\r", b"").replace(b"\n", b""))
_NAME = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=6)


@LAW
@given(
    st.lists(st.tuples(_NAME, st.lists(_LINE, min_size=1, max_size=4), st.booleans()), max_size=6),
    st.sampled_from(list(_ENDS.values())),
    st.booleans(),
    st.lists(st.integers(0, 400), max_size=12),
)
def test_what_is_encoded_is_decoded_whatever_the_pieces(
    events: list[tuple[str, list[bytes], bool]], end: bytes, mark: bool, cuts: list[int]
) -> None:
    body = _BOM if mark else b""
    expected: list[tuple[str, bytes]] = []
    for name, lines, commented in events:
        if commented:
            body += b": keep-alive" + end + end
        if name:
            body += b"event: " + name.encode() + end
        body += b"".join(b"data: " + line + end for line in lines) + end
        expected.append((name or "message", b"\n".join(lines)))
    edges = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    pieces = [body[a:b] for a, b in pairwise(edges)]
    assert _decoded(pieces) == expected


_BLOCKS = [
    b"data: a",
    b"data:b",
    b"event: e\ndata: c",
    b"data: d\ndata: e",
    b": note",
    b"",
    b"\ndata: f",
    b"event: lost",
    b"id: 1",
]


@LAW
@given(st.lists(st.lists(st.sampled_from(_BLOCKS), min_size=1, max_size=3), max_size=6))
def test_reads_of_whole_events_say_the_same_as_bytes(reads: list[list[bytes]]) -> None:
    """Most reads end where an event ends, and have a way of their own through the decoder."""
    pieces = [b"".join(block + b"\n\n" for block in blocks) for blocks in reads]
    text = b"".join(pieces)
    assert _decoded(pieces) == _decoded(text[at : at + 1] for at in range(len(text)))
    assert _decoded([text[:-1], text[-1:]]) == _decoded(pieces)
