"""Kinds of hostile requests, each made for every endpoint that takes a body.

A kind says only what it sends. What must come of all of them is one rule for all (test_hostile_kinds.py): an answer in
time that is no server error, in the provider's shape.
"""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import cache
from itertools import product

from tests.contract.endpoints import Endpoint
from tests.contract.inside import Ask

__all__ = ["KINDS", "Kind"]

Kind = Callable[[Endpoint, list[str]], list[Ask]]
"""Makes a kind's requests for an endpoint whose body has these fields."""

_JSON = {"content-type": "application/json"}
_MIB = 1 << 20
_BROTLI = b'\x0b\x06\x80{"model":"m"}\x03'  # that body, stored by the brotli library


def _asks(*bodies: bytes) -> list[Ask]:
    return [Ask(body, _JSON) for body in bodies]


def _bodies(make: Callable[[Endpoint], list[bytes]]) -> Kind:
    return lambda endpoint, fields: _asks(*make(endpoint))


def _same(*bodies: bytes) -> Kind:
    """The same bodies for whoever it is."""
    return lambda endpoint, fields: _asks(*bodies)


def _member(*values: bytes) -> Kind:
    """Every field of the body with each of these JSON texts, one field a request."""
    return lambda endpoint, fields: _asks(
        *(_replaced(endpoint, name, value) for name, value in product([*fields, "unknown"], values))
    )


def _replaced(endpoint: Endpoint, name: str, value: bytes) -> bytes:
    return endpoint.raw_at((name,), value)


def _words(*texts: bytes) -> Kind:
    """These JSON texts where the client's words stand, and as the model's name."""

    def make(endpoint: Endpoint, fields: list[str]) -> list[Ask]:
        places = [endpoint.text] if endpoint.text else []
        places += [("model",)] if endpoint.model else []
        return _asks(*(endpoint.raw_at(place, text) for place, text in product(places or [("unknown",)], texts)))

    return make


def _deep(depth: int) -> Kind:
    def make(endpoint: Endpoint) -> list[bytes]:
        arrays, objects = b"[" * depth + b"]" * depth, b'{"a":' * depth + b"0" + b"}" * depth
        place = endpoint.text or ("unknown",)
        return [
            arrays,
            objects,
            b"[" * depth,
            b'{"a":' * depth,
            endpoint.raw(b'"unknown":' + arrays + b"}"),
            endpoint.raw_at(place, arrays),
            endpoint.raw_at(place, objects),
            endpoint.raw_at(place, b'"' + b"[" * depth + b'"'),
            endpoint.raw_at(("tools",), b'[{"a":' * depth + b"0" + b"}]" * depth),
            endpoint.raw_at(("metadata",), objects),
        ]

    return _bodies(make)


def _cut(endpoint: Endpoint) -> list[bytes]:
    good = endpoint.body()
    return [good[:size] for size in range(len(good))]


def _one_byte_changed(endpoint: Endpoint) -> list[bytes]:
    good = endpoint.body()
    return [good[:at] + byte + good[at + 1 :] for at in range(len(good)) for byte in (b"\x00", b'"', b"}", b"\xff")]


