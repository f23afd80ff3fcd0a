"""NVML as a source of the sampler."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from harness.gpu.nvml import NAME, NvmlError, NvmlReader, open_nvml
from harness.gpu.samples import GpuSample
from harness.gpu.watching import Readings, SourceError

__all__ = ["NvmlSource"]


class NvmlSource:
    """This machine's GPUs, read in a thread: the driver may take its time."""

    name = NAME

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._reader: NvmlReader | None = None

    async def read(self) -> Readings:
        return list(await asyncio.to_thread(self._read))

    def _read(self) -> list[GpuSample]:
        if self._reader is None:
            try:
                self._reader = open_nvml(self._now)
            except NvmlError as error:
                raise SourceError(str(error), final=True) from None
        try:
            return self._reader.read()
        except NvmlError as error:
            raise SourceError(str(error)) from None
