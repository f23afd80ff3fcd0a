"""Batches in the order that prompt caches like: who goes first, who waits for whom, and what it is worth."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Coroutine
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mockllm.clock import ManualClock
from mockllm.deployment import load_deployment
from mockllm.server.app import create_app
from mockllm.server.batch_work import Call, Groups, Reply, Workers, grouped, inner_headers
from mockllm.server.driver import Driver
from mockllm.server.inside import inside
from mockllm.streams import Streams
from mockllm.tokens import o200k
from mockllm.wire.beginnings import beginning
from tests.mockllm.fake_endpoint import http_client

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


# -- what begins alike -----------------------------------------------------------------------------------------------


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


SYSTEM = {"role": "system", "content": "You classify."}
DOCUMENT, OTHER = {"type": "text", "text": "a long document"}, {"type": "text", "text": "another"}


def question(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


ALIKE: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "system message": (CHAT, {"messages": [SYSTEM, user("a")]}, {"messages": [SYSTEM, user("b")]}),
    "examples": (CHAT, {"messages": [user("x"), user("a")]}, {"messages": [user("x"), user("b")]}),
    "parts": (
        CHAT,
        {"messages": [user([DOCUMENT, question("a")])]},
        {"messages": [user([DOCUMENT, question("b")])]},
    ),
    "tools": (CHAT, {"tools": [1], "messages": [user("a")]}, {"tools": [1], "messages": [user("b")]}),
    "system prompt": (MESSAGES, {"system": "s", "messages": [user("a")]}, {"system": "s", "messages": [user("b")]}),
    "other limits": (
        MESSAGES,
        {"system": "s", "messages": [user("a")]},
        {"system": "s", "max_tokens": 1, "messages": []},
    ),
    "instructions": (RESPONSES, {"instructions": "s", "input": "a"}, {"instructions": "s", "input": [user("b")]}),
    "conversation": (RESPONSES, {"conversation": "c", "input": "a"}, {"conversation": "c", "input": "b"}),
}
UNLIKE: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "another system message": (CHAT, {"messages": [SYSTEM, user("a")]}, {"messages": [user("s"), user("a")]}),
    "one more message": (CHAT, {"messages": [SYSTEM, user("a")]}, {"messages": [SYSTEM, user("a"), user("b")]}),
    "another model": (
        CHAT,
        {"model": "m", "messages": [SYSTEM, user("a")]},
        {"model": "n", "messages": [SYSTEM, user("a")]},
    ),
    "other parts": (
        CHAT,
        {"messages": [user([DOCUMENT, question("a")])]},
        {"messages": [user([OTHER, question("a")])]},
    ),
    "a part is no message": (
        MESSAGES,
        {"messages": [user([DOCUMENT, question("a")])]},
        {"messages": [DOCUMENT, user("a")]},
    ),
    "tools are no instructions": (RESPONSES, {"tools": "s", "input": "a"}, {"instructions": "s", "input": "a"}),
}


def name(path: str, body: dict[str, Any]) -> bytes | None:
    return beginning(path, json.dumps(body).encode())


@pytest.mark.parametrize(("path", "one", "other"), ALIKE.values(), ids=ALIKE)
def test_what_begins_alike_has_one_name(path: str, one: dict[str, Any], other: dict[str, Any]) -> None:
    assert name(path, one) == name(path, other) is not None


@pytest.mark.parametrize(("path", "one", "other"), UNLIKE.values(), ids=UNLIKE)
def test_what_begins_otherwise_has_another(path: str, one: dict[str, Any], other: dict[str, Any]) -> None:
    assert name(path, one) != name(path, other)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, b'{"messages":[{"role":"user","content":"alone"}]}'),
        (CHAT, b'{"messages":[]}'),
        (CHAT, b"{}"),
        (RESPONSES, b'{"input":"alone"}'),
        (CHAT, b'{"messages":["no object"]}'),
        (CHAT, b"no json"),
        (CHAT, b"[]"),
        ("/v1/embeddings", b'{"input":["a","b"]}'),
        ("/v1/completions", b'{"prompt":"a"}'),
    ],
)
def test_what_has_no_beginning_shares_none(path: str, body: bytes) -> None:
    assert beginning(path, body) is None


# -- who goes when ---------------------------------------------------------------------------------------------------


@given(
    st.lists(st.sampled_from([None, "a", "b", "c"]), max_size=30),
    st.lists(st.integers(0, 30), max_size=200),
    st.integers(1, 9),
)
@settings(deadline=None)
def test_nobody_goes_before_the_first_of_the_group_was_answered_and_everybody_goes_once(
    keys: list[str | None], picks: list[int], num_workers: int
) -> None:
    groups = Groups(num_workers)
    calls = [Call(f"c{n}", CHAT, b"") for n in range(len(keys))]
    key_of = dict(zip(calls, keys, strict=True))
    for call, key in key_of.items():
        groups.add(call, key)
    made: list[Call] = []
    on_their_way: list[Call] = []
    answered: set[str] = set()
    for pick in [*picks, *[0, 1] * 80]:
        if pick % 2 and on_their_way:
            call = on_their_way.pop(pick % len(on_their_way))
            groups.answered(call)
            answered.add(str(key_of[call]))
        elif (call_ := groups.next()) is not None:
            key = key_of[call_]
            assert key is None or key in answered or key not in {key_of[each] for each in made}
            made.append(call_)
            on_their_way.append(call_)
    assert sorted(made, key=calls.index) == calls
    assert not groups.wait


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=40))
@settings(deadline=None)
def test_one_after_the_other_a_group_is_done_before_the_next_begins(keys: list[str]) -> None:
    groups = Groups(1)
    for number, key in enumerate(keys):
        groups.add(Call(f"{key}{number}", CHAT, b""), key)
    made = []
    while (call := groups.next()) is not None:
        made.append(call.custom_id)
        groups.answered(call)
    expected = sorted(range(len(keys)), key=lambda number: (keys.index(keys[number]), number))
    assert made == [f"{keys[number]}{number}" for number in expected]


async def work(groups: Groups, num_workers: int, stop_after: int = 10**9) -> tuple[list[str], list[str]]:
    """The ids in the order in which they were asked, and in which they were answered."""
    asked: list[str] = []
    done: list[str] = []

    async def complete(path: str, body: bytes, headers: Any) -> tuple[int, dict[str, str], bytes]:
        asked.append(body.decode())
        for _ in range(3):
            await asyncio.sleep(0)
        return 200, {}, b"{}"

    workers = Workers(complete, num_workers)
    async with asyncio.timeout(10):
        await workers.run(
            groups, inner_headers({}, "b"), lambda call, _: done.append(call.custom_id), lambda: len(asked) < stop_after
        )
    return asked, done


def calls_of(keys: str, num_workers: int) -> Groups:
    groups = Groups(num_workers)
    for number, key in enumerate(keys):
        groups.add(Call(f"{key}{number}", CHAT, f"{key}{number}".encode()), None if key == "-" else key)
    return groups


@pytest.mark.anyio
@pytest.mark.parametrize("num_workers", [1, 2, 3, 8])
async def test_workers_without_anything_to_do_wait_for_the_first_of_a_group(num_workers: int) -> None:
    asked, done = await work(calls_of("aaaaaaaa", num_workers), num_workers)
    assert sorted(done) == sorted(asked) == [f"a{n}" for n in range(8)]
    assert asked[0] == "a0"


@pytest.mark.anyio
@pytest.mark.parametrize("num_workers", [1, 2, 8])
@pytest.mark.parametrize("stop_after", range(7))
async def test_a_window_that_closes_leaves_nobody_waiting(num_workers: int, stop_after: int) -> None:
    asked, done = await work(calls_of("aab-bba", num_workers), num_workers, stop_after)
    assert sorted(asked) == sorted(done)
    assert len(asked) == stop_after


# -- what it is worth ------------------------------------------------------------------------------------------------

NUM_PREFIXES, NUM_EACH = 6, 12
SMALL_GPU = """
kind: batched
name: small
model: small
summary: A replica whose memory holds two of the prefixes and what eight requests need beside them.
as_of: 2026-11-21
sources: [made up for a test]
max_model_len: 4096
answer_length: {median_tokens: 8, sigma: 0}
step_time: {b0: 0.01, b1: 0.00001, b2: 0, b3: 0}
scheduler: {max_num_seqs: 8, max_num_batched_tokens: 2048}
kv_cache: {num_gpu_blocks: 140, block_size: 16, prefix_caching: true}
"""


def system_prompt(number: int) -> str:
    return f"Document {number}. " + " ".join(f"w{number}x{word}" for word in range(160))


def shuffled_batch(model: str) -> list[Call]:
    """Six long system prompts, each before twelve questions, in any order."""
    calls = []
    for number in range(NUM_PREFIXES * NUM_EACH):
        system = {"role": "system", "content": system_prompt(number % NUM_PREFIXES)}
        body = {"model": model, "messages": [system, user(f"Question {number}?")], "max_tokens": 8}
        calls.append(Call(f"c{number}", CHAT, json.dumps(body).encode()))
    order = Streams(3).generator("batch", "order").permutation(len(calls))
    return [calls[number] for number in order]


class Alarm:
    def arm(self, at: float, ring: Callable[[], None]) -> None: ...
    def disarm(self) -> None: ...


class Mock:
    """An application whose time is virtual: it stands still until everybody waits for the engine."""

    def __init__(self, what: Path) -> None:
        self.app = create_app(load_deployment(str(what)))
        self.server = self.app.state.server
        self.server.clock = self.clock = ManualClock()
        self.server._driver = self.driver = Driver(self.server.engine, self.clock, Alarm())

    async def until_done(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run work, and let time pass for it."""
        task = asyncio.ensure_future(work)
        while not task.done():
            for _ in range(50):
                await asyncio.sleep(0)
            if (due := self.server.engine.due()) < inf:
                self.clock.move_to(max(due, self.clock.now()))
                self.driver.ring()
        return await task


