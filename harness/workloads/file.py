"""A workload as a file: who sends what, how often, how long, and what the questions have to do with each other.

    arrivals: {gaps: "gamma:2.5", rate: 20/s, for: 10m}  # or poisson, constant, weibull:1.8; or pieces, or a curve
    classes:
      - name: chat
        weight: 3                                        # of all arrivals, beside the other classes'
        model: assistant                                 # or {large: 1, small: 3}; default: the run's
        stream: 0.9                                      # share of streams; default 1
        prefix: {tokens: 400, num: 1}                    # a system prompt: shared by all, or one of so many
        questions: {num: 2000, zipf: 1.1, repeats: 0.4, paraphrases: 0.2}
        answer_tokens: {at_most: 500}                    # a length, {at_most} or model
        objective: ttft<1s, tpot<60ms                    # what a good request of this class meets
        users: {num: 5000, zipf: 0.8}
        tier: {free: 9, pro: 1}
        urgency: P0
        difficulty: {least: 0, most: 1}

The rate may change: `pieces: [{rate: 5/s, for: 10m, to: 20/s, phase: morning}, ...]` one after the other, with `to`
linearly; or `curve: {kind: burst, factor: 4, every: 1m, for: 10s}` over `rate` and `for`; the kinds are ramp, steps, burst,
spike, sawtooth, diurnal and mmpp, with the keys of their classes below.

A key that stands outside of `classes` holds for every class that does not have it. A length in tokens is a number,
{median, sigma, most} (lognormal), {least, most} (uniform), {values: {100: 3, 500: 1}} (by weight) or {from: file.csv,
column: tokens} (measured, drawn with replacement; two lengths from one file come from one row). `prompt_tokens` is of
what the user says; `questions` gives it words instead: `repeats` is the share that asks one of the `num` questions word
for word, `paraphrases` the share that asks one in other words, the rest is asked for the first time. With `corpus` the
questions come from a CSV file with the columns text and intent. `turns`: that many requests of a user in a row are one
conversation, and each repeats what was said before. `tools` are functions that the model may call, as OpenAI writes them,
or `{num: 8, tokens: 150}` made ones; `images: {num: 1, width: 1024, height: 768}` are shown with every question.
`organization`, `tier` and `region` are a user's, `feature`, `urgency` and `task` a request's; each is a name, or names with
weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from harness.objectives import parse_objective
from harness.strictkeys import Count, Keys, Name, NotNegative, Positive, Share, checked
from harness.strictyaml import Document, KeyPath, broken_rule, read_yaml
from harness.workloads.arrival_keys import ArrivalKeys
from harness.workloads.attachments import MIN_TOOL_TOKENS
from harness.workloads.length_keys import Answer, Length

__all__ = [
    "ClassKeys",
    "Population",
    "QuestionMix",
    "ToolKeys",
    "Workload",
    "read_workload",
    "workload_of",
]


def _weights(value: object) -> object:
    return {value: 1.0} if isinstance(value, str) else value


def _number(value: object) -> object:
    return {"least": value, "most": value} if isinstance(value, int | float) else value


def _num(value: object) -> object:
    return {"num": value} if type(value) is int else value


def _tools(value: object) -> object:
    return {"functions": value} if isinstance(value, list) else _num(value)


def _objective(text: str) -> str:
    checked(parse_objective, text)
    return text


Weights = Annotated[dict[Name, Positive], Field(min_length=1), BeforeValidator(_weights)]
UrgencyWeights = Annotated[dict[Literal["P0", "P1", "P2"], Positive], Field(min_length=1), BeforeValidator(_weights)]


class Population(Keys):
    """`num` of something; the share of the k-th is proportional to 1 / k^zipf: 0 makes all alike."""

    num: Count
    zipf: NotNegative = 0.0


class Prefix(Population):
    """`num` beginnings of `tokens` tokens; a request has one, a conversation keeps its own."""

    num: Count = 1
    tokens: Count


class QuestionMix(Keys):
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


class Range(Keys):
    """Uniform between the two."""

    least: Share
    most: Share

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if self.least > self.most:
            raise ValueError(f"least {self.least:g} is more than most {self.most:g}")
        return self


class FunctionKeys(Keys):
    """A function that the model may call, as OpenAI writes it."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})
    strict: bool = False


class ToolKeys(Keys):
    """Functions that stand in the file, or `num` made ones of `tokens` tokens each."""

    functions: Annotated[list[FunctionKeys], Field(min_length=1, max_length=128)] | None = None
    num: Annotated[int, Field(ge=1, le=128)] | None = None
    tokens: Annotated[int, Field(ge=MIN_TOOL_TOKENS, le=20_000)] = 150

    @model_validator(mode="after")
    def _one_of_them(self) -> ToolKeys:
        if (self.functions is None) == (self.num is None):
            raise ValueError("write a list of functions, or {num, tokens}")
        return self


class Images(Keys):
    """`num` pictures of so many pixels."""

    num: Annotated[int, Field(ge=1, le=100)] = 1
    width: Annotated[int, Field(ge=1, le=8192)] = 1024
    height: Annotated[int, Field(ge=1, le=8192)] = 768


class ClassKeys(Keys):
    """One class of requests. None: not said, or the default."""

    name: Name | None = None
    weight: Positive = 1.0
    model: Weights | None = None
    stream: Share = 1.0
    prefix: Prefix | None = None
    prompt_tokens: Length | None = None
    questions: QuestionMix | None = None
    answer_tokens: Answer | None = None
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
    tools: Annotated[ToolKeys, BeforeValidator(_tools)] | None = None
    images: Annotated[Images, BeforeValidator(_num)] | None = None
    objective: Annotated[str, AfterValidator(_objective)] | None = None

    @model_validator(mode="after")
    def _fit_together(self) -> ClassKeys:
        if self.questions is not None and self.prompt_tokens is not None:
            raise ValueError("questions are as long as their words; take away prompt_tokens, or questions")
        if (
            self.questions is not None
            and self.plans_answers
            and not (self.answer_tokens and self.answer_tokens.is_fixed)
        ):
            raise ValueError(
                "with drawn answer_tokens every question would ask for a max_tokens of its own, and no cache would know it "
                "again; write one number, {at_most: 500} or model"
            )
        if self.turns > 1 and (self.users is None or not self.plans_answers):
            raise ValueError(
                f"turns {self.turns} needs users, who have the conversations, and answer_tokens as a length"
            )
        return self

    @property
    def plans_answers(self) -> bool:
        """Whether answers have planned lengths. With questions or tools the model decides, unless the file says otherwise."""
        if self.answer_tokens is None:
            return self.questions is None and self.tools is None
        return self.answer_tokens.is_planned

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
    return _workload(read_yaml(path))


def workload_of(keys: Mapping[str, Any], name: str) -> Workload:
    """The workload of the keys that a file would hold; `name` stands for the file. Raises WorkloadError with key and rule."""
    return _workload(Document(Path(name), dict(keys), {}))


def _workload(document: Document) -> Workload:
    path, shared = document.path, dict(document.value)
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
