"""Request bodies that a server must refuse, each with the field that its error must name."""

from __future__ import annotations

import json
from typing import NamedTuple

__all__ = ["ACCEPTED", "HOSTILE", "Hostile"]

_USER = {"role": "user", "content": "hi"}


class Hostile(NamedTuple):
    """`param` is what the error must name, if a field is at fault."""

    name: str
    body: bytes
    param: str | None = None


def _with(**fields: object) -> bytes:
    """A good body with these fields put in."""
    return json.dumps({"model": "m", "messages": [_USER], **fields}).encode()


def _without(name: str) -> bytes:
    body: dict[str, object] = {"model": "m", "messages": [_USER]}
    del body[name]
    return json.dumps(body).encode()


def _raw(text: str | bytes) -> bytes:
    """A good body that ends with this text where another member may stand."""
    tail = text.encode() if isinstance(text, str) else text
    return b'{"model":"m","messages":[{"role":"user","content":"hi"}],' + tail


def _content(text: str | bytes) -> bytes:
    """A good body but for the JSON text of its only message's content."""
    inner = text.encode() if isinstance(text, str) else text
    return b'{"model":"m","messages":[{"role":"user","content":' + inner + b"}]}"


_GOOD = _with()

_SHAPE = [
    Hostile("empty", b""),
    Hostile("blank", b" \t\r\n "),
    Hostile("null", b"null"),
    Hostile("true", b"true"),
    Hostile("number", b"5"),
    Hostile("string", b'"hello"'),
    Hostile("array", b"[]"),
    Hostile("array-of-a-good-body", b"[" + _GOOD + b"]"),
    Hostile("no-model", _without("model"), "model"),
    Hostile("no-messages", _without("messages"), "messages"),
    Hostile("empty-object", b"{}", "model"),
    Hostile("huge-array-on-top", b"[" + b"0," * 1_000_000 + b"0]"),
    Hostile("huge-array-of-numbers", _with(messages=[0] * 1_000_000), "messages[0]"),
    Hostile(
        "last-of-many-messages",
        _with(messages=[_USER] * 20_000 + [{"role": "user"}]),
        "messages[20000].content",
    ),
]

