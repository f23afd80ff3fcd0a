"""What a request costs: tokens times the prices of its model, in USD.

Prices come from a file of one's own, strict YAML, in USD per million tokens:

    gpt-5-mini:        {input: 0.25, cached_input: 0.025, output: 2, batch: 0.5}
    claude-sonnet-4-5: {input: 3, cached_input: 0.3, cache_write: 3.75, cache_write_1h: 6, output: 15, max_output: 64000}
    gemini-2.5-pro:    {input: 1.25, output: 10, above: {200000: {input: 2.5, output: 15}}, batch: {input: 0.625, output: 5}}

or from the list of the package `genai-prices` (`harness.price_list`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from operator import mul
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError

from harness.errors import RunError
from harness.records import RequestRecord
from harness.strictyaml import broken_rule, read_yaml

__all__ = [
    "FROM_REPLY_CACHE",
    "ModelPrice",
    "Prices",
    "Rates",
    "SteppedPrice",
    "TokenPrice",
    "deployed_prices",
    "is_batch",
    "load_prices",
    "priced",
    "prices_said",
]

_MILLION = 1e6
# Another tokenizer than ours counts more tokens in the same text, and a chat template adds its own: a bound, not a guess.
_PROMPT_MARGIN = 1.5
_TEMPLATE_TOKENS = 100
_NOT_BILLED = ("refused", "throttled")
# An answer that the server's own response cache gave: no model was asked, so nobody bills its tokens.
FROM_REPLY_CACHE = ("hit", "stale")

Usd = Annotated[float, Field(ge=0)]


class Rates(NamedTuple):
    """USD per million of each kind of token, no kind within another; `request` is what a million requests cost beside their tokens."""

    prompt: float
    cached_prompt: float
    cache_write: float
    cache_write_1h: float
    output: float
    reasoning: float
    request: float

    def times(self, factor: float) -> Rates:
        return self if factor == 1 else Rates(*(rate * factor for rate in self))

    @property
    def dearest_prompt(self) -> float:
        return max(self[:4])

    @property
    def dearest_output(self) -> float:
        return max(self.output, self.reasoning)


class TokenPrice(BaseModel):
    """USD per million tokens. `cached_input` are prompt tokens read from the provider's cache, `cache_write` those written to it
    (Anthropic's for five minutes), `cache_write_1h` those written for an hour; `reasoning` are output tokens that were thought and
    not said. None: as `input`, `cache_write` as `input`, `cache_write_1h` as `cache_write`, `reasoning` as `output`. `per_request`:
    USD for each request, whatever its tokens."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    input: Usd
    output: Usd = 0.0
    cached_input: Usd | None = None
    cache_write: Usd | None = None
    cache_write_1h: Usd | None = None
    reasoning: Usd | None = None
    per_request: Usd = 0.0

    @property
    def rates(self) -> Rates:
        write = _or(self.cache_write, self.input)
        return Rates(
            self.input,
            _or(self.cached_input, self.input),
            write,
            _or(self.cache_write_1h, write),
            self.output,
            _or(self.reasoning, self.output),
            self.per_request * _MILLION,
        )


def _or(price: float | None, otherwise: float) -> float:
    return otherwise if price is None else price


class SteppedPrice(TokenPrice):
    """`above`: other prices for the whole of a request whose prompt is longer than so many tokens."""

    above: dict[int, TokenPrice] = {}

    @property
    def steps(self) -> list[tuple[int, Rates]]:
        """What holds for prompts of more tokens than the number; the longest number that fits counts."""
        return [(-1, self.rates), *((start, self.above[start].rates) for start in sorted(self.above))]


def _factor_or_prices(value: Any) -> str:
    return "prices" if isinstance(value, dict | SteppedPrice) else "factor"


class ModelPrice(SteppedPrice):
    """The price of one model. `batch` is for what is asked in a batch: a factor on all prices, or prices of its own, for there are
    providers that take off nothing of some (OpenAI of what its cache had). `max_output` is the longest answer, for requests that
    set no limit."""

    batch: Annotated[
        Annotated[Usd, Tag("factor")] | Annotated[SteppedPrice, Tag("prices")], Discriminator(_factor_or_prices)
    ] = 1.0
    max_output: int | None = Field(default=None, ge=1)

    def steps_for(self, *, batch: bool) -> list[tuple[int, Rates]]:
        """The steps of the price, as they are for what is asked in a batch, or for everything else."""
        if not batch:
            return self.steps
        if isinstance(self.batch, SteppedPrice):
            return self.batch.steps
        return [(start, rates.times(self.batch)) for start, rates in self.steps]


_FILE = TypeAdapter(dict[str, ModelPrice])


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices by model. `source` says whose, `version` which: of the list its release, of a file the beginning of its SHA-256."""

    models: Mapping[str, ModelPrice]
    source: str
    version: str | None = None

    def cost(self, record: RequestRecord) -> float | None:
        """What an ended request costs, USD. None: not known, because its price or its tokens are not.

        An answer that was broken off has no trustworthy usage. What was refused with an error, never sent, or answered by the
        server's own response cache is not billed.
        """
        if _certainly_free(record):
            return 0.0
        price = self._price(record.model_served) or self._price(record.model)
        billed = record.outcome == "ok" or (record.outcome == "failed" and record.finish_reason is not None)
        output = 0 if _answers_in_vectors(record) else record.num_output_tokens
        if price is None or not billed or record.num_prompt_tokens is None or output is None:
            return None
        rates = [r for start, r in price.steps_for(batch=is_batch(record.protocol)) if record.num_prompt_tokens > start]
        return float(sum(map(mul, rates[-1], _counts(record, output)))) / _MILLION

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
        rates = [r for start, r in price.steps_for(batch=is_batch(record.protocol)) if prompt > start]
        return max(prompt * r.dearest_prompt + output * r.dearest_output + r.request for r in rates) / _MILLION

    def plain(self) -> dict[str, dict[str, Any]]:
        """As plain values, for another process; `Prices.of` reads them back."""
        return {name: price.model_dump(exclude_defaults=True) for name, price in self.models.items()}

    @classmethod
    def of(cls, plain: Mapping[str, Any], source: str, version: str | None = None) -> Prices:
        models = _FILE.validate_python({name: _with_whole_keys(value) for name, value in plain.items()})
        return cls(models, source, version)

    def _price(self, model: str | None) -> ModelPrice | None:
        return None if model is None else self.models.get(model)


def _with_whole_keys(price: Any) -> Any:
    """A message between processes may have turned the numbers before the prices of `above` into text."""
    if not isinstance(price, Mapping):
        return price
    whole = {name: _with_whole_keys(value) for name, value in price.items()}
    if isinstance(above := whole.get("above"), Mapping):
        whole["above"] = {int(start): step for start, step in above.items()}
    return whole


def _certainly_free(record: RequestRecord) -> bool:
    if record.outcome in _NOT_BILLED or record.sent_at is None or record.error_kind == "unreachable":
        return True
    return record.cache_outcome in FROM_REPLY_CACHE or (record.status is not None and record.status >= 300)


def _answers_in_vectors(record: RequestRecord) -> bool:
    return record.protocol is not None and record.protocol.endswith("embeddings")


def is_batch(protocol: str | None) -> bool:
    """Whether a protocol is one of a batch API."""
    return protocol is not None and protocol.endswith("-batch")


def _counts(record: RequestRecord, output: int) -> tuple[int, ...]:
    """Tokens of a record in the order of `Rates`. Its prompt holds what was read from a cache and written to it, its output what
    was thought."""
    cached, written = record.num_cached_tokens or 0, record.num_cache_write_tokens or 0
    for_an_hour = min(record.num_cache_write_1h_tokens or 0, written)
    thought = min(record.num_reasoning_tokens or 0, output)
    plain = max(0, (record.num_prompt_tokens or 0) - cached - written)
    return plain, cached, written - for_an_hour, for_an_hour, output - thought, thought, 1


def load_prices(path: Path) -> Prices:
    """Read a price file. Raises WorkloadError for what breaks its format."""
    document = read_yaml(path)
    version = f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    try:
        return Prices(_FILE.validate_python(document.value), str(path), version)
    except ValidationError as error:
        at, rule = broken_rule(error)
        raise document.error(tuple(part for part in at if part not in ("factor", "prices")), rule) from None


# -- in a manifest -------------------------------------------------------------------------------------------


def priced(prices: Prices | None) -> dict[str, Any] | None:
    """What a manifest keeps of the prices of a run; None: nobody named any."""
    if prices is None:
        return None
    return {"source": prices.source, "version": prices.version, "models": prices.plain()}


def prices_said(kept: Mapping[str, Any] | None) -> Prices | None:
    """The prices of a manifest. Raises RunError for what no version of this program has written."""
    if kept is None:
        return None
    try:
        return Prices.of(kept["models"], str(kept["source"]), kept.get("version"))
    except (ValidationError, KeyError, TypeError, ValueError, AttributeError) as error:
        said = broken_rule(error) if isinstance(error, ValidationError) else (type(error).__name__, error)
        raise RunError(f"the manifest's prices cannot be read: {said[0]}: {said[1]}") from None


class DeployedPrice(Protocol):
    """How a deployment of the mock states the price of a model, USD per million tokens."""

    @property
    def input(self) -> float: ...
    @property
    def output(self) -> float: ...
    @property
    def cached_input(self) -> float | None: ...
    @property
    def written_5m(self) -> float | None: ...
    @property
    def written_1h(self) -> float | None: ...
    @property
    def batch(self) -> float: ...


def deployed_prices(models: Mapping[str, DeployedPrice], source: str) -> Prices | None:
    """The prices of a deployment; a model that costs nothing has none. None: no model has."""
    found = {
        name: ModelPrice(
            input=price.input,
            output=price.output,
            cached_input=price.cached_input,
            cache_write=price.written_5m,
            cache_write_1h=_or(price.written_1h, price.input),
            batch=price.batch,
        )
        for name, price in models.items()
        if price.input or price.output
    }
    return Prices(found, source) if found else None
