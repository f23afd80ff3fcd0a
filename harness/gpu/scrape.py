"""One GET of a /metrics page, with bounds on everything: whoever serves it is a stranger.

No key, no cookie and no proxy goes along, redirects are not followed, and a name that resolves to an address that was not
allowed gets no connection.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from typing import NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from harness.plain import short_plain
from harness.safety.targets import Permission

__all__ = ["LIMIT_BYTES", "Page", "PageError", "open_session", "scrape"]

LIMIT_BYTES = 8 * 2**20  # a vLLM server's page is 100 kB, an exporter's of 8 GPUs 50 kB
TIMEOUT_S = 2.0


class Page(NamedTuple):
    """`at` is the middle of the exchange: when, give or take half its time, the values were read."""

    at: float
    text: str


class PageError(Exception):
    """There is no page; the message says why. `final`: the server answered and has none."""

    def __init__(self, why: str, *, final: bool = False) -> None:
        super().__init__(why)
        self.final = final


class _Resolver(AbstractResolver):
    """Resolves names, and admits only addresses that a connection may end at."""

    def __init__(self, permission: Permission) -> None:
        self._permission, self._inner = permission, aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        if not all(self._permission.admits(host, entry["host"]) for entry in found):
            raise OSError(None, f"{host} resolves to an address that was not allowed")
        return found

    async def close(self) -> None:
        await self._inner.close()


def open_session(permission: Permission, timeout_s: float = TIMEOUT_S) -> aiohttp.ClientSession:
    """A session for scrapes; to be called in the event loop that uses it."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=_Resolver(permission), use_dns_cache=False, limit_per_host=2),
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        headers={"Accept": "text/plain", "Accept-Encoding": "identity", "User-Agent": "llm-load-harness"},
    )


async def scrape(session: aiohttp.ClientSession, url: str, now: Callable[[], float], names: Sequence[str] = ()) -> Page:
    """Raises PageError. `names`: ask for these samples only, by `name[]` as Prometheus' clients take it; others send all they have."""
    asked_at = now()
    try:
        async with session.get(url, params=[("name[]", name) for name in names], allow_redirects=False) as answer:
            if answer.status != 200:
                raise PageError(f"HTTP status {answer.status}", final=300 <= answer.status < 500)
            body = bytearray()
            async for piece in answer.content.iter_any():
                body += piece
                if len(body) > LIMIT_BYTES:
                    raise PageError(f"more than {LIMIT_BYTES // 2**20} MiB")
            return Page((asked_at + now()) / 2, body.decode(errors="replace"))
    except TimeoutError:
        raise PageError("no whole answer in time") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise PageError(_why(error)) from None


def _why(error: Exception) -> str:
    """The system's own words, without the address: the URL stands beside them."""
    if isinstance(error, aiohttp.ClientResponseError):
        return "its answer is not HTTP"
    inner = getattr(error, "os_error", error)
    if isinstance(inner, OSError):
        # asyncio's own text repeats the address; a name that does not resolve has a negative number.
        number = inner.errno or 0
        return os.strerror(number) if number > 0 else short_plain(inner.strerror or "no address")
    return short_plain(str(inner)) or type(inner).__name__