def _encoded(endpoint: Endpoint) -> list[bytes]:
    text = endpoint.body().decode()
    return [text.encode(name) for name in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7", "cp037")]


def _headers(*headers: Mapping[str, str | bytes]) -> Kind:
    return lambda endpoint, fields: [Ask(endpoint.body(), {**_JSON, **more}) for more in headers]


def _content_types(endpoint: Endpoint, fields: list[str]) -> list[Ask]:
    types = [
        "text/plain", "application/xml", "application/json; charset=utf-16", "application/json;;;=", "", "/", "a" * 8000,
        "application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed",
        'multipart/form-data; boundary="' + "x" * 300 + '"', "multipart/form-data; boundary=\u00ff", "image/png",
    ]  # fmt: skip
    return [Ask(endpoint.body(), {"content-type": kind}) for kind in types]


def _compressed(endpoint: Endpoint, fields: list[str]) -> list[Ask]:
    good = endpoint.body()
    coded = {"gzip": gzip.compress(good), "deflate": zlib.compress(good), "br": _BROTLI}
    names = [*coded, "zstd", "compress", "identity", "gzip, br", "*", "\u00ff"]
    asks = [Ask(body, {**_JSON, "content-encoding": name}) for name, body in coded.items()]
    return asks + [Ask(good, {**_JSON, "content-encoding": name}) for name in names]


@cache
def _much_in_little() -> bytes:
    """256 MiB of blanks in 256 KiB."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    return b"".join([packer.compress(b" " * _MIB) for _ in range(256)]) + packer.flush()


def _bomb(endpoint: Endpoint, fields: list[str]) -> list[Ask]:
    return [Ask(_much_in_little(), {**_JSON, "content-encoding": "gzip"})]


def _chunks(endpoint: Endpoint, fields: list[str]) -> list[Ask]:
    good = endpoint.body()
    one_by_one = [good[at : at + 1] for at in range(len(good))]
    with_nothing_between = [piece for byte in one_by_one for piece in (byte, b"", b"")]
    return [Ask(pieces, _JSON) for pieces in (one_by_one, with_nothing_between, [b""], [b"", good, b"", b" " * 65536])]


def _length_lies(endpoint: Endpoint, fields: list[str]) -> list[Ask]:
    lengths = ("0", "1", "-1", "99999999999999999999", "x", "1e3", " 5", "")
    return [Ask(endpoint.body(), {**_JSON, "content-length": length}) for length in lengths]


def _methods(endpoint: Endpoint, fields: list[str]) -> list[Ask]:
    methods = ("HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "GET", "TRACE", "CONNECT", "BREW", "post", "")
    return [Ask(endpoint.body(), _JSON, method=method) for method in methods if method != endpoint.method]


def _paths(endpoint: Endpoint, fields: list[str]) -> list[Ask]:
    path = endpoint.path
    odd = [f"{path}/", f"/{path}", path.upper(), f"{path}%00", f"{path}/..", f"{path}?a=b&a=%ff&%00", f"{path}/x/y"]
    return [Ask(endpoint.body(), _JSON, endpoint.method, where) for where in odd]


_GARBAGE = ("", "x", "-1", "0", "1e999", "NaN", "inf", "99999999999999999999", "1;drop", "\u00ff", "true", "[]", "1,2")
_CONTROLS = ("TTFT-MS", "ITL-MS", "Output-Tokens", "Error", "Retry-After-S", "Cut-After-Tokens", "Error-After-Tokens")


def _control_headers(endpoint: Endpoint, fields: list[str]) -> list[Ask]:
    return [Ask(endpoint.body(), {**_JSON, f"X-Mock-{n}": v}) for n, v in product(_CONTROLS, _GARBAGE)]


def _extreme_controls(endpoint: Endpoint, fields: list[str]) -> list[Ask]:
    """Without orders for an error of the server's."""
    given: list[tuple[str, str]] = [
        ("TTFT-MS", "0"), ("ITL-MS", "0"), ("Output-Tokens", "1"), ("Output-Tokens", "10000000"), ("Error", "400"),
        ("Error", "499"), ("Error", "401"), ("Error", "429"), ("Cut-After-Tokens", "10000000"), ("Retry-After-S", "0"), ("Batch", "x" * 200), ("Batch", "x" * 201),
        ("Batch", ""), ("Error", "200"), ("Error", "600"),
    ]  # fmt: skip
    return [Ask(endpoint.body(), {**_JSON, f"X-Mock-{name}": value}) for name, value in given]


def _long_list(num: int) -> Kind:
    def make(endpoint: Endpoint) -> list[bytes]:
        if endpoint.items is None:
            return [endpoint.raw(b'"unknown":[' + b"0," * num + b"0]}")]
        item = json.dumps(endpoint.item).encode()
        return [endpoint.raw_at(endpoint.items, b"[" + b",".join([item] * num) + b"]")]

    return _bodies(make)


def _many_keys(endpoint: Endpoint) -> list[bytes]:
    members = b",".join(b'"k%d":%d' % (number, number) for number in range(100_000))
    return [
        endpoint.raw(members + b"}"),
        endpoint.raw_at(("metadata",), b"{" + members + b"}"),
        b"{" + b'"model":"instant",' * 100_000 + endpoint.body()[1:],
    ]


def _duplicates(endpoint: Endpoint) -> list[bytes]:
    bodies = []
    for name in endpoint.good:
        for value in (b"null", b"0", b'"x"', json.dumps(endpoint.good[name]).encode()):
            bodies.append(endpoint.raw(b'"%b":%b}' % (name.encode(), value)))
            bodies.append(b'{"%b":%b,' % (name.encode(), value) + endpoint.body()[1:])
    return bodies


def _schemas(*schemas: object) -> Kind:
    """As the schema of an answer and as that of a tool's arguments."""

    def make(endpoint: Endpoint) -> list[bytes]:
        bodies = []
        for schema in schemas:
            if endpoint.schema is not None:
                bodies.append(endpoint.at(endpoint.schema, schema, endpoint.with_schema))
            for name in ("parameters", "input_schema") if endpoint.tools else ():
                tool = json.loads(json.dumps(endpoint.tools))
                inner = tool.get("function", tool)
                if name in inner:
                    inner[name] = schema
                    bodies.append(endpoint.body(tools=[tool]))
        return bodies or [endpoint.body(response_format=schema) for schema in schemas]

    return _bodies(make)


def _nested_schema(depth: int) -> dict[str, object]:
    schema: dict[str, object] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


_CYCLES = (
    {"$ref": "#"},
    {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
    {"allOf": [{"$ref": "#"}]},
    {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
    {"not": {"$ref": "#"}},
)
_REFS = (
    {"$ref": "http://127.0.0.1:1/schema.json"},
    {"$ref": "file:///etc/passwd"},
    {"$ref": "#/$defs/none"},
    {"$ref": "#/" + "a/" * 1000},
    {"$ref": 5},
    {"$ref": "\ud800"},
    {"$dynamicRef": "#x"},
    {"$id": "::::", "type": "string"},
    {"$schema": "http://no.such/draft", "type": "string"},
)
_PATTERNS = (
    {"type": "string", "pattern": "^(a+)+$"},
    {"type": "string", "pattern": "(a|a)*b" * 20},
    {"type": "string", "pattern": "(.*)*" * 30 + "$"},
    {"type": "string", "pattern": "["},
    {"type": "string", "pattern": "(?<=a)b"},
    {"type": "string", "pattern": "a{1000000}"},
    {"type": "string", "pattern": "(a{1000}){1000}"},
    {"type": "string", "pattern": "x" * 100_000},
    {"type": "string", "pattern": "\\p{Greek}{5}"},
    {"type": "object", "patternProperties": {"^(a+)+$": {}}, "minProperties": 5},
)
_BOUNDS = (
    {"type": "array", "minItems": 10**9},
    {"type": "array", "items": {"type": "string"}, "minItems": 10**9, "maxItems": 10**9},
    {"type": "string", "minLength": 10**9},
    {"type": "string", "minLength": 10**30},
    {"type": "object", "minProperties": 10**9},
    {"type": "number", "minimum": 1e308, "maximum": 1e308},
    {"type": "integer", "multipleOf": 1e-300},
    {"type": "integer", "multipleOf": 0},
    {"type": "integer", "minimum": 5, "maximum": 4},
    {"type": "array", "minItems": -1},
    {
        "type": "array",
        "items": {"type": "array", "items": {"type": "array", "minItems": 1000}, "minItems": 1000},
        "minItems": 1000,
    },
)
_NONSENSE: tuple[object, ...] = (
    {"type": "no-such"},
    {"type": []},
    {"type": 5},
    {"type": {"type": "type"}},
    {"enum": []},
    {"enum": 5},
    {"const": {"a": [1e308, None]}},
    {"required": ["a"] * 100_000},
    {"properties": []},
    {"properties": {"": {}, "\x00": {}, "__proto__": {}, "a" * 10_000: {}}},
    {"allOf": []},
    {"allOf": [{"type": "string"}, {"type": "integer"}]},
    {"not": {}},
    {"enum": list(range(100_000))},
    {"anyOf": [{"type": "string"}] * 10_000},
    {"oneOf": [{}, {}]},
    False,
    [],
    "string",
    7,
    {
        "type": "object",
        "properties": {f"p{n}": {"type": "string"} for n in range(10_000)},
        "required": [f"p{n}" for n in range(10_000)],
    },
)


def _many_tools(endpoint: Endpoint) -> list[bytes]:
    if endpoint.tools is None:
        return [endpoint.body(tools=[{}] * num) for num in (1, 129, 100_000)]
    bodies = []
    for num in (0, 127, 128, 129, 1000, 20_000):
        tools = []
        for number in range(num):
            tool = json.loads(json.dumps(endpoint.tools))
            tool.get("function", tool)["name"] = f"f{number}"
            tools.append(tool)
        bodies.append(endpoint.body(tools=tools))
    twice = [endpoint.tools, endpoint.tools]
    choices: list[object] = ["none", "auto", "required", "any", "f", 5, {}, [], {"type": "function"}, {"type": "any"}]
    choices += [{"type": "tool", "name": "nope"}, {"type": "allowed_tools"}]
    choices += [{"type": "function", "function": {"name": "x" * 100_000}}]
    return bodies + [endpoint.body(tools=twice, tool_choice=choice) for choice in choices]


def _stops(endpoint: Endpoint) -> list[bytes]:
    name = endpoint.stop or "stop"
    lists: list[object] = [
        [], [""], ["a"] * 4, ["a"] * 16, ["a"] * 17, ["a"] * 100_000, "", " ", "a" * _MIB, [None], [["a"]], {"a": 1}, 0, [" "],
        ["\x00"], ["\ufffd"], ["e"], [chr(0x1F389)], ["a" * 100_000] * 16,
    ]  # fmt: skip
    return [endpoint.body(**{name: value}) for value in lists]


def _numbers_of_choices(endpoint: Endpoint) -> list[bytes]:
    return [endpoint.body(n=num) for num in (-1, 0, 1, 2, 127, 128, 129, 10**9, 10**30, 1.0, 1.5, "1", True)]


def _limits(endpoint: Endpoint) -> list[bytes]:
    name = endpoint.limit or "max_tokens"
    bodies = [endpoint.body(**{name: n}) for n in (-1, 0, 1, 2**31, 2**63 - 1, 2**63, 2**64, 10**30, 1.0, "5")]
    return [
        *bodies,
        endpoint.body(**{name: 10**9}, ignore_eos=True),
        endpoint.body(**{name: 10**9}, min_tokens=10**9),
        endpoint.body(min_tokens=10**18),
        endpoint.body(ignore_eos=True),
        endpoint.body(priority=10**30),
        endpoint.body(priority=-(2**63)),
    ]


def _token_ids(endpoint: Endpoint) -> list[bytes]:
    name = endpoint.ids or "tokens"
    lists: list[object] = [
        [], [-1], [2**31], [2**31 - 1], [2**63], [10**30], [200_018], [199_999], [True], [1.5], ["1"], [None], [[1]], [[]],
        [[-1]], [[2**63]], [1, [1]], [1, "a"], [[1], [1]], [0] * 200_000, [199_997] * 50_000,
    ]  # fmt: skip
    return [endpoint.body(**{name: ids}) for ids in lists]


def _png(width: int, height: int) -> str:
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + b"\x08\x02\x00\x00\x00"
    return b64encode(head).decode()


def _images(endpoint: Endpoint) -> list[bytes]:
    data = [
        "", "=", "====", "A", "!!!!", "\x00", "iVBORw0KGgo", _png(0, 0), _png(0, 5), _png(2**32 - 1, 2**32 - 1),
        _png(1, 2**32 - 1), _png(5, 5)[:-9], _png(5, 5) + "é", b64encode(b"\xff\xd8\xff\xe0" + b"\x00" * 50).decode(),
        b64encode(b"\xff\xd8" + b"\xff\xe0\x00\x02" * 40_000).decode(), b64encode(b"GIF89a\x00\x00\x00\x00").decode(),
        b64encode(b"RIFF\x00\x00\x00\x00WEBPVP8X").decode(), b64encode(b"RIFF\x00\x00\x00\x00WEBPnope" + b"\x00" * 30).decode(),
        _png(8, 8) + "A" * (4 * _MIB), "\ud800",
    ]  # fmt: skip
    urls = ["", "data:", "data:,", "data:image/png;base64", "http://", "file:///etc/passwd", "x" * 100_000, "\x00"]
    if endpoint.image is None:
        return [endpoint.body(image=text) for text in data]
    prefix = "" if endpoint.provider == "anthropic" else "data:image/png;base64,"
    texts = [prefix + text for text in data] + urls
    return [endpoint.at(endpoint.image, text, endpoint.with_image) for text in texts]


def _documents(endpoint: Endpoint) -> list[bytes]:
    """PDFs and other files where they can stand."""
    sources = [
        {"type": "base64", "media_type": "application/pdf", "data": data}
        for data in ("", "!", b64encode(b"%PDF-1.7").decode(), b64encode(b"%PDF-" + b"x" * (16 * _MIB)).decode())
    ]
    blocks: list[object] = [{"type": "document", "source": source} for source in sources]
    blocks += [{"type": "file", "file": {"file_data": "x" * _MIB}}, {"type": "input_audio", "input_audio": {}}]
    blocks += [{"type": "input_file", "file_data": "!"}, {"type": "no-such"}, {"type": None}, {}]
    place = endpoint.text or ("unknown",)
    return [endpoint.at(place, [block]) for block in blocks]


def _conversations(endpoint: Endpoint) -> list[bytes]:
    """Turns that could not have happened."""
    if endpoint.items is None or not isinstance(endpoint.item, dict):
        return [endpoint.body(messages=[{"role": "tool"}])]
    result = {"type": "tool_result", "tool_use_id": "none", "content": "x"}
    use = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    turns: list[list[object]] = [
        [{"role": "tool", "tool_call_id": "none", "content": "x"}],
        [{"role": "assistant", "content": None, "tool_calls": []}],
        [{"role": "assistant", "tool_calls": [{"id": "a"}]}, {"role": "tool", "tool_call_id": "a", "content": "x"}],
        [{"role": "user", "content": [result]}],
        [{"role": "assistant", "content": [use]}],
        [{"role": "assistant", "content": [use, use]}, {"role": "user", "content": [result]}],
        [{"type": "function_call_output", "call_id": "none", "output": "x"}],
        [{"type": "item_reference", "id": "none"}],
        [{"type": "item_reference"}],
        [{"type": "reasoning"}],
        [{"type": "web_search_call"}],
        [{"type": "computer_call_output", "call_id": "x", "output": {}}],
        [{"role": "system", "content": "x"}],
        [{"role": "assistant", "content": "x"}],
        [{"role": "function", "content": None}],
        [{}],
        [],
    ]
    return [endpoint.at(endpoint.items, given) for given in turns]


def _stream_flags(endpoint: Endpoint) -> list[bytes]:
    given: list[dict[str, object]] = [
        {"stream": True}, {"stream": "true"}, {"stream": 1}, {"stream": True, "stream_options": {}},
        {"stream_options": {"include_usage": True}}, {"stream": True, "stream_options": {"include_usage": "x"}},
        {"stream": True, "stream_options": []}, {"stream": True, "n": 128}, {"stream": True, "stream_options": {"x": 1}},
        {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": True}},
    ]  # fmt: skip
    return [endpoint.body(**fields) for fields in given]


def _model_names(endpoint: Endpoint) -> list[bytes]:
    names = ("", " ", "x" * _MIB, "a/b/c", "../../etc/passwd", "__proto__", "constructor", "*", "instant\x00", "INSTANT",
             "instant ", "`", "<script>", "%s%n", "{}", "\r\nX: y", "\u202einstant", "\ud800", "instant\n")  # fmt: skip
    return [endpoint.body(model=name) for name in names]


def _multipart(endpoint: Endpoint, fields: list[str]) -> list[Ask]:
    kind = {"content-type": "multipart/form-data; boundary=b"}
    part = b'--b\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'
    file, purpose = part % (b"file", b'; filename="a.jsonl"', b"{}"), part % (b"purpose", b"", b"batch")
    bodies = [
        b"", b"--b--", b"--b\r\n--b--", file + b"--b--", purpose + b"--b--", file + purpose + b"--b--", file + purpose,
        file * 2 + purpose + b"--b--", purpose * 100 + b"--b--", part % (b"file", b"", b"{}") + purpose + b"--b--",
        part % (b"file", b'; filename="a\x00\xff.jsonl"', b"{}") + purpose + b"--b--",
        part % (b"file", b'; filename="' + b"a" * 100_000 + b'.jsonl"', b"{}") + purpose + b"--b--",
        part % (b"file", b'; filename="a.jsonl"', b"{}" * _MIB) + purpose + b"--b--",
        file + part % (b"purpose", b"", b"x" * 5000) + b"--b--", file + part % (b"purpose", b"", b"\xff") + b"--b--",
        b"--b\r\n" + b"x: y\r\n" * 10_000 + b"\r\n--b--", b"--c\r\n\r\n--c--", b"\r\n" * 10_000 + b"--b--",
        file + purpose + part % (b"expires_after[seconds]", b"", b"9" * 5000) + b"--b--",
        file + purpose + part % (b"expires_after[anchor]", b"", b"\xff") + b"--b--",
    ]  # fmt: skip
    return [Ask(body, kind) for body in bodies]


def _settings(endpoint: Endpoint) -> list[bytes]:
    """Orders to the mock with hostile values; an endpoint that knows no such fields must not mind them."""
    models: list[object] = [
        {"*": {"error_rate": 2}}, {"*": {"error_rate": -1}}, {"*": {"error_rate": "1"}}, {"*": {"eror_rate": 1}}, {"no-such": {}},
        {"*": None}, {"*": []}, {"*": {"ttft_ms": 1e308}}, {"*": {"output_tokens": 0}}, [], None, "x", {"x" * _MIB: {}},
        {"\ud800": {}}, {"*": {"error_status": 200}}, {"*": {"cut_after_tokens": 10**30}},
    ]  # fmt: skip
    return [endpoint.body(models=value) for value in models]


_CONTROL_CHARACTERS = b'"' + b"".join(b"\\u%04x" % number for number in range(32)) + b'"'
_ZALGO = json.dumps("Z" + "".join(chr(0x300 + number % 112) for number in range(5000))).encode()
_EMOJI = json.dumps("\U0001f469\u200d\U0001f680\U0001f389\u202e\u2066\ufeff\u0600\U0010ffff" * 500, ensure_ascii=False)

KINDS: dict[str, Kind] = {
    # -- how deep ---------------------------------------------------------------------------------------------
    "100 deep": _deep(100),
    "1,000 deep": _deep(1000),
    "100,000 deep": _deep(100_000),
    # -- not JSON ---------------------------------------------------------------------------------------------
    "empty": _same(b""),
    "blank": _same(b" ", b"\r\n\t ", b" " * _MIB, b"\x0c", b"\xc2\xa0"),
    "top level is no object": _same(b"null", b"true", b"false", b"0", b"-1.5e3", b'"x"', b"[]", b"[{}]", b'"' + b"x" * _MIB + b'"'),
    "an empty object": _same(b"{}"),
    "cut at every byte": _bodies(_cut),
    "one byte changed": _bodies(_one_byte_changed),
    "something after the end": _bodies(lambda e: [e.body() + tail for tail in (b"x", b"{}", b",", b"\x00", b"]", e.body())]),
    "something before the start": _bodies(lambda e: [head + e.body() for head in (b"x", b")]}',\n", b"\x00", b"[", b"data: ")]),
    "byte order mark": _bodies(lambda e: [b"\xef\xbb\xbf" + e.body(), b"\xef\xbb\xbf"]),
    "other encodings": _bodies(_encoded),
    "bytes that are not UTF-8": _words(b'"\xff\xfe"', b'"\xc0\xaf"', b'"\xed\xa0\x80"', b'"\xf5\x80\x80\x80"', b'"\xe6\x97"', b'"\x80"'),
    "not UTF-8 in an unknown field": _bodies(lambda e: [e.raw(b'"\xff":1}'), e.raw(b'"note":"\xff"}')]),
    "escaped lone surrogates": _words(b'"\\ud800"', b'"\\udfff"', b'"\\ud83dx"', b'"\\ud83d\\ud83d"', b'"a\\udc00b"', b'"\\uD800\\n"'),
    "lone surrogate in a key": _bodies(lambda e: [e.raw(b'"\\ud800":1}'), e.raw(b'"metadata":{"\\ud800":"x"}}')]),
    "broken escapes": _words(b'"\\x41"', b'"\\u12"', b'"\\u{41}"', b'"\\', b'"\\"', b'"\\U0001f389"', b'"\\0"'),
    "raw control characters in a string": _words(*(b'"a%bb"' % bytes([number]) for number in range(32)), b'"\x7f"'),
    "Python and JavaScript": _same(b"{'model':'x'}", b"{model:1}", b'{"a":True}', b'{"a":None}', b'{"a":undefined}', b"{/*x*/}", b'{"a":1,}'),
    "other formats": _same(b"model=x&messages=hi", b"<?xml version='1.0'?><a/>", b"a: b\n- c\n", b"\x80\x04K\x01.", bytes(range(256)), b"PK\x03\x04", b"\x93NUMPY"),
    # -- numbers ----------------------------------------------------------------------------------------------
    "NaN": _member(b"NaN"),
    "Infinity": _member(b"Infinity"),
    "-Infinity": _member(b"-Infinity"),
    "1e999": _member(b"1e999", b"-1e999"),
    "huge and tiny exponents": _member(b"1e99999999999999999999", b"1e-999", b"0e999999999"),
    "5,000 digits": _member(b"9" * 5000, b"-" + b"9" * 5000, b"0." + b"3" * 5000),
    "negative zero": _member(b"-0", b"-0.0", b"-0e0"),
    "bad spellings of numbers": _member(b"01", b"+1", b"0x10", b"1.", b".5", b"1_000", b"1e", b"--1", b"\xd9\xa1"),
    "64 bits and one more": _member(b"9223372036854775808", b"-9223372036854775809", b"18446744073709551616"),
    # -- types ------------------------------------------------------------------------------------------------
    "null for every field": _member(b"null"),
    "a string for every field": _member(b'"x"', b'""'),
    "a number for every field": _member(b"5", b"0", b"-1", b"0.5"),
    "a boolean for every field": _member(b"true", b"false"),
    "a list for every field": _member(b"[]", b"[null]", b"[[]]", b"[{}]", b'["x"]', b"[0]"),
    "an object for every field": _member(b"{}", b'{"type":"x"}', b'{"type":null}', b'{"type":[]}', b'{"":{}}'),
    "every field missing": lambda e, fields: _asks(*(json.dumps({k: v for k, v in e.good.items() if k != n}).encode() for n in e.good)),
    "duplicate keys": _bodies(_duplicates),
    # -- text -------------------------------------------------------------------------------------------------
    "NUL and control characters": _words(b'"\\u0000"', _CONTROL_CHARACTERS, b'"\\u0000' + b"x" * 100 + b'"'),
    "zalgo": _words(_ZALGO),
    "emoji, right-to-left, non-characters": _words(_EMOJI.encode(), b'"\\ufffe\\uffff\\u2028\\u2029"'),
    "text that looks like the protocol": _words(b'"data: [DONE]\\n\\nevent: error\\ndata: {}\\n\\n"', b'"<|endoftext|><|im_start|>"', b'"\\r\\n\\r\\nHTTP/1.1 500\\r\\n"'),
    "very long keys": _bodies(lambda e: [e.raw(b'"' + b"k" * size + b'":1}') for size in (1000, _MIB)]),
    "keys of prototypes": _bodies(lambda e: [e.raw(b'"%b":{"x":1}}' % k) for k in (b"__proto__", b"constructor", b"__class__", b"", b"$ref", b"\\u0000")]),
    "a long run of one letter": _words(b'"' + b"a" * 200_000 + b'"', b'"' + b" " * 200_000 + b'"', b'"' + b"\\n" * 100_000 + b'"'),
    # -- size -------------------------------------------------------------------------------------------------
    "100,000 keys": _bodies(_many_keys),
    "a list of 1,000": _long_list(1000),
    "a list of 100,000": _long_list(100_000),
    "a string of 30 MB": lambda e, fields: _asks(e.raw_at(e.text or ("unknown",), b'"' + b"word " * (6 * _MIB) + b'"')),
    "an escaped string of 30 MB": lambda e, fields: _asks(e.raw_at(("unknown",), b'"' + b"\\u00e9" * (5 * _MIB) + b'"')),
    "33 MB": lambda e, fields: [Ask([e.body()] + [b" " * _MIB] * 33, _JSON)],
    "a list of a million numbers": _same(b"[" + b"0," * 1_000_000 + b"0]"),
    # -- headers ----------------------------------------------------------------------------------------------
    "wrong content types": _content_types,
    "no content type": lambda e, fields: [Ask(e.body())],
    "compressed, and said to be": _compressed,
    "a bomb": _bomb,
    "odd chunks": _chunks,
    "a false length": _length_lies,
    "wrong methods": _methods,
    "wrong paths": _paths,
    "line breaks in headers": _headers(
        {"x-client-request-id": "a\r\nx-evil: 1"}, {"x-client-request-id": "\x00"}, {"x-client-request-id": b"\xff\xfe"},
        {"x-client-request-id": "x" * 100_000}, {"x-client-request-id": ""}, {"anthropic-version": "\r\n"},
        {"openai-organization": "\r\nx: y"}, {"authorization": "Bearer " + "x" * 100_000}, {"accept": "\x00"},
    ),
    "the other provider's headers": _headers({"anthropic-version": "2023-06-01"}, {"x-api-key": "x"}, {"openai-beta": "x"}, {"anthropic-beta": "x," * 5000}),
    "odd accepts": _headers({"accept": "text/html"}, {"accept": "image/*;q=0"}, {"accept-encoding": "br, gzip"}, {"expect": "200-ok"}, {"range": "bytes=0-1"}, {"upgrade": "websocket", "connection": "upgrade"}),
    "control headers with garbage": _control_headers,
    "control headers at their bounds": _extreme_controls,
    "unknown control headers": _headers(*({f"X-Mock-{name}": "1"} for name in ("Outptu-Tokens", "", "TTFT", "TTFT-MS-", "ttft_ms", "\u00e9", "x" * 1000))),
    # -- meaning ----------------------------------------------------------------------------------------------
    "model names": _bodies(_model_names),
    "schemas that turn in circles": _schemas(*_CYCLES),
    "schemas that point elsewhere": _schemas(*_REFS),
    "schemas with hard patterns": _schemas(*_PATTERNS),
    "schemas with huge bounds": _schemas(*_BOUNDS),
    "schemas that are none": _schemas(*_NONSENSE),
    "schemas that are deep": _schemas(_nested_schema(50), _nested_schema(200)),
    "tools at and over their limits": _bodies(_many_tools),
    "stop words": _bodies(_stops),
    "numbers of choices": _bodies(_numbers_of_choices),
    "limits of tokens": _bodies(_limits),
    "token ids": _bodies(_token_ids),
    "pictures": _bodies(_images),
    "documents": _bodies(_documents),
    "impossible conversations": _bodies(_conversations),
    "streams": _bodies(_stream_flags),
    "broken forms": _multipart,
    "orders to the mock": _bodies(_settings),
}  # fmt: skip
