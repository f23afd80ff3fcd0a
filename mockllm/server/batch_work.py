"""Working through batches: their requests as asyncio tasks, a bounded number at a time, over all batches together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Mapping
from dataclasses import dataclass
from types import coroutine
from typing import Any, NamedTuple

__all__ = ["BatchSettings", "Call", "Complete", "Reply", "Workers", "breathe", "inner_headers"]

_MIB = 1024 * 1024

# A path such as "/v1/chat/completions", a JSON body and headers -> status, headers and body of the answer.
Complete = Callable[[str, bytes, Mapping[str, str]], Awaitable[tuple[int, dict[str, str], bytes]]]

# Who asks, and in which version of the protocol, is the same for a batch and for each of its requests.
_PASSED_ON = (
    "authorization",
    "openai-organization",
    "openai-project",
    "x-api-key",
    "anthropic-version",
    "anthropic-beta",
)


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """Limits of the file and batch stores.

    Sources: 50,000 requests and 200 MB a file (OpenAI's Batch guide), 100,000 requests or 256 MB (Anthropic's guide),
    24 h (both). Counts kept, bytes in all and concurrency are judgement: they bound what the mock holds.
    """

    max_files: int = 1000
    max_file_bytes: int = 200 * _MIB
    max_total_bytes: int = 1024 * _MIB
    max_batches: int = 1000
    max_requests: int = 50_000
    max_message_requests: int = 100_000
    max_message_bytes: int = 256 * _MIB
    max_concurrency: int = 8
    completion_window_s: float = 86_400.0
    endpoints: tuple[str, ...] = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a batch."""

    custom_id: str
    path: str
    body: bytes


class Reply(NamedTuple):
    """What the server answered to a call."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Workers:
    """Owns one task per batch that is being worked on, and the slots that all of them share."""

    def __init__(self, complete: Complete, max_concurrency: int) -> None:
        self._complete = complete
        self._max_concurrency = max_concurrency
        self._slots = asyncio.Semaphore(max_concurrency)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closing = False

    @property
    def num_running(self) -> int:
        """Batches that are being worked on."""
        return len(self._tasks)

    def start(
        self, batch_id: str, work: Coroutine[Any, Any, None], ended: Callable[[BaseException | None], None]
    ) -> None:
        """Begin a batch. `ended` is called once when its work is done, stopped (None) or broken (the error)."""
        task = asyncio.get_running_loop().create_task(work, name=batch_id)
        self._tasks[batch_id] = task
        task.add_done_callback(lambda done: self._done(batch_id, done, ended))

    def stop(self, batch_id: str) -> None:
        """Cancel what is left of a batch, also the requests that are on their way."""
        if task := self._tasks.get(batch_id):
            task.cancel()

    async def close(self) -> None:
        """Cancel everything and wait until it is gone; nobody is told."""
        self._closing = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def run(
        self, calls: Iterator[Call], headers: Mapping[str, str], answered: Callable[[Call, Reply | None], None]
    ) -> None:
        """Make the calls and hand over each answer as it comes; None for a call that broke down in the server."""

        async def worker() -> None:
            while True:
                async with self._slots:
                    call = next(calls, None)
                    if call is None:
                        return
                    reply = await self._ask(call, headers)
                answered(call, reply)

        async with asyncio.TaskGroup() as group:
            for _ in range(self._max_concurrency):
                group.create_task(worker())

    async def _ask(self, call: Call, headers: Mapping[str, str]) -> Reply | None:
        try:
            return Reply(*await self._complete(call.path, call.body, headers))
        except Exception as error:  # one broken request is that request's result, and must not end its batch
            _report(f"request {call.custom_id!r} of batch {headers['x-mock-batch']} broke down", error)
            return None

    def _done(self, batch_id: str, task: asyncio.Task[None], ended: Callable[[BaseException | None], None]) -> None:
        del self._tasks[batch_id]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _report(f"batch {batch_id} broke down", error)
        if not self._closing:
            ended(error)


def inner_headers(incoming: Mapping[str, str], batch_id: str) -> dict[str, str]:
    """Headers of a batch's requests. `x-mock-batch` tells the server to book them at the batch tier: half price."""
    passed = {name: incoming[name] for name in _PASSED_ON if name in incoming}
    return {**passed, "content-type": "application/json", "x-mock-batch": batch_id}


@coroutine
def breathe() -> Generator[None, None, None]:
    """Let other tasks run once: long work in pieces must not delay the tokens of other requests."""
    yield


def _report(message: str, error: BaseException) -> None:
    asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})
