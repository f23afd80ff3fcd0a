"""A /metrics page as a source of the sampler."""

from __future__ import annotations

from collections.abc import Callable

import aiohttp

from harness.gpu import dcgm, vllm
from harness.gpu.dcgm import gpu_samples_of
from harness.gpu.scrape import PageError, scrape
from harness.gpu.vllm import server_samples_of
from harness.gpu.watching import Readings, SourceError

__all__ = ["MetricsSource"]


class MetricsSource:
    """`on_trial`: nobody said that this page knows of GPUs, so it is left alone when its first answer does not. It is the page of the
    server under test, which shall not be busy with us: it is asked for what we read, and for no histogram."""

    def __init__(self, session: aiohttp.ClientSession, url: str, now: Callable[[], float], *, on_trial: bool) -> None:
        self.name = url
        self._session, self._now, self._on_trial = session, now, on_trial
        self._names = (*dcgm.NAMES, *vllm.NAMES) if on_trial else ()

    async def read(self) -> Readings:
        try:
            page = await scrape(self._session, self.name, self._now, self._names)
        except PageError as error:
            raise SourceError(str(error), final=error.final and self._on_trial) from None
        try:
            found: Readings = [
                *gpu_samples_of(page.text, page.at, self.name),
                *server_samples_of(page.text, page.at, self.name),
            ]
        except ValueError as error:
            raise SourceError(str(error), final=self._on_trial) from None
        if not found:
            raise SourceError("it says nothing of GPUs (DCGM_FI_…) or of a vLLM server (vllm:…)", final=self._on_trial)
        self._on_trial = False
        return found
