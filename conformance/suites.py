"""Which parts of the SDKs' suites are run, and which of the methods in them the mock does not serve."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NOT_SERVED", "PARTLY_SERVED", "SUITES", "Suite"]


@dataclass(frozen=True, slots=True)
class Suite:
    """One SDK. `paths` are below `tests/api_resources`; `prefix` is what the base URL has below the server's root."""

    sdk: str
    prefix: str
    paths: tuple[str, ...]


SUITES = (
    Suite(
        "openai",
        "/v1",
        (
            "chat",
            "responses",
            "test_batches.py",
            "test_completions.py",
            "test_embeddings.py",
            "test_files.py",
            "test_models.py",
            "test_responses.py",
        ),
    ),
    Suite(
        "anthropic",
        "",
        (
            "messages",
            "test_messages.py",
            "test_models.py",
            "beta/messages",
            "beta/test_messages.py",
            "beta/test_models.py",
        ),
    ),
)

_STORED_CHAT = "stored chat completions: `store` is accepted and nothing is kept"
_BETA = "parameters of betas (`billing_policy`, `thinking.block_binding`, …) are refused by name"

# Their tests are run too, and must be refused: a method that begins to work has to leave this list. What is not served
# of a method that is served otherwise has ", all parameters" in its name: the suite's test of all of them at once.
NOT_SERVED: dict[tuple[str, str, str], str] = {
    ("openai", "chat.completions", "retrieve"): _STORED_CHAT,
    ("openai", "chat.completions", "update"): _STORED_CHAT,
    ("openai", "chat.completions", "list"): _STORED_CHAT,
    ("openai", "chat.completions", "delete"): _STORED_CHAT,
    ("openai", "chat.completions.messages", "list"): _STORED_CHAT,
    ("openai", "models", "delete"): "there are no fine-tuned models to delete",
    ("openai", "responses", "compact"): "compaction of conversations",
    ("anthropic", "beta.messages", "create, all parameters"): _BETA,
    ("anthropic", "beta.messages", "create (stream), all parameters"): _BETA,
    ("anthropic", "beta.messages", "count_tokens, all parameters"): _BETA,
}

_NO_STORED_PROMPT = "without `prompt`: stored prompts are not served, every id is refused as unknown"

# What a row that has passed does not say.
PARTLY_SERVED: dict[tuple[str, str, str], str] = {
    ("openai", "responses", "create"): _NO_STORED_PROMPT,
    ("openai", "responses", "create (stream)"): _NO_STORED_PROMPT,
}
