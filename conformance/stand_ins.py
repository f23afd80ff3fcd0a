"""What is put in the place of values that no server with a memory and rules can answer.

The suites are generated for a mock that answers any id and any combination of parameters. A test that names an object
by a made-up id gets the id of one that was made for it; a value that the provider's documentation rules out gets
one within the rules. Every stand-in says why it is there; the matrix names the ones that each row met. Nothing else of
a test is changed, and its checks are the suite's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from conformance.objects import Objects

__all__ = ["STAND_INS", "Ask", "StandIn"]


@dataclass
class Ask:
    """A request that is about to be sent; stand-ins change it in place.

    `path` is below the SDK's base URL. `strict`: the SDK checks answers against its types.
    """

    method: str
    path: str
    query: list[tuple[str, str]]
    body: dict[str, Any] | None
    strict: bool

    def replace_in_query(self, name: str, value: str | None) -> None:
        """Give a parameter another value; None takes it away."""
        kept = [(key, old if key != name else value) for key, old in self.query]
        self.query = [(key, text) for key, text in kept if text is not None]


class StandIn(NamedTuple):
    """`apply` changes what it is about, and says whether it changed anything."""

    name: str
    why: str
    apply: Callable[[Ask, Objects], bool]


def _openai_ids(ask: Ask, objects: Objects) -> bool:
    cancelled = ask.path.endswith("/cancel")
    if cancelled:
        response = objects.running_response
    elif ("stream", "true") in ask.query:
        response = objects.streamed_response
    else:
        response = objects.response
    made = {
        "file_id": objects.file,
        "batch_id": objects.running_batch if cancelled else objects.batch,
        "response_id": response,
        "resp_677efb5139a88190b512bc3fef8e535d": response,
        "input_file_id": objects.file,
        "previous_response_id": objects.response,
        "resp_123": objects.response,
    }
    return _made(ask, made, ("input_file_id", "previous_response_id"))


def _anthropic_ids(ask: Ask, objects: Objects) -> bool:
    batch = objects.running_message_batch if ask.path.endswith("/cancel") else objects.ended_message_batch
    return _made(ask, {"message_batch_id": batch}, ())


def _made(ask: Ask, made: dict[str, Callable[[], str]], fields: tuple[str, ...]) -> bool:
    """Put new objects where the path or these fields of the body name one that was made up."""
    before = ask.path
    ask.path = "/".join(made[part]() if part in made else part for part in ask.path.split("/"))
    changed = ask.path != before
    for name in fields:
        if ask.body is not None and ask.body.get(name) in made:
            ask.body[name] = made[ask.body[name]]()
            changed = True
    return changed


def _openai_cursor(ask: Ask, objects: Objects) -> bool:
    if ("after", "after") not in ask.query:
        return False
    # Not just any file of the list: a test beside this one may be about to delete it.
    if ask.path == "/files":
        last = objects.file()
    elif ask.path == "/batches":
        last = objects.batch()
    elif ask.path.endswith("/input_items"):
        last = objects.listed(ask.path)
    else:
        return False
    ask.replace_in_query("after", last)
    ask.replace_in_query("purpose", "batch")
    return True


def _anthropic_cursor(ask: Ask, objects: Objects) -> bool:
    if ("after_id", "after_id") not in ask.query:
        return False
    last = objects.ended_message_batch() if ask.path.endswith("/batches") else objects.listed(ask.path)
    ask.replace_in_query("after_id", last)
    ask.replace_in_query("before_id", None)
    return True


def _limit(ask: Ask, objects: Objects) -> bool:
    if ("limit", "0") not in ask.query:
        return False
    ask.replace_in_query("limit", "1")
    return True


def _max_tokens(ask: Ask, objects: Objects) -> bool:
    names = [name for name in ("max_tokens", "max_completion_tokens") if ask.body and ask.body.get(name) == 0]
    for name in names:
        assert ask.body is not None
        ask.body[name] = 16
    return bool(names)


def _stream_options(ask: Ask, objects: Objects) -> bool:
    if ask.body is None or ask.body.get("stream") or "stream_options" not in ask.body:
        return False
    del ask.body["stream_options"]
    return True


def _float_vectors(ask: Ask, objects: Objects) -> bool:
    if ask.path != "/embeddings" or not ask.strict or ask.body is None or ask.body.get("encoding_format") != "base64":
        return False
    ask.body["encoding_format"] = "float"
    return True


def _model_and_input(ask: Ask, objects: Objects) -> bool:
    if ask.path not in ("/responses", "/responses/input_tokens") or ask.method != "POST":
        return False
    wanted = {"model": "quick", "input": "Hello"}
    given = ask.body or {}
    if all(name in given for name in wanted):
        return False
    ask.body = wanted | given
    return True


def _one_history(ask: Ask, objects: Objects) -> bool:
    if ask.body is None or not {"conversation", "previous_response_id"} <= ask.body.keys():
        return False
    del ask.body["conversation"]
    return True


def _no_stored_prompt(ask: Ask, objects: Objects) -> bool:
    if not ask.path.startswith("/responses") or ask.body is None or "prompt" not in ask.body:
        return False
    del ask.body["prompt"]
    return True


def _tool_schema(ask: Ask, objects: Objects) -> bool:
    changed = False
    for tool in _tools(ask.body):
        properties = tool.get("input_schema", {}).get("properties", {})
        for name, schema in properties.items():
            if schema == "bar":
                properties[name] = {"type": "string"}
                changed = True
    return changed


def _tools(body: object) -> list[dict[str, Any]]:
    """The tools of a message, or of all messages of a batch."""
    if not isinstance(body, dict):
        return []
    inner = [tool for request in body.get("requests", []) for tool in _tools(request.get("params"))]
    return [tool for tool in body.get("tools", []) if isinstance(tool, dict)] + inner


_LIMIT = StandIn("limit", "`limit=0`, where the documented minimum is 1: 1 is sent.", _limit)

STAND_INS: dict[str, tuple[StandIn, ...]] = {
    "openai": (
        StandIn(
            "object",
            "A made-up id (`file_id`, `batch_id`, `response_id`, …) becomes that of an object made for the test: what is "
            "cancelled is at work, and what is streamed again was streamed in the background.",
            _openai_ids,
        ),
        StandIn(
            "cursor",
            "`after` becomes the id of an object that is in the list, `purpose` that object's.",
            _openai_cursor,
        ),
        _LIMIT,
        StandIn("max tokens", "A limit of 0 output tokens, where the minimum is 1: 16 is sent.", _max_tokens),
        StandIn(
            "stream options",
            "`stream_options` without `stream`, which the provider refuses, is left out.",
            _stream_options,
        ),
        StandIn(
            "float vectors",
            "The strict client checks before it decodes the base64 that it asks for by default, and refuses any such "
            "answer, the provider's too: it asks for `float`. The loose client asks for base64 as it stands.",
            _float_vectors,
        ),
        StandIn("model and input", "A request without `model` or `input` gets both.", _model_and_input),
        StandIn(
            "one history",
            "`conversation` beside `previous_response_id`, which exclude each other, is left out.",
            _one_history,
        ),
        StandIn(
            "no stored prompt",
            "`prompt` names a stored prompt by its id. The mock keeps none and knows no id: `prompt` is left out of a "
            "request with all parameters, so that the others are tested.",
            _no_stored_prompt,
        ),
    ),
    "anthropic": (
        StandIn(
            "object", "`message_batch_id` becomes the id of a batch made for the test, ended or not.", _anthropic_ids
        ),
        StandIn(
            "cursor",
            "`after_id` becomes the id of an object in the list; `before_id` beside it goes.",
            _anthropic_cursor,
        ),
        StandIn(
            "tool schema",
            "A tool's `properties` hold texts where JSON Schema wants schemas: a schema of a string is sent.",
            _tool_schema,
        ),
    ),
}
