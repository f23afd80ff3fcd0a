"""What a request costs: tokens times the prices of its model, in USD.

Prices come from a file of one's own, strict YAML, in USD per million tokens:

    gpt-5-mini:        {input: 0.25, cached_input: 0.025, output: 2, batch: 0.5}
    claude-sonnet-4-5: {input: 3, cached_input: 0.3, cache_write: 3.75, output: 15, max_output: 64000}

or from the package `genai-prices`, whose list lies in the package: no network is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from harness.errors import UsageError
from harness.records import RequestRecord
from harness.strictyaml import broken_rule, read_yaml

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice as ListedPrice

__all__ = ["ModelPrice", "Prices", "listed_prices", "load_prices", "provider_of"]

_MILLION = 1e6
# Another tokenizer than ours counts more tokens in the same text, and a chat template adds its own: a bound, not a guess.
_PROMPT_MARGIN = 1.5
_TEMPLATE_TOKENS = 100
_NOT_BILLED = ("refused", "throttled")


class TokenPrice(BaseModel):
    """USD per million tokens. `cached_input` are prompt tokens read from the provider's cache, `cache_write` those written
    to it; None: as `input`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    input: float = Field(ge=0)
    output: float = Field(default=0.0, ge=0)
    cached_input: float | None = Field(default=None, ge=0)
    cache_write: float | None = Field(default=None, ge=0)

    def usd(self, prompt: int, cached: int, written: int, output: int) -> float:
        """`prompt` counts all tokens of the prompt, those read from the cache and written to it among them."""
        read = self.input if self.cached_input is None else self.cached_input
        write = self.input if self.cache_write is None else self.cache_write
        plain = max(0, prompt - cached - written)
        return (plain * self.input + cached * read + written * write + output * self.output) / _MILLION

    @property
    def dearest_input(self) -> float:
        return max(self.input, self.cached_input or 0.0, self.cache_write or 0.0)


class ModelPrice(TokenPrice):
    """The price of one model. `batch` is the factor for what is asked in a batch. `max_output` is the longest answer, for
    requests that set no limit. `above`: other prices for requests whose prompt is longer than so many tokens."""

    batch: float = Field(default=1.0, ge=0)
    max_output: int | None = Field(default=None, ge=1)
    above: dict[int, TokenPrice] = {}

    def for_prompt(self, num_tokens: int) -> TokenPrice:
        """The prices that hold for a prompt of this length."""
        passed = [start for start in self.above if num_tokens > start]
        return self.above[max(passed)] if passed else self


_FILE = TypeAdapter(dict[str, ModelPrice])


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices by model. `source` says whose."""

    models: Mapping[str, ModelPrice]
    source: str

    def cost(self, record: RequestRecord) -> float | None:
        """What an ended request costs, USD. None: not known, because its price or its tokens are not.

        An answer that was broken off has no trustworthy usage. What was refused with an error, or never sent, is not billed.
        """
        if _certainly_free(record):
            return 0.0
        price = self._price(record.model_served) or self._price(record.model)
        billed = record.outcome == "ok" or (record.outcome == "failed" and record.finish_reason is not None)
        output = 0 if _answers_in_vectors(record) else record.num_output_tokens
        if price is None or not billed or record.num_prompt_tokens is None or output is None:
            return None
        prompt, cached, written = record.num_prompt_tokens, record.num_cached_tokens, record.num_cache_write_tokens
        usd = price.for_prompt(prompt).usd(prompt, cached or 0, written or 0, output)
        return usd * _batch_factor(price, record)

    def most(self, record: RequestRecord) -> float | None:
        """The most that a request can cost, USD, known before it is sent: its whole prompt at the dearest price, and the
        longest answer. None: there is no bound, because the model has no price or the answer no limit."""
        price = self._price(record.model)
        output = 0 if _answers_in_vectors(record) else record.planned_output_tokens
        if price is not None and output is None:
            output = price.max_output
        if price is None or output is None:
            return None
        prompt = int((record.planned_prompt_tokens or 0) * _PROMPT_MARGIN) + _TEMPLATE_TOKENS
        steps = [price, *(step for start, step in price.above.items() if prompt > start)]
        most = max(prompt * step.dearest_input + output * step.output for step in steps)
        return most / _MILLION * _batch_factor(price, record)

    def plain(self) -> dict[str, dict[str, Any]]:
        """As plain values, for another process; `Prices.of` reads them back."""
        return {name: price.model_dump(exclude_defaults=True) for name, price in self.models.items()}

    @classmethod
    def of(cls, plain: Mapping[str, Any], source: str) -> Prices:
        return cls(_FILE.validate_python({name: _with_whole_keys(value) for name, value in plain.items()}), source)

    def _price(self, model: str | None) -> ModelPrice | None:
        return None if model is None else self.models.get(model)


def _with_whole_keys(price: Mapping[str, Any]) -> dict[str, Any]:
    """A message between processes may have turned the numbers before the prices of `above` into text."""
    above = {int(start): step for start, step in price.get("above", {}).items()}
    return {**price, **({"above": above} if above else {})}


def _certainly_free(record: RequestRecord) -> bool:
    if record.outcome in _NOT_BILLED or record.sent_at is None or record.error_kind == "unreachable":
        return True
    return record.status is not None and record.status >= 300


def _answers_in_vectors(record: RequestRecord) -> bool:
    return record.protocol is not None and record.protocol.endswith("embeddings")


def _batch_factor(price: ModelPrice, record: RequestRecord) -> float:
    return price.batch if record.protocol is not None and record.protocol.endswith("-batch") else 1.0


def load_prices(path: Path) -> Prices:
    """Read a price file. Raises WorkloadError for what breaks its format."""
    document = read_yaml(path)
    try:
        return Prices(_FILE.validate_python(document.value), str(path))
    except ValidationError as error:
        raise document.error(*broken_rule(error)) from None


# -- the list of genai-prices --------------------------------------------------------------------------------


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
    return Prices(prices, f"genai-prices, {found.id}")


def _snapshot() -> Any:
    from genai_prices.data_snapshot import get_snapshot  # slow to import: 2,000 models

    return get_snapshot()


def _flattened(standard: ListedPrice, in_batch: ListedPrice) -> ModelPrice:
    """Tiers of the list as ours: it says for each kind of token from which length of the prompt on another price holds."""
    starts = sorted({tier.start for kind in _KINDS.values() for tier in getattr(getattr(standard, kind), "tiers", ())})
    factors = [b / s for s, b in zip(_base(standard), _base(in_batch), strict=True) if s]
    return ModelPrice(
        **_step(standard, 0),
        batch=max(factors, default=1.0),
        above={start: TokenPrice(**_step(standard, start + 1)) for start in starts},
    )


_KINDS = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
}


def _base(listed: ListedPrice) -> list[float]:
    return [_at(getattr(listed, kind), 0) or 0.0 for kind in ("input_mtok", "output_mtok")]


def _step(listed: ListedPrice, num_prompt_tokens: int) -> dict[str, Any]:
    prices = {name: _at(getattr(listed, kind), num_prompt_tokens) for name, kind in _KINDS.items()}
    return {name: price for name, price in prices.items() if price is not None} | {"input": prices["input"] or 0.0}


def _at(price: Any, num_prompt_tokens: int) -> float | None:
    """A price of the list at this length of the prompt: a number, or one with tiers."""
    if price is None:
        return None
    passed = [tier.price for tier in getattr(price, "tiers", ()) if num_prompt_tokens > tier.start]
    return float(passed[-1] if passed else getattr(price, "base", price))
