"""The same streams cut at every byte: what an answer is must not depend on how its bytes came in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.dialects.openai_chat import OPENAI_CHAT
from harness.outcome import Ending, Verdict, classify
from harness.reading import StreamFacts, read_stream, read_whole
from harness.sse import SseDecoder, SseEvent

from .transcripts import (
    DONE,
    ERROR_BODY,
    FINISH,
    GOOD,
    ROLE,
    TEXT,
    USAGE,
    WORDS,
    delta,
    good_text,
    sse,
    whole,
)


@dataclass(frozen=True)
class Transcript:
    """A body, and what is to be found in it."""

    body: bytes
    outcome: str = "ok"
    kind: str | None = None
    text: str = TEXT
    finishes: int = 1
    ended: bool = True
    usage: bool = True
    pending: bool = False


STARTED = sse([ROLE, *map(delta, WORDS)])

TRANSCRIPTS = {
    "lf": Transcript(good_text()),
    "crlf": Transcript(sse(GOOD, b"\r\n")),
    "cr": Transcript(sse(GOOD, b"\r")),
    "lf-after-crlf": Transcript(sse(GOOD).replace(b"\n\n", b"\r\n\n")),
    "cr-after-lf": Transcript(sse(GOOD).replace(b"\n\n", b"\n\r")),
    "crlf-after-cr": Transcript(sse(GOOD).replace(b"\n\n", b"\r\r\n")),
    "bom": Transcript(b"\xef\xbb\xbf" + good_text()),
    "no-space": Transcript(sse(GOOD, field=b"data:")),
    "comments": Transcript(b": a\r\n\r\n".join([b"", *(sse([data]) for data in GOOD), b""])),
    "other-fields": Transcript(sse(GOOD).replace(b"data: ", b"id: 1\nevent: message\nretry: 5\nnonsense\ndata: ")),
    "two-data-lines": Transcript(sse(GOOD).replace(b',"choices"', b',\ndata: "choices"')),
    "many-blank-lines": Transcript(b"\n\n" + good_text().replace(b"\n\n", b"\n\n\n\n")),
    "cut-inside-an-event": Transcript(
        STARTED + b'data: {"cho',
        "cut",
        "ended_inside_event",
        TEXT,
        pending=True,
        finishes=0,
        ended=False,
        usage=False,
    ),
    "cut-inside-a-character": Transcript(
        STARTED[: STARTED.rindex(b"\xf0\x9f") + 2],
        "cut",
        "ended_inside_event",
        "".join(WORDS[:2]),
        pending=True,
        finishes=0,
        ended=False,
        usage=False,
    ),
    "no-end": Transcript(STARTED, "cut", "no_end", finishes=0, ended=False, usage=False),
    "nothing": Transcript(b"", "cut", "no_end", "", finishes=0, ended=False, usage=False),
    "error": Transcript(STARTED + sse([ERROR_BODY, DONE]), "failed", "in_band_error", finishes=0, usage=False),
    "error-event": Transcript(
        STARTED + b"event: error\n" + sse([ERROR_BODY, DONE]),
        "failed",
        "in_band_error",
        finishes=0,
        usage=False,
    ),
    "bad-json": Transcript(STARTED + sse([b"{", FINISH, USAGE, DONE]), "failed", "bad_json"),
    "two-finishes": Transcript(STARTED + sse([FINISH, FINISH, USAGE, DONE]), "failed", "two_finishes", finishes=2),
    "content-after-end": Transcript(
        STARTED + sse([FINISH, USAGE, DONE, delta("!")]), "failed", "content_after_end", TEXT + "!"
    ),
    "empty": Transcript(sse([ROLE, FINISH, USAGE, DONE]), "failed", "empty_answer", ""),
}
ROWS = [pytest.param(transcript, id=name) for name, transcript in TRANSCRIPTS.items()]


def judge(facts: StreamFacts, ending: Ending = "complete") -> Verdict:
    return classify(
        ending=ending,
        detail=None,
        status=200,
        headers={"content-type": "text/event-stream"},
        error_body=None,
        stream=True,
        facts=facts,
    )


def check(pieces: list[bytes], transcript: Transcript) -> None:
    facts = read_stream([(float(number), piece) for number, piece in enumerate(pieces)], OPENAI_CHAT)
    verdict = judge(facts)
    assert (verdict.outcome, verdict.error_kind) == (transcript.outcome, transcript.kind)
    assert "".join(facts.pieces) == transcript.text
    assert len(facts.finish_reasons) == transcript.finishes
    assert facts.ended is transcript.ended
    assert (facts.usage is not None) is transcript.usage
    assert facts.cut_inside_event is transcript.pending
    assert facts.content_at == sorted(facts.content_at)
    assert len(facts.content_at) == len(facts.pieces)


@pytest.mark.parametrize("transcript", list(TRANSCRIPTS.values()), ids=list(TRANSCRIPTS))
def test_in_two_pieces_at_every_byte(transcript: Transcript) -> None:
    body = transcript.body
    for cut in range(len(body) + 1):
        check([body[:cut], body[cut:]], transcript)


@pytest.mark.parametrize("transcript", ROWS)
def test_byte_by_byte(transcript: Transcript) -> None:
    check([transcript.body[i : i + 1] for i in range(len(transcript.body))], transcript)


@pytest.mark.parametrize("size", [2, 3, 5, 7, 64])
@pytest.mark.parametrize("transcript", list(TRANSCRIPTS.values()), ids=lambda _: "")
def test_in_pieces_of_one_size(transcript: Transcript, size: int) -> None:
    body = transcript.body
    check([body[i : i + size] for i in range(0, len(body), size)], transcript)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"], ids=["lf", "crlf", "cr"])
def test_every_prefix_of_a_good_stream_is_told_from_the_whole(newline: bytes) -> None:
    """A clean close is a success only after the finish and at the end of an event."""
    body = sse(GOOD, newline)
    finish_ends = len(sse(GOOD[: GOOD.index(FINISH) + 1], newline))
    for cut in range(len(body)):
        verdict = judge(read_stream([(0.0, body[:cut])], OPENAI_CHAT))
        if cut < finish_ends - len(newline):
            assert verdict.outcome == "cut", body[:cut][-40:]
        if verdict.outcome == "ok":
            assert any(abs(cut - len(sse(GOOD[:num], newline))) <= 1 for num in range(len(GOOD) + 1)), body[:cut][-40:]


@pytest.mark.parametrize("ending", ["closed", "reset"])
def test_a_broken_connection_is_a_cut_wherever_it_breaks(ending: Ending) -> None:
    for cut in range(len(STARTED) + 1):
        verdict = judge(read_stream([(0.0, STARTED[:cut])], OPENAI_CHAT), ending)
        assert (verdict.outcome, verdict.error_kind) == ("cut", f"{ending}_mid_answer")


def test_a_stall_is_a_stall_wherever_it_begins() -> None:
    for cut in range(len(STARTED) + 1):
        verdict = judge(read_stream([(0.0, STARTED[:cut])], OPENAI_CHAT), "timeout")
        assert (verdict.outcome, verdict.error_kind) == ("failed", "stalled")


@pytest.mark.parametrize(
    ("ending", "outcome", "kind"),
    [
        ("closed", "cut", "closed_mid_answer"),
        ("reset", "cut", "reset_mid_answer"),
        ("timeout", "failed", "stalled"),
    ],
)
def test_a_broken_whole_answer_is_told_by_its_connection(ending: Ending, outcome: str, kind: str) -> None:
    body = whole()
    for cut in range(1, len(body)):
        verdict = classify(
            ending=ending,
            detail=None,
            status=200,
            headers={"content-type": "application/json"},
            error_body=None,
            stream=False,
            facts=read_whole(body[:cut], 0.0, OPENAI_CHAT),
        )
        assert (verdict.outcome, verdict.error_kind) == (outcome, kind)


# -- stamps ----------------------------------------------------------------------------------------------


def test_content_is_stamped_with_the_read_that_completes_its_event() -> None:
    body = sse([ROLE, *map(delta, WORDS), FINISH, DONE])
    ends = [len(sse([ROLE, *map(delta, WORDS[:num])])) for num in (1, 2, 3)]
    facts = read_stream([(float(i), body[i : i + 1]) for i in range(len(body))], OPENAI_CHAT)
    assert facts.content_at == [end - 1.0 for end in ends]
    assert facts.gaps() == [float(after - before) for before, after in pairwise(ends)]
    assert facts.num_merged == 0


@pytest.mark.parametrize(("num_in_one", "merged"), [(1, 0), (2, 1), (3, 2)])
def test_events_of_one_read_are_counted_as_merged(num_in_one: int, merged: int) -> None:
    events = [sse([delta(word)]) for word in WORDS]
    reads = [
        (1.0, b"".join(events[:num_in_one])),
        *((2.0 + n, event) for n, event in enumerate(events[num_in_one:])),
    ]
    assert read_stream(reads, OPENAI_CHAT).num_merged == merged


def test_pieces_with_one_stamp_are_one_read() -> None:
    reads = [(1.0, sse([delta(word)])) for word in WORDS]
    assert read_stream(reads, OPENAI_CHAT).num_merged == 2


# -- the decoder against the standard ----------------------------------------------------------------------


def by_the_standard(body: bytes) -> list[SseEvent]:
    """WHATWG HTML 9.2.6, word by word, over the whole body at once."""
    events: list[SseEvent] = []
    data, kind = b"", b""
    lines = re.split(rb"\r\n|\n|\r", body.removeprefix(b"\xef\xbb\xbf"))
    for line in lines[:-1]:  # what no line end follows is dropped at the end of the file
        if not line:
            if data:
                events.append(SseEvent(kind.decode("utf-8", "replace") or "message", data.removesuffix(b"\n")))
            data, kind = b"", b""
        elif not line.startswith(b":"):
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"data":
                data += value + b"\n"
            elif name == b"event":
                kind = value
    return events


def pieces_of(body: bytes, cuts: list[int]) -> Iterator[bytes]:
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    return (body[begin:end] for begin, end in pairwise(places))


def decoded(body: bytes, cuts: list[int]) -> list[SseEvent]:
    decoder = SseDecoder()
    return [event for piece in pieces_of(body, cuts) for event in decoder.feed(piece)]


LINES = [
    b"data: a",
    b"data:b",
    b"data:  c",
    b"data",
    b"data:",
    b"",
    b"",
    b": note",
    b":",
    b"event: error",
    b"event",
]
LINES += [
    b"id: 1",
    b"retry: 5",
    b"datas: x",
    b" data: x",
    b"data: \xf0\x9f\x8e\x89",
    b"\xef\xbb\xbfdata: x",
    b"event:e\xff",
]
lines = st.lists(st.sampled_from(LINES), max_size=12)
cuts = st.lists(st.integers(min_value=0, max_value=400), max_size=8)


@settings(deadline=None, max_examples=500)
@given(lines, st.sampled_from([b"\n", b"\r\n", b"\r"]), cuts, st.booleans())
@example([b"\xef\xbb\xbfdata: x", b""], b"\n", [1, 2], False)
def test_the_decoder_follows_the_standard(parts: list[bytes], newline: bytes, places: list[int], closed: bool) -> None:
    body = newline.join(parts) + newline * closed
    assert decoded(body, places) == by_the_standard(body)


@settings(deadline=None, max_examples=500)
@given(st.lists(st.tuples(st.sampled_from(LINES), st.sampled_from([b"\n", b"\r\n", b"\r"])), max_size=8), cuts)
@example([(b"data: a", b"\r\n"), (b"", b"\n")], [8, 9])
def test_the_decoder_follows_the_standard_with_mixed_line_ends(
    parts: list[tuple[bytes, bytes]], places: list[int]
) -> None:
    body = b"".join(line + newline for line, newline in parts)
    assert decoded(body, places) == by_the_standard(body)


def test_every_pair_of_cuts_in_a_short_stream() -> None:
    for newline in (b"\n", b"\r\n", b"\r"):
        body = b"\xef\xbb\xbf" + newline.join(
            [b"event: e", b"data: \xc3\xbc", b"data:2", b"", b": n", b"data", b"", b""]
        )
        expected = [SseEvent("e", b"\xc3\xbc\n2"), SseEvent("message", b"")]
        for first in range(len(body) + 1):
            for second in range(first, len(body) + 1):
                assert decoded(body, [first, second]) == expected


@pytest.mark.parametrize(
    ("body", "pending"),
    [
        (b"", False),
        (b"data: a\n\n", False),
        (b"data: a\n", True),
        (b"data: a", True),
        (b"dat", True),
        (b"\n\n", False),
        (b": note\n", False),
        (b"data: a\n\n: note", False),
    ],
)
def test_pending_means_an_event_has_begun(body: bytes, pending: bool) -> None:
    decoder = SseDecoder()
    decoder.feed(body)
    assert decoder.pending is pending
