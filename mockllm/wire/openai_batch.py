"""OpenAI's Batch API: the batch object, the body that makes one, and the lines of its files. Pure.

Shapes: `openai.types.Batch`; the lines follow OpenAI's Batch guide and published schema (`BatchRequestInput`,
`BatchRequestOutput`). Codes and wordings of a failed validation are those that the service was seen to give
(quoted in the integration tests of llama-stack, and in Alibaba's list of the same codes), but for the few
that a comment calls ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from mockllm.wire.bodies import read_body
from mockllm.wire.errors import ApiError, invalid

__all__ = [
    "Batch",
    "BatchError",
    "BatchOrder",
    "Errors",
    "ExpiresAfter",
    "LineReader",
    "RequestLine",
    "Usage",
    "answer_line",
    "check_expiry",
    "parse_order",
    "unexecuted_line",
]

_EXPIRY_S = (3600, 2_592_000)

# What a body must have by endpoint, in the order in which its absence is reported.
_REQUIRED: dict[str, tuple[str, ...]] = {
    "/v1/chat/completions": ("model", "messages"),
    "/v1/completions": ("model", "prompt"),
    "/v1/embeddings": ("model", "input"),
    "/v1/responses": ("model",),
}
_TITLES = {
    "/v1/chat/completions": "Chat Completions",
    "/v1/completions": "Completions",
    "/v1/embeddings": "Embeddings",
    "/v1/responses": "Responses",
}


class BatchError(msgspec.Struct):
    """Why a batch failed; `line` counts from 1."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class Errors(msgspec.Struct):
    data: list[BatchError]
    object: str = "list"


class _Counts(msgspec.Struct):
    total: int = 0
    completed: int = 0
    failed: int = 0


class _InputDetails(msgspec.Struct):
    cached_tokens: int = 0


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int = 0


class _BodyUsage(msgspec.Struct):
    """The token counts of any of the endpoints: chat, completions and embeddings say prompt, responses say input."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class _Answer(msgspec.Struct):
    usage: _BodyUsage | None = None


class Usage(msgspec.Struct):
    """Tokens of all answers of a batch so far."""

    input_tokens: int = 0
    input_tokens_details: _InputDetails = msgspec.field(default_factory=_InputDetails)
    output_tokens: int = 0
    output_tokens_details: _OutputDetails = msgspec.field(default_factory=_OutputDetails)
    total_tokens: int = 0

    def add(self, body: bytes) -> None:
        """Count one answer; a body without usage adds nothing."""
        try:
            usage = msgspec.json.decode(body, type=_Answer).usage or _BodyUsage()
        except msgspec.DecodeError:
            return
        num_input = usage.prompt_tokens + usage.input_tokens
        num_output = usage.completion_tokens + usage.output_tokens
        self.input_tokens += num_input
        self.output_tokens += num_output
        self.total_tokens += num_input + num_output
        for read in (usage.prompt_tokens_details, usage.input_tokens_details):
            self.input_tokens_details.cached_tokens += read.cached_tokens if read else 0
        for said in (usage.completion_tokens_details, usage.output_tokens_details):
            self.output_tokens_details.reasoning_tokens += said.reasoning_tokens if said else 0


class Batch(msgspec.Struct, kw_only=True):
    """A batch as the API shows it; times are seconds of the epoch."""

    id: str
    object: str = "batch"
    endpoint: str
    model: str | None = None
    errors: Errors | None = None
    input_file_id: str
    completion_window: str
    status: str = "validating"
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: _Counts = msgspec.field(default_factory=_Counts)
    usage: Usage = msgspec.field(default_factory=Usage)
    metadata: dict[str, Any] | None = None


class ExpiresAfter(msgspec.Struct, frozen=True):
    anchor: str
    seconds: int


class BatchOrder(msgspec.Struct, frozen=True):
    """The body of `POST /v1/batches`. Metadata are strings once it is checked."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, Any] | None = None
    output_expires_after: ExpiresAfter | None = None


