"""Every cell of the fault matrix, and every framing of good answers: bytes in, labels out, for each protocol that streams."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.dialects.table import DIALECTS
from harness.reading import StreamFacts, read_stream, read_whole
from tests.conftest import REPOSITORY

from .matrix import KINDS, SSE_HEADERS, Answer, Kind, document, judged
from .protocols import PROTOCOLS, Said, Spoken, framed
from .transcripts import TEXT, WORDS

CELLS = [
    pytest.param(kind, spoken, id=f"{spoken.name}: {kind.what}")
    for kind in KINDS
    for spoken in PROTOCOLS
    if kind.answer(spoken) is not None
]
SPOKEN = pytest.mark.parametrize("spoken", PROTOCOLS, ids=lambda spoken: spoken.name)


@pytest.mark.parametrize(("kind", "spoken"), CELLS)
def test_a_cell_of_the_matrix(kind: Kind, spoken: Spoken) -> None:
    answer = kind.answer(spoken)
    assert answer is not None
    verdict = judged(answer, spoken)
    assert " ".join(filter(None, [verdict.outcome, verdict.error_kind])) == kind.expected(spoken), verdict.error_text


def test_the_matrix_is_wide() -> None:
    names = [kind.what for kind in KINDS]
    labels = {kind.label for kind in KINDS}
    assert len(names) == len(set(names)) >= 40
    assert len(labels) >= 20
    streaming = {name for name, dialect in DIALECTS.items() if dialect.streams}
    assert {spoken.name for spoken in PROTOCOLS} == streaming


def test_the_document_is_the_matrix() -> None:
    """If it fails: python -m tests.faults.matrix > docs/faults.md"""
    assert (REPOSITORY / "docs" / "faults.md").read_text() == document()


@SPOKEN
def test_what_the_server_said_is_in_the_text(spoken: Spoken) -> None:
    for error in (spoken.error_in_data, spoken.error_event):
        assert judged(Answer(framed([*spoken.begun, error])), spoken).error_text == "out of luck"
    assert judged(Answer(spoken.error_body, status=429, headers={}), spoken).error_text == "out of luck"


def test_a_redirect_names_the_host_and_no_more() -> None:
    (chat, *_) = PROTOCOLS
    told = {}
    for location in ("https://user:pw@else.test:8443/v1/x?key=secret#f", "/other/path?key=secret", "http://[::1", ""):
        verdict = judged(Answer(status=302, headers={"location": location}), chat)
        assert verdict.error_kind == "redirect"
        told[location] = str(verdict.error_text)
        assert not re.search("secret|pw|user:|v1|/other", told[location])
    assert [text.split(";")[0] for text in told.values()] == [
        "302 to else.test:8443",
        "302 to another path of this host",
        "302 to what is no URL",
        "302 to another path of this host",
    ]


# -- good answers ------------------------------------------------------------------------------------------


def several_lines(events: list[Said]) -> bytes:
    """The JSON of an event on several data lines: a newline is white space between tokens."""
    return b"".join(framed([Said(event.data.replace(b',"', b',\ndata: "'), event.name)]) for event in events)


FRAMINGS = {
    "lf": lambda spoken: framed(spoken.good),
    "crlf": lambda spoken: framed(spoken.good, b"\r\n"),
    "cr": lambda spoken: framed(spoken.good, b"\r"),
    "no space after the colon": lambda spoken: framed(spoken.good, field=b"data:"),
    "a byte order mark": lambda spoken: b"\xef\xbb\xbf" + framed(spoken.good),
    "comments": lambda spoken: b": keep-alive\n\n".join([b"", *(framed([event]) for event in spoken.good), b""]),
    "comments with crlf": lambda spoken: b":\r\n".join([framed([event], b"\r\n") for event in spoken.good]),
    "a comment without an end": lambda spoken: framed(spoken.good) + b": bye",
    "several data lines": lambda spoken: several_lines(spoken.good),
    "other fields": lambda spoken: framed(spoken.good).replace(b"data: {", b"id: 7\nretry: 10\nnonsense\ndata: {"),
    "garbage that is no field": lambda spoken: b"<!-- proxied -->\n" + framed(spoken.good),
    "blank lines": lambda spoken: b"\n\n" + framed(spoken.good).replace(b"\n\n", b"\n\n\n\n"),
    "padded JSON": lambda spoken: framed([Said(event.data + b" " * 7, event.name) for event in spoken.good]).replace(
        b"[DONE]       ", b"[DONE]"
    ),
}


def read(pieces: list[bytes], spoken: Spoken) -> StreamFacts:
    return read_stream([(float(number), piece) for number, piece in enumerate(pieces)], spoken.dialect)


def check_good(facts: StreamFacts, spoken: Spoken) -> None:
    assert "".join(facts.pieces) == TEXT
    assert facts.pieces == WORDS
    assert facts.finish_reasons == [spoken.finish_reason]
    assert facts.complete
    assert facts.model == "served"
    assert facts.usage is not None
    assert (facts.usage.num_prompt_tokens, facts.usage.num_output_tokens) == (5, 3)
    assert not facts.content_after_end
    assert facts.unreadable is facts.error is None
    assert not facts.cut_inside_event


@SPOKEN
@pytest.mark.parametrize("framing", FRAMINGS)
def test_no_good_stream_has_a_false_label(spoken: Spoken, framing: str) -> None:
    """In one read, byte by byte, in pieces of every small size, and cut in two at every byte."""
    text = FRAMINGS[framing](spoken)
    assert judged(Answer(text, headers=SSE_HEADERS), spoken).outcome == "ok"
    for size in (1, 2, 3, 7, 64, 1460):
        check_good(read([text[at : at + size] for at in range(0, len(text), size)], spoken), spoken)
    for cut in range(0, len(text), 5):
        check_good(read([text[:cut], text[cut:]], spoken), spoken)


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(PROTOCOLS), st.sampled_from(list(FRAMINGS)), st.lists(st.integers(0, 5000), max_size=12))
def test_how_the_bytes_were_cut_changes_nothing(spoken: Spoken, framing: str, cuts: list[int]) -> None:
    text = FRAMINGS[framing](spoken)
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    check_good(read([text[begin:end] for begin, end in pairwise(places)], spoken), spoken)


@SPOKEN
def test_every_prefix_of_a_good_stream_is_told_from_the_whole(spoken: Spoken) -> None:
    """Until the protocol's end has come in full, a stream that is closed in order is a cut."""
    text = framed(spoken.good)
    enough = len(framed([*spoken.begun, *spoken.finish]))
    if spoken.dialect.ends == "finish":  # the finish reason; what follows is the usage and the mark
        enough = len(framed([*spoken.begun, *spoken.finish_without_usage]))
    else:
        enough = len(text)
    for cut in range(len(text)):
        verdict = judged(Answer(text[:cut]), spoken)
        if cut < enough - 1:
            assert verdict.outcome == "cut", text[:cut][-60:]
        elif verdict.outcome != "ok":
            assert verdict.error_kind == "ended_inside_event"


@SPOKEN
def test_a_good_whole_answer(spoken: Spoken) -> None:
    facts = read_whole(spoken.whole, 1.0, spoken.dialect)
    assert judged(Answer(spoken.whole, stream=False), spoken).outcome == "ok"
    assert facts.pieces == [TEXT]
    assert facts.usage is not None
    assert (facts.usage.num_prompt_tokens, facts.usage.num_output_tokens) == (5, 3)
    assert (facts.finish_reasons, facts.model) == ([spoken.finish_reason], "served")


@SPOKEN
def test_the_time_of_the_first_token_is_that_of_the_first_word(spoken: Spoken) -> None:
    """Not of what opens an answer, be it the role, a ping or an empty word."""
    reads = [(float(number), framed([event])) for number, event in enumerate(spoken.good)]
    first = len(spoken.opening)
    assert read_stream(reads, spoken.dialect).content_at == [first + 0.0, first + 1.0, first + 2.0]
