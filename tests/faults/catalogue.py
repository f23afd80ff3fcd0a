"""Named faults: what the server does, and what the record must say. Labels are those of `harness/outcome.py`.

The classes come from the design: throttled is 429, 529 or 503 with Retry-After; cut is a stream that the
server broke; failed is every other error; ok needs content and an end that the protocol knows.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .protocols import MESSAGES, PROTOCOLS, Spoken, compact, framed
from .server import Answer, Pause, Step
from .transcripts import (
    DONE,
    ERROR_BODY,
    FINISH,
    GOOD,
    ROLE,
    TEXT,
    USAGE,
    WORDS,
    chunk,
    delta,
    good_text,
    sse,
    whole,
)

__all__ = ["FAULTS", "Fault"]

PATIENT_S = 15.0
SHORT_S = 0.6

Said = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """A scripted server and the records expected, one a request."""

    name: str
    answers: Sequence[Answer]
    expected: Sequence[Said]
    texts: Sequence[str | None] | None = None
    stream: bool = True
    protocol: str = "openai-chat"
    read_s: float = PATIENT_S
    between_s: float = 0.2
    end_after_s: float = PATIENT_S
    num_requests_seen: int | None = None
    bounds: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def timed(self) -> bool:
        """Whether the outcome depends on a clock."""
        return bool(self.bounds) or self.read_s < PATIENT_S or self.end_after_s < PATIENT_S


# -- what comes back when all is well ----------------------------------------------------------------------

OK: Said = {
    "outcome": "ok",
    "error_kind": None,
    "error_text": None,
    "status": 200,
    "num_attempts": 1,
    "finish_reason": "stop",
    "num_prompt_tokens": 5,
    "num_output_tokens": 3,
    "token_source": "server",
    "num_chunks": 3,
    "model_served": "served",
}


def ok(**changed: object) -> Said:
    return OK | changed


def bad(outcome: str, kind: str, **more: object) -> Said:
    return {"outcome": outcome, "error_kind": kind, "num_attempts": 1, **more}


# -- HTTP by hand --------------------------------------------------------------------------------------------


def head(status: str = "200 OK", *, kind: str | None = "text/event-stream", version: str = "1.1", **more: str) -> bytes:
    """A response head. Underscores of the names become hyphens."""
    fields = {} if kind is None else {"Content-Type": kind}
    fields |= {name.replace("_", "-"): value for name, value in more.items()}
    lines = [f"HTTP/{version} {status}", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")


CHUNKED = head(Transfer_Encoding="chunked")
UNTIL_CLOSED = head(Connection="close")
END = b"0\r\n\r\n"


def http_chunks(pieces: Iterable[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)


def single(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def sized(body: bytes, status: str = "200 OK", *, kind: str | None = "text/event-stream", **more: str) -> bytes:
    return head(status, kind=kind, Content_Length=str(len(body)), **more) + body


def error(status: str, body: bytes = ERROR_BODY, **more: str) -> list[Answer]:
    return [Answer([sized(body, status, kind="application/json", **more)])]


def chunked(body: bytes, then: Any = "keep") -> list[Answer]:
    """A body as one HTTP chunk, on a connection that stays open."""
    return [Answer([CHUNKED + http_chunks([body]) + END], then)]


def good(name: str, answers: Sequence[Answer], *, text: str = TEXT, **changed: object) -> Fault:
    return Fault(f"good-{name}", answers, [ok(**changed)], [text])


def broken(name: str, answers: Sequence[Answer], outcome: str, kind: str, **more: object) -> Fault:
    return Fault(name, answers, [bad(outcome, kind, **more)])


STARTED = sse([ROLE, *map(delta, WORDS)])


def split_at_commas(data: bytes) -> bytes:
    """One event whose JSON stands on several data lines: a newline is white space between tokens."""
    if data == DONE:
        return b"data: [DONE]\n\n"
    return b"data: " + data.replace(b',"', b',\ndata: "') + b"\n\n"


def with_comments(newline: bytes) -> bytes:
    ping = b": keep-alive" + newline + newline
    return ping + ping.join(sse([data], newline) for data in GOOD) + b":" + newline


FRAMINGS = [
    good("lf", chunked(good_text())),
    good("crlf", chunked(sse(GOOD, b"\r\n"))),
    good("cr", chunked(sse(GOOD, b"\r"))),
    good("lf-1-byte-chunks", [Answer([CHUNKED + http_chunks(single(good_text())) + END], "keep")]),
    good("crlf-1-byte-chunks", [Answer([CHUNKED + http_chunks(single(sse(GOOD, b"\r\n"))) + END], "keep")]),
    good("cr-1-byte-chunks", [Answer([CHUNKED + http_chunks(single(sse(GOOD, b"\r"))) + END], "keep")]),
    good(
        "mixed-line-ends-1-byte-chunks",
        [Answer([CHUNKED + http_chunks(single(sse(GOOD).replace(b"\n\n", b"\r\n\n"))) + END], "keep")],
    ),
    good("all-in-one-chunk", chunked(good_text()), num_merged_chunks=2),
    good(
        "events-in-chunks-of-one-segment",
        [Answer([CHUNKED + http_chunks([sse([data]) for data in GOOD]) + END], "keep")],
        num_merged_chunks=2,
    ),
    good("content-length", [Answer([sized(good_text())], "keep")]),
    good("until-close", [Answer([UNTIL_CLOSED + good_text()])]),
    good("http-1.0", [Answer([head(version="1.0") + good_text()])]),
    good("comments-lf", chunked(with_comments(b"\n"))),
    good("comments-crlf", chunked(with_comments(b"\r\n"))),
    good("comment-without-end", [Answer([UNTIL_CLOSED + good_text() + b": bye"])]),
    good("bom", chunked(b"\xef\xbb\xbf" + good_text())),
    good(
        "bom-1-byte-chunks",
        [Answer([CHUNKED + http_chunks(single(b"\xef\xbb\xbf" + good_text())) + END], "keep")],
    ),
    good("no-space", chunked(sse(GOOD, field=b"data:"))),
    good("other-fields", chunked(good_text().replace(b"data: {", b"event: message\nid: 7\nretry: 10\ndata: {"))),
    good("multi-line-data", chunked(b"".join(map(split_at_commas, GOOD)))),
    good("padded-json", chunked(sse([line + b"   " if line != DONE else line for line in GOOD]))),
]

PROTOCOL = [
    good("no-role", chunked(sse(GOOD[1:]))),
    good("no-done", [Answer([UNTIL_CLOSED + sse(GOOD[:-1])])]),
    good("no-finish-but-done", chunked(sse([ROLE, *map(delta, WORDS), USAGE, DONE])), finish_reason=None),
    good(
        "finish-with-content",
        chunked(sse([ROLE, *map(delta, WORDS[:-1]), delta(WORDS[-1], "stop"), USAGE, DONE])),
    ),
    good(
        "length",
        chunked(sse([ROLE, *map(delta, WORDS), delta(finish="length"), USAGE, DONE])),
        finish_reason="length",
    ),
    good("error-null", chunked(sse([chunk(choices=[], error=None), *GOOD]))),
    good("no-choices-first", chunked(sse([chunk(choices=[], prompt_filter_results=[]), *GOOD]))),
    good(
        "no-usage",
        chunked(sse([ROLE, delta("One"), delta(" two"), delta(" three"), FINISH, DONE])),
        text="One two three",
        num_prompt_tokens=None,
        token_source="local",
    ),
    good(
        "reasoning",
        chunked(sse([ROLE, delta(reasoning_content="Hm"), delta(reasoning="m"), delta("Yes"), FINISH, USAGE, DONE])),
        text="HmmYes",
    ),
    good(
        "tool-call",
        chunked(
            sse(
                [
                    delta(
                        role="assistant",
                        tool_calls=[{"index": 0, "id": "t", "function": {"name": "f", "arguments": ""}}],
                    ),
                    *(
                        delta(tool_calls=[{"index": 0, "function": {"arguments": part}}])
                        for part in ('{"a"', ":", "1}")
                    ),
                    delta(finish="tool_calls"),
                    USAGE,
                    DONE,
                ]
            )
        ),
        text='{"a":1}',
        finish_reason="tool_calls",
    ),
    good(
        "megabyte-event",
        chunked(sse([ROLE, *map(delta, [WORDS[0], "x" * 1_000_000, ""]), delta("y"), *GOOD[4:]])),
        text=WORDS[0] + "x" * 1_000_000 + "y",
    ),
]

HTTP_FORMS = [
    good(
        "continue-first",
        [Answer([b"HTTP/1.1 100 Continue\r\n\r\n", *[CHUNKED + http_chunks([good_text()]) + END]], "keep")],
    ),
    good(
        "early-hints-first",
        [
            Answer(
                [
                    b"HTTP/1.1 103 Early Hints\r\nContent-Type: text/html\r\n\r\n",
                    Pause(0.05),
                    CHUNKED,
                    http_chunks([good_text()]),
                    END,
                ],
                "keep",
            )
        ],
    ),
    good("trailers", [Answer([CHUNKED + http_chunks([good_text()]) + b"0\r\nX-Checksum: 1\r\n\r\n"], "keep")]),
    good(
        "chunk-extension",
        [Answer([CHUNKED + b"%x;note=1\r\n%b\r\n" % (len(good_text()), good_text()) + END], "keep")],
    ),
    good("head-byte-by-byte", [Answer([*single(CHUNKED), http_chunks([good_text()]) + END], "keep")]),
    good("repeated-headers", [Answer([sized(good_text(), Set_Cookie="a=1\r\nSet-Cookie: b=2")], "keep")]),
    good("latin-1-header", [Answer([sized(good_text(), X_Note="caf\xe9")], "keep")]),
    good("charset", [Answer([sized(good_text(), kind="text/event-stream; charset=utf-8")], "keep")]),
    good(
        "content-type-in-capitals",
        [Answer([sized(good_text(), kind="Text/Event-Stream; Charset=UTF-8")], "keep")],
    ),
    good("identity", [Answer([sized(good_text(), Content_Encoding="identity")], "keep")]),
    good("identity-in-capitals", [Answer([sized(good_text(), Content_Encoding="Identity")], "keep")]),
    good("reset-after-the-end", [Answer([sized(good_text()), Pause(0.1)], "reset")]),
]


def split_inside_characters() -> list[Step]:
    """A chunked stream whose every chunk ends inside a character of several bytes, each in its own read."""
    body = good_text()
    cuts = [0, *(i for i, byte in enumerate(body) if byte & 0xC0 == 0x80)]
    pieces = [body[a:b] for a, b in zip(cuts, [*cuts[1:], len(body)], strict=True)]
    steps: list[Step] = [CHUNKED]
    for piece in pieces:
        steps += [http_chunks([piece]), Pause(0.01)]
    return [*steps, END]


TIMING = [
    good("utf-8-split-in-every-character", [Answer(split_inside_characters(), "keep")]),
    Fault(
        "good-first-token-long-before-the-rest",
        [
            Answer(
                [
                    CHUNKED,
                    http_chunks([sse([ROLE, delta(WORDS[0])])]),
                    Pause(1.0),
                    http_chunks([sse(GOOD[2:])]),
                    END,
                ],
                "keep",
            )
        ],
        [ok(num_merged_chunks=1)],
        [TEXT],
        bounds={"ttft": (0.0, 0.6), "first_gap": (0.6, 3.0)},
    ),
    Fault(
        "good-slow-headers",
        [Answer([CHUNKED[:9], Pause(0.4), CHUNKED[9:], http_chunks([good_text()]) + END], "keep")],
        [ok()],
        [TEXT],
        read_s=SHORT_S,
        bounds={"ttft": (0.4, 2.0), "first_gap": (0.0, 0.1)},
    ),
    Fault(
        "good-slow-but-steady",
        [
            Answer(
                [CHUNKED, *(step for data in GOOD for step in (Pause(0.2), http_chunks([sse([data])]))), END],
                "keep",
            )
        ],
        [ok(num_merged_chunks=0)],
        [TEXT],
        read_s=SHORT_S,
        bounds={"ttft": (0.4, 2.0), "first_gap": (0.1, 1.0)},
    ),
    Fault(
        "stalled-in-mid-stream",
        [Answer([CHUNKED, http_chunks([STARTED])], "hold")],
        [bad("failed", "stalled", num_chunks=3)],
        [TEXT],
        read_s=SHORT_S,
    ),
    Fault(
        "stalled-before-headers",
        [Answer([], "hold")],
        [bad("failed", "timeout_before_headers", status=None, first_byte_at=None)],
        read_s=SHORT_S,
    ),
    Fault(
        "stalled-inside-the-head",
        [Answer([CHUNKED[:20]], "hold")],
        [bad("failed", "timeout_before_headers", status=None)],
        read_s=SHORT_S,
    ),
    Fault(
        "open-when-the-run-ends",
        [Answer([CHUNKED, http_chunks([STARTED])], "hold")],
        [bad("incomplete", "run_ended", num_chunks=3, done_at=None)],
        [TEXT],
        end_after_s=SHORT_S,
    ),
    Fault(
        "waiting-when-the-run-ends",
        [Answer([], "hold")],
        [bad("incomplete", "run_ended", status=None, done_at=None)],
        end_after_s=SHORT_S,
    ),
]

CUT = [
    broken(
        "cut-inside-an-event-chunked",
        [Answer([CHUNKED, http_chunks([STARTED + b'data: {"choi'])])],
        "cut",
        "closed_mid_answer",
    ),
    broken(
        "cut-inside-an-event-until-close",
        [Answer([UNTIL_CLOSED + STARTED + b'data: {"choi'])],
        "cut",
        "ended_inside_event",
    ),
    broken("cut-inside-a-character", [Answer([UNTIL_CLOSED + STARTED[:-12]])], "cut", "ended_inside_event"),
    broken(
        "cut-between-events-chunked",
        [Answer([CHUNKED, http_chunks([STARTED])])],
        "cut",
        "closed_mid_answer",
        num_chunks=3,
    ),
    broken(
        "cut-inside-an-http-chunk",
        [Answer([CHUNKED, b"fff\r\n" + STARTED])],
        "cut",
        "closed_mid_answer",
        num_chunks=3,
    ),
    broken(
        "cut-short-of-its-length",
        [Answer([head(Content_Length="9999") + STARTED])],
        "cut",
        "closed_mid_answer",
    ),
    broken("no-end-until-close", [Answer([UNTIL_CLOSED + STARTED])], "cut", "no_end", num_chunks=3),
    broken("no-end-chunked", chunked(STARTED), "cut", "no_end", num_chunks=3),
    broken(
        "reset-in-mid-stream",
        [Answer([CHUNKED, http_chunks([STARTED]), Pause(0.1)], "reset")],
        "cut",
        "reset_mid_answer",
    ),
    broken(
        "reset-inside-an-event",
        [Answer([CHUNKED, http_chunks([STARTED[:-9]]), Pause(0.1)], "reset")],
        "cut",
        "reset_mid_answer",
    ),
    broken(
        "reset-after-the-head",
        [Answer([CHUNKED, Pause(0.1)], "reset")],
        "cut",
        "reset_mid_answer",
        num_chunks=None,
    ),
]

SAID = [
    broken(
        "error-in-data",
        chunked(STARTED + sse([ERROR_BODY])),
        "failed",
        "in_band_error",
        error_text="out of luck",
    ),
    broken("error-then-done", chunked(STARTED + sse([ERROR_BODY, DONE])), "failed", "in_band_error"),
    broken(
        "error-then-cut",
        [Answer([CHUNKED, http_chunks([STARTED + sse([ERROR_BODY])])])],
        "failed",
        "in_band_error",
    ),
    broken("error-first", chunked(sse([ERROR_BODY, DONE])), "failed", "in_band_error", error_text="out of luck"),
    broken(
        "error-as-text",
        chunked(STARTED + sse([b'{"error":"out of luck"}'])),
        "failed",
        "in_band_error",
        error_text="out of luck",
    ),
    broken("error-after-the-finish", chunked(sse(GOOD[:-1]) + sse([ERROR_BODY, DONE])), "failed", "in_band_error"),
    broken(
        "error-event",
        chunked(STARTED + b'event: error\ndata: {"type":"error","message":"out of luck"}\n\n'),
        "failed",
        "in_band_error",
        error_text="out of luck",
    ),
    broken(
        "error-event-not-json",
        chunked(STARTED + b"event: error\ndata: out of luck\n\n"),
        "failed",
        "in_band_error",
        error_text="out of luck",
    ),
    broken("bad-json", chunked(STARTED + sse([b'{"choices":[{', FINISH, DONE])), "failed", "bad_json"),
    broken(
        "json-of-another-shape",
        chunked(STARTED + sse([b'{"choices":5}', FINISH, DONE])),
        "failed",
        "bad_json",
    ),
    broken("json-number", chunked(STARTED + sse([b"5", FINISH, DONE])), "failed", "bad_json"),
    broken("html-in-data", chunked(STARTED + sse([b"<html>", DONE])), "failed", "bad_json"),
    broken(
        "bad-utf-8",
        chunked(STARTED + sse([delta("A").replace(b"A", b"\xff"), FINISH, DONE])),
        "failed",
        "bad_json",
    ),
    broken("deep-json", chunked(STARTED + sse([b"[" * 100_000, FINISH, DONE])), "failed", "bad_json"),
    broken("two-finishes", chunked(sse([*GOOD[:5], FINISH, USAGE, DONE])), "failed", "two_finishes"),
    broken(
        "content-after-the-finish",
        chunked(sse([*GOOD[:5], delta("more"), DONE])),
        "failed",
        "content_after_end",
    ),
    broken("content-after-done", chunked(sse([*GOOD, delta("more")])), "failed", "content_after_end"),
    broken(
        "empty-answer",
        chunked(sse([ROLE, FINISH, USAGE, DONE])),
        "failed",
        "empty_answer",
        first_token_at=None,
    ),
    broken(
        "empty-deltas",
        chunked(sse([ROLE, delta(""), delta(""), FINISH, USAGE, DONE])),
        "failed",
        "empty_answer",
    ),
    broken("done-only", chunked(sse([DONE])), "failed", "empty_answer"),
    broken(
        "whole-answer-to-a-stream",
        [Answer([sized(whole(), kind="application/json")], "keep")],
        "failed",
        "wrong_content_type",
    ),
    broken(
        "text-plain",
        [Answer([sized(good_text(), kind="text/plain")], "keep")],
        "failed",
        "wrong_content_type",
    ),
    broken("no-content-type", [Answer([sized(good_text(), kind=None)], "keep")], "failed", "wrong_content_type"),
    broken(
        "html-page",
        [Answer([sized(b"<html>ok</html>", kind="text/html")], "keep")],
        "failed",
        "wrong_content_type",
    ),
    broken(
        "gzip",
        [Answer([sized(gzip.compress(good_text()), Content_Encoding="gzip")], "keep")],
        "failed",
        "encoded_body",
    ),
]

STATUS = [
    broken(
        "429",
        error("429 Too Many Requests", Retry_After="7"),
        "throttled",
        "http_429",
        error_text="out of luck",
        status=429,
    ),
    broken("429-without-retry-after", error("429 Too Many Requests"), "throttled", "http_429"),
    broken("429-without-body", error("429 Too Many Requests", b""), "throttled", "http_429"),
    broken(
        "429-cut",
        [Answer([head("429 Too Many Requests", Content_Length="99") + b'{"err'])],
        "throttled",
        "http_429",
    ),
    broken("503-with-retry-after", error("503 Service Unavailable", Retry_After="1"), "throttled", "http_503"),
    broken("503-with-lower-case-retry-after", error("503 Busy", retry_after="1"), "throttled", "http_503"),
    broken("503-without-retry-after", error("503 Service Unavailable"), "failed", "http_503", status=503),
    broken("529", error("529 Overloaded"), "throttled", "http_529", status=529),
    broken("500", error("500 Internal Server Error"), "failed", "http_500", error_text="out of luck", status=500),
    broken("500-with-retry-after", error("500 Internal Server Error", Retry_After="1"), "failed", "http_500"),
    broken("500-html", error("500 Oops", b"<h1>Oops</h1>"), "failed", "http_500", error_text="<h1>Oops</h1>"),
    broken("500-bytes", error("500 Oops", b"\xff\x00\xfe"), "failed", "http_500"),
    broken("500-with-a-stream", [Answer([sized(good_text(), "500 Oops")])], "failed", "http_500", num_chunks=None),
    broken("400", error("400 Bad Request"), "failed", "http_400"),
    broken("401", error("401 Unauthorized"), "failed", "http_401"),
    broken("404", error("404 Not Found"), "failed", "http_404"),
    broken("204", [Answer([head("204 No Content", kind=None)], "keep")], "failed", "http_204"),
    Fault(
        "302-to-another-path",
        [Answer([sized(b"", "302 Found", Location="/302-to-another-path/v1/chat/completions")], "keep")],
        [bad("failed", "redirect", status=302)],
        num_requests_seen=1,
    ),
    Fault(
        "307-to-another-host",
        [Answer([sized(b"", "307 Temporary Redirect", Location="http://127.0.0.2:9/v1/chat?key=secret")], "keep")],
        [
            bad(
                "failed",
                "redirect",
                status=307,
                error_text="307 to 127.0.0.2:9; redirects are not followed, give the address itself",
            )
        ],
        num_requests_seen=1,
    ),
]

NO_HTTP = [
    broken(
        "closed-before-headers",
        [Answer()],
        "failed",
        "closed_before_headers",
        status=None,
        first_byte_at=None,
    ),
    broken(
        "reset-before-headers",
        [Answer((), "reset")],
        "failed",
        "reset_before_headers",
        status=None,
        first_byte_at=None,
    ),
    broken("closed-inside-the-head", [Answer([CHUNKED[:30]])], "failed", "closed_before_headers", status=None),
    broken(
        "reset-inside-the-head",
        [Answer([CHUNKED[:30], Pause(0.1)], "reset")],
        "failed",
        "reset_before_headers",
        status=None,
    ),
    broken("ssh-instead-of-http", [Answer([b"SSH-2.0-OpenSSH_9.6\r\n"])], "failed", "bad_http", status=None),
    broken("zeros-instead-of-http", [Answer([b"\x00" * 500])], "failed", "bad_http", status=None),
    broken("html-instead-of-http", [Answer([b"<html>hello</html>\r\n\r\n"])], "failed", "bad_http", status=None),
    broken("bad-status-line", [Answer([b"HTTP/1.1 two hundred\r\n\r\n"])], "failed", "bad_http", status=None),
    broken("header-of-a-megabyte", [Answer([head(X_Long="x" * 1_000_000) + good_text()])], "failed", "bad_http"),
    broken("bad-chunk-size", [Answer([CHUNKED, http_chunks([STARTED]), b"zz\r\n"], "hold")], "failed", "bad_http"),
]

KEEP_ALIVE = [
    Fault("good-twice-on-one-connection", chunked(good_text()), [ok(), ok(connected_at=None)], [TEXT, TEXT]),
    Fault(
        "good-closed-while-idle",
        [Answer([sized(good_text())], "close"), *chunked(good_text())],
        [ok(), ok(num_attempts=1)],
        [TEXT, TEXT],
    ),
    Fault(
        "good-closed-on-the-second-request",
        [*chunked(good_text()), Answer(), *chunked(good_text())],
        [ok(), ok(num_attempts=2)],
        [TEXT, TEXT],
        num_requests_seen=3,
    ),
    Fault(
        "good-reset-on-the-second-request",
        [*chunked(good_text()), Answer((), "reset"), *chunked(good_text())],
        [ok(), ok(num_attempts=2)],
        [TEXT, TEXT],
        num_requests_seen=3,
    ),
    Fault(
        "stale-then-closed-again",
        [*chunked(good_text()), Answer(), Answer()],
        [ok(), bad("failed", "closed_before_headers", num_attempts=2)],
        num_requests_seen=3,
    ),
    Fault(
        "stale-then-reset",
        [*chunked(good_text()), Answer(), Answer((), "reset")],
        [ok(), bad("failed", "reset_before_headers", num_attempts=2)],
    ),
    Fault(
        "stale-then-stalled",
        [*chunked(good_text()), Answer(), Answer([], "hold")],
        [ok(), bad("failed", "timeout_before_headers", num_attempts=2)],
        read_s=SHORT_S,
    ),
    Fault(
        "stale-then-garbage",
        [*chunked(good_text()), Answer(), Answer([b"SSH-2.0-OpenSSH_9.6\r\n"], "hold")],
        [ok(), bad("failed", "bad_http", num_attempts=2)],
    ),
    Fault(
        "stale-then-open-when-the-run-ends",
        [*chunked(good_text()), Answer(), Answer([CHUNKED, http_chunks([STARTED])], "hold")],
        [ok(), bad("incomplete", "run_ended", num_attempts=2, done_at=None)],
        end_after_s=SHORT_S,
    ),
    Fault(
        "no-second-attempt-once-a-byte-has-come",
        [*chunked(good_text()), Answer([CHUNKED[:10]]), *chunked(good_text())],
        [ok(), bad("failed", "closed_before_headers", num_attempts=1)],
        num_requests_seen=2,
    ),
    Fault(
        "no-second-attempt-in-mid-stream",
        [*chunked(good_text()), Answer([CHUNKED, http_chunks([STARTED])]), *chunked(good_text())],
        [ok(), bad("cut", "closed_mid_answer", num_attempts=1)],
        num_requests_seen=2,
    ),
    Fault(
        "no-second-attempt-on-a-fresh-connection",
        [Answer(), *chunked(good_text())],
        [bad("failed", "closed_before_headers")],
        num_requests_seen=1,
    ),
    Fault(
        "a-broken-connection-is-not-used-again",
        [Answer([CHUNKED + http_chunks([STARTED]) + b"zz\r\n"], "keep"), *chunked(good_text())],
        [bad("failed", "bad_http"), ok(num_attempts=1)],
        [None, TEXT],
    ),
]


def of_whole(name: str, answers: Sequence[Answer], said: Said, *, text: str | None = None, **more: Any) -> Fault:
    return Fault(name, answers, [said], [text], stream=False, **more)


def json_body(body: bytes) -> list[Answer]:
    return [Answer([sized(body, kind="application/json")], "keep")]


_HALF = head(kind="application/json", Content_Length=str(len(whole()))) + whole()[:150]

WHOLE = [
    of_whole("good-whole", json_body(whole()), ok(num_chunks=None, first_token_at=None), text=TEXT),
    of_whole("whole-cut-in-the-middle", [Answer([_HALF])], bad("cut", "closed_mid_answer")),
    of_whole(
        "whole-reset-in-the-middle",
        [Answer([_HALF, Pause(0.1)], "reset")],
        bad("cut", "reset_mid_answer"),
    ),
    of_whole("whole-stalled", [Answer([_HALF], "hold")], bad("failed", "stalled"), read_s=SHORT_S),
    of_whole("whole-bad-json", json_body(b'{"choices":['), bad("failed", "bad_json")),
    of_whole("whole-empty-body", json_body(b""), bad("failed", "bad_json")),
    of_whole("whole-null-content", json_body(whole(None)), bad("failed", "empty_answer")),
    of_whole(
        "whole-error-with-200",
        json_body(ERROR_BODY),
        bad("failed", "in_band_error", error_text="out of luck"),
    ),
    of_whole("whole-429", error("429 Too Many Requests"), bad("throttled", "http_429")),
    of_whole(
        "whole-gzip",
        [Answer([sized(gzip.compress(whole()), kind="application/json", Content_Encoding="gzip")])],
        bad("failed", "encoded_body"),
    ),
]


def in_protocol(spoken: Spoken) -> list[Fault]:
    """The same server, speaking one of the other protocols: whatever the transport does, the labels are the protocol's."""
    text, begun = framed(spoken.good), framed(spoken.begun)
    good = ok(finish_reason=spoken.finish_reason)
    rows: list[tuple[str, Sequence[Answer], Said, dict[str, Any]]] = [
        ("good-chunked", chunked(text), good, {}),
        ("good-1-byte-chunks", [Answer([CHUNKED + http_chunks(single(text)) + END], "keep")], good, {}),
        ("good-until-close", [Answer([UNTIL_CLOSED + text])], good, {}),
        ("good-crlf", chunked(framed(spoken.good, b"\r\n")), good, {}),
        (
            "good-whole",
            json_body(spoken.whole),
            good | {"num_chunks": None, "first_token_at": None},
            {"stream": False},
        ),
        ("no-end", chunked(begun), bad("cut", "no_end", num_chunks=3), {}),
        (
            "cut-inside-an-event",
            [Answer([UNTIL_CLOSED + begun[:-9]])],
            bad("cut", "ended_inside_event", num_chunks=2),
            {},
        ),
        (
            "closed-in-mid-stream",
            [Answer([CHUNKED, http_chunks([begun])])],
            bad("cut", "closed_mid_answer", num_chunks=3),
            {},
        ),
        (
            "reset-in-mid-stream",
            [Answer([CHUNKED, http_chunks([begun]), Pause(0.1)], "reset")],
            bad("cut", "reset_mid_answer"),
            {},
        ),
        ("stalled", [Answer([CHUNKED, http_chunks([begun])], "hold")], bad("failed", "stalled"), {"read_s": SHORT_S}),
        (
            "error-event",
            chunked(framed([*spoken.begun, spoken.error_event])),
            bad("failed", "in_band_error", error_text="out of luck"),
            {},
        ),
        (
            "429",
            [Answer([sized(spoken.error_body, "429 Too Many Requests", kind="application/json")])],
            bad("throttled", "http_429", error_text="out of luck"),
            {},
        ),
    ]
    return [
        Fault(
            f"{'good-' * what.startswith('good-')}{spoken.name}-{what.removeprefix('good-')}",
            answers,
            [said],
            [TEXT if said["outcome"] == "ok" else None],
            protocol=spoken.name,
            **more,
        )
        for what, answers, said, more in rows
    ]