_ORDER = msgspec.json.Decoder(BatchOrder)


def parse_order(body: bytes, endpoints: tuple[str, ...]) -> BatchOrder | ApiError:
    """Read the body of `POST /v1/batches`."""
    order = read_body(body, _ORDER)
    if isinstance(order, ApiError):
        return order
    if order.endpoint not in endpoints:
        names = ", ".join(f"'{name}'" for name in endpoints)
        message = f"Invalid value: '{order.endpoint[:200]}'. Supported values are: {names}."
        return invalid(message, "endpoint", "invalid_value")
    if order.completion_window != "24h":
        message = f"Invalid value: '{order.completion_window[:200]}'. Value must be '24h'."
        return invalid(message, "completion_window", "invalid_value")
    expiry = order.output_expires_after
    refusal = check_expiry(expiry, "output_expires_after") if expiry else None
    return refusal or _check_metadata(order.metadata or {}) or order


def check_expiry(expiry: ExpiresAfter, param: str) -> ApiError | None:
    """Between an hour and 30 days after creation."""
    if expiry.anchor != "created_at":
        message = f"Invalid value: '{expiry.anchor[:200]}'. Value must be 'created_at'."
        return invalid(message, f"{param}.anchor", "invalid_value")
    lowest, highest = _EXPIRY_S
    if lowest <= expiry.seconds <= highest:
        return None
    side, sign, bound, code = (
        ("below minimum", ">=", lowest, "integer_below_min_value")
        if expiry.seconds < lowest
        else ("above maximum", "<=", highest, "integer_above_max_value")
    )
    message = f"Invalid '{param}.seconds': integer {side} value. Expected a value {sign} {bound}, but got {expiry.seconds} instead."
    return invalid(message, f"{param}.seconds", code)


def _check_metadata(metadata: dict[str, Any]) -> ApiError | None:
    """16 pairs, keys of 64 characters, values of 512 (the SDK's BatchCreateParams)."""
    if len(metadata) > 16:
        message = f"Invalid 'metadata': too many properties. Expected at most 16 properties, but got {len(metadata)}."
        return invalid(message, "metadata", "object_above_max_properties")
    for key, value in metadata.items():
        param = f"metadata.{key[:64]}"
        if len(key) > 64:
            message = f"Invalid '{param}…': key too long. Expected a maximum length of 64, but got {len(key)}."
            return invalid(message, "metadata", "string_above_max_length")
        if not isinstance(value, str):
            message = f"Invalid type for '{param}': expected a string, but got {_json_name(value)} instead."
            return invalid(message, param, "invalid_type")
        if len(value) > 512:
            message = f"Invalid '{param}': string too long. Expected a maximum length of 512, but got {len(value)}."
            return invalid(message, param, "string_above_max_length")
    return None


def _json_name(value: object) -> str:
    names = {bool: "a boolean", int: "an integer", float: "a decimal number", list: "an array", dict: "an object"}
    return names.get(type(value), "null")


class RequestLine(msgspec.Struct, frozen=True):
    """A valid line of an input file."""

    custom_id: str
    body: bytes


class _Line(msgspec.Struct):
    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class _Body(msgspec.Struct):
    """Only what a batch asks of a body itself; the endpoint judges the rest when the request runs."""

    model: str = ""
    stream: bool | None = None
    messages: msgspec.Raw = msgspec.Raw(b"")
    prompt: msgspec.Raw = msgspec.Raw(b"")
    input: msgspec.Raw = msgspec.Raw(b"")


_LINE = msgspec.json.Decoder(_Line)
_BODY = msgspec.json.Decoder(_Body)


