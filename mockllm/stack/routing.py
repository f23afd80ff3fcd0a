"""Route: which model answers, decided before it is called: by how hard the question is, by its task, or by who asks.

    - route:
        name: assistant                  # what clients ask for; without it: whoever asks for one of these models
        by: complexity
        below: {0.4: small, 0.8: medium} # difficulty below 0.4 to small, below 0.8 to medium
        otherwise: large
        classifier: {latency: 20ms, sigma: 0.3, price: 0.00002, error_rate: 0.05}

`by: task` and `by: tier` have `models: {code: coder, translation: small}` in place of `below`.

The true difficulty is `difficulty.py`'s, the true task the workload's label. Somebody has to find it out, and that takes a
lognormal time (median `latency`), costs `price` USD a request, and with `error_rate`, a keyed draw, says another class, any
of them equally likely. A task without a label is read from the words (`task_words.py`), which make mistakes of their own. A
tier is known and costs nothing. Where nobody may look into a request (`Query` None: several choices, embeddings), it goes
`otherwise`, or is left alone if its client asked for a real model. A router of this kind is RouteLLM's (Ong et al. 2024,
arXiv 2406.18665); 20 ms is what the makers of one say of theirs (news.ycombinator.com/item?id=40446698, 2024).

What it saved is counted against `otherwise`, for the tokens and cache hits that the request had, less the classifier's fee.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Self

from pydantic import Field, model_validator

from mockllm.fields import Duration, ModelName, Share, Spread, Strict
from mockllm.model import Finished, Request
from mockllm.stack.addressing import RouterSettings
from mockllm.stack.difficulty import difficulty_of
from mockllm.stack.parts import KeyPath, Parts
from mockllm.stack.prices import Price
from mockllm.stack.stage import Arrival, End, Flight, Later, Leaving, Stage
from mockllm.stack.task_words import task_by_words

__all__ = ["Classifier", "Route", "RouteSettings"]

_OTHERWISE = "otherwise"


class Classifier(Strict):
    """Who looks at a request: seconds (median and sigma of a lognormal), USD a request, and how often it is wrong."""

    latency: Duration = 0.02
    sigma: Spread = 0.3
    price: Spread = 0.0
    error_rate: Share = 0.0


class RouteSettings(RouterSettings):
    """`below` or `models`, as `by` wants it."""

    by: Literal["complexity", "task", "tier"]
    below: dict[Share, ModelName] = Field(default_factory=dict)
    models: dict[str, ModelName] = Field(default_factory=dict)
    otherwise: ModelName
    classifier: Classifier | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        wanted, other = ("below", "models") if self.by == "complexity" else ("models", "below")
        if not getattr(self, wanted) or getattr(self, other):
            example = "below: {0.4: small}" if self.by == "complexity" else "models: {NAME: MODEL}"
            raise ValueError(f"`by: {self.by}` needs `{wanted}` and has no `{other}`; write {example}")
        if self.by == "tier" and self.classifier is not None:
            raise ValueError("a tier is known without a classifier; leave `classifier` away, or route by another rule")
        if _OTHERWISE in self.models:
            raise ValueError(f"`{_OTHERWISE}` is a key beside `models`, not one of them")
        return self

    def choices(self) -> Sequence[tuple[KeyPath, str]]:
        below = [(("below", str(bound)), model) for bound, model in self.below.items()]
        return [((_OTHERWISE,), self.otherwise), *below, *((("models", key), to) for key, to in self.models.items())]

    def classes(self) -> dict[str, str]:
        """What a classifier may say, each with its model; by complexity from easy to hard."""
        bounds = {f"below {bound:g}": self.below[bound] for bound in sorted(self.below)}
        return {**bounds, **self.models, _OTHERWISE: self.otherwise}

    def looks(self) -> Classifier | None:
        """Who finds out the class; None where it is known."""
        return None if self.by == "tier" else self.classifier or Classifier()


class Route(Stage):
    """The router. `confusion` counts what the classifier said against what was true, where that is known."""

    def __init__(self, settings: RouteSettings, parts: Parts) -> None:
        self.name = parts.name
        self._settings, self._parts = settings, parts
        self._classes, self._classifier = settings.classes(), settings.looks()
        self._labels = list(self._classes)
        self._fees: dict[str, float] = {}  # of the requests that it sent on, by id
        self._sent: Counter[str] = Counter()
        self._confusion: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._num_unlabelled = 0

    def arrive(self, flight: Flight, now: float) -> Arrival:
        request, classifier = flight.request, self._classifier
        if not self._settings.concerns(flight):
            return None
        if classifier is None:
            self._send(flight, self._known(request.tenant.tier), 0.0)
            return None
        if request.query is None:
            if self._settings.name is not None:
                self._send(flight, _OTHERWISE, 0.0)
            return None
        self._send(flight, self._said(request, classifier), classifier.price)
        key, median, sigma = request.shared_key, classifier.latency, classifier.sigma
        latency = self._parts.streams.lognormal(f"{self.name} latency", key, median, sigma)
        return Later(now + latency) if latency > 0 else None

    def leave(self, flight: Flight, end: End, now: float) -> Leaving:
        fee = self._fees.pop(flight.asked.request_id, None)
        passage = flight.passage
        if fee is not None and isinstance(end, Finished) and passage.source == "model":
            spared = self._price(self._settings.otherwise, flight, end) - self._price(passage.model, flight, end)
            flight.credit(self.name, spared - fee)
        return None

    def describe(self) -> str:
        settings, classifier = self._settings, self._classifier
        ways = ", ".join(f"{label} to {model}" for label, model in self._classes.items())
        text = f"{settings.clients()} by {settings.by}: {ways}"
        if classifier is None:
            return text
        return (
            f"{text}; the classifier takes {classifier.latency * 1000:g} ms, costs ${classifier.price * 1000:g} for "
            f"1,000 requests and is wrong in {classifier.error_rate:.1%}"
        )

    def state(self, now: float) -> dict[str, object]:
        num, hardness = self._sent.total(), {label: rank for rank, label in enumerate(self._labels)}
        wrong = [(t, s, n) for t, row in self._confusion.items() for s, n in row.items() if s != t]
        counts = {f"sent to {model}": self._sent[model] for model in dict.fromkeys(self._classes.values())}
        counts |= {"misrouted": sum(n for *_, n in wrong), "unlabelled": self._num_unlabelled}
        if self._settings.by == "complexity":
            counts["misrouted to an easier class"] = sum(n for t, s, n in wrong if hardness[s] < hardness[t])
        return {
            "shares": {model: sent / num for model, sent in self._sent.items()},
            "confusion": {truth: dict(row) for truth, row in self._confusion.items()},
            "counts": counts,
        }

    def _send(self, flight: Flight, label: str, fee: float) -> None:
        model = self._classes[label]
        flight.request = replace(flight.request, model=model)
        flight.passage.notes.append(f"{self.name}: {label} to {model}")
        self._sent[model] += 1
        self._fees[flight.asked.request_id] = fee
        if fee > 0:
            flight.charge(fee)

    def _known(self, label: str | None) -> str:
        return label if label is not None and label in self._settings.models else _OTHERWISE

    def _said(self, request: Request, classifier: Classifier) -> str:
        """The class that the classifier gives a request."""
        query = request.query
        assert query is not None
        by_task = self._settings.by == "task"
        label = query.task if by_task else query.difficulty
        self._num_unlabelled += label is None
        if by_task and label is None:
            return self._known(task_by_words(query.text))
        truth = self._known(query.task) if by_task else self._level(request)
        said = self._mistaken(request, truth) if self._uniform("error", request) < classifier.error_rate else truth
        self._confusion[truth][said] += 1
        return said

    def _mistaken(self, request: Request, truth: str) -> str:
        others = [label for label in self._labels if label != truth]
        return others[int(self._uniform("wrong class", request) * len(others))]

    def _level(self, request: Request) -> str:
        """The class of a request's difficulty."""
        difficulty = difficulty_of(request, self._parts.streams)
        bounds = sorted(self._settings.below)
        return next((f"below {bound:g}" for bound in bounds if difficulty < bound), _OTHERWISE)

    def _price(self, model: str, flight: Flight, end: Finished) -> float:
        """What this answer costs from a model."""
        num_prompt = flight.passage.num_prompt_tokens or flight.request.num_prompt_tokens
        price = self._parts.prices.get(model, Price())
        return price.of(num_prompt, end.num_output_tokens, end.cache, batch=flight.request.batch)

    def _uniform(self, what: str, request: Request) -> float:
        return self._parts.streams.uniform(f"{self.name} {what}", request.shared_key)
