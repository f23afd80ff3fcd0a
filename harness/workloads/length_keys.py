"""Lengths as a workload file writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from harness.strictkeys import Count, Keys, NotNegative, Positive
from harness.workloads.lengths import LengthLaw, Uniform, Weighted, read_lengths
from harness.workloads.synthetic import Lognormal

__all__ = ["Answer", "AnswerKeys", "Length", "Lengths"]


def _fixed(value: object) -> object:
    return {"values": {value: 1.0}} if type(value) is int else value


def _answer(value: object) -> object:
    return {} if value == "model" else _fixed(value)


class Lengths(Keys):
    """A length in tokens, in one of four forms."""

    median: Positive | None = None
    sigma: NotNegative | None = None
    least: Count | None = None
    most: Count | None = None
    values: Annotated[dict[Count, Positive], Field(min_length=1)] | None = None
    file: str | None = Field(default=None, alias="from")
    column: str | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Lengths:
        self._check_form()
        return self

    def _check_form(self) -> None:
        if self._given not in _FORMS:
            raise ValueError(
                "write a number, {median, sigma, most}, {least, most}, {values: {TOKENS: WEIGHT}} or {from, column}"
            )
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"least {self.least} is more than most {self.most}")

    @property
    def _given(self) -> frozenset[str]:
        return frozenset(name for name in _LENGTH_KEYS if getattr(self, name) is not None)

    @property
    def is_fixed(self) -> bool:
        """Whether there is only one."""
        return (self.values is not None and len(self.values) == 1) or self.sigma == 0

    def law(self, directory: Path) -> LengthLaw:
        """The law; files lie in `directory` unless they say otherwise. Raises WorkloadError."""
        if self.values is not None:
            return Weighted(self.values)
        if self.file is not None and self.column is not None:
            return read_lengths(directory / self.file, self.column)
        assert self.most is not None
        if self.median is not None and self.sigma is not None:
            return Lognormal(self.median, self.sigma, self.most)
        assert self.least is not None
        return Uniform(self.least, self.most)


_LENGTH_KEYS = ("median", "sigma", "least", "most", "values", "file", "column")
_FORMS = {frozenset(form) for form in (("median", "sigma", "most"), ("least", "most"), ("values",), ("file", "column"))}


class AnswerKeys(Lengths):
    """The planned length of answers, or no more than a limit, or neither: the model stops by itself."""

    at_most: Count | None = None

    @model_validator(mode="after")
    def _one_form(self) -> AnswerKeys:
        if self.at_most is not None:
            if self._given:
                raise ValueError("at_most is for answers that the model ends by itself; take it away, or the length")
        elif self._given:
            self._check_form()
        return self

    @property
    def is_planned(self) -> bool:
        """Whether the plan says how long an answer is."""
        return bool(self._given)


Length: TypeAlias = Annotated[Lengths, BeforeValidator(_fixed)]
Answer: TypeAlias = Annotated[AnswerKeys, BeforeValidator(_answer)]
