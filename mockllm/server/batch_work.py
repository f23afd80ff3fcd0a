"""Working through batches: their requests as asyncio tasks, a bounded number at a time, over all batches together.

Requests of a batch that begin alike follow each other, so that a prompt cache finds the beginning: the first of them goes
alone, because a cache can be read only when the answer that wrote it has begun, the others when it is answered.
Anthropic's prompt-caching guide (2026) advises the same; one group after the other is the order with the most hits (Zheng
et al., "SGLang", 2024, theorem 3.1). Groups, and the members of each, come in the order of the batch.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Hashable, Iterable, Mapping
from dataclasses import dataclass
from types import coroutine
from typing import Any, NamedTuple

from mockllm.wire.beginnings import beginning

__all__ = ["BatchSettings", "Call", "Complete", "Groups", "Reply", "Workers", "breathe", "grouped", "inner_headers"]

_MIB = 1024 * 1024
_PIECE_BYTES = 256 * 1024  # of bodies that are looked into at a stretch: below 1 ms

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


class Groups:
    """The calls of a batch that are still to be made, and which of them may be made now.

    No more groups are begun than `num_workers` need to have work: a small cache holds few beginnings at a time.
    """

    def __init__(self, num_workers: int) -> None:
        self._num_workers = num_workers
        self._firsts: deque[Call] = deque()  # of the groups that are not begun
        self._members: dict[Hashable, list[Call]] = {}  # the others, by beginning
        self._key_of: dict[str, Hashable] = {}  # the beginnings of first calls, by the id of the call
        self._begun: dict[str, int] = {}  # first calls on their way: how many wait for each
        self._ready: deque[Call] = deque()
        self._alone: deque[Call] = deque()

    def add(self, call: Call, key: Hashable | None) -> None:
        """A call, and what its beginning is known by; None: it shares it with nobody."""
        if key is None:
            self._alone.append(call)
        elif key in self._members:
            self._members[key].append(call)
        else:
            self._members[key] = []
            self._key_of[call.custom_id] = key
            self._firsts.append(call)

    def next(self) -> Call | None:
        """The next call that may be made now. The next group is begun before the workers run out of work."""
        if self._firsts and len(self._ready) + sum(self._begun.values()) < self._num_workers:
            call = self._firsts.popleft()
            self._begun[call.custom_id] = len(self._members[self._key_of[call.custom_id]])
            return call
        for line in (self._ready, self._alone):
            if line:
                return line.popleft()
        return None

    def answered(self, call: Call) -> None:
        """Those that waited for this call may be made."""
        if self._begun.pop(call.custom_id, None) is not None:
            self._ready += self._members.pop(self._key_of.pop(call.custom_id))

    @property
    def wait(self) -> bool:
        """There will be more to do when a first call is answered."""
        return bool(self._begun)


async def grouped(calls: Iterable[Call], num_workers: int) -> Groups:
    """Calls by their beginnings."""
    groups, num_bytes = Groups(num_workers), 0
    for call in calls:
        groups.add(call, beginning(call.path, call.body))
        num_bytes += len(call.body)
        if num_bytes > _PIECE_BYTES:
            num_bytes = 0
            await breathe()
    return groups


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
        self,
        calls: Groups,
        headers: Mapping[str, str],
        answered: Callable[[Call, Reply | None], None],
        goes_on: Callable[[], bool],
    ) -> None:
        """Make the calls and hand over each answer as it comes; None for a call that broke down in the server.

        `goes_on` is asked before every call; once it says no, there are no more.
        """
        news = asyncio.Event()

        async def make_one() -> bool:
            """Make the next call; False if there is none now."""
            async with self._slots:
                call = calls.next()
                if call is None or not goes_on():
                    return False
                reply = await self._ask(call, headers)
            answered(call, reply)
            calls.answered(call)
            return True

        async def worker() -> None:
            while (made := await make_one()) or (calls.wait and goes_on()):
                if made:
                    _wake(news)
                else:
                    await news.wait()
            _wake(news)

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


def _wake(news: asyncio.Event) -> None:
    """Whoever waits looks again; whoever waits later, waits for the next time."""
    news.set()
    news.clear()


def _report(message: str, error: BaseException) -> None:
    asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})
