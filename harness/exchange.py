"""One request and what came back, as facts: the value between transport and record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from harness.outcome import Ending

__all__ = ["Exchange", "Vague"]


class Vague(NamedTuple):
    """What is known of a read beyond its instant: its bytes may have come so much earlier, and whether its last byte has
    a stamp of the kernel (then only what came before it is uncertain)."""

    width_s: float
    stamped: bool


@dataclass(slots=True)
class Exchange:
    """One request and what came back, filled as it happens: whoever is killed in the middle still has the facts.

    `reads` are pieces of the body with the instant at which the last of their bytes came: the kernel's stamp where there
    is one, else the instant of reading. `read_lag_s` is the longest that stamped bytes lay in the kernel before they were
    read; None: there was no stamp. `vague` are the reads, by instant, whose bytes may have come more than a millisecond
    earlier. `num_attempts` counts also those on sockets that turned out stale, and retries.
    """

    sent_at: float | None = None
    connected_at: float | None = None
    first_byte_at: float | None = None
    done_at: float | None = None
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    reads: list[tuple[float, bytes]] = field(default_factory=list)
    ending: Ending = "run_ended"
    detail: str | None = None
    num_attempts: int = 0
    num_stale_sockets: int = 0
    throttled_s: float | None = None
    read_lag_s: float | None = None
    vague: dict[float, Vague] = field(default_factory=dict)
    clock_stepped: bool = False

    def body(self) -> bytes:
        return b"".join(piece for _, piece in self.reads)

    def forget_answer(self) -> None:
        """Before another attempt: what came back is no answer to it. When it was first sent stays."""
        self.connected_at = self.first_byte_at = self.done_at = self.status = self.detail = None
        self.headers, self.reads, self.vague = {}, [], {}
        self.ending = "run_ended"
