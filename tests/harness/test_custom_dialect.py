"""A protocol of one's own: SSE and lines of JSON, with every way to say where things are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.dialects import Asked, Dialect
from harness.dialects.custom import json_dialect
from harness.ndjson import LineDecoder
from harness.outcome import Verdict, classify
from harness.reading import StreamFacts, read_stream, read_whole
from harness.sse import SseEvent
from tests.harness.builders import LAW


def body(asked: Asked) -> Mapping[str, Any]:
    return {"question": asked.messages[-1][1], "stream": asked.stream}


APP = json_dialect(
    "our-app",
    "/answer",
    body,
    "delta.text",
    end="final",
    error="problem",
    whole_content="answer.0.text",
    prompt_tokens="usage.in",
    output_tokens="usage.out",
)
OLLAMA = json_dialect(
    "ollama",
    "/api/chat",
    body,
    "message.content",
    framing="ndjson",
    end="done",
    prompt_tokens="prompt_eval_count",
    output_tokens="eval_count",
)
BARE = json_dialect("bare", "/say", body, lambda event: event["words"][0])
MARKED = json_dialect("marked", "/say", body, "text", end_mark="[DONE]")


def sse(*events: object) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def lines(*events: object) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def judged(facts: StreamFacts, dialect: Dialect, *, stream: bool = True, content_type: str | None = None) -> Verdict:
    return classify(
        ending="complete",
        detail=None,
        status=200,
        headers={"content-type": content_type or dialect.framing.media_types[0]},
        error_body=None,
        stream=stream,
        facts=facts,
        stream_types=dialect.framing.media_types,
    )


GOOD = [
    {"delta": {}},
    {"delta": {"text": "One"}},
    {"delta": {"text": " two"}},
    {"delta": None},
    {"final": True, "usage": {"in": 7, "out": 2}},
]


def test_what_is_asked() -> None:
    assert json.loads(APP.body(Asked("m", (("system", "s"), ("user", "u")), stream=False))) == {
        "question": "u",
        "stream": False,
    }
    assert APP.headers("k") == {"Authorization": "Bearer k"}


def test_a_stream_of_events() -> None:
    facts = read_stream([(float(number), sse(event)) for number, event in enumerate(GOOD)], APP)
    assert judged(facts, APP).outcome == "ok"
    assert (facts.pieces, facts.content_at) == (["One", " two"], [1.0, 2.0])
    assert facts.usage is not None
    assert (facts.usage.num_prompt_tokens, facts.usage.num_output_tokens) == (7, 2)


def test_a_whole_answer_has_its_content_elsewhere() -> None:
    facts = read_whole(b'{"answer":[{"text":"One two"}],"usage":{"in":7}}', 0.0, APP)
    assert judged(facts, APP, stream=False).outcome == "ok"
    assert facts.pieces == ["One two"]


@pytest.mark.parametrize(
    ("text", "outcome", "kind", "said"),
    [
        (sse(*GOOD[:3]), "cut", "no_end", None),
        (sse(*GOOD)[:-20], "cut", "ended_inside_event", None),
        (sse(*GOOD[:3], {"problem": {"message": "no luck"}}), "failed", "in_band_error", "no luck"),
        (sse(*GOOD[:3], {"problem": "no luck"}), "failed", "in_band_error", "no luck"),
        (b'event: error\ndata: {"message":"no luck"}\n\n', "failed", "in_band_error", "no luck"),
        (sse(*GOOD[:3], [1]), "failed", "bad_json", None),
        (sse(GOOD[0], GOOD[-1]), "failed", "empty_answer", None),
        (sse(*GOOD, GOOD[1]), "failed", "content_after_end", None),
    ],
)
def test_what_is_wrong_has_the_same_labels(text: bytes, outcome: str, kind: str, said: str | None) -> None:
    verdict = judged(read_stream([(0.0, text)], APP), APP)
    assert (verdict.outcome, verdict.error_kind) == (outcome, kind)
    assert said is None or verdict.error_text == said


def test_where_no_end_is_named_a_close_in_order_is_the_end() -> None:
    facts = read_stream([(0.0, sse({"words": ["a"]}, {"words": ["b"]}))], BARE)
    assert judged(facts, BARE).outcome == "ok"
    assert facts.pieces == ["a", "b"]
    assert facts.usage is None
    assert judged(read_stream([(0.0, sse({"words": ["a"]})[:-4])], BARE), BARE).error_kind == "ended_inside_event"


def test_a_function_that_stumbles_is_an_unreadable_event() -> None:
    verdict = judged(read_stream([(0.0, sse({"words": ["a"]}, {"words": []}))], BARE), BARE)
    assert verdict.error_kind == "bad_json"
    assert str(verdict.error_text).startswith("IndexError: ")


def test_an_end_mark_is_no_json() -> None:
    assert judged(read_stream([(0.0, sse({"text": "a"}) + b"data: [DONE]\n\n")], MARKED), MARKED).outcome == "ok"
    assert judged(read_stream([(0.0, sse({"text": "a"}))], MARKED), MARKED).error_kind == "no_end"
    unmarked = read_stream([(0.0, sse({"words": ["a"]}) + b"data: [DONE]\n\n")], BARE)
    assert judged(unmarked, BARE).error_kind == "bad_json"


# -- lines -------------------------------------------------------------------------------------------------

# As Ollama's documentation of /api/chat shows them.
OLLAMA_LINES = [
    {"model": "llama3.2", "message": {"role": "assistant", "content": "The"}, "done": False},
    {"model": "llama3.2", "message": {"role": "assistant", "content": " sky"}, "done": False},
    {
        "model": "llama3.2",
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "total_duration": 4883583458,
        "prompt_eval_count": 26,
        "eval_count": 2,
    },
]


@pytest.mark.parametrize("text", [lines(*OLLAMA_LINES), lines(*OLLAMA_LINES)[:-1]], ids=["ended", "without an end"])
def test_lines_cut_anywhere(text: bytes) -> None:
    for newline in (b"\n", b"\r\n", b"\n\n"):
        form = text.replace(b"\n", newline)
        for cut in range(len(form) + 1):
            facts = read_stream([(0.0, form[:cut]), (1.0, form[cut:])], OLLAMA)
            assert judged(facts, OLLAMA).outcome == "ok"
            assert facts.pieces == ["The", " sky"]
            assert facts.usage is not None
            assert (facts.usage.num_prompt_tokens, facts.usage.num_output_tokens) == (26, 2)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (lines(*OLLAMA_LINES[:2]), "no_end"),
        (lines(*OLLAMA_LINES)[:-9], "ended_inside_event"),
        (lines(*OLLAMA_LINES[:1]) + b'{"message"\n' + lines(*OLLAMA_LINES[1:]), "bad_json"),
        (lines(OLLAMA_LINES[0], {"error": "no luck"}), "in_band_error"),
        (b"", "no_end"),
    ],
)
def test_broken_lines(text: bytes, kind: str) -> None:
    assert judged(read_stream([(0.0, text)], OLLAMA), OLLAMA).error_kind == kind


def test_lines_do_not_come_as_events() -> None:
    facts = read_stream([(0.0, lines(*OLLAMA_LINES))], OLLAMA)
    for known in ("application/x-ndjson", "application/json; charset=utf-8", "application/jsonl"):
        assert judged(facts, OLLAMA, content_type=known).outcome == "ok"
    assert judged(facts, OLLAMA, content_type="text/event-stream").error_kind == "wrong_content_type"


@LAW
@given(
    st.lists(st.sampled_from([b'{"a":1}', b"[2]", b" ", b"", b"x", "ü".encode(), b"\r"]), max_size=8),
    st.lists(st.integers(0, 60), max_size=6),
)
def test_pieces_do_not_matter(parts: list[bytes], cuts: list[int]) -> None:
    text = b"\n".join(parts)
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    decoder = LineDecoder()
    events = [event for begin, end in pairwise(places) for event in decoder.feed(text[begin:end])]
    expected = [SseEvent("message", part.strip()) for part in parts[:-1] if part.strip()]
    assert events == expected
    last = parts[-1].strip() if parts else b""
    complete = last in (b'{"a":1}', b"[2]")
    assert decoder.close() == ([SseEvent("message", last)] if complete else [])
    assert decoder.pending is bool(last and not complete)
