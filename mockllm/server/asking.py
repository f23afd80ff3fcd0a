"""Who asks, and what, as the policies of a stack see it: read from headers, from the body and from the workload's labels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b

import msgspec

from mockllm.call import Call
from mockllm.passage import Query, Tenant, Urgency
from mockllm.server.control import Demand

__all__ = ["body_fields", "query_of", "tenant_of", "urgency_of"]

# What does not change the answer, or only how it is delivered.
_BESIDE_THE_QUESTION = (
    "stream", "stream_options", "background", "user", "metadata", "safety_identifier", "prompt_cache_key", "store",
    "service_tier",
)  # fmt: skip
_MESSAGES = ("messages", "input", "prompt")
_URGENCY: dict[str | None, Urgency] = {"priority": "P0", "fast": "P0", "ultrafast": "P0", "flex": "P2", "batch": "P2"}


def body_fields(body: bytes) -> dict[str, object]:
    """The top of a body that a dialect has read before."""
    decoded = msgspec.json.decode(body)
    return decoded if isinstance(decoded, dict) else {}


def tenant_of(headers: Mapping[str, str], fields: Mapping[str, object], demand: Demand) -> Tenant:
    """On whose behalf a request comes; `fields` are its body's. Of its API key only a digest is kept."""
    authorization = headers.get("x-api-key") or headers.get("authorization", "").partition(" ")[2]
    key = blake2b(authorization.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest() if authorization else None
    return Tenant(
        key=key,
        user=demand.user or _user(fields),
        organization=headers.get("openai-organization"),
        feature=demand.feature,
        tier=demand.tier,
        region=demand.region,
        session=demand.session,
    )


def query_of(dialect: str, call: Call, fields: Mapping[str, object], demand: Demand) -> Query | None:
    """What is asked; None where several answers are wanted, or none that a cache could give."""
    if call.num_choices > 1 or dialect == "openai-embeddings" or not call.segments:
        return None
    asked = {name: value for name, value in fields.items() if name not in _BESIDE_THE_QUESTION}
    parameters = {name: value for name, value in asked.items() if name not in _MESSAGES}
    # The resolved call, not the body, holds what was said before: a Responses call may only point to it.
    before = [segment.text for segment in call.segments]
    words = [place for place, segment in enumerate(call.segments) if segment.num_tokens is None]
    last = before.pop(words[-1] if words else -1)  # a picture that is shown with the question is not the question
    return Query(
        digest=_digest(dialect, asked, before, last),
        text=last,
        context=_digest(dialect, parameters, before),
        parameters=_digest(dialect, parameters),
        intent=demand.intent,
        task=demand.task,
        difficulty=demand.difficulty,
        free_text=call.schema is None and not call.tools,
    )


def urgency_of(call: Call, demand: Demand) -> Urgency:
    """How soon an answer is wanted: as the workload says, else by the tier that the client pays for."""
    if demand.priority is not None:
        return demand.priority
    return "P2" if demand.batch else _URGENCY.get(call.service_tier, "P1")


def _user(fields: Mapping[str, object]) -> str | None:
    """OpenAI's `user` or `safety_identifier`, Anthropic's `metadata.user_id`."""
    metadata = fields.get("metadata")
    found = fields.get("safety_identifier") or fields.get("user")
    if found is None and isinstance(metadata, dict):
        found = metadata.get("user_id")
    return found[:200] if isinstance(found, str) and found else None


def _digest(*parts: object) -> str:
    """The same for the same values, whatever the order of their keys."""
    canonical = json.dumps(parts, sort_keys=True, ensure_ascii=True)
    return blake2b(canonical.encode(), digest_size=16).hexdigest()