OTHER_PROTOCOLS = [fault for spoken in PROTOCOLS if spoken.name != "openai-chat" for fault in in_protocol(spoken)]


# -- jobs of batch APIs: the requests of a fault share one --------------------------------------------------


def api(*answers: object) -> list[Answer]:
    """Answers of a batch API, one to each call: objects, or lines of them, as JSON."""
    bodies = [
        b"\n".join(map(compact, each)) if isinstance(each, list) else each if isinstance(each, bytes) else compact(each)
        for each in answers
    ]
    return [Answer([sized(body, kind="application/json")], "keep") for body in bodies]


def openai_batch(status: str, **more: object) -> dict[str, object]:
    return {"id": "batch_1", "object": "batch", "status": status, **more}


def line(number: int, status: int, body: bytes) -> dict[str, object]:
    answer = {"status_code": status, "request_id": "r", "body": json.loads(body)}
    return {"id": f"l{number}", "custom_id": str(number), "response": answer, "error": None}


EXPIRED = {"id": "l", "custom_id": "1", "response": None, "error": {"code": "batch_expired", "message": "too late"}}
FILE, WORKING = {"id": "file-1"}, openai_batch("in_progress")
DONE_BATCH = openai_batch("completed", output_file_id="out")
BATCHED = ok(num_chunks=None, first_token_at=None, server_request_id="batch_1")
UNANSWERED = bad("failed", "unanswered", status=None)


