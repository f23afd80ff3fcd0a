"""Every kind of hostile request to every endpoint that takes a body: an answer in time, no fault of ours, the right shape."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from resource import RUSAGE_SELF, getrusage

import pytest
from pydantic import BaseModel, ConfigDict

from tests.contract.endpoints import BODY_ENDPOINTS, Endpoint
from tests.contract.inside import Answer, Ask, Inside, instant_app
from tests.contract.kinds import KINDS
from tests.contract.sdk import error_of

MAX_ERROR_BYTES = 4000
MAX_GROWTH_MIB = 100  # five more bodies of 30 MB leave less than that behind


class _Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    type: str
    message: str
    details: dict[str, object] | None = None


class _Anthropic(BaseModel):
    """Anthropic's error envelope."""

    model_config = ConfigDict(extra="forbid", strict=True)
    type: str
    error: _Inner
    request_id: str


@pytest.fixture(scope="module")
def app() -> Iterator[Inside]:
    with instant_app() as inside:
        yield inside


@pytest.fixture(scope="module")
def fields(app: Inside) -> dict[str, list[str]]:
    """The fields of every body, as the published document names them."""
    document = json.loads(app.get("/openapi.json").body)
    schemas = document["components"]["schemas"]
    found = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if content is not None:
                name = content["schema"]["$ref"].removeprefix("#/components/schemas/")
                found[f"{method.upper()} {path}"] = list(schemas[name]["properties"])
    return found


def check(endpoint: Endpoint, answer: Answer) -> None:
    """An answer as the endpoint's provider gives it."""
    assert answer.status < 500, answer
    if answer.status < 400:
        return
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.body) <= MAX_ERROR_BYTES, "an error must not send a large body back"
    if endpoint.provider == "anthropic":
        error = _Anthropic.model_validate_json(answer.body)
        assert (error.type, bool(error.error.message)) == ("error", True)
    else:
        error_of(answer.body)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("endpoint", BODY_ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_a_hostile_request(app: Inside, fields: dict[str, list[str]], endpoint: Endpoint, kind: str) -> None:
    for ask in KINDS[kind](endpoint, fields.get(endpoint.name, sorted(endpoint.good))):
        ask = replace(ask, method=endpoint.method) if ask.method == "POST" else ask
        check(endpoint, app.ask(endpoint.path, ask))
    app.ask("/mock/settings", Ask(method="DELETE"))
    app.ask("/mock/faults", Ask(method="DELETE"))
    good = BODY_ENDPOINTS[0]
    assert app.post(good.path, good.body()).status == 200
    assert app.app.state.server.engine.counts.num_in_flight == 0


def test_there_are_enough_kinds() -> None:
    assert len(KINDS) >= 60


def test_no_endpoint_is_forgotten(app: Inside) -> None:
    """Whatever takes a body, also one that is added tomorrow, meets every kind."""
    document = json.loads(app.get("/openapi.json").body)
    documented = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method in methods
        if method in ("post", "put", "patch")
    }
    asked = {re.sub(r"/\w+_none/", "/{id}/", endpoint.name) for endpoint in BODY_ENDPOINTS}
    assert asked == {re.sub(r"{\w+}", "{id}", name) for name in documented}


def test_memory_comes_back(app: Inside) -> None:
    """Bodies of 30 MB again and again need no more memory than the first time."""
    huge = [ask for endpoint in BODY_ENDPOINTS[:1] for ask in KINDS["a string of 30 MB"](endpoint, [])]
    peaks = []
    for _ in range(3):
        for ask in huge:
            app.ask(BODY_ENDPOINTS[0].path, ask)
        peaks.append(getrusage(RUSAGE_SELF).ru_maxrss / 1024)
    assert peaks[-1] - peaks[0] < MAX_GROWTH_MIB


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("endpoint", BODY_ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_an_answer_leaves_nothing_for_the_garbage_collector(app: Inside, endpoint: Endpoint, stream: bool) -> None:
    """What hangs together in a circle would stay until the collector comes by, prompts of 30 MB included."""
    ask = Ask(endpoint.body(stream=stream), method=endpoint.method)
    app.ask(endpoint.path, ask)
    gc.disable()
    gc.freeze()  # what there is by now is not looked at: a collection costs what was made since, not a second
    try:
        app.ask(endpoint.path, ask)
        assert gc.collect() == 0
    finally:
        gc.unfreeze()
        gc.enable()
