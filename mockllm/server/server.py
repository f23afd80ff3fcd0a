"""The parts of one running mock, and how a valid call becomes an exchange with its engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from threading import Lock

from mockllm.call import Call
from mockllm.clock import RealClock
from mockllm.content.compose import Composer
from mockllm.content.prompt import Prompt, read_prompt
from mockllm.content.reply import Reply
from mockllm.content.schema import SchemaError
from mockllm.deployment import Deployment
from mockllm.engine.engine import ServedModel
from mockllm.engine.length import AnswerLength, ReasoningLength
from mockllm.model import Request
from mockllm.passage import Tenant
from mockllm.server.alarm import best_timer
from mockllm.server.asking import body_fields, query_of, tenant_of, urgency_of
from mockllm.server.control import Demand, Settings, demand_of, merged
from mockllm.server.driver import Driver
from mockllm.server.exchange import Exchange
from mockllm.server.ledger import Entry, Ledger
from mockllm.server.protocol import StreamCap
from mockllm.stack.stack import Stack
from mockllm.streams import Streams
from mockllm.tokens import Tokenizer
from mockllm.wire.dialect import Context, Dialect
from mockllm.wire.errors import ApiError, invalid, model_not_found

__all__ = ["Server"]

_MAX_SEEN = 100_000
_HOSTED_BLOCK_TOKENS = 16
_ANY = "*"


@dataclass
class Server:
    """The parts of one running mock."""

    deployment: Deployment
    engine: Stack
    ledger: Ledger
    clock: RealClock
    composer: Composer
    streams: Streams
    tokenizer: Tokenizer
    started_at_epoch: int
    cap: StreamCap
    settings: Settings = field(default_factory=Settings)
    _driver: Driver | None = None
    _seen: dict[str, int] = field(default_factory=dict)
    _num_requests: int = 0
    _counting: Lock = field(default_factory=Lock)

    @property
    def driver(self) -> Driver:
        """Made on first use, inside the running loop: its alarm belongs to the loop."""
        if self._driver is None:
            self._driver = Driver(self.engine, self.clock, best_timer(self.clock))
        return self._driver

    def epoch(self) -> int:
        """The current second of the epoch, on the server's own clock."""
        return self.started_at_epoch + int(self.clock.now())

    def next_id(self) -> str:
        """A request id that is unique in this process."""
        self._num_requests += 1
        return f"req_{self._num_requests:08x}"

    def serves(self, model: str) -> bool:
        """Whether this name, or any name at all, is served."""
        return model in self.engine.models or _ANY in self.engine.models

    def served(self, model: str) -> ServedModel | None:
        """The model behind a public name."""
        return self.engine.models.get(model) or self.engine.models.get(_ANY)

    def draw_key(self, client_request_id: str | None, body: bytes) -> str:
        """The request's identity for random draws: the client's own id, else its content and how often it came."""
        if client_request_id is not None:
            return client_request_id
        content = blake2b(body, digest_size=12).hexdigest()
        with self._counting:
            times = self._seen.pop(content, 0) + 1
            self._seen[content] = times  # at the end: the bodies that were not seen for longest are forgotten first
            if len(self._seen) > _MAX_SEEN:
                del self._seen[next(iter(self._seen))]
        return f"{content}#{times}"

    def exchange(
        self,
        dialect: Dialect,
        call: Call,
        headers: Mapping[str, str],
        body: bytes,
        request_id: str,
        received_at: float,
        driver: Driver,
    ) -> Exchange | ApiError:
        """Everything that the answer to a valid call needs, or why there is none. May run in a thread of its own."""
        served = self.served(call.model)
        if served is None:
            return model_not_found(call.model)
        if (error := _beyond_model(call, served.length.max_model_len)) is not None:
            return error
        orders = demand_of(headers)
        if isinstance(orders, ApiError):
            return orders
        client_request_id = headers.get("x-client-request-id")
        key = self.draw_key(client_request_id, body)
        demand = merged(orders, self.settings.demand(call.model, key, self.streams))
        prompt = read_prompt(call, self.tokenizer)
        words_key = _prompt_key(call) if call.repeatable else key
        try:
            replies = [self._reply(call, each, served, demand) for each in _keys(words_key, call.num_choices)]
        except SchemaError as error:
            return invalid(f"Invalid schema: {error}", code="invalid_json_schema")
        requests = [
            self._request(f"{request_id}-{number}" if number else request_id, each, call, served, prompt, reply, demand)
            for number, (each, reply) in enumerate(zip(_keys(key, call.num_choices), replies, strict=True))
        ]
        if self.deployment.has_stack:
            fields = body_fields(body)
            tenant, query = tenant_of(headers, fields, demand), query_of(dialect.name, call, fields, demand)
            urgency, batch = urgency_of(call, demand), demand.batch is not None
            requests = [
                replace(
                    each,
                    tenant=tenant,
                    query=query,
                    urgency=urgency,
                    batch=batch,
                    choice=number,
                    payload=replies[number],
                )
                for number, each in enumerate(requests)
            ]
        elif demand.region is not None:  # faults may come that look at it
            requests = [replace(each, tenant=Tenant(region=demand.region)) for each in requests]
        entry = Entry(
            request_id=request_id,
            client_request_id=client_request_id,
            protocol=dialect.name,
            model=call.model,
            stream=call.stream,
            received_at=received_at,
            num_prompt_tokens=prompt.num_tokens,
            num_choices=call.num_choices,
            service_tier="batch" if demand.batch else call.service_tier,
        )
        tag = dialect.tag_prefix + request_id.removeprefix("req_")
        hosted = served.block_size is None
        context = Context(tag, self.started_at_epoch + int(received_at), hosted, key, self.streams)
        parts = (entry, driver, self.ledger, self.clock, self.started_at_epoch)
        return Exchange(call, dialect, context, request_id, requests, replies, *parts)

    def _reply(self, call: Call, key: str, served: ServedModel, demand: Demand) -> Reply:
        length = served.length
        if demand.output_tokens is not None:
            length = AnswerLength(demand.output_tokens, 0.0, length.max_model_len)
            call = replace(call, thinking=None, min_tokens=0, max_tokens=None, ignore_eos=False, stop=())
            return self.composer.compose(call, key, length, ReasoningLength(1, 0))
        return self.composer.compose(call, key, length, served.reasoning)

    def _request(
        self, name: str, key: str, call: Call, served: ServedModel, prompt: Prompt, reply: Reply, demand: Demand
    ) -> Request:
        return Request(
            request_id=name,
            key=key,
            model=served.name,
            num_prompt_tokens=prompt.num_tokens,
            max_tokens=call.max_tokens if demand.output_tokens is None else None,
            min_tokens=call.min_tokens,
            ignore_eos=call.ignore_eos,
            watched=call.stream,
            priority=call.priority,
            num_answer_tokens=reply.num_tokens,
            num_reasoning_tokens=reply.num_reasoning_tokens(reply.num_tokens) if len(reply.parts) > 1 else 0,
            block_hashes=self._block_hashes(served, prompt, reply),
            cache_points=prompt.cache_points,
            forced=demand.forced,
        )

    def _block_hashes(self, served: ServedModel, prompt: Prompt, reply: Reply) -> tuple[int, ...]:
        """The names of the full KV blocks: where the answer stays in the cache, its blocks too, for the next turn."""
        if served.block_size is None:
            return prompt.block_hashes(_HOSTED_BLOCK_TOKENS)
        if not served.prefix_caching:
            return ()
        # After reasoning or tool calls the next prompt does not go on as this answer did.
        spoken = reply.parts[0].text() if [part.kind for part in reply.parts] == ["text"] else ""
        whole = Prompt(prompt.ids + self.tokenizer.encode(spoken), None)
        return whole.block_hashes(served.block_size)


def _beyond_model(call: Call, max_model_len: int) -> ApiError | None:
    """A limit of tokens that no answer of this model could have."""
    if call.max_tokens is None or call.max_tokens <= max_model_len:
        return None
    message = f"max_tokens is too large: {call.max_tokens}. This model supports at most {max_model_len} tokens."
    return invalid(message, "max_tokens", "invalid_value")


def _prompt_key(call: Call) -> str:
    """A key for the words of an answer that must come again for the same prompt; its luck in timing may differ."""
    prompt = blake2b(digest_size=12)
    for text in (call.model, *(segment.text for segment in call.segments)):
        prompt.update(text.encode("utf-8", "surrogatepass") + b"\x00")
    return prompt.hexdigest()


def _keys(key: str, num_choices: int) -> Sequence[str]:
    """The key of each choice; the first has the request's own."""
    return [f"{key}\x00choice {number}" if number else key for number in range(num_choices)]