def message_batch(status: str) -> dict[str, object]:
    return {"id": "msgbatch_1", "type": "message_batch", "processing_status": status}


def result(number: int, kind: str, **more: object) -> dict[str, object]:
    return {"custom_id": str(number), "result": {"type": kind, **more}}


BATCHES = [
    (
        "good-openai-batch",
        api(FILE, openai_batch("validating"), WORKING, DONE_BATCH, [line(1, 200, whole()), line(0, 200, whole())]),
        [BATCHED, BATCHED],
    ),
    (
        "openai-batch-with-an-error-file",
        api(
            FILE,
            openai_batch("completed", output_file_id="out", error_file_id="err"),
            [line(0, 200, whole())],
            [line(1, 429, ERROR_BODY)],
        ),
        [BATCHED, bad("throttled", "http_429", status=429, error_text="out of luck")],
    ),
    (
        "openai-batch-that-expired",
        api(
            FILE,
            openai_batch("expired", output_file_id="out", error_file_id="err"),
            [line(0, 200, whole())],
            [EXPIRED],
        ),
        [BATCHED, UNANSWERED | {"error_text": "too late"}],
    ),
    (
        "openai-batch-that-failed",
        api(FILE, openai_batch("failed", errors={"data": [{"message": "bad line"}]})),
        [UNANSWERED | {"error_text": "batch failed; bad line"}] * 2,
    ),
    (
        "openai-batch-that-forgets-one",
        api(FILE, DONE_BATCH, [line(0, 200, whole())]),
        [BATCHED, UNANSWERED | {"error_text": "batch completed"}],
    ),
    (
        "openai-batch-refused",
        [*api(FILE), *error("429 Too Many Requests")],
        [bad("throttled", "http_429", status=429, error_text="out of luck")] * 2,
    ),
    (
        "openai-batch-whose-making-broke-off",
        [*api(FILE), Answer([head(kind="application/json", Content_Length="99") + b'{"id"'])],
        [bad("failed", "closed_before_headers", status=None)] * 2,
    ),
    (
        "good-openai-batch-after-troubles-with-asking",
        [
            *api(FILE, WORKING),
            *error("500 Oops"),
            Answer(),
            *api(DONE_BATCH, [line(0, 200, whole()), line(1, 200, whole())]),
        ],
        [BATCHED, BATCHED],
    ),
    (
        "openai-batch-nobody-can-ask-for",
        [*api(FILE, WORKING), *error("500 Oops")],
        [bad("failed", "http_500", status=500)] * 2,
    ),
    ("openai-batch-that-is-none", api(FILE, {"object": "list"}), [UNANSWERED] * 2),
    ("openai-batch-of-broken-lines", api(FILE, DONE_BATCH, b'{"custom_id"'), [UNANSWERED] * 2),
    (
        "good-anthropic-batch",
        api(
            message_batch("in_progress"),
            message_batch("ended"),
            [result(number, "succeeded", message=json.loads(MESSAGES.whole)) for number in (1, 0)],
        ),
        [BATCHED | {"server_request_id": "msgbatch_1", "finish_reason": "end_turn"}] * 2,
    ),
    (
        "anthropic-batch-with-errors",
        api(
            message_batch("ended"),
            [result(0, "errored", error=json.loads(MESSAGES.error_body)), result(1, "expired")],
        ),
        [
            bad("throttled", "http_529", status=529, error_text="out of luck"),
            UNANSWERED | {"error_text": "request expired"},
        ],
    ),
]
JOBS = [
    Fault(name, answers, said, protocol=name.removeprefix("good-")[: name.removeprefix("good-").index("batch") + 5])
    for name, answers, said in BATCHES
]
JOBS += [
    Fault(
        "openai-batch-open-when-the-run-ends",
        api(FILE, WORKING),
        [bad("incomplete", "run_ended", status=None, done_at=None)] * 2,
        protocol="openai-batch",
        end_after_s=SHORT_S,
    )
]

FAULTS: list[Fault] = [
    *FRAMINGS,
    *PROTOCOL,
    *HTTP_FORMS,
    *TIMING,
    *CUT,
    *SAID,
    *STATUS,
    *NO_HTTP,
    *KEEP_ALIVE,
    *WHOLE,
    *OTHER_PROTOCOLS,
    *JOBS,
]
