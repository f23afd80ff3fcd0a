"""The published OpenAPI document against the application: what is generated from it must be answered as it says.

Every method of every path is asked, with bodies, parameters and headers that fit the document and with such that do not.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.routing import Route

from mockllm.deployment import load_deployment
from mockllm.server.app import create_app
from mockllm.server.control import Settings

NUM_EXAMPLES = 5
# Two operations with Anthropic's body alone have 6,000 of 10,000 cases, the same ones in every run.
NUM_WHOLE = 600  # so many cases of an operation are asked, and of those beyond every fourth
ONE_IN = 4
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
_ORDERS = (
    "error",
    "cut",
    "ttft",
    "itl",
    "retry",
)  # these change status and time of the answer: tests/contract/test_control.py

load_all_checks()


def _config() -> schemathesis.Config:
    config = schemathesis.Config(seed=20_261_121)
    config.projects.default.max_stream_events = 10**9  # streams are read to their end
    config.projects.default.generation.deterministic = True
    return config


app = create_app(load_deployment("instant"))
num_seen: Counter[str] = Counter()
schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=_config())


@schema.parametrize()
@settings(
    max_examples=NUM_EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_the_document_is_honest(case: schemathesis.Case[Any]) -> None:
    num_seen[case.operation.label] += 1
    if (number := num_seen[case.operation.label]) > NUM_WHOLE and number % ONE_IN:
        return
    for name in list(case.headers or {}):
        if name.lower().startswith(tuple(f"x-mock-{order}" for order in _ORDERS)):
            del case.headers[name]
    if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
        case.body["model"] = "instant"  # or nothing would get further than the name
    answer = case.call()
    app.state.server.settings = Settings()  # what one case has set must not meet the next
    app.state.server.engine.faults.scheduled.clear()
    assert not answer.stream_cut_short
    case.validate_response(answer, checks=CHECKS)


def test_every_route_is_documented() -> None:
    """The document has every method of every path that the application has, and no other."""
    served = {
        (method.lower(), route.path.replace(":path}", "}"))
        for route in app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
    }
    documented = {(method, path) for path, methods in schema.raw_schema["paths"].items() for method in methods}
    assert documented == served


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_the_document_knows_the_fields_of_a_body(path: str) -> None:
    content = schema.raw_schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    name = content["$ref"].removeprefix("#/components/schemas/")
    body = schema.raw_schema["components"]["schemas"][name]
    assert {"model", "messages", "max_tokens", "stream", "tools", "tool_choice"} <= set(body["properties"])
    assert {"model", "messages"} <= set(body["required"])
