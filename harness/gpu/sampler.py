"""The sampler: a process of its own beside the load, so that reading GPUs never delays a request or its time stamp.

    python -m harness.gpu.sampler --out gpu.jsonl --nvml --target http://127.0.0.1:8000/metrics --metrics http://gpu-1:9400/metrics

It ends on SIGTERM or SIGINT, with a last reading and a footer, and when the process that started it (`--parent`) is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path

from harness.clock import boot_id, clock_pair, monotonic
from harness.errors import HarnessError
from harness.gpu.file import GpuWriter, SamplerHeader
from harness.gpu.nvml_source import NvmlSource
from harness.gpu.sources import metrics_url
from harness.gpu.watching import Absent, Source, stopped, watch
from harness.safety.targets import Permission, allowed_hosts

__all__ = ["main", "sample_until"]

_LOOK_S = 1.0  # how often it is looked whether the parent is there
_SHORTEST_S = 0.05


async def sample_until(
    stop: asyncio.Event, sources: Sequence[Source], writer: GpuWriter, every_s: float, now: Callable[[], float]
) -> None:
    """Read all sources, each at its own pace, until `stop`; then once more."""

    async def until(at: float) -> bool:
        return await stopped(stop, max(0.0, at - now()))

    async with asyncio.TaskGroup() as group:
        for source in sources:
            group.create_task(watch(source, writer, every_s, now, until))
    # All have given up: what starts this process still waits for it to end in order.
    await stop.wait()


async def _run(asked: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    orphaned = asyncio.create_task(_stop_without(asked.parent, stop))
    async with AsyncExitStack() as stack:
        sources = [*([NvmlSource(monotonic)] if asked.nvml else []), *await _pages(asked, stack)]
        header = SamplerHeader(
            host=socket.gethostname(),
            boot_id=boot_id(),
            clocks=clock_pair(),
            every_s=asked.every,
            sources=[source.name for source in sources],
        )
        writer = GpuWriter(asked.out, header)
        await sample_until(stop, sources, writer, asked.every, monotonic)
        writer.close(monotonic())
    orphaned.cancel()


async def _pages(asked: argparse.Namespace, stack: AsyncExitStack) -> list[Source]:
    """The target's own page, on trial, and those of exporters."""
    urls = [(metrics_url(url), True) for url in asked.target] + [(metrics_url(url), False) for url in asked.metrics]
    if missing := [name for name in ("aiohttp", "prometheus_client") if find_spec(name) is None]:
        why = f"{', '.join(missing)} is not installed; pip install 'llm-load-harness[gpu]'"
        return [Absent(url, why) for url, _ in urls]
    from harness.gpu.metrics_source import MetricsSource
    from harness.gpu.scrape import open_session

    permission = Permission(allowed_hosts(asked.allow_host, os.environ.get("HARNESS_ALLOW_HOSTS")))
    session = await stack.enter_async_context(open_session(permission))
    return [MetricsSource(session, url, monotonic, on_trial=on_trial) for url, on_trial in urls]


async def _stop_without(parent: int | None, stop: asyncio.Event) -> None:
    """Set `stop` once the process that started this one is not its parent any more."""
    while parent is not None and os.getppid() == parent:
        if await stopped(stop, _LOOK_S):
            return
    if parent is not None:
        stop.set()


def main(words: Sequence[str] | None = None) -> int:
    """Run the sampler to its end; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.gpu.sampler", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--out", type=Path, required=True, help="the file to write; it must not be there")
    parser.add_argument("--nvml", action="store_true", help="read the GPUs of this machine")
    parser.add_argument(
        "--target",
        metavar="URL",
        action="append",
        default=[],
        help="/metrics of the server under test, as long as it says something",
    )
    parser.add_argument("--metrics", metavar="URL", action="append", default=[], help="an exporter; may be repeated")
    parser.add_argument("--every", metavar="SECONDS", type=float, default=1.0, help="how often (default: %(default)s)")
    parser.add_argument(
        "--allow-host", metavar="HOST", action="append", default=[], help="a public host that may be asked"
    )
    parser.add_argument("--parent", metavar="PID", type=int, help="end when this is not the parent any more")
    asked = parser.parse_args(words)
    if not asked.every >= _SHORTEST_S:
        parser.error(f"--every {asked.every:g}: at least {_SHORTEST_S:g} s")
    code = 0
    try:
        asyncio.run(_run(asked))
    except* HarnessError as group:  # several sources write one file
        sys.stderr.write(f"harness: GPU sampler: {group.exceptions[0]}\n")
        code = 2
    return code


if __name__ == "__main__":
    sys.exit(main())
