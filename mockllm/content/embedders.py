"""The embedders by the names that deployment files and commands know them by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from mockllm.content.embeddings import Embedder, default_embedder
from mockllm.content.minilm import minilm_embedder

__all__ = ["EMBEDDERS", "EmbedderName"]

EmbedderName = Literal["static", "minilm"]

EMBEDDERS: Mapping[EmbedderName, Callable[[], Embedder]] = {"static": default_embedder, "minilm": minilm_embedder}
