"""The rim of the guards: resolves the target's name, reads prices and the environment, and lists the guards of a run."""

from __future__ import annotations

import os
import socket
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from harness.errors import TargetError, UsageError
from harness.plan import LoadPlan
from harness.price_list import listed_prices, provider_of
from harness.prices import Prices, load_prices
from harness.safety.budget import Budget
from harness.safety.guards import Guard
from harness.safety.storm import NobodyThere, RefusedKey
from harness.safety.targets import Permission, allowed_hosts, check_end, check_target, check_url
from harness.swarm.transport import api_key

if TYPE_CHECKING:
    from harness.swarm.run import RunSettings

__all__ = ["admit", "guards_of", "permission_of", "permits_of", "prices_of", "require_end"]


def permission_of(options: Namespace) -> Permission:
    """What the command line and the environment allow. Raises UsageError."""
    hosts = allowed_hosts(options.allow_host or (), os.environ.get("HARNESS_ALLOW_HOSTS"))
    return Permission(hosts, options.allow_plain_http)


def admit(url: str, permission: Permission) -> str | None:
    """Check a target before anything is sent to it; returns a note about it. Raises UsageError, TargetError."""
    check_url(url)
    parts = urlsplit(url.strip())
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or parts.scheme, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise TargetError(f"nothing answers at {url}: {reason}. Start the server or correct the URL") from None
    addresses = sorted({str(entry[4][0]) for entry in found})
    return check_target(url, addresses, permission, has_key=api_key() is not None)


def require_end(plan: LoadPlan, options: Namespace) -> None:
    """Raises UsageError for a run without an end."""
    check_end(plan.duration_s, float(options.drain))


def prices_of(options: Namespace, target: str, models: Sequence[str], wall: float) -> Prices | None:
    """The prices that hold for a run; None: nobody named any. `models` are those it asks for, the first one mostly.

    Raises UsageError when there is a budget and the price of the first is not known.
    """
    prices = _prices(options.prices, target, models, wall)
    if options.budget is not None and (prices is None or models[0] not in prices.models):
        where = f" in {prices.source}" if prices is not None else ""
        raise UsageError(
            f"--budget {options.budget:g} needs the price of {models[0]!r}, which is not known{where}; "
            "give it with --prices FILE (model: {input: USD, output: USD} per million tokens)"
        )
    return prices


def _prices(asked: str, target: str, models: Sequence[str], wall: float) -> Prices | None:
    if asked and (Path(asked).suffix in (".yaml", ".yml") or Path(asked).exists()):
        return load_prices(Path(asked))
    provider = asked or provider_of(target)
    return listed_prices(provider, models, wall) if provider else None


def permits_of(settings: RunSettings) -> Callable[[str], bool]:
    """Whether a connection of this run may end at an address: asked of every new one, on every machine that sends load."""
    permission = Permission(frozenset(settings.allowed_hosts), settings.plain_http)
    parts = urlsplit(settings.target)
    bare_key = parts.scheme == "http" and api_key() is not None
    return partial(permission.admits, parts.hostname or "", bare_key=bare_key)


def guards_of(settings: RunSettings, connected: Callable[[], bool]) -> list[Guard]:
    """The guards of one load process, in the order in which they are asked. `connected`: whether it ever reached the
    server."""
    guards: list[Guard] = [RefusedKey(has_key=api_key() is not None), NobodyThere(connected=connected)]
    if settings.budget_usd is not None:
        prices = Prices.of(settings.prices or {}, settings.price_source)
        guards.append(Budget(settings.budget_usd, prices.most, num_shares=settings.num_shards))
    return guards
