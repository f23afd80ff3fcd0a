"""A subschema, linked to those it names, and what follows from its own keywords."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

from mockllm.content.schema.errors import MAX_ITEMS, MAX_LENGTH, SchemaError

__all__ = ["TYPES", "Node"]

TYPES: Final = ("string", "object", "array", "number", "integer", "boolean", "null")  # the likelier first

_LIMITED: Final = {
    "minLength": (MAX_LENGTH, "characters"),
    "minItems": (MAX_ITEMS, "items"),
    "minContains": (MAX_ITEMS, "items"),
    "minProperties": (MAX_ITEMS, "properties"),
}
_UNSERVED: Final = ("$dynamicRef", "$recursiveRef", "$id")
_BOUNDS: Final = (
    ("minLength", "maxLength", {"string"}),
    ("minItems", "maxItems", {"array"}),
    ("minProperties", "maxProperties", {"object"}),
    ("minimum", "maximum", {"number", "integer"}),
)
# fmt: off
_ANNOTATIONS: Final = frozenset({
    "$ref", "$defs", "definitions", "$schema", "$comment", "$anchor", "title", "description", "default",
    "examples", "deprecated", "readOnly", "writeOnly", "nullable", "allOf", "anyOf", "strict",
})
# What drawing from one subschema alone does not guarantee.
_RISKY: Final = frozenset({
    "not", "oneOf", "if", "dependentSchemas", "dependentRequired", "contains", "propertyNames", "uniqueItems",
    "patternProperties", "pattern", "unevaluatedItems", "unevaluatedProperties", "maxProperties",
})
_LENGTHS: Final = frozenset({"minLength", "maxLength"})
# What makes a validator look at a value more than once.
_BRANCHING: Final = frozenset({
    "anyOf", "oneOf", "not", "if", "contains", "dependentSchemas", "unevaluatedItems", "unevaluatedProperties",
})
# fmt: on


@dataclass(eq=False, slots=True)
class Node:
    """A subschema with the subschemas it names, by keyword. `true` is `{}`, `false` is `{"not": {}}`."""

    where: tuple[str, ...]
    schema: dict[str, Any]
    one: dict[str, Node] = field(default_factory=dict)
    many: dict[str, list[Node]] = field(default_factory=dict)
    named: dict[str, dict[str, Node]] = field(default_factory=dict)
    types: frozenset[str] = field(init=False)  # that a value may have
    constrains: bool = field(init=False)  # says something of its own about a value
    risky: bool = field(init=False)  # a value drawn from it alone may still not validate
    branches: bool = field(init=False)  # a validator looks at the value more than once
    rank: int = 0  # longest chain of schemas for the same value below this one
    height: float = inf  # levels that a value for it has at least; infinite when there is no such value
    span: int = 1  # subschemas that a validator for it holds
    num_ways: float = inf  # ways down from here; infinite where it recurs

    def __post_init__(self) -> None:
        schema = self.schema
        self.types = _possible_types(schema)
        self.constrains = not _ANNOTATIONS.issuperset(schema)
        self.risky = not _RISKY.isdisjoint(schema) or ("format" in schema and not _LENGTHS.isdisjoint(schema))
        self.branches = not _BRANCHING.isdisjoint(schema)

    @property
    def path(self) -> str:
        return ".".join(self.where)

    @property
    def only_null(self) -> bool:
        return self.types == {"null"} or ("const" in self.schema and self.schema["const"] is None)

    def ones(self, *keywords: str) -> list[Node]:
        """The subschemas of these keywords, as far as they are there."""
        return [self.one[keyword] for keyword in keywords if keyword in self.one]

    def in_place(self) -> Iterator[Node]:
        """The subschemas that look at the same value."""
        yield from self.ones("$ref", "not", "if", "then", "else")
        for keyword in ("allOf", "anyOf", "oneOf"):
            yield from self.many.get(keyword, ())
        yield from self.named.get("dependentSchemas", {}).values()

    def children(self) -> Iterator[Node]:
        yield from self.one.values()
        for nodes in self.many.values():
            yield from nodes
        for by_name in self.named.values():
            yield from by_name.values()

    def of_item(self, number: int) -> list[Node]:
        """The subschemas for an item."""
        first = self.many.get("prefixItems", [])
        return [first[number]] if number < len(first) else self.ones("items")

    def check_keywords(self) -> None:
        """Raises SchemaError for what is not served."""
        for keyword in _UNSERVED:
            if keyword in self.schema:
                raise self.error(keyword, "not served below the root; use '$ref': '#/$defs/NAME'")
        for keyword, (limit, what) in _LIMITED.items():
            num = self.schema.get(keyword, 0)
            if num > limit:
                raise self.error(keyword, f"{num} {what}; at most {limit} are served, ask for less")

    def error(self, keyword: str, rule: str) -> SchemaError:
        return SchemaError(".".join((*self.where, keyword)), rule)


def _possible_types(schema: Mapping[str, Any]) -> frozenset[str]:
    """The types that a schema names, all if none, without those whose bounds contradict each other."""
    named = schema.get("type", TYPES)
    types = frozenset([named] if isinstance(named, str) else named)
    if "number" in types:
        types |= {"integer"}
    for low, high, of in _BOUNDS:
        if schema.get(low, -inf) > schema.get(high, inf):
            types -= of
    return types
