"""Where a run's GPU readings come from, and whether they may: the rules for targets hold for exporters too."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from harness.errors import TargetError, UsageError
from harness.safety.targets import Permission, check_target, check_url, reach_of

__all__ = ["Sources", "addresses_of", "metrics_url", "sources_of"]


@dataclass(frozen=True, slots=True)
class Sources:
    """`target`: /metrics of the server under test, asked on only if it says something of GPUs; `exporters`: URLs that were named
    for it. `hosts`: public ones that were allowed by name."""

    nvml: bool = False
    target: str | None = None
    exporters: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.nvml or self.target is not None or bool(self.exporters)

    def words(self) -> list[str]:
        """As options of the sampler."""
        return [
            *(["--nvml"] if self.nvml else []),
            *(["--target", self.target] if self.target is not None else []),
            *(word for url in self.exporters for word in ("--metrics", url)),
            *(word for host in self.hosts for word in ("--allow-host", host)),
        ]


def sources_of(
    target: str,
    exporters: Sequence[str],
    permission: Permission,
    *,
    mock: bool = False,
    resolve: Callable[[str], list[str]] | None = None,
) -> Sources:
    """The sources for a run against `target`. `mock`: its GPUs are simulated, so those of this machine have no part in it.

    Raises UsageError for an exporter's URL that makes no sense or whose host was not allowed, TargetError for one that has no
    address. A target that may not be loaded is left out here and refused by the load itself.
    """
    resolve = resolve or addresses_of
    urls = tuple(metrics_url(url) for url in exporters)
    for url in urls:
        check_target(url, resolve(url), permission, has_key=False)
    own = _root(target) + "/metrics"
    try:
        addresses = resolve(own)
        check_target(own, addresses, permission, has_key=False)
    except (UsageError, TargetError):
        return Sources(exporters=urls, hosts=tuple(sorted(permission.hosts)))
    here = all(reach_of(address) == "loopback" for address in addresses)
    return Sources(here and not mock, None if own in urls else own, urls, tuple(sorted(permission.hosts)))


def metrics_url(url: str) -> str:
    """An exporter's URL; without a path it is asked for /metrics. Raises UsageError for what is no HTTP URL."""
    check_url(url)
    parts = urlsplit(url.strip())
    try:
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise UsageError(f"--gpu-metrics {url}: {error}") from None
    if not fits:
        raise UsageError(f"--gpu-metrics {url}: write it like http://127.0.0.1:9400/metrics")
    path = parts.path if parts.path.strip("/") else "/metrics"
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def _root(target: str) -> str:
    return target.strip().rstrip("/").removesuffix("/v1")


def addresses_of(url: str) -> list[str]:
    """The addresses of a URL's host. Raises TargetError when it has none."""
    parts = urlsplit(url)
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or parts.scheme, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TargetError(f"nothing answers at {url}: {reason}. Start the exporter or correct the URL") from None
    return sorted({str(entry[4][0]) for entry in found})
