"""What stands before models in tests: outages and slowness in windows of time, with a diary of the calls."""

from __future__ import annotations

from mockllm import Request
from mockllm.stack.stage import End, Refusal, Strike

__all__ = ["Outage", "Slowness"]


class Outage:
    """Refuses with `status` (0: a reset) from each window's beginning up to its end."""

    def __init__(self, *windows: tuple[float, float], status: int = 503) -> None:
        self.windows, self.status = windows, status
        self.calls: list[tuple[float, Request]] = []

    def enter(self, request: Request, now: float) -> Refusal | None:
        self.calls.append((now, request))
        if any(begin <= now < end for begin, end in self.windows):
            return Refusal(self.status, "down", f"down at {now} s")
        return None

    def left(self, request: Request, end: End, now: float) -> None: ...


class Slowness:
    """Lets calls wait for `delay_s` in each window."""

    def __init__(self, delay_s: float, *windows: tuple[float, float]) -> None:
        self.delay_s, self.windows = delay_s, windows
        self.calls: list[tuple[float, Request]] = []

    def enter(self, request: Request, now: float) -> Strike | None:
        self.calls.append((now, request))
        return Strike(self.delay_s) if any(begin <= now < end for begin, end in self.windows) else None

    def left(self, request: Request, end: End, now: float) -> None: ...
