"""Reading a source over and over: on a fixed beat, with longer pauses while it gives nothing, and once more at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from harness.gpu.file import GpuWriter, SourceNote
from harness.gpu.samples import GpuSample, ServerSample

__all__ = ["Absent", "Readings", "Source", "SourceError", "Waiting", "stopped", "watch"]

_LONGEST_PAUSE_S = 5.0

Readings = list[GpuSample | ServerSample]
# Waits until an instant of the monotonic clock, and says whether the end has come instead.
Waiting = Callable[[float], Awaitable[bool]]


class SourceError(Exception):
    """A source gave nothing; the message says why. `final`: there is no use in asking again."""

    def __init__(self, why: str, *, final: bool = False) -> None:
        super().__init__(why)
        self.final = final


class Source(Protocol):
    """Something that can be read. `read` raises SourceError."""

    @property
    def name(self) -> str: ...
    async def read(self) -> Readings: ...


class Absent:
    """A source that cannot be read here at all."""

    def __init__(self, name: str, why: str) -> None:
        self.name, self._why = name, why

    async def read(self) -> Readings:
        raise SourceError(self._why, final=True)


async def watch(source: Source, writer: GpuWriter, every_s: float, now: Callable[[], float], until: Waiting) -> None:
    """Read until the end, which a last reading follows: counters are read after the last request then.

    The beat does not drift: an answer that comes late makes the next question late, not all of them. A reason why there was
    nothing is written once.
    """
    next_at, pause_s, why = now(), every_s, ""
    ended = False
    while True:
        try:
            for sample in await source.read():
                writer.sample(sample)
            pause_s, why = every_s, ""
        except SourceError as error:
            if str(error) != why:
                why = str(error)
                writer.note(SourceNote(at=now(), source=source.name, why_not=why, final=error.final))
            if error.final:
                return
            pause_s = min(2 * pause_s, max(_LONGEST_PAUSE_S, every_s))
        if ended:
            return
        next_at = max(next_at + pause_s, now())
        ended = await until(next_at)


async def stopped(stop: asyncio.Event, seconds: float) -> bool:
    """Wait so long, or until the event; says whether it was the event."""
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return stop.is_set()  # with no time to wait, it was not even looked at
    return True
