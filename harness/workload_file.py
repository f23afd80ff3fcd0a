"""A workload as a file: who sends what, how often, how long, and what the questions have to do with each other.

    arrivals: {gaps: poisson, rate: 20/s, for: 10m}      # or pieces: [{rate: 5/s, for: 10m, phase: quiet}, ...]
    classes:
      - name: chat
        weight: 3                                        # of all arrivals, beside the other classes'
        model: assistant                                 # or {large: 1, small: 3}; default: the run's
        stream: 0.9                                      # share of streams; default 1
        prefix: {tokens: 400, num: 1}                    # a system prompt: shared by all, or one of so many
        questions: {num: 2000, zipf: 1.1, repeats: 0.4, paraphrases: 0.2}
        answer_tokens: {at_most: 500}                    # 200, {median, sigma, most}, {at_most} or model
        users: {num: 5000, zipf: 0.8}
        tier: {free: 9, pro: 1}
        urgency: P0
        difficulty: {least: 0, most: 1}

A key that stands outside of `classes` holds for every class that does not have it. `prompt_tokens` draws the length of
what the user says; `questions` gives it words instead: `repeats` is the share that asks one of the `num` questions word
for word, `paraphrases` the share that asks one in other words, the rest is asked for the first time. With `corpus` the
questions come from a CSV file with the columns text and intent. `turns`: that many requests of a user in a row are one
conversation, and each repeats what was said before. `organization`, `tier` and `region` are a user's, `feature`, `urgency`
and `task` a request's; each is a name, or names with weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from harness.errors import UsageError
from harness.strictyaml import Document, KeyPath, broken_rule, read_yaml
from harness.units import parse_duration, parse_rate
from harness.workload import AZURE_CONVERSATION_OUTPUT, AZURE_CONVERSATION_PROMPT, Lognormal

__all__ = ["ArrivalKeys", "ClassKeys", "PieceKeys", "Population", "QuestionMix", "Workload", "read_workload"]


class _Keys(BaseModel):
    """Unknown keys, wrong types and NaN are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, populate_by_name=False)


def _quantity(parse: Any, example: str) -> BeforeValidator:
    def read(value: object) -> float:
        if not isinstance(value, str):
            raise ValueError(f"{value!r} has no unit; write it with one, as {example}")
        try:
            seconds_or_rate: float = parse(value)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return seconds_or_rate

    return BeforeValidator(read)


def _weights(value: object) -> object:
    return {value: 1.0} if isinstance(value, str) else value


def _fixed(value: object) -> object:
    return {"median": value, "sigma": 0.0, "most": value} if type(value) is int else value


def _answer(value: object) -> object:
    return {} if value == "model" else _fixed(value)


def _number(value: object) -> object:
    return {"least": value, "most": value} if isinstance(value, int | float) else value


def _num(value: object) -> object:
    return {"num": value} if type(value) is int else value


Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Duration = Annotated[float, _quantity(parse_duration, "10m")]
Rate = Annotated[float, _quantity(parse_rate, "20/s")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/ -]{0,99}$")]  # fits into a header
Weights = Annotated[dict[Name, Positive], Field(min_length=1), BeforeValidator(_weights)]
UrgencyWeights = Annotated[dict[Literal["P0", "P1", "P2"], Positive], Field(min_length=1), BeforeValidator(_weights)]


class PieceKeys(_Keys):
    """A stretch of time with one rate."""

    rate: Rate
    for_s: Duration = Field(alias="for")
    phase: Name = "steady"


