"""The HTTP interface as an OpenAPI 3.1 document, made from the very types that read the bodies.

What no schema can say (that `min_tokens` is not above `max_tokens`, that a tool's result answers a call) is left to
the errors. The shapes of complete answers name what is always there; their details are the providers' own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from fastapi import FastAPI
from starlette.responses import Response

from mockllm.server.control import Demand, Settings
from mockllm.server.files import FileObject
from mockllm.stack.fault_kinds import KINDS as FAULT_KINDS
from mockllm.wire.anthropic_batch import BatchBody, MessageBatch
from mockllm.wire.anthropic_messages import CountBody as CountTokensBody
from mockllm.wire.openai_batch import Batch, BatchOrder
from mockllm.wire.responses_request import CountBody as InputTokensBody
from mockllm.wire.table import DIALECTS
from mockllm.wire.tokenize import DetokenizeBody, TokenizeBody

__all__ = ["add_document_route", "openapi_document"]

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_INTEGER: Json = {"type": "integer"}
_ANY_LIST: Json = {"type": "array"}
_COUNT: Json = {"type": "integer", "minimum": 0}


class _Operation(NamedTuple):
    """One method of one path. `takes` is the type that reads its body, `gives` what it answers by media type.

    `refuses` are the statuses of its errors, `marks` the parameters of path and query.
    """

    method: str
    path: str
    summary: str
    gives: Mapping[str, Json]
    takes: type[msgspec.Struct] | None = None
    refuses: Sequence[int] = ()
    provider: str = "openai"
    marks: Sequence[str] = ()
    controlled: bool = False
    takes_faults: bool = False


def add_document_route(app: FastAPI, model: str) -> None:
    """`/openapi.json`; FastAPI's own would know no bodies, because it does not read them. `model` is in the examples."""
    body = json.dumps(openapi_document(model)).encode()

    async def document() -> Response:
        return Response(body, media_type="application/json")

    app.add_api_route("/openapi.json", document, methods=["GET"], response_model=None)


def openapi_document(model: str) -> Json:
    """The document, as JSON values."""
    schemas: Json = dict(_ERRORS)
    paths: Json = {}
    for operation in _operations():
        shown = _shown(operation, schemas)
        if operation.takes is not None:
            names_a_model = "model" in operation.takes.__struct_fields__
            example = {"model": model} | _EXAMPLES[operation.path] if names_a_model else _EXAMPLES[operation.path]
            shown["requestBody"]["content"][_JSON]["example"] = example
        paths.setdefault(operation.path, {})[operation.method.lower()] = shown
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "mockllm",
            "version": "1",
            "description": "A mock LLM server. Headers that begin with X-Mock- give orders to the mock itself.",
        },
        "paths": paths,
        "components": {"schemas": schemas, "parameters": _PARAMETERS | _control_parameters()},
    }


def _shown(operation: _Operation, schemas: Json) -> Json:
    headers = [f"X-Mock-{name}" for name in _controls()] if operation.controlled else []
    content = {kind: {"schema": schema} for kind, schema in operation.gives.items()}
    responses: Json = {"200": {"description": "The answer.", "content": content}}
    error = {"$ref": f"#/components/schemas/{operation.provider}.Error"}
    for status in operation.refuses:
        responses[str(status)] = {
            "description": _STATUSES[status],
            "content": {"application/json": {"schema": error}},
        }
    shown: Json = {
        "operationId": f"{operation.method.lower()}{operation.path}".translate(_NOT_IN_A_NAME),
        "summary": operation.summary,
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in [*operation.marks, *headers]],
        "responses": responses,
    }
    if operation.path in ("/health", "/ping"):
        responses["503"] = {"description": "Not ready.", "content": content}
    if operation.takes is not None:
        schema = _described(operation.takes, shown["operationId"], schemas)
        shown["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    elif operation.takes_faults:
        schemas["mock.Faults"] = _FAULTS
        body = {"schema": {"$ref": "#/components/schemas/mock.Faults"}, "example": _FAULT_EXAMPLE}
        shown["requestBody"] = {"required": True, "content": {"application/json": body}}
    elif operation.path == "/v1/files" and operation.method == "POST":
        shown["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": _UPLOAD}}}
    return shown


