"""Draws for one place in a value."""

from __future__ import annotations

from dataclasses import dataclass

from mockllm.streams import Streams

__all__ = ["Draws"]


@dataclass(frozen=True, slots=True)
class Draws:
    """`turn` shifts them all, so that consecutive turns differ."""

    streams: Streams
    key: str
    turn: int = 0

    def at(self, place: object, turn: int = 0) -> Draws:
        """Draws for a place below this one, that many turns on."""
        return Draws(self.streams, f"{self.key}/{place}", self.turn + turn)

    def index(self, num: int, what: str) -> int:
        """A number in 0..num-1."""
        return (self.streams.integer(f"schema {what}", self.key) + self.turn) % num

    def happens(self, share: float, what: str) -> bool:
        return self.streams.uniform(f"schema {what}", self.key) < share
