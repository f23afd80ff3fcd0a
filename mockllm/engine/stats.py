"""Counts of what happened to requests. They always balance; a law and `/metrics` both read them."""

from __future__ import annotations

from dataclasses import dataclass

from mockllm.model import Cut, Emission, Finished, Refused, Tokens

__all__ = ["Counts"]


@dataclass(slots=True)
class Counts:
    """submitted = finished + refused + cut + cancelled + in flight, at every instant."""

    num_submitted: int = 0
    num_finished: int = 0
    num_refused: int = 0
    num_cut: int = 0
    num_cancelled: int = 0
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0

    def count(self, emission: Emission) -> None:
        match emission:
            case Tokens():
                self.num_output_tokens += emission.num
            case Finished():
                self.num_finished += 1
            case Refused():
                self.num_refused += 1
            case Cut():
                self.num_cut += 1

    @property
    def num_in_flight(self) -> int:
        return self.num_submitted - self.num_finished - self.num_refused - self.num_cut - self.num_cancelled
