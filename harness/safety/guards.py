"""Guards hold requests back, or end a run, before harm is done: a bill beyond the budget, a storm of refused keys.

A guard is pure: it is told what is about to be sent and what came of it. Every load process has its own; the order is the
list in `harness/swarm/run.py`.
"""

from __future__ import annotations

from typing import Protocol

from harness.records import RequestRecord

__all__ = ["Guard"]


class Guard(Protocol):
    """What every guard can be asked."""

    @property
    def stop_reason(self) -> str | None: ...  # why nothing more may be sent in this run; None: go on

    def refusal(self, record: RequestRecord) -> tuple[str, str] | None:
        """Why this request may not be sent, as label (`error_kind`) and text; None: it may. Asked once for each request
        that is otherwise about to be sent; what is not refused is sent, and `ended` follows."""

    def ended(self, record: RequestRecord) -> None: ...  # a request that was not refused has ended, however