class LineReader:
    """Reads the lines of one input file, in order: ids are unique and the model is one and the same."""

    def __init__(self, endpoint: str, serves_model: Callable[[str], bool]) -> None:
        self.model: str | None = None
        self._endpoint = endpoint
        self._serves_model = serves_model
        self._seen: set[str] = set()

    def read(self, number: int, line: bytes) -> RequestLine | BatchError:
        """A line without its line feed. Never raises for a client's bytes."""
        read = read_body(line, _LINE)
        if isinstance(read, ApiError):
            return _line_error(read, number, "")
        body = bytes(read.body)
        parts = read_body(body, _BODY)
        if isinstance(parts, ApiError):
            return _line_error(parts, number, "body")
        error = self._line_rule(read) or self._body_rule(parts)
        if error is not None:
            error.line = number
            return error
        self._seen.add(read.custom_id)
        self.model = self.model or parts.model
        return RequestLine(read.custom_id, body)

    def _line_rule(self, line: _Line) -> BatchError | None:
        if line.method != "POST":  # our wording
            message = f"Invalid value: '{line.method[:200]}'. Value must be 'POST'."
            return BatchError("invalid_value", message, "method")
        if line.url != self._endpoint:
            message = "The URL provided for this request does not match the batch endpoint."
            return BatchError("invalid_url", message, "url")
        if line.custom_id in self._seen:
            message = (
                f"The custom_id '{line.custom_id[:200]}' for this request is a duplicate of another request. "
                "The custom_id parameter must be unique for each request in a batch."
            )
            return BatchError("duplicate_custom_id", message, "custom_id")
        return None

    def _body_rule(self, body: _Body) -> BatchError | None:
        if body.stream:
            message = f"{_TITLES.get(self._endpoint, 'Requests')}: Streaming is not supported in the Batch API."
            return BatchError("streaming_unsupported", message, "body.stream")
        for name in _REQUIRED.get(self._endpoint, ("model",)):
            if _absent(getattr(body, name)):
                return BatchError("invalid_request", f"{name.capitalize()} parameter is required.", f"body.{name}")
        if not self._serves_model(body.model):
            message = f"The provided model '{body.model[:200]}' is not supported by the Batch API."
            return BatchError("model_not_found", message, "body.model")
        if body.model != (self.model or body.model):
            message = (
                f"The model '{body.model[:200]}' for this request does not match the rest of the batch. "
                "Each batch must contain requests for a single model."
            )
            return BatchError("mismatched_model", message, "body.model")
        return None


def _absent(value: str | msgspec.Raw) -> bool:
    return value == "" if isinstance(value, str) else not bytes(value)


def _line_error(error: ApiError, number: int, prefix: str) -> BatchError:
    """An error of one line. What is no JSON object at all is one case, whatever is wrong with it."""
    code = error.code or "invalid_request"
    if code in ("invalid_json", "empty_body") or (error.param is None and not prefix):
        return BatchError("invalid_json_line", "This line is not parseable as valid JSON.", None, number)
    param = ".".join(name for name in (prefix, error.param) if name)
    return BatchError(code, error.message.replace("the request body", "'body'"), param, number)


def answer_line(line_id: str, custom_id: str, status: int, request_id: str, body: bytes) -> bytes:
    """A line for a request that was answered, well or not. `body` is JSON; raises msgspec.DecodeError when it isn't."""
    compact = msgspec.Raw(msgspec.json.format(body, indent=-1))  # a line feed within would break the file
    response = {"status_code": status, "request_id": request_id, "body": compact}
    return _line({"id": line_id, "custom_id": custom_id, "response": response, "error": None})


def unexecuted_line(line_id: str, custom_id: str, code: str) -> bytes:
    """A line for a request that never ran: `batch_expired` or `batch_cancelled`."""
    messages = {
        "batch_expired": "This request could not be executed before the completion window expired.",
        "batch_cancelled": "The batch was cancelled before this request executed.",
    }
    error = {"code": code, "message": messages[code]}
    return _line({"id": line_id, "custom_id": custom_id, "response": None, "error": error})


def _line(value: dict[str, object]) -> bytes:
    return msgspec.json.encode(value) + b"\n"