class ArrivalKeys(_Keys):
    """When requests come: at one rate, or in pieces."""

    gaps: Literal["poisson", "constant"] = "poisson"
    rate: Rate | None = None
    for_s: Duration | None = Field(default=None, alias="for")
    pieces: Annotated[list[PieceKeys], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> ArrivalKeys:
        if self.pieces is not None and (self.rate is not None or self.for_s is not None):
            raise ValueError("pieces have rates and durations of their own; take away rate and for, or pieces")
        return self


class Lengths(_Keys):
    """Lognormal lengths in tokens; `sigma` 0 is a fixed one."""

    median: Positive
    sigma: NotNegative
    most: Count

    @property
    def law(self) -> Lognormal:
        return Lognormal(self.median, self.sigma, self.most)


class Answer(_Keys):
    """The planned length of answers, or no more than a limit, or neither: the model stops by itself."""

    median: Positive | None = None
    sigma: NotNegative | None = None
    most: Count | None = None
    at_most: Count | None = None

    @model_validator(mode="after")
    def _planned_or_limited(self) -> Answer:
        given = [value is not None for value in (self.median, self.sigma, self.most)]
        if (any(given) and not all(given)) or (any(given) and self.at_most is not None):
            raise ValueError("write a number, {median, sigma, most}, {at_most}, or model")
        return self

    @property
    def law(self) -> Lognormal | None:
        """None where the model decides."""
        if self.median is None or self.sigma is None or self.most is None:
            return None
        return Lognormal(self.median, self.sigma, self.most)


class Population(_Keys):
    """`num` of something; the share of the k-th is proportional to 1 / k^zipf: 0 makes all alike."""

    num: Count
    zipf: NotNegative = 0.0


class Prefix(Population):
    """`num` beginnings of `tokens` tokens; a request has one, a conversation keeps its own."""

    num: Count = 1
    tokens: Count


class QuestionMix(_Keys):
    """What the questions of a class have to do with each other."""

    num: Count | None = None
    zipf: NotNegative = 0.0
    repeats: Share
    paraphrases: Share = 0.0
    corpus: str | None = None

    @model_validator(mode="after")
    def _shares(self) -> QuestionMix:
        if self.repeats + self.paraphrases > 1:
            raise ValueError(f"repeats {self.repeats:g} and paraphrases {self.paraphrases:g} are more than 1 together")
        return self


class Range(_Keys):
    """Uniform between the two."""

    least: Share
    most: Share

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if self.least > self.most:
            raise ValueError(f"least {self.least:g} is more than most {self.most:g}")
        return self


class ClassKeys(_Keys):
    """One class of requests. None: not said, or the default."""

    name: Name | None = None
    weight: Positive = 1.0
    model: Weights | None = None
    stream: Share = 1.0
    prefix: Prefix | None = None
    prompt_tokens: Annotated[Lengths, BeforeValidator(_fixed)] | None = None
    questions: QuestionMix | None = None
    answer_tokens: Annotated[Answer, BeforeValidator(_answer)] | None = None
    users: Annotated[Population, BeforeValidator(_num)] | None = None
    turns: Count = 1
    organization: Weights | None = None
    tier: Weights | None = None
    region: Weights | None = None
    feature: Weights | None = None
    urgency: UrgencyWeights | None = None
    batch: bool = False
    task: Weights | None = None
    difficulty: Annotated[Range, BeforeValidator(_number)] | None = None

    @model_validator(mode="after")
    def _fit_together(self) -> ClassKeys:
        if self.questions is not None and self.prompt_tokens is not None:
            raise ValueError("questions are as long as their words; take away prompt_tokens, or questions")
        if self.questions is not None and self.answer is not None and self.answer.sigma > 0:
            raise ValueError(
                "with drawn answer_tokens every question would ask for a max_tokens of its own, and no cache would know it "
                "again; write one number, {at_most: 500} or model"
            )
        if self.turns > 1 and (self.users is None or self.answer is None):
            raise ValueError(
                f"turns {self.turns} needs users, who have the conversations, and answer_tokens as a length"
            )
        return self

    @property
    def prompt(self) -> Lognormal:
        return AZURE_CONVERSATION_PROMPT if self.prompt_tokens is None else self.prompt_tokens.law

    @property
    def answer(self) -> Lognormal | None:
        """The law of planned lengths; None where the model decides. Questions leave it to the model by default."""
        if self.answer_tokens is None:
            return None if self.questions is not None else AZURE_CONVERSATION_OUTPUT
        return self.answer_tokens.law

    @property
    def limit(self) -> int | None:
        """The most tokens that an answer may have, where the model decides."""
        return None if self.answer_tokens is None else self.answer_tokens.at_most


@dataclass(frozen=True)
class Workload:
    """What stands in a workload file."""

    path: Path
    arrivals: ArrivalKeys
    classes: tuple[ClassKeys, ...]


def read_workload(path: Path) -> Workload:
    """Read and check a workload file. Raises WorkloadError with file, line, key and rule."""
    document = read_yaml(path)
    shared = dict(document.value)
    arrivals = _validated(document, ArrivalKeys, shared.pop("arrivals", {}), ("arrivals",))
    given = shared.pop("classes", None)
    if given is None:
        return Workload(path, arrivals, (_validated(document, ClassKeys, shared, ()),))
    if not isinstance(given, list) or not given or not all(isinstance(each, dict) for each in given):
        raise document.error(("classes",), "must be a list of classes, each a mapping of keys to values")
    classes: dict[str | None, ClassKeys] = {}
    for index, keys in enumerate(given):
        at: KeyPath = ("classes", index)
        found = _validated(document, ClassKeys, shared | keys, at, frozenset(keys))
        if found.name is None:
            raise document.error(at, "has no name")
        if found.name in classes:
            raise document.error((*at, "name"), f"{found.name!r} stands twice")
        classes[found.name] = found
    return Workload(path, arrivals, tuple(classes.values()))


def _validated(
    document: Document, keys: type[Any], value: object, at: KeyPath, own: frozenset[str] | None = None
) -> Any:
    """`own`: the keys that stand at `at`; the others stand at the top of the file."""
    try:
        return keys.model_validate(value)
    except ValidationError as error:
        location, rule = broken_rule(error)
        is_shared = own is not None and location and location[0] not in own
        raise document.error(location if is_shared else (*at, *location), rule) from None