_JSON = [
    Hostile("half", _GOOD[: len(_GOOD) // 2]),
    Hostile("all-but-the-last-byte", _GOOD[:-1]),
    Hostile("two-bodies", _GOOD + _GOOD),
    Hostile("trailing-word", _GOOD + b"x"),
    Hostile("trailing-nul", _GOOD + b"\x00"),
    Hostile("trailing-comma", _raw('"user":"x",}')),
    Hostile("no-comma", _raw('"user":"x" "seed":1}')),
    Hostile("single-quotes", b"{'model':'m'}"),
    Hostile("bare-key", b"{model:1}"),
    Hostile("comment", _raw('"user":"x"/* note */}')),
    Hostile("python-literals", _raw('"stream":True}')),
    Hostile("lower-case-nan", _raw('"temperature":nan}')),
    Hostile("leading-zero", _raw('"seed":01}')),
    Hostile("plus-sign", _raw('"seed":+1}')),
    Hostile("hexadecimal", _raw('"seed":0x10}')),
    Hostile("dot-without-digits", _raw('"temperature":1.}')),
    Hostile("raw-line-feed-in-a-string", _content('"a\nb"')),
    Hostile("raw-nul-in-a-string", _content('"a\x00b"')),
    Hostile("unknown-escape", _content('"\\x41"')),
    Hostile("short-escape", _content('"\\u12"')),
    Hostile("form-body", b"model=m&messages=hi"),
    Hostile("xml", b"<?xml version='1.0'?><model>m</model>"),
    Hostile("bytes", bytes(range(256))),
    Hostile("gzip-magic", b"\x1f\x8b\x08\x00" + b"\x00" * 20),
    Hostile("utf-16", _GOOD.decode().encode("utf-16")),
    Hostile("utf-8-bad-start", _content(b'"\xff\xfe"')),
    Hostile("utf-8-cut-short", _content(b'"\xe6\x97"')),
    Hostile("utf-8-overlong", _content(b'"\xc0\xaf"')),
    Hostile("utf-8-of-a-surrogate", _content(b'"\xed\xa0\x80"')),
    Hostile("utf-8-bad-in-unknown-field", _raw(b'"note":"\xff"}')),
    Hostile("lone-high-surrogate", _content('"\\ud83d"')),
    Hostile("high-surrogate-then-text", _content('"\\ud83dx"')),
    Hostile("lone-low-surrogate", _content('"\\ude00"')),
    Hostile("lone-surrogate-in-the-model", b'{"model":"\\ud800","messages":[{"role":"user","content":"hi"}]}'),
]

_DEPTH = [
    Hostile(f"{what}-{depth}-deep", body)
    for depth in (1_000, 100_000)
    for what, body in (
        ("arrays", b"[" * depth + b"]" * depth),
        ("open-arrays", b"[" * depth),
        ("open-objects", b'{"a":' * depth),
        ("unknown-field", _raw(b'"x":' + b"[" * depth + b"]" * depth + b"}")),
        ("nan", _raw(b'"x":' + b"[" * depth + b"NaN" + b"]" * depth + b"}")),
        ("tools", _raw(b'"tools":' + b'[{"a":' * depth + b"0" + b"}]" * depth + b"}")),
    )
]

_MESSAGES = [
    Hostile("messages-null", _with(messages=None), "messages"),
    Hostile("messages-string", _with(messages="hi"), "messages"),
    Hostile("messages-object", _with(messages=_USER), "messages"),
    Hostile("messages-empty", _with(messages=[]), "messages"),
    Hostile("message-null", _with(messages=[None]), "messages[0]"),
    Hostile("message-string", _with(messages=["hi"]), "messages[0]"),
    Hostile("message-empty", _with(messages=[{}]), "messages[0].role"),
    Hostile("second-message-array", _with(messages=[_USER, []]), "messages[1]"),
    Hostile("role-missing", _with(messages=[{"content": "hi"}]), "messages[0].role"),
    Hostile("role-unknown", _with(messages=[{"role": "robot", "content": "hi"}]), "messages[0].role"),
    Hostile("role-case", _with(messages=[{"role": "User", "content": "hi"}]), "messages[0].role"),
    Hostile("role-empty", _with(messages=[{"role": "", "content": "hi"}]), "messages[0].role"),
    Hostile("role-null", _with(messages=[{"role": None, "content": "hi"}]), "messages[0].role"),
    Hostile("role-number", _with(messages=[{"role": 1, "content": "hi"}]), "messages[0].role"),
    Hostile("content-missing", _with(messages=[{"role": "user"}]), "messages[0].content"),
    Hostile("content-null", _with(messages=[{"role": "user", "content": None}]), "messages[0].content"),
    Hostile("content-number", _with(messages=[{"role": "user", "content": 5}]), "messages[0].content"),
    Hostile("content-object", _with(messages=[{"role": "user", "content": {}}]), "messages[0].content"),
    Hostile("content-empty-array", _with(messages=[{"role": "user", "content": []}]), "messages[0].content"),
    Hostile("part-string", _with(messages=[{"role": "user", "content": ["hi"]}]), "messages[0].content[0]"),
    Hostile(
        "part-without-text",
        _with(messages=[{"role": "user", "content": [{"type": "text"}]}]),
        "messages[0].content[0].text",
    ),
    Hostile(
        "part-without-type",
        _with(messages=[{"role": "user", "content": [{"text": "hi"}]}]),
        "messages[0].content[0].type",
    ),
    Hostile(
        "part-unknown",
        _with(messages=[_USER, {"role": "user", "content": [{"type": "hologram", "text": "x"}]}]),
        "messages[1].content[0].type",
    ),
    Hostile("name-number", _with(messages=[{**_USER, "name": 5}]), "messages[0].name"),
]

_FIELDS = [
    Hostile("model-empty", _with(model=""), "model"),
    Hostile("model-null", _with(model=None), "model"),
    Hostile("model-number", _with(model=5), "model"),
    Hostile("model-array", _with(model=["m"]), "model"),
    Hostile("stream-string", _with(stream="true"), "stream"),
    Hostile("stream-number", _with(stream=1), "stream"),
    Hostile("stream-options-string", _with(stream=True, stream_options="usage"), "stream_options"),
    Hostile("stream-options-array", _with(stream=True, stream_options=[]), "stream_options"),
    Hostile("stream-options-without-stream", _with(stream_options={"include_usage": True}), "stream_options"),
    Hostile("stream-options-with-stream-false", _with(stream=False, stream_options={}), "stream_options"),
    Hostile(
        "include-usage-string",
        _with(stream=True, stream_options={"include_usage": "yes"}),
        "stream_options.include_usage",
    ),
    *(
        Hostile(f"{name}-{shown}", _raw(f'"{name}":{value}}}'), name)
        for name in ("max_tokens", "max_completion_tokens")
        for shown, value in (
            ("negative", "-1"),
            ("zero", "0"),
            ("fraction", "1.5"),
            ("bool", "true"),
            ("string", '"5"'),
            ("array", "[5]"),
            ("object", "{}"),
            ("huge-negative", "-1" + "0" * 30),
            ("5000-digits", "9" * 5000),
            ("out-of-range", "1e400"),
        )
    ),
    Hostile("min-tokens-negative", _with(min_tokens=-1), "min_tokens"),
    Hostile("min-above-max", _with(min_tokens=6, max_tokens=5), "min_tokens"),
    Hostile("ignore-eos-string", _with(ignore_eos="yes", max_tokens=5), "ignore_eos"),
    Hostile("ignore-eos-for-ever", _with(ignore_eos=True), "ignore_eos"),
    Hostile("temperature-negative", _with(temperature=-0.1), "temperature"),
    Hostile("temperature-high", _with(temperature=2.1), "temperature"),
    Hostile("temperature-string", _with(temperature="1"), "temperature"),
    Hostile("temperature-bool", _with(temperature=True), "temperature"),
    Hostile("temperature-overflow", _raw('"temperature":1e400}'), "temperature"),
    Hostile("top-p-high", _with(top_p=1.5), "top_p"),
    Hostile("presence-penalty-low", _with(presence_penalty=-2.5), "presence_penalty"),
    Hostile("frequency-penalty-high", _with(frequency_penalty=3), "frequency_penalty"),
    Hostile("seed-string", _with(seed="1"), "seed"),
    Hostile("seed-fraction", _with(seed=0.5), "seed"),
    Hostile("user-number", _with(user=5), "user"),
    Hostile("duplicate-key-last-is-bad", _raw('"max_tokens":5,"max_tokens":-1}'), "max_tokens"),
    Hostile("duplicate-messages-last-is-bad", _raw('"messages":[]}'), "messages"),
]

_NOT_FINITE = [
    Hostile(f"{word}-in-{param}", body, param)
    for word in ("NaN", "Infinity", "-Infinity")
    for param, body in (
        ("temperature", _raw(f'"temperature":{word}}}')),
        ("top_p", _raw(f'"top_p":{word}}}')),
        ("max_tokens", _raw(f'"max_tokens":{word}}}')),
        ("seed", _raw(f'"seed":{word}}}')),
        ("n", _raw(f'"n":{word}}}')),
        ("stream", _raw(f'"stream":{word}}}')),
        ("stop", _raw(f'"stop":{word}}}')),
        ("model", f'{{"model":{word},"messages":[]}}'.encode()),
        ("messages", f'{{"model":"m","messages":{word}}}'.encode()),
        ("messages[0].content", _content(word)),
        (
            "stream_options.include_usage",
            _raw(f'"stream":true,"stream_options":{{"include_usage":{word}}}}}'),
        ),
        ("response_format.type", _raw(f'"response_format":{{"type":{word}}}}}')),
        ("metadata.weight", _raw(f'"metadata":{{"weight":{word}}}}}')),
    )
]


def _tool(**fields: object) -> dict[str, object]:
    return {"type": "function", "function": {"name": "f", **fields}}


def _called(*ids: str) -> dict[str, object]:
    calls = [{"id": id_, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id_ in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def _picture(url: object) -> bytes:
    return _with(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}])


_ANSWER = [
    Hostile("n-zero", _with(n=0), "n"),
    Hostile("n-129", _with(n=129), "n"),
    Hostile("n-bool", _with(n=True), "n"),
    Hostile("n-string", _with(n="1"), "n"),
    Hostile("stop-number", _with(stop=5), "stop"),
    Hostile("stop-true", _with(stop=True), "stop"),
    Hostile("stop-zero", _with(stop=0), "stop"),
    Hostile("stop-false", _with(stop=False), "stop"),
    Hostile("stop-17-words", _with(stop=["x"] * 17), "stop"),
    Hostile("stop-null-word", _with(stop=["x", None]), "stop[1]"),
    Hostile("logprobs-number", _with(logprobs=5), "logprobs"),
    Hostile("logprobs-zero", _with(logprobs=0), "logprobs"),
    Hostile("logprobs-array", _with(logprobs=[]), "logprobs"),
    Hostile("top-logprobs-alone", _with(top_logprobs=3), "top_logprobs"),
    Hostile("top-logprobs-21", _with(logprobs=True, top_logprobs=21), "top_logprobs"),
    Hostile("top-logprobs-negative", _with(logprobs=True, top_logprobs=-1), "top_logprobs"),
    Hostile("response-format-string", _with(response_format="text"), "response_format"),
    Hostile("response-format-empty", _with(response_format={}), "response_format.type"),
    Hostile("response-format-unknown", _with(response_format={"type": "xml"}), "response_format.type"),
    Hostile("json-schema-missing", _with(response_format={"type": "json_schema"}), "response_format.json_schema"),
    Hostile(
        "json-schema-without-a-name",
        _with(response_format={"type": "json_schema", "json_schema": {"schema": {}}}),
        "response_format.json_schema.name",
    ),
    Hostile(
        "json-schema-bad-name",
        _with(response_format={"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}),
        "response_format.json_schema.name",
    ),
    *(
        Hostile(
            f"json-schema-{what}",
            _with(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}),
            "response_format",
        )
        for what, schema in (
            ("that-nothing-fits", {"type": "integer", "minimum": 5, "maximum": 4}),
            ("of-an-unknown-type", {"type": "no-such"}),
            ("without-end", {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
            ("from-elsewhere", {"$ref": "http://127.0.0.1:1/x.json"}),
        )
    ),
    Hostile("modalities", _with(modalities=["text", "audio"]), "modalities"),
    Hostile("modality-unknown", _with(modalities=["smell"]), "modalities[0]"),
    Hostile("effort-unknown", _with(reasoning_effort="maximal"), "reasoning_effort"),
    Hostile("tier-unknown", _with(service_tier="gold"), "service_tier"),
    Hostile("picture-number", _picture(5), "messages[0].content[0].image_url.url"),
    Hostile("picture-broken-base64", _picture("data:image/png;base64,!!!!"), "messages"),
    Hostile("picture-empty", _picture("data:image/png;base64,"), "messages"),
    Hostile("picture-that-is-text", _picture("data:image/png;base64,aGVsbG8gd29ybGQ="), "messages"),
]

_TOOLS = [
    Hostile("tools-string", _with(tools="f"), "tools"),
    Hostile("tools-object", _with(tools={}), "tools"),
    Hostile("tools-zero", _with(tools=0), "tools"),
    Hostile("tools-false", _with(tools=False), "tools"),
    Hostile("tools-129", _with(tools=[_tool()] * 129), "tools"),
    Hostile("tool-null", _with(tools=[None]), "tools[0]"),
    Hostile("tool-without-type", _with(tools=[{"function": {"name": "f"}}]), "tools[0].type"),
    Hostile("tool-unknown-type", _with(tools=[{"type": "robot"}]), "tools[0].type"),
    Hostile("tool-without-function", _with(tools=[_tool(), {"type": "function"}]), "tools[1].function"),
    Hostile("tool-without-name", _with(tools=[{"type": "function", "function": {}}]), "tools[0].function.name"),
    Hostile("tool-bad-name", _with(tools=[_tool(name="a b")]), "tools[0].function.name"),
    Hostile("tool-long-name", _with(tools=[_tool(name="a" * 65)]), "tools[0].function.name"),
    Hostile("tool-parameters-string", _with(tools=[_tool(parameters="x")]), "tools[0].function.parameters"),
    Hostile("tool-parameters-no-schema", _with(tools=[_tool(parameters={"type": 5})]), "tools[0].function.parameters"),
    Hostile("tool-choice-without-tools", _with(tool_choice="required"), "tool_choice"),
    Hostile("tool-choice-unknown", _with(tools=[_tool()], tool_choice="perhaps"), "tool_choice"),
    Hostile(
        "tool-choice-not-there",
        _with(tools=[_tool()], tool_choice={"type": "function", "function": {"name": "g"}}),
        "tool_choice",
    ),
    Hostile("functions-zero", _with(functions=0), "functions"),
    Hostile("functions-bad-name", _with(functions=[{"name": ""}]), "functions[0].name"),
    Hostile("function-call-unknown", _with(functions=[{"name": "f"}], function_call={"name": "g"}), "function_call"),
    Hostile(
        "tool-message-alone",
        _with(messages=[{"role": "tool", "tool_call_id": "a", "content": "x"}]),
        "messages[0].role",
    ),
    Hostile(
        "tool-message-without-id",
        _with(messages=[_USER, _called("a"), {"role": "tool", "content": "x"}]),
        "messages[2].tool_call_id",
    ),
    Hostile(
        "tool-message-for-another-call",
        _with(messages=[_USER, _called("a"), {"role": "tool", "tool_call_id": "b", "content": "x"}]),
        "messages[2].role",
    ),
    Hostile(
        "tool-call-without-id",
        _with(messages=[{"role": "assistant", "tool_calls": [{}]}]),
        "messages[0].tool_calls[0].id",
    ),
]

HOSTILE: list[Hostile] = [*_SHAPE, *_JSON, *_DEPTH, *_MESSAGES, *_FIELDS, *_NOT_FINITE, *_ANSWER, *_TOOLS]

# The other side of the line: what a provider takes must not be refused.
ACCEPTED: dict[str, bytes] = {
    "minimal": _GOOD,
    "surrounding-blanks": b" \r\n" + _GOOD + b"\n\t ",
    "all-optional-null": _with(
        stream=None,
        stream_options=None,
        max_tokens=None,
        max_completion_tokens=None,
        temperature=None,
        top_p=None,
        presence_penalty=None,
        frequency_penalty=None,
        seed=None,
        n=None,
        stop=None,
        response_format=None,
    ),
    "bounds": _with(temperature=2, top_p=0, presence_penalty=-2, frequency_penalty=2, n=1, max_tokens=1),
    "text-format": _with(response_format={"type": "text"}),
    "logprobs-false": _with(logprobs=False),
    "stream-with-usage": _with(stream=True, stream_options={"include_usage": True}),
    "escaped-pair": _content('"\\ud83c\\udf89"'),
    "nul-and-separators": _content('"\\u0000\u2028\u2029"'),
    "empty-text": _content('""'),
    "empty-parts": _with(messages=[{"role": "user", "content": [{"type": "text", "text": ""}]}]),
    "all-roles": _with(messages=[{"role": r, "content": "x"} for r in ("system", "developer", "user", "assistant")]),
    "many-messages": _with(messages=[_USER] * 20_000),
    "several-choices": _with(n=128),
    "stop-word": _with(stop="x"),
    "stop-words": _with(stop=["x", "", "y"]),
    "no-stop-words": _with(stop=[]),
    "logprobs": _with(logprobs=True, top_logprobs=20),
    "a-schema": _with(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}),
    "any-json": _with(response_format={"type": "json_object"}),
    "tools-128": _with(tools=[_tool(name=f"f{number}") for number in range(128)], tool_choice="required"),
    "no-tools": _with(tools=[]),
    "functions": _with(functions=[{"name": "f"}], function_call="auto"),
    "a-tool-answers": _with(messages=[_USER, _called("a", "b"), {"role": "tool", "tool_call_id": "b", "content": "x"}]),
    "a-picture-elsewhere": _picture("https://example.com/picture.png"),
    "logit-bias": _with(logit_bias={"50256": -100}),
    "duplicate-key": _raw('"max_tokens":6,"max_tokens":5}'),
}
