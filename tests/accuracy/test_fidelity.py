"""docs/fidelity.md is what the checks give."""

from __future__ import annotations

from pathlib import Path

from tests.accuracy.fidelity import document
from tests.conftest import REPOSITORY


def test_the_document_is_true(shared_data: Path) -> None:
    written = (REPOSITORY / "docs" / "fidelity.md").read_text()
    assert written == document(shared_data), "run: python -m tests.accuracy.fidelity > docs/fidelity.md"
