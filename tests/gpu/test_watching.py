"""The beat of the sampler on a clock made by hand: nothing here waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.gpu.file import GpuFile, GpuWriter, SamplerHeader, read_gpu_file
from harness.gpu.samples import GpuSample
from harness.gpu.watching import Absent, Readings, SourceError, stopped, watch


class Clock:
    """Goes on when somebody waits, or when an answer takes its time."""

    def __init__(self, end: float) -> None:
        self.at, self._end = 0.0, end

    def now(self) -> float:
        return self.at

    async def until(self, at: float) -> bool:
        self.at = min(max(at, self.at), self._end)
        return self.at >= self._end


class Scripted:
    """A source that does what `answer` says at an instant: seconds that it takes, or an error."""

    name = "scripted"

    def __init__(self, clock: Clock, answer: Callable[[float], float | SourceError]) -> None:
        self._clock, self._answer = clock, answer
        self.asked_at: list[float] = []

    async def read(self) -> Readings:
        self.asked_at.append(round(self._clock.at, 6))
        found = self._answer(self._clock.at)
        if isinstance(found, SourceError):
            raise found
        self._clock.at += found
        return [GpuSample(at=self._clock.at, gpu="GPU-0", power_w=1.0, source=self.name)]


def _watched(path: Path, end: float, answer: Callable[[float], float | SourceError]) -> tuple[list[float], GpuFile]:
    clock = Clock(end)
    source = Scripted(clock, answer)
    header = SamplerHeader(host="h", boot_id=None, clocks={}, every_s=0.5, sources=[source.name])
    writer = GpuWriter(path / "gpu.jsonl", header)
    asyncio.run(watch(source, writer, 0.5, clock.now, clock.until))
    writer.close(clock.at)
    found = read_gpu_file(path / "gpu.jsonl")
    assert found is not None
    return source.asked_at, found


def test_the_beat_does_not_drift_and_ends_with_a_reading(tmp_path: Path) -> None:
    asked_at, found = _watched(tmp_path, 2.2, lambda _: 0.1)
    assert asked_at == [0.0, 0.5, 1.0, 1.5, 2.0, 2.2]
    assert len(found.gpus) == 6
    assert found.whole


def test_a_slow_answer_makes_one_question_late(tmp_path: Path) -> None:
    asked_at, _ = _watched(tmp_path, 3.0, lambda at: 0.8 if at == 0.5 else 0.0)
    assert asked_at == [0.0, 0.5, 1.3, 1.8, 2.3, 2.8, 3.0]


def test_pauses_grow_while_there_is_nothing_and_the_reason_is_written_once(tmp_path: Path) -> None:
    asked_at, found = _watched(
        tmp_path, 30.0, lambda at: 0.0 if at >= 20 else SourceError("refused" if at < 10 else "503")
    )
    assert asked_at[:6] == [0.0, 1.0, 3.0, 7.0, 12.0, 17.0]
    assert asked_at[6:9] == [22.0, 22.5, 23.0], "and are short again as soon as it answers"
    assert [(note.at, note.why_not) for note in found.notes] == [(0.0, "refused"), (12.0, "503")]


def test_what_will_never_answer_is_left_alone(tmp_path: Path) -> None:
    asked_at, found = _watched(tmp_path, 30.0, lambda _: SourceError("no GPU here", final=True))
    assert asked_at == [0.0]
    assert [(note.source, note.final) for note in found.notes] == [("scripted", True)]
    assert found.whole


def test_nothing_at_the_end_ends_as_well(tmp_path: Path) -> None:
    asked_at, found = _watched(tmp_path, 1.2, lambda at: SourceError("gone") if at > 1 else 0.0)
    assert asked_at == [0.0, 0.5, 1.0, 1.2]
    assert [note.why_not for note in found.notes] == ["gone"]


def test_an_absent_source() -> None:
    with pytest.raises(SourceError, match="not installed") as caught:
        asyncio.run(Absent("x", "not installed").read())
    assert caught.value.final


def test_who_is_too_late_to_wait_hears_of_the_end() -> None:
    """A source that takes longer than the beat has no time to wait between two readings."""

    async def both() -> tuple[bool, bool, bool]:
        stop = asyncio.Event()
        before = await stopped(stop, 0.0)
        stop.set()
        return before, await stopped(stop, 0.0), await stopped(stop, 60.0)

    assert asyncio.run(both()) == (False, True, True)
