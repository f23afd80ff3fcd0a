"""What is refused: limits on schemas and values, and the errors."""

from __future__ import annotations

from typing import Final

__all__ = [
    "ATTEMPTS",
    "LEAN_DEPTH",
    "LEAN_STEPS",
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_EVALUATIONS",
    "MAX_IN_PLACE",
    "MAX_ITEMS",
    "MAX_LENGTH",
    "MAX_NODES",
    "MAX_PATTERNS",
    "MAX_STEPS",
    "NoValueError",
    "SchemaError",
    "short",
]

# OpenAI's limits for strict schemas are 5,000 properties, 10 levels and 120,000 characters of names and enums
# (developers.openai.com, structured outputs); these are at or above them. The others are judgement.
MAX_BYTES: Final = 256 * 1024  # a schema as JSON text
MAX_NODES: Final = 5_000  # subschemas that can be reached
MAX_IN_PLACE: Final = 64  # schemas nested without going down in the value: allOf in anyOf behind $ref ...
MAX_DEPTH: Final = 32  # levels of a value
MAX_LENGTH: Final = 10_000  # characters that minLength may ask for
MAX_ITEMS: Final = 1_000  # items or properties that minItems, minContains, minProperties may ask for
MAX_PATTERNS: Final = 50  # different regular expressions in one schema
MAX_STEPS: Final = 30_000  # a value costs 4 to 8 steps, and 1 for 16 characters: at most 480,000 characters
MAX_EVALUATIONS: Final = 2_000_000  # of subschemas by the validator, 14 ns each: branches in branches multiply
ATTEMPTS: Final = 24  # draws at one place until its schemas accept one
# From here on, or from the third turn of a recursion, a value has only what must be there.
LEAN_STEPS: Final = 10_000
LEAN_DEPTH: Final = 12


class SchemaError(ValueError):
    """A schema that is not one, or that cannot be served. `path` is the place in the schema, "" its root."""

    def __init__(self, path: str, rule: str) -> None:
        super().__init__(f"{path}: {rule}" if path else rule)
        self.path, self.rule = path, rule


class NoValueError(Exception):
    """No value was found for the subschema at `path`; another branch higher up may still help."""

    def __init__(self, path: str, rule: str) -> None:
        super().__init__(rule)
        self.path, self.rule = path, rule


def short(text: str) -> str:
    """A client's text for an error."""
    return text if len(text) <= 200 else f"{text[:120]} ... {text[-70:]}"
