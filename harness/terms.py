"""What a run is judged by and filed under, said beforehand and kept in its manifest, so that every later fold judges alike."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.history.commit import commit_of
from harness.judgement.slo import load_slo

__all__ = ["terms"]

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}")
_MOST_TEXT = 200
_MOST = 1e15


def terms(
    *,
    slo: str | Path | None,
    warmup_s: float,
    duration_s: float,
    labels: Sequence[str],
    gpu_price_per_hour: float | None,
    month_requests: float | None,
    environ: Mapping[str, str],
    cwd: Path,
) -> dict[str, Any]:
    """Fields of the manifest. The label `commit` is found by itself, in `environ` or by git in `cwd`, unless it is said.

    Raises UsageError for what makes no sense, and for an objective file that breaks its format.
    """
    if not 0 <= warmup_s < duration_s:
        raise UsageError(f"--warmup {warmup_s:g}s: must be shorter than the run, which has {duration_s:g} s")
    for name, value in (("--gpu-price", gpu_price_per_hour), ("--per-month", month_requests)):
        if value is not None and not 0 < value <= _MOST:
            raise UsageError(f"{name} {value:g}: must be more than 0 and at most {_MOST:g}")
    found = dict(_label(text) for text in labels)
    if "commit" not in found and (commit := commit_of(environ, cwd)) is not None:
        found["commit"] = commit
    return {
        "slo": load_slo(Path(slo)).plain() if slo else None,
        "warmup_s": warmup_s,
        "labels": found,
        "gpu_price_per_hour": gpu_price_per_hour,
        "month_requests": month_requests,
    }


def _label(text: str) -> tuple[str, str]:
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not _KEY.fullmatch(key) or not value or len(value) > _MOST_TEXT or not value.isprintable():
        raise UsageError(f"--label {text!r}: write KEY=VALUE, like variant=new, at most {_MOST_TEXT} characters")
    return key, value
