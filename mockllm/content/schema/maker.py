"""A value for a schema: tries at each place until its subschemas accept one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from mockllm.content.schema.containers import make_array, make_object
from mockllm.content.schema.draws import Draws
from mockllm.content.schema.errors import ATTEMPTS, LEAN_DEPTH, LEAN_STEPS, MAX_DEPTH, NoValueError, SchemaError
from mockllm.content.schema.nodes import TYPES, Node
from mockllm.content.schema.numbers import number_within
from mockllm.content.schema.patterns import matching
from mockllm.content.schema.place import Place, unfold
from mockllm.content.schema.plan import Plan, plan_of
from mockllm.content.schema.texts import FORMATS, fitted, said
from mockllm.content.schema.work import Work
from mockllm.streams import Streams

__all__ = ["value_for"]

_ABOUT: Final = {
    "object": "properties required additionalProperties patternProperties minProperties maxProperties propertyNames "
    "dependentRequired dependentSchemas unevaluatedProperties",
    "array": "items prefixItems minItems maxItems uniqueItems contains unevaluatedItems",
    "string": "minLength maxLength pattern format",
    "number": "minimum maximum exclusiveMinimum exclusiveMaximum multipleOf",
}
_KINDS: Final = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


def value_for(schema: Mapping[str, Any] | bool, streams: Streams, key: str) -> Any:
    """A JSON value that validates against the schema, formats included; SchemaError when none was found."""
    return _Maker(plan_of(schema)).whole(Draws(streams, key))


class _Maker:
    """Makes one value of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.root = plan.root
        self.work = Work(plan)
        self.open = Counter[Node]()  # nodes on the way from the root to here: tells recursion

    def whole(self, draws: Draws) -> Any:
        try:
            for attempt in range(ATTEMPTS):
                value = self.value([self.root], draws.at(attempt) if attempt else draws, "", 0, lean=False)
                if self.work.accepts_whole(self.root, value):
                    return value
        except NoValueError as refused:
            raise SchemaError(refused.path, f"no value found: {refused.rule}; relax the schema") from None
        raise SchemaError(self.root.path, f"none of {ATTEMPTS} values was accepted; relax the schema")

    def value(self, nodes: Sequence[Node], draws: Draws, name: str, depth: int, *, lean: bool) -> Any:
        """A value for all the nodes; see Place."""
        if depth > MAX_DEPTH:
            raise self.work.refuse(nodes[0], f"deeper than {MAX_DEPTH} levels")
        self.work.spend(len(nodes) // 4)
        lean = lean or depth >= LEAN_DEPTH or self.work.steps > LEAN_STEPS
        lean = lean or any(self.open[node] >= 2 for node in nodes)
        self.open.update(nodes)
        try:
            return self._tried(nodes, draws, name, depth, lean)
        finally:
            self.open.subtract(nodes)

    def _tried(self, nodes: Sequence[Node], draws: Draws, name: str, depth: int, lean: bool) -> Any:
        refused = None
        for turn in range(ATTEMPTS):
            place = Place(draws.at(f"try {turn}") if turn else draws, name, depth, lean, turn)
            try:
                unfold(nodes, place, self.work)
                value = self._drawn(place)
            except NoValueError as found:
                refused = found
            else:
                if not place.doubtful or self.work.accepts(nodes, value):
                    return value
            if place.num_choices == 1 and not place.doubtful:
                break
        raise refused or self.work.refuse(nodes[0], f"none of {ATTEMPTS} values was accepted")

    def _drawn(self, place: Place) -> Any:
        listed = next(iter([[value] for value in place.asked("const")] + place.asked("enum")), None)
        if listed is not None:
            return self._listed(listed, place)
        match self._type(place):
            case "object":
                return make_object(place, self.work, self.value)
            case "array":
                return make_array(place, self.work, self.value)
            case "string":
                return self._text(place)
            case "integer" | "number" as kind:
                return self._number(place, kind)
            case "boolean":
                return place.draws.index(2, "boolean") == 1
            case _:
                return None

    def _listed(self, values: list[Any], place: Place) -> Any:
        """A value of `const` or `enum`."""
        values = [value for value in values if all(_kind(value) in node.types for node in place.nodes)]
        self.work.spend(len(values) / 8)
        if not values:
            raise self.work.refuse(place.nodes[0], "no listed value has the type that is asked for")
        values.sort(key=_is_none)
        chosen = place.choose(values, _is_none, "enum")
        if place.draws.turn:
            chosen = values[place.draws.index(len(values), "enum")]
        text = orjson.dumps(chosen)
        self.work.spend(len(text) / 16)
        return orjson.loads(text)  # a value belongs to its caller

    def _type(self, place: Place) -> str:
        types = frozenset(TYPES).intersection(*(node.types for node in place.nodes))
        likely = [kind for kind in TYPES if kind in types and not (kind == "integer" and "number" in types)]
        if not likely:
            raise self.work.refuse(place.nodes[0], "no type fits all its subschemas")
        if len(likely) == 1:
            return likely[0]
        if not place.asked("type"):
            keywords = set[str]().union(*(node.schema for node in place.nodes))
            implied = [kind for kind, about in _ABOUT.items() if not keywords.isdisjoint(about.split())]
            ordered = [kind for kind in implied if kind in likely] + [kind for kind in likely if kind not in implied]
        elif place.lean:
            ordered = sorted(likely, key=lambda kind: kind in ("object", "array"))
        else:
            return place.choose(likely, lambda kind: kind == "null", "type")
        return ordered[place.option(len(ordered), 0)]

    def _text(self, place: Place) -> str:
        low, high, turn = place.least("minLength"), place.most("maxLength"), place.turn
        self.work.spend(low / 16)
        patterns, formats = place.asked("pattern"), [name for name in place.asked("format") if name in FORMATS]
        if patterns and (not formats or turn % 2 == 0):
            text = matching(patterns[turn // 2 % len(patterns)], place.draws, (low, high), self.work.spend)
            if text is None:
                raise self.work.refuse(place.nodes[0], "no text was found for its pattern")
            return text
        if formats:
            return FORMATS[formats[turn % len(formats)]](place.draws, low, high)
        return fitted(said(place.name, place.draws), place.draws, low, high)

    def _number(self, place: Place, kind: str) -> int | float:
        schemas = [node.schema for node in place.nodes]
        number = number_within(schemas, place.draws, place.name, whole=kind == "integer")
        if number is None:
            raise self.work.refuse(place.nodes[0], "no number lies within its bounds")
        return number


def _is_none(value: Any) -> bool:
    return value is None


def _kind(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return "integer"
    return _KINDS.get(type(value), "null")
