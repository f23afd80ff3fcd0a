"""What the tests of the harness share: the directory of traces and measurements, where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

_SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """`../shared/data` beside the repository; where it is absent the test is skipped and says so."""
    if not _SHARED.is_dir():
        pytest.skip(f"NOT CHECKED against real data: there is no {_SHARED}")
    return _SHARED
