"""Arrivals as the mock's server would read them off the wire."""

from __future__ import annotations

from functools import cached_property
from itertools import accumulate

import msgspec

from harness.asks import Ask
from harness.plan import Arrival
from harness.streams import keyed_integer
from harness.workloads.attachments import Tool
from harness.workloads.prompts import PromptBook, ask_of
from mockllm import Query, Request, ServedModel, Serving, Streams, Tenant, ToolLengths, state_of

__all__ = ["Requests"]

_HOSTED_BLOCK_TOKENS = 16  # in which the mock's server names the prompt of a model that has no KV cache to look into

Tools = tuple[Tool, ...]
Part = tuple[int, int]  # of a prompt: a name that stands for its words, and its tokens


class Requests:
    """Makes requests for one serving mock. Ids and luck are those of a Locust run of this scenario and seed."""

    def __init__(self, serving: Serving, model: str, scenario: str, seed: int) -> None:
        self._prefix, self._seed = f"{scenario}-{seed}-", seed
        self._models, self._model = serving.models, model
        state = state_of(serving, 0.0)
        self._has_stack, self._has_stages = state["calls"] is not None, bool(state["stages"])
        self._streams = Streams(seed)
        self._book = PromptBook(seed)
        self._tools: dict[int, tuple[Tools, int]] = {}  # by identity: a class has one tuple of them

    def of(self, arrival: Arrival) -> Request:
        """The request of an arrival."""
        ask, name = ask_of(arrival), f"{self._prefix}{arrival.key}"
        asked = ask.model or self._model
        served = self._models.get(asked) or self._models["*"]
        limit = arrival.num_output_tokens
        exact = ask.exact_length and limit is not None
        if ask.tools:
            num_answer, num_thought = self._tool_lengths.of(ask.tools, name, served, limit, exact=exact)
        else:
            num_answer, num_thought = self._answer(name, served, limit if exact else None)
        parts = self._parts(arrival, ask)
        return Request(
            request_id=name,
            key=name,
            model=served.name,
            num_prompt_tokens=arrival.num_prompt_tokens,
            max_tokens=limit,
            ignore_eos=exact,
            watched=ask.stream,
            num_answer_tokens=num_answer,
            num_reasoning_tokens=num_thought,
            block_hashes=_block_hashes(parts[: _num_shared(arrival, ask, parts)], served),
            tenant=_tenant(ask),
            query=self._query(arrival, ask, parts, f"{asked} {limit} {exact}") if self._has_stages else None,
            urgency=ask.urgency or ("P2" if ask.batch else "P1"),
            batch=ask.batch,
            # What has begun cannot be tried again: a stack must know it also where tokens are not told one by one.
            tell_first=self._has_stack and ask.stream,
        )

    @cached_property
    def _tool_lengths(self) -> ToolLengths:
        return ToolLengths(self._streams)

    def _answer(self, key: str, served: ServedModel, exactly: int | None) -> tuple[int, int]:
        """Tokens of the answer, and how many of them are reasoning: as the mock composes its replies."""
        thought = served.reasoning.draw(key, self._streams) if served.reasoning.always else 0
        if exactly is not None:
            return exactly, min(thought, exactly // 2)
        return thought + min(served.length.draw(key, self._streams), served.length.max_model_len), thought

    def _parts(self, arrival: Arrival, ask: Ask) -> list[Part]:
        """Tools, what is said, pictures: in the order in which the mock reads a chat."""
        parts: list[Part] = [(self._tools_name(ask.tools), ask.num_tool_tokens)] if ask.tools else []
        parts += [(said.name, said.num_tokens) for said in ask.messages]
        if not ask.messages:
            left = arrival.num_prompt_tokens - ask.num_attached_tokens
            for block in arrival.prefix_blocks:
                parts.append((block, min(left, arrival.block_tokens)))
                left -= parts[-1][1]
            if left:
                parts.append((keyed_integer(self._seed, "prompt", arrival.key), left))
        if ask.images:
            parts.append((keyed_integer(0, "images", " ".join(ask.images)), ask.num_image_tokens))
        return parts

    def _tools_name(self, tools: Tools) -> int:
        found = self._tools.get(id(tools))
        if found is None:
            found = self._tools[id(tools)] = tools, keyed_integer(0, "tools", msgspec.json.encode(tools).decode())
        return found[1]

    def _query(self, arrival: Arrival, ask: Ask, parts: list[Part], parameters: str) -> Query:
        """What caches look at: equal for two requests where it would be equal on the wire."""
        if ask.tools:
            parameters += f" {self._tools_name(ask.tools)}"
        last = len(parts) - 1 - bool(ask.images)  # the question; what stands around it is its context
        around = parts[:last] + parts[last + 1 :] if ask.messages else parts[last + 1 :]
        return Query(
            digest=f"{parameters} {parts}",
            text=self._book.said(ask.messages[-1]) if ask.messages else self._book.text(arrival),
            context=f"{parameters} {around}",
            parameters=parameters,
            intent=ask.intent,
            task=ask.task,
            difficulty=ask.difficulty,
            free_text=not ask.tools,
        )


def _tenant(ask: Ask) -> Tenant:
    return Tenant(
        user=ask.user,
        organization=ask.organization,
        feature=ask.feature,
        tier=ask.tier,
        region=ask.region,
        session=ask.session,
    )


def _num_shared(arrival: Arrival, ask: Ask, parts: list[Part]) -> int:
    """How many of a prompt's parts, from its beginning, another request may have too."""
    if not ask.messages:
        return bool(ask.tools) + len(arrival.prefix_blocks)
    if ask.session is None and ask.messages[-1].text is None:
        return bool(ask.tools) + len(ask.messages) - 1  # nobody else says the last of them
    return len(parts)


def _block_hashes(parts: list[Part], served: ServedModel) -> tuple[int, ...]:
    """Names of the prompt's full blocks, as far as another request may have the same: a block is named by all parts up to
    its last token, and by its place. So two texts are equal, or share nothing: what wordings of one question have in common
    at their beginning is less than a block or two."""
    if served.block_size is not None and not served.prefix_caching:
        return ()
    size = served.block_size or _HOSTED_BLOCK_TOKENS
    names: list[int] = []
    chain = 0
    for (name, _), end in zip(parts, accumulate(num for _, num in parts), strict=True):
        chain = hash((chain, name))
        names += [hash((chain, place)) for place in range(len(names), end // size)]
    return tuple(names)
