"""The fault matrix: what a server does, against what each protocol's answers are then called. Bytes to labels, no sockets.

    python -m tests.faults.matrix > docs/faults.md

`test_matrix.py` checks every cell, and that the document is this table.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.outcome import Ending, Verdict, classify
from harness.reading import StreamFacts, read_stream, read_whole

from .protocols import PROTOCOLS, Said, Spoken, framed

__all__ = ["KINDS", "Answer", "Kind", "document", "judged"]

SSE_HEADERS = {"content-type": "text/event-stream"}
JSON_HEADERS = {"content-type": "application/json"}
OK = "ok"


@dataclass(frozen=True)
class Answer:
    """What came back, as the transport hands it over."""

    body: bytes = b""
    ending: Ending = "complete"
    status: int | None = 200
    headers: Mapping[str, str] = field(default_factory=lambda: SSE_HEADERS)
    stream: bool = True


@dataclass(frozen=True)
class Kind:
    """One thing that a server does. `label` is outcome and error kind; `but` says where a protocol's differs. An answer of
    None: the protocol has no such thing."""

    what: str
    answer: Callable[[Spoken], Answer | None]
    label: str
    but: Mapping[str, str] = field(default_factory=dict)

    def expected(self, spoken: Spoken) -> str:
        return self.but.get(spoken.name, self.label)


def facts_of(answer: Answer, spoken: Spoken) -> StreamFacts | None:
    if answer.status != 200:
        return None
    if answer.stream:
        return read_stream([(0.0, answer.body)], spoken.dialect)
    return read_whole(answer.body, 0.0, spoken.dialect)


def judged(answer: Answer, spoken: Spoken) -> Verdict:
    """The verdict on an answer that came in one read."""
    return classify(
        ending=answer.ending,
        detail=None,
        status=answer.status,
        headers=answer.headers,
        error_body=None if answer.status == 200 else spoken.dialect.error_text(answer.body),
        stream=answer.stream,
        facts=facts_of(answer, spoken),
        stream_types=spoken.dialect.framing.media_types,
    )


def events(
    choose: Callable[[Spoken], Sequence[Said]], ending: Ending = "complete"
) -> Callable[[Spoken], Answer | None]:
    """A stream of these events; none of them: the protocol has no such thing."""

    def made(spoken: Spoken) -> Answer | None:
        chosen = choose(spoken)
        return Answer(framed(chosen), ending) if chosen else None

    return made


def body(make: Callable[[bytes], bytes]) -> Callable[[Spoken], Answer]:
    """The good stream, changed."""
    return lambda spoken: Answer(make(framed(spoken.good)))


def status(number: int, **headers: str) -> Callable[[Spoken], Answer]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda spoken: Answer(spoken.error_body, status=number, headers=JSON_HEADERS | named)


def never(ending: Ending) -> Callable[[Spoken], Answer]:
    """Nothing came that HTTP would call an answer."""
    return lambda spoken: Answer(ending=ending, status=None, headers={})


def begun(ending: Ending, cut: int = 0) -> Callable[[Spoken], Answer]:
    """The beginning of a good stream, `cut` bytes short of the end of its last word."""
    return lambda spoken: Answer(framed(spoken.begun)[: -cut or None], ending)


def headed(**headers: str) -> Callable[[Spoken], Answer]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda spoken: Answer(framed(spoken.good), headers=named)


def whole(make: Callable[[Spoken], bytes], ending: Ending = "complete") -> Callable[[Spoken], Answer]:
    return lambda spoken: Answer(make(spoken), ending, headers=JSON_HEADERS, stream=False)


def inside_a_character(spoken: Spoken) -> Answer:
    text = framed(spoken.begun)
    return Answer(text[: text.rindex(b"\xf0\x9f") + 2])


def extra(spoken: Spoken, event: bytes) -> list[Said]:
    """The good stream with one more event after its first word."""
    at = len(spoken.opening) + 1
    return [*spoken.good[:at], Said(event), *spoken.good[at:]]


# Completions know no calls; what a protocol has no word for is left out of the table.
KINDS = [
    # -- the connection -----------------------------------------------------------------------------------
    Kind("closes the connection before it answers", never("closed"), "failed closed_before_headers"),
    Kind("resets the connection before it answers", never("reset"), "failed reset_before_headers"),
    Kind("says nothing until the timeout", never("timeout"), "failed timeout_before_headers"),
    Kind("cannot be reached", never("unreachable"), "failed unreachable"),
    Kind("answers what is no HTTP", never("bad_http"), "failed bad_http"),
    Kind("breaks HTTP's own framing in mid-stream", begun("bad_http"), "failed bad_http"),
    Kind("closes the connection between two events", begun("closed"), "cut closed_mid_answer"),
    Kind("closes the connection inside an event", begun("closed", 9), "cut closed_mid_answer"),
    Kind("resets the connection in mid-stream", begun("reset"), "cut reset_mid_answer"),
    Kind("stalls in mid-stream until the timeout", begun("timeout"), "failed stalled"),
    Kind("is still answering when the run ends", begun("run_ended"), "incomplete run_ended"),
    # -- the end of the body --------------------------------------------------------------------------------
    Kind("ends the body inside an event", begun("complete", 9), "cut ended_inside_event"),
    Kind("ends the body inside a character", inside_a_character, "cut ended_inside_event"),
    Kind("ends the body after some words, without any end", begun("complete"), "cut no_end"),
    Kind("ends the body before the first event", lambda spoken: Answer(), "cut no_end"),
    Kind("ends the body after the opening", events(lambda spoken: spoken.opening), "cut no_end"),
    Kind(
        "says why it stopped, but leaves the end mark out",
        events(lambda spoken: [*spoken.begun, *spoken.finish]),
        OK,
        {"anthropic-messages": "cut no_end"},
    ),
    Kind(
        "sends the end mark, but never says why it stopped",
        events(lambda spoken: [*spoken.begun, *spoken.end] if spoken.end else []),
        OK,
    ),
    # -- what it says ---------------------------------------------------------------------------------------
    Kind(
        "reports an error as data",
        events(lambda spoken: [*spoken.begun, spoken.error_in_data]),
        "failed in_band_error",
    ),
    Kind(
        "reports an error as an event with that name",
        events(lambda spoken: [*spoken.begun, spoken.error_event]),
        "failed in_band_error",
    ),
    Kind("reports an error first", events(lambda spoken: [spoken.error_in_data]), "failed in_band_error"),
    Kind(
        "reports an error after the finish",
        events(lambda spoken: [*spoken.good, spoken.error_in_data]),
        "failed in_band_error",
    ),
    Kind(
        "reports an error, then breaks the connection",
        events(lambda spoken: [*spoken.begun, spoken.error_in_data], ending="closed"),
        "failed in_band_error",
    ),
    Kind("sends broken JSON in an event", events(lambda spoken: extra(spoken, b'{"a":[{')), "failed bad_json"),
    Kind(
        "sends JSON of another shape",
        events(lambda spoken: [*spoken.begun, spoken.other_shape, *spoken.finish, *spoken.end]),
        "failed bad_json",
    ),
    Kind("sends HTML in an event", events(lambda spoken: extra(spoken, b"<html>oops</html>")), "failed bad_json"),
    Kind(
        "sends an event before the first that is no JSON",
        events(lambda spoken: [Said(b"warming up"), *spoken.good]),
        "failed bad_json",
    ),
    Kind(
        "sends bytes that are no UTF-8",
        body(lambda text: text.replace("日".encode(), b"\xff\xfe")),
        "failed bad_json",
    ),
    Kind(
        "says twice why it stopped",
        events(lambda spoken: [*spoken.begun, *spoken.finish, *spoken.finish, *spoken.end]),
        "failed two_finishes",
    ),
    Kind(
        "goes on after it said why it stopped",
        events(lambda spoken: [*spoken.begun, *spoken.finish, spoken.words[0], *spoken.end]),
        "failed content_after_end",
    ),
    Kind(
        "goes on after the end mark",
        events(lambda spoken: [*spoken.good, spoken.words[0]] if spoken.end else []),
        "failed content_after_end",
    ),
    Kind(
        "ends without a word",
        events(lambda spoken: [*spoken.opening, *spoken.finish, *spoken.end]),
        "failed empty_answer",
    ),
    Kind(
        "sends only empty words",
        events(lambda spoken: [*spoken.opening, spoken.empty_word, *spoken.finish, *spoken.end]),
        "failed empty_answer",
    ),
    Kind(
        "sends nothing but the end",
        events(lambda spoken: spoken.end or spoken.finish[-1:]),
        "failed empty_answer",
    ),
    Kind("calls a tool that takes no arguments", events(lambda spoken: spoken.call), OK),
    Kind(
        "counts no tokens",
        events(lambda spoken: [*spoken.begun, *spoken.finish_without_usage, *spoken.end]),
        OK,
    ),
    # -- headers and status -----------------------------------------------------------------------------------
    Kind("sends a stream as plain text", headed(content_type="text/plain"), "failed wrong_content_type"),
    Kind("sends a stream of no stated type", headed(), "failed wrong_content_type"),
    Kind(
        "sends a whole answer where a stream was asked for",
        lambda spoken: Answer(spoken.whole, headers=JSON_HEADERS),
        "failed wrong_content_type",
    ),
    Kind(
        "sends an error with status 200 where a stream was asked for",
        lambda spoken: Answer(spoken.error_body, headers=JSON_HEADERS),
        "failed wrong_content_type",
    ),
    Kind(
        "compresses although nobody asked for it",
        lambda spoken: Answer(gzip.compress(framed(spoken.good)), headers=SSE_HEADERS | {"content-encoding": "gzip"}),
        "failed encoded_body",
    ),
    Kind("redirects to another host", status(307, location="http://elsewhere.test/v1?key=k"), "failed redirect"),
    Kind("answers 204", lambda spoken: Answer(status=204, headers={}), "failed http_204"),
    Kind("answers 401", status(401), "failed http_401"),
    Kind("answers 429", status(429), "throttled http_429"),
    Kind("answers 500", status(500), "failed http_500"),
    Kind("answers 503", status(503), "failed http_503"),
    Kind("answers 503 with Retry-After", status(503, retry_after="1"), "throttled http_503"),
    Kind("answers 529", status(529), "throttled http_529"),
    # -- whole answers ------------------------------------------------------------------------------------------
    Kind("cuts a whole answer in two", whole(lambda spoken: spoken.whole[:99], "closed"), "cut closed_mid_answer"),
    Kind("stalls in a whole answer", whole(lambda spoken: spoken.whole[:99], "timeout"), "failed stalled"),
    Kind("sends half a whole answer as if it were all", whole(lambda spoken: spoken.whole[:99]), "failed bad_json"),
    Kind("sends a whole answer without a word", whole(lambda spoken: spoken.whole_empty), "failed empty_answer"),
    Kind("sends an error with status 200", whole(lambda spoken: spoken.error_body), "failed in_band_error"),
]


def document() -> str:
    """The matrix as a page: a row of one label, and the protocols in which it is another, or in which there is no such thing."""
    names = ", ".join(spoken.name for spoken in PROTOCOLS)
    lines = [
        "# Broken answers and their labels",
        "",
        "What a server does, and what the record then says: `outcome`, and `error_kind` behind it. The labels are the same in",
        f"all protocols that stream ({names}) but for what the last column says. Written by `python -m tests.faults.matrix`;",
        "`tests/faults/test_matrix.py` checks every cell, and `tests/faults/test_faults.py` asks servers that behave so over",
        "sockets.",
        "",
        "| the server … | label | but |",
        "|---|---|---|",
    ]
    for kind in KINDS:
        no_such = [spoken.name for spoken in PROTOCOLS if kind.answer(spoken) is None]
        others = [f"{label} in {name}" for name, label in kind.but.items()]
        others += [f"no such thing in {', '.join(no_such)}"] if no_such else []
        lines.append(f"| {kind.what} | {kind.label} | {'; '.join(others)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(document(), end="")