async def run_batch(mock: Mock, groups: Groups) -> tuple[int, int, float]:
    """Prompt tokens, those of them that came out of the cache, and the seconds that a batch took."""
    usage: Counter[str] = Counter()

    def answered(call: Call, reply: Reply | None) -> None:
        assert reply is not None
        told = json.loads(reply.body)["usage"]
        usage["prompt"] += told["prompt_tokens"]
        usage["cached"] += told["prompt_tokens_details"]["cached_tokens"]

    workers = Workers(inside(mock.app), 8)
    await mock.until_done(workers.run(groups, inner_headers({}, "b"), answered, lambda: True))
    return usage["prompt"], usage["cached"], mock.clock.now()


def as_they_come(calls: list[Call]) -> Groups:
    groups = Groups(8)
    for call in calls:
        groups.add(call, None)
    return groups


@pytest.mark.anyio
async def test_every_request_but_the_first_of_its_group_finds_the_beginning_in_a_small_cache(tmp_path: Path) -> None:
    """All full blocks of the system prompt; in any order, the cache has forgotten nearly half of them, and it takes longer."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL_GPU)
    num_prompt, cached, seconds = await run_batch(Mock(path), await grouped(shuffled_batch("small"), 8))
    same_prompt, cached_without, seconds_without = await run_batch(Mock(path), as_they_come(shuffled_batch("small")))
    assert num_prompt == same_prompt
    full_blocks = [len(o200k().encode(system_prompt(number))) // 16 for number in range(NUM_PREFIXES)]
    assert cached == (NUM_EACH - 1) * sum(full_blocks) * 16
    assert cached_without < 0.6 * cached
    assert seconds < 0.7 * seconds_without


# -- what it costs ---------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_batch_costs_half(tmp_path: Path) -> None:
    path = tmp_path / "priced.yaml"
    path.write_text(
        "models: [{name: instant, profile: instant, price: {input: 2.0, output: 8.0}}]\n"
        "stack: [{priority_queue: {workers: 4}}]\n"
    )
    mock = Mock(path)
    body = {"model": "instant", "messages": [user("hi")], "max_tokens": 5}
    line = {"custom_id": "one", "method": "POST", "url": CHAT, "body": body}

    async def ask() -> dict[str, int]:
        async with http_client(mock.app) as http:
            alone = await http.post(CHAT, json=body)
            files = {"file": ("in.jsonl", json.dumps(line).encode())}
            uploaded = await http.post("/v1/files", files=files, data={"purpose": "batch"})
            order = {"input_file_id": uploaded.json()["id"], "endpoint": CHAT, "completion_window": "24h"}
            batch = (await http.post("/v1/batches", json=order)).json()
            while batch["status"] != "completed":
                await asyncio.sleep(0)
                batch = (await http.get(f"/v1/batches/{batch['id']}")).json()
        return alone.json()["usage"]  # type: ignore[no-any-return]

    usage = await mock.until_done(ask())
    _, first, second = map(json.loads, mock.server.ledger.lines())
    price = (usage["prompt_tokens"] * 2.0 + usage["completion_tokens"] * 8.0) / 1e6
    assert (first["cost_usd"], first["service_tier"]) == (pytest.approx(price), None)
    assert (second["cost_usd"], second["service_tier"]) == (pytest.approx(price / 2), "batch")
