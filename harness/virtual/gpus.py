"""The simulated GPUs in virtual time: the same file that the sampler writes beside a real run, and the same folds over it."""

from __future__ import annotations

import socket
from math import inf
from pathlib import Path
from typing import Protocol

from harness.clock import clock_pair
from harness.gpu.file import FILE, GpuWriter, SamplerHeader
from harness.gpu.samples import GpuSample
from mockllm import Serving, SimulatedGpu, read_gpus

__all__ = ["Metered", "metered"]

_SOURCE = "mock"
_SHORTEST_S = 1.0  # what a meter shows is the mean over the last second
_MOST_READINGS = 2000  # of a run: enough for a chart; energy comes from the counter, however far readings lie apart


class _Client(Protocol):
    def next_at(self) -> float: ...
    def act(self, serving: Serving, now: float) -> None: ...


def metered(client: _Client, serving: Serving, folder: Path, duration_s: float) -> Metered | None:
    """The client, with readings of the GPUs between what it does; None for a deployment without a GPU."""
    if next(read_gpus(serving.backends, 0.0), None) is None:
        return None
    every_s = max(_SHORTEST_S, duration_s / _MOST_READINGS)
    header = SamplerHeader(
        host=socket.gethostname(),
        boot_id=None,
        clocks=clock_pair(),
        every_s=every_s,
        sources=[_SOURCE],
        clock="virtual",
    )
    return Metered(client, serving, GpuWriter(folder / FILE, header), every_s)


class Metered:
    """Stands before a client of `drive`. Reading changes nothing: the engine has done all that was due by then."""

    def __init__(self, client: _Client, serving: Serving, writer: GpuWriter, every_s: float) -> None:
        self._client, self._serving, self._writer, self._every_s = client, serving, writer, every_s
        self._num, self._last_at = 0, 0.0

    def next_at(self) -> float:
        """Nothing is read any more when nothing can happen, so that the simulation ends."""
        at = self._client.next_at()
        return inf if at == inf and self._serving.idle else min(at, self._read_at())

    def act(self, serving: Serving, now: float) -> None:
        if now == self._client.next_at():
            self._client.act(serving, now)
        else:
            self._num += 1
            self._read(now)

    def close(self, now: float) -> None:
        """A last reading, and the end of the file. A copy of a request may have gone on when no client waited any more."""
        now = max(now, self._last_at)
        self._read(now)
        self._writer.close(now)

    def _read_at(self) -> float:
        # Where requests wait for ever, `drive` shall find that out, and not a meter that goes on and on.
        stuck = self._serving.due() == inf and self._client.next_at() == inf
        return inf if stuck else self._num * self._every_s

    def _read(self, now: float) -> None:
        self._last_at = now
        for one in read_gpus(self._serving.backends, now):
            self._writer.sample(_sample(one, now))


def _sample(one: SimulatedGpu, now: float) -> GpuSample:
    gpu, reading = one.gpu, one.reading
    return GpuSample(
        at=now,
        gpu=one.uuid,
        name=gpu.name,
        utilization=reading.busy,
        engine_active=reading.busy,
        tensor_active=reading.tensor,
        dram_active=reading.dram,
        memory_used=gpu.used,
        memory_total=gpu.memory,
        power_w=reading.power_w,
        energy_j=reading.energy_j,
        source=_SOURCE,
        simulated=True,
    )
