"""An endpoint that answers when the test says so, and the SDKs' types as strict judges of what comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx2
from fastapi import FastAPI

__all__ = ["FakeEndpoint", "Seconds", "http_client", "other_tasks", "until"]


class Seconds:
    """An epoch that stands still until a test moves it."""

    def __init__(self, now: int = 1_750_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


class FakeEndpoint:
    """Answers every request by the text of its first message: with `answers[text]`, else with `usual`.

    A request whose text is in `gates` waits until its gate is opened. An exception as an answer is raised.
    """

    def __init__(self, usual: tuple[int, dict[str, str], bytes]) -> None:
        self.usual = usual
        self.answers: dict[str, tuple[int, dict[str, str], bytes] | Exception] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.calls: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.num_open = 0
        self.most_open = 0
        self.cancelled: list[str] = []

    def hold(self, *texts: str) -> None:
        self.gates.update({text: asyncio.Event() for text in texts})

    @property
    def texts(self) -> list[str]:
        return [_text(body) for _, body, _ in self.calls]

    async def __call__(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
        decoded = json.loads(body)
        text = _text(decoded)
        self.calls.append((path, decoded, dict(headers)))
        self.num_open += 1
        self.most_open = max(self.most_open, self.num_open)
        try:
            if text in self.gates:
                await self.gates[text].wait()
            else:
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled.append(text)
            raise
        finally:
            self.num_open -= 1
        answer = self.answers.get(text, self.usual)
        if isinstance(answer, Exception):
            raise answer
        return answer


def _text(body: dict[str, Any]) -> str:
    return str(body["messages"][0]["content"])


def http_client(app: FastAPI) -> httpx2.AsyncClient:
    """A client of an application in this process."""
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://mock.test")


def other_tasks() -> set[asyncio.Task[Any]]:
    """All tasks of the loop but the test's own and those that the test runner keeps."""
    mine = {asyncio.current_task()}
    return {task for task in asyncio.all_tasks() - mine if "TestRunner" not in repr(task.get_coro())}


async def until(condition: Callable[[], bool]) -> None:
    """Give other tasks turns until something has come true; it must within a bounded number of them."""
    for _ in range(20_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came true")