def _described(kind: type[msgspec.Struct], prefix: str, schemas: Json) -> Json:
    """A reference to the schema of a type. Types of one name exist in several modules: each use has its own prefix."""
    template = f"#/components/schemas/{prefix}.{{name}}"
    (reference,), components = msgspec.json.schema_components([kind], ref_template=template)
    schemas.update((f"{prefix}.{name}", schema) for name, schema in components.items())
    return reference


def _controls() -> list[str]:
    """`TTFT-MS` and the others, as they are written."""
    return [name.title().replace("Ttft", "TTFT").replace("Itl", "ITL").replace("-Ms", "-MS") for name in _DEMANDS]


def _control_parameters() -> Json:
    _, components = msgspec.json.schema_components([Demand], ref_template="{name}")
    rules = components["Demand"]["properties"]
    return {
        f"X-Mock-{shown}": {
            "name": f"X-Mock-{shown}",
            "in": "header",
            "required": False,
            "description": "An order to the mock; a name that does not exist is refused.",
            "schema": next(rule for rule in rules[name]["anyOf"] if rule != {"type": "null"}),
        }
        for name, shown in zip(_DEMANDS, _controls(), strict=True)
    }


_DEMANDS = Demand.__struct_encode_fields__
_NOT_IN_A_NAME = str.maketrans({"/": "_", "{": "", "}": "", ":": "_"})


