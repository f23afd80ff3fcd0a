"""Which path speaks which dialect. A new dialect is one file with `parse` and a writer, and one line here."""

from __future__ import annotations

from mockllm.wire import (
    anthropic_messages,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_responses,
    responses_request,
)
from mockllm.wire.dialect import Dialect

__all__ = ["DIALECTS"]

DIALECTS: dict[str, Dialect] = {
    "/v1/chat/completions": Dialect(
        "openai-chat", "openai", "chatcmpl-", openai_chat.Body, openai_chat.parse, openai_chat.ChatWriter
    ),
    "/v1/completions": Dialect(
        "openai-completions",
        "openai",
        "cmpl-",
        openai_completions.Body,
        openai_completions.parse,
        openai_completions.CompletionWriter,
    ),
    "/v1/responses": Dialect(
        "openai-responses",
        "openai",
        "resp_",
        responses_request.Body,
        openai_responses.parse,
        openai_responses.ResponsesWriter,
    ),
    "/v1/embeddings": Dialect(
        "openai-embeddings",
        "openai",
        "emb-",
        openai_embeddings.Body,
        openai_embeddings.parse,
        openai_embeddings.EmbeddingWriter,
    ),
    "/v1/messages": Dialect(
        "anthropic-messages",
        "anthropic",
        "msg_",
        anthropic_messages.Body,
        anthropic_messages.parse,
        anthropic_messages.MessagesWriter,
    ),
}
