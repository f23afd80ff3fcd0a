"""Prices of the providers' models by the list of the package `genai-prices`, which lies in the package: no network is needed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from harness.errors import UsageError
from harness.prices import ModelPrice, Prices, SteppedPrice, TokenPrice

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice as ListedPrice

__all__ = ["listed_prices", "provider_of"]


def provider_of(url: str) -> str | None:
    """The provider whose API a URL is; None for everybody else's, and where the list is not installed."""
    host = urlsplit(url).hostname or ""
    if "." not in host or host.rpartition(".")[2].isdigit():
        return None  # a machine of one's own; reading the list takes a quarter of a second
    try:
        return str(_snapshot().find_provider(None, None, url).id)
    except (ImportError, LookupError):
        return None


def listed_prices(provider: str, models: Iterable[str], wall: float) -> Prices:
    """The list's prices of these models at this instant (seconds since the epoch); a model that it does not know is left out.
    Prices that depend on the hour are those of this instant for the whole run.

    Raises UsageError when the list is not installed or knows no such provider.
    """
    try:
        snapshot = _snapshot()
    except ImportError:
        raise UsageError(
            f"prices of {provider} need the package genai-prices; pip install 'llm-load-harness[load]'"
        ) from None
    try:
        found = snapshot.find_provider(None, provider, None)
    except LookupError:
        known = ", ".join(sorted(each.id for each in snapshot.providers))
        raise UsageError(
            f"--prices {provider}: there is no such file and no such provider; there are {known}"
        ) from None
    at = datetime.fromtimestamp(wall, UTC)
    prices = {}
    for name in models:
        model = found.find_model(name.lower(), all_providers=snapshot.providers)
        if model is not None:
            prices[name] = _flattened(model.get_prices(at), model.get_prices(at, {"processing": "batch"}))
    return Prices(prices, f"genai-prices, {found.id}", metadata.version("genai-prices"))


def _snapshot() -> Any:
    from genai_prices.data_snapshot import get_snapshot  # slow to import: 2,000 models

    return get_snapshot()


def _flattened(standard: ListedPrice, in_batch: ListedPrice) -> ModelPrice:
    price, batch = _stepped(standard), _stepped(in_batch)
    return ModelPrice(**price.model_dump(), batch=1.0 if batch == price else batch)


def _stepped(listed: ListedPrice) -> SteppedPrice:
    """Tiers of the list as ours: it says for each kind of token from which length of the prompt on another price holds."""
    starts = sorted({tier.start for kind in _KINDS.values() for tier in getattr(getattr(listed, kind), "tiers", ())})
    return SteppedPrice(**_step(listed, 0), above={start: TokenPrice(**_step(listed, start + 1)) for start in starts})


_KINDS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "reasoning": "output_reasoning_mtok",
}


def _step(listed: ListedPrice, num_prompt_tokens: int) -> dict[str, float]:
    prices = {name: _at(getattr(listed, kind), num_prompt_tokens) for name, kind in _KINDS.items()}
    known = {name: price for name, price in prices.items() if price is not None}
    per_thousand = _at(listed.requests_kcount, num_prompt_tokens) or 0.0
    return {"input": 0.0, "per_request": per_thousand / 1000} | known


def _at(price: Any, num_prompt_tokens: int) -> float | None:
    """A price of the list at this length of the prompt: a number, or one with tiers."""
    if price is None:
        return None
    passed = [tier.price for tier in getattr(price, "tiers", ()) if num_prompt_tokens > tier.start]
    return float(passed[-1] if passed else getattr(price, "base", price))