def _object(**properties: Json) -> Json:
    """An object that always has these properties, and may have others."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def _const(value: str) -> Json:
    return {"const": value}


def _list_of(item: Json, **more: Json) -> Json:
    return _object(data={"type": "array", "items": item}, **more)


def _or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _inline(kind: type[msgspec.Struct]) -> Json:
    """The schema of an answer whose type exists. Every member is always written."""
    (_,), components = msgspec.json.schema_components([kind], ref_template="{name}")
    properties: Json = {name: {} for name in components[kind.__name__]["properties"]}
    return {"type": "object", "properties": properties, "required": list(properties)}


_STATUSES = {
    400: "The request breaks the contract.",
    404: "What it names does not exist.",
    409: "It cannot be changed in the state it is in.",
    413: "The body is too large.",
    429: "A rate limit, or no room.",
    500: "The server broke down, or was told to.",
    503: "The server is overloaded, or not ready.",
    529: "The server is overloaded.",
}
_ERRORS: Json = {
    "openai.Error": {
        **_object(error=_object(message=_TEXT, type=_TEXT, param=_or_null(_TEXT), code=_or_null(_TEXT))),
        "additionalProperties": False,
    },
    "anthropic.Error": {
        **_object(type=_const("error"), error=_object(type=_TEXT, message=_TEXT), request_id=_TEXT),
        "additionalProperties": False,
    },
}
_UPLOAD: Json = _object(file={"type": "string", "contentMediaType": "application/octet-stream"}, purpose=_TEXT)
_PARAMETERS: Json = {
    **{
        name: {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in ("file_id", "batch_id", "response_id", "fault_id", "name")
    },
    **{name: {"name": name, "in": "query", "schema": _TEXT} for name in ("after", "after_id", "before_id", "purpose")},
    **{
        f"limit{highest}": {
            "name": "limit",
            "in": "query",
            "schema": {"type": "integer", "minimum": 1, "maximum": highest},
        }
        for highest in (100, 1000, 10_000)
    },
    "order": {"name": "order", "in": "query", "schema": {"enum": ["asc", "desc"]}},
    "stream": {"name": "stream", "in": "query", "schema": {"type": "boolean"}},
    "starting_after": {"name": "starting_after", "in": "query", "schema": _COUNT},
    "anthropic-version": {"name": "anthropic-version", "in": "header", "schema": _TEXT},
}

_JSON, _EVENTS = "application/json", "text/event-stream"
_OPENAI_USAGE = _object(prompt_tokens=_COUNT, total_tokens=_COUNT)
_CHAT = _object(
    id=_TEXT,
    object=_const("chat.completion"),
    created=_INTEGER,
    model=_TEXT,
    choices={"type": "array", "items": _object(index=_COUNT, message=_object(role=_TEXT), finish_reason=_TEXT)},
    usage=_OPENAI_USAGE,
)
_COMPLETION = _object(
    id=_TEXT,
    object=_const("text_completion"),
    created=_INTEGER,
    model=_TEXT,
    choices={"type": "array", "items": _object(index=_COUNT, text=_TEXT, finish_reason=_TEXT)},
    usage=_OPENAI_USAGE,
)
_RESPONSE = _object(
    id=_TEXT,
    object=_const("response"),
    created_at=_INTEGER,
    status={"enum": ["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]},
    model=_TEXT,
    output=_ANY_LIST,
    usage=_or_null(_object(input_tokens=_COUNT, output_tokens=_COUNT, total_tokens=_COUNT)),
)
_EMBEDDINGS = _list_of(
    _object(object=_const("embedding"), index=_COUNT, embedding={"type": ["array", "string"]}),
    object=_const("list"),
    model=_TEXT,
    usage=_OPENAI_USAGE,
)
_MESSAGE = _object(
    id=_TEXT,
    type=_const("message"),
    role=_const("assistant"),
    model=_TEXT,
    content=_ANY_LIST,
    stop_reason={"enum": ["end_turn", "max_tokens", "stop_sequence", "tool_use"]},
    usage=_object(input_tokens=_COUNT, output_tokens=_COUNT),
)
_ANSWERS = {
    "/v1/chat/completions": _CHAT,
    "/v1/completions": _COMPLETION,
    "/v1/responses": _RESPONSE,
    "/v1/embeddings": _EMBEDDINGS,
    "/v1/messages": _MESSAGE,
}
_HI = {"role": "user", "content": "Hi."}
_DURATION: Json = {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ms|min|s|m|h|d))+$"}
_FAULTS: Json = {
    "description": "A fault, or a list of faults; which members it has hangs on its kind.",
    "type": ["object", "array"],
    "required": ["kind"],
    "properties": {
        "kind": {"enum": list(FAULT_KINDS)},
        **dict.fromkeys(("at", "for", "retry_after", "delay"), _DURATION),
        **{name: {"type": "string", "minLength": 1, "maxLength": 200} for name in ("model", "replica", "region")},
        "share": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "factor": {"type": "number", "minimum": 1},
        "status": {"anyOf": [{"type": "integer", "minimum": 400, "maximum": 599}, _const("reset")]},
        "after_tokens": {"type": "integer", "minimum": 1},
    },
    "items": {"type": "object", "required": ["kind"]},
}
_FAULT_EXAMPLE: Json = {"kind": "errors", "status": 503, "share": 0.2, "at": "10m", "for": "30s"}
_EXAMPLES: Mapping[str, Json] = {
    "/v1/chat/completions": {"messages": [_HI], "stream": True, "stream_options": {"include_usage": True}},
    "/v1/completions": {"prompt": "Once upon a time", "max_tokens": 8},
    "/v1/responses": {"input": "Hi.", "stream": True},
    "/v1/responses/input_tokens": {"input": "Hi."},
    "/v1/embeddings": {"input": ["one text", "another"], "dimensions": 8},
    "/v1/messages": {"max_tokens": 16, "messages": [_HI], "stream": True},
    "/v1/messages/count_tokens": {"messages": [_HI]},
    "/v1/messages/batches": {"requests": [{"custom_id": "one", "params": {"max_tokens": 16, "messages": [_HI]}}]},
    "/v1/batches": {"input_file_id": "file-00000001", "endpoint": "/v1/chat/completions", "completion_window": "24h"},
    "/tokenize": {"prompt": "Hi."},
    "/detokenize": {"tokens": [12194, 13]},
    "/mock/settings": {"models": {"*": {"ttft_ms": 0, "error_rate": 0.05, "error_status": 429}}},
}
_MODEL = {"anyOf": [_object(id=_TEXT, object=_const("model")), _object(id=_TEXT, type=_const("model"))]}
_OPENAI_PAGE = {"object": _const("list"), "has_more": {"type": "boolean"}}


def _operations() -> list[_Operation]:
    return [
        *_completions(),
        *_counting(),
        *_stored_responses(),
        *_files(),
        *_batches(),
        *_message_batches(),
        *_reading(),
        *_operator(),
    ]


def _completions() -> list[_Operation]:
    found = []
    for path, dialect in DIALECTS.items():
        gives = {_JSON: _ANSWERS[path]}
        if "stream" in dialect.body.__struct_fields__:
            gives[_EVENTS] = {}  # the events are the provider's
        busy = (529,) if dialect.provider == "anthropic" else (503,)
        refuses = (400, 404, 413, 429, 500, *busy)
        found.append(
            _Operation(
                "POST", path, f"Answer ({dialect.name}).", gives, dialect.body, refuses, dialect.provider, (), True
            )
        )
    return found


def _counting() -> list[_Operation]:
    tokens = _object(count=_COUNT, max_model_len=_INTEGER, tokens={"type": "array", "items": _INTEGER})
    return [
        _Operation("POST", "/tokenize", "Tokens of a prompt (vLLM).", {_JSON: tokens}, TokenizeBody, (400, 413)),
        _Operation("POST", "/detokenize", "Text of tokens (vLLM).", {_JSON: _object(prompt=_TEXT)}, DetokenizeBody, (400, 413)),
        _Operation(
            "POST",
            "/v1/messages/count_tokens",
            "Tokens of a prompt (Anthropic).",
            {_JSON: _object(input_tokens=_COUNT)},
            CountTokensBody,
            (400, 404, 413),
            "anthropic",
        ),
        _Operation(
            "POST",
            "/v1/responses/input_tokens",
            "Tokens of a prompt (OpenAI).",
            {_JSON: _object(object=_const("response.input_tokens"), input_tokens=_COUNT)},
            InputTokensBody,
            (400, 404, 413),
        ),
    ]  # fmt: skip


def _stored_responses() -> list[_Operation]:
    one, mark = "/v1/responses/{response_id}", ("response_id",)
    page = _list_of({"type": "object"}, **_OPENAI_PAGE)
    listed = (*mark, "limit100", "order", "after")
    gone = _object(id=_TEXT, object=_const("response"), deleted={"const": True})
    read, gives = (*mark, "stream", "starting_after"), {_JSON: _RESPONSE, _EVENTS: {}}
    return [
        _Operation("GET", one, "A response that is kept.", gives, None, (400, 404), marks=read),
        _Operation("DELETE", one, "Forget a response.", {_JSON: gone}, None, (400, 404), marks=mark),
        _Operation("POST", f"{one}/cancel", "Stop one that runs.", {_JSON: _RESPONSE}, None, (400, 404), marks=mark),
        _Operation("GET", f"{one}/input_items", "What it was asked.", {_JSON: page}, None, (400, 404), marks=listed),
    ]


def _files() -> list[_Operation]:
    one, mark, file = "/v1/files/{file_id}", ("file_id",), _inline(FileObject)
    page = _list_of(file, **_OPENAI_PAGE)
    raw: Mapping[str, Json] = {"application/octet-stream": {}}
    gone = _object(id=_TEXT, object=_const("file"), deleted={"const": True})
    listed = ("purpose", "limit10000", "order", "after")
    return [
        _Operation("POST", "/v1/files", "Upload a file.", {_JSON: file}, None, (400, 413)),
        _Operation("GET", "/v1/files", "All files.", {_JSON: page}, None, (400,), marks=listed),
        _Operation("GET", one, "A file.", {_JSON: file}, None, (404,), marks=mark),
        _Operation("DELETE", one, "Forget a file.", {_JSON: gone}, None, (404,), marks=mark),
        _Operation("GET", f"{one}/content", "Its bytes.", raw, None, (400, 404), marks=mark),
    ]


def _batches() -> list[_Operation]:
    one, mark, batch = "/v1/batches/{batch_id}", ("batch_id",), _inline(Batch)
    page = _list_of(batch, **_OPENAI_PAGE)
    listed = ("limit100", "order", "after")
    return [
        _Operation("POST", "/v1/batches", "Begin a batch.", {_JSON: batch}, BatchOrder, (400, 404, 413, 429)),
        _Operation("GET", "/v1/batches", "All batches.", {_JSON: page}, None, (400,), marks=listed),
        _Operation("GET", one, "A batch.", {_JSON: batch}, None, (404,), marks=mark),
        _Operation("POST", f"{one}/cancel", "Stop a batch.", {_JSON: batch}, None, (400, 404, 409), marks=mark),
    ]


def _message_batches() -> list[_Operation]:
    one, batch = "/v1/messages/batches/{batch_id}", _inline(MessageBatch)
    page = _list_of(batch, has_more={"type": "boolean"})
    gone = _object(id=_TEXT, type=_const("message_batch_deleted"))
    mark, listed = ("batch_id",), ("limit1000", "after_id", "before_id")
    lines: Mapping[str, Json] = {"application/x-jsonl": {}}
    who = "anthropic"
    return [
        _Operation("POST", "/v1/messages/batches", "Begin a batch.", {_JSON: batch}, BatchBody, (400, 413, 429), who),
        _Operation("GET", "/v1/messages/batches", "All batches.", {_JSON: page}, None, (400,), who, listed),
        _Operation("GET", one, "A batch.", {_JSON: batch}, None, (404,), who, mark),
        _Operation("DELETE", one, "Forget a batch.", {_JSON: gone}, None, (400, 404), who, mark),
        _Operation("POST", f"{one}/cancel", "Stop a batch.", {_JSON: batch}, None, (400, 404), who, mark),
        _Operation("GET", f"{one}/results", "Its results.", lines, None, (404,), who, mark),
    ]


def _reading() -> list[_Operation]:
    models = _list_of(_MODEL)
    kept, version = _object(status=_TEXT), _object(version=_TEXT)
    header = ("anthropic-version",)
    return [
        _Operation("GET", "/v1/models", "All models.", {_JSON: models}, marks=header),
        _Operation("GET", "/v1/models/{name}", "A model.", {_JSON: _MODEL}, None, (404,), marks=("name",)),
        _Operation("GET", "/health", "Whether it is ready.", {_JSON: kept}),
        _Operation("GET", "/ping", "Whether it is ready.", {_JSON: kept}),
        _Operation("GET", "/version", "vLLM's version.", {_JSON: version}),
        _Operation("GET", "/openapi.json", "This document.", {_JSON: _object(openapi=_TEXT, paths={})}),
    ]


def _operator() -> list[_Operation]:
    path, settings = "/mock/settings", {_JSON: _inline(Settings)}
    state = _object(deployment=_TEXT, requests={}, models=_ANY_LIST, stages=_ANY_LIST)
    return [
        _Operation("GET", "/metrics", "Metrics (Prometheus).", {"text/plain": _TEXT}),
        _Operation("GET", "/mock/ledger", "What was really sent, as JSON lines.", {"application/x-ndjson": {}}),
        _Operation("GET", "/mock/state", "What it is doing now.", {_JSON: state}),
        _Operation("GET", "/", "A page that shows it.", {"text/html; charset=utf-8": _TEXT}),
        _Operation("GET", "/mock/live.css", "How the page looks.", {"text/css; charset=utf-8": _TEXT}),
        _Operation("GET", "/mock/live.js", "What the page does.", {"text/javascript; charset=utf-8": _TEXT}),
        _Operation("GET", path, "What every request meets.", settings),
        _Operation("PATCH", path, "Change it (RFC 7396).", settings, Settings, (400, 413)),
        _Operation("PUT", path, "Replace it.", settings, Settings, (400, 413)),
        _Operation("DELETE", path, "Back to the beginning.", settings),
        *_faults(),
    ]


def _faults() -> list[_Operation]:
    path, one = "/mock/faults", "/mock/faults/{fault_id}"
    run_s = {"type": ["number", "null"]}
    all_faults = {_JSON: _object(run_s=run_s, faults=_ANY_LIST)}
    added, refused = {_JSON: _object(faults=_ANY_LIST)}, (400, 413)
    return [
        _Operation("GET", path, "All faults.", all_faults),
        _Operation("POST", path, "More faults, one or a list.", added, None, refused, takes_faults=True),
        _Operation("PUT", path, "These faults and no others.", all_faults, None, refused, takes_faults=True),
        _Operation("DELETE", path, "No faults.", all_faults),
        _Operation("DELETE", one, "Take a fault back.", all_faults, None, (404,), marks=("fault_id",)),
        _Operation("GET", "/mock/timeline", "How long the run has lasted.", {_JSON: _object(run_s=run_s)}),
        _Operation("POST", "/mock/timeline", "Begin the run anew.", {_JSON: _object(run_s=run_s)}),
    ]
