"""Objects and arrays: which parts they have."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any, Final, Protocol

import orjson

from mockllm.content.schema.draws import Draws
from mockllm.content.schema.errors import ATTEMPTS, LEAN_STEPS, MAX_DEPTH, NoValueError
from mockllm.content.schema.nodes import Node
from mockllm.content.schema.patterns import matching
from mockllm.content.schema.place import Place
from mockllm.content.schema.words import KEYS, singular
from mockllm.content.schema.work import Work

__all__ = ["make_array", "make_object"]

_OPTIONAL_SHARE: Final = 0.9  # of optional properties that are present; judgement: models fill in most
_ANYTHING: Final = Node((), {}, height=0)


class Make(Protocol):
    """Makes a value that all the nodes accept; NoValueError when none was found."""

    def __call__(self, nodes: Sequence[Node], draws: Draws, name: str, depth: int, *, lean: bool) -> Any: ...


def make_array(place: Place, work: Work, make: Make) -> list[Any]:
    low, unique = place.least("minItems"), any(place.asked("uniqueItems"))
    wanted = [node for node in place.nodes if "contains" in node.one and node.schema.get("minContains", 1) > 0]
    num_wanted = max((int(node.schema.get("minContains", 1)) for node in wanted), default=0)
    low = max(low, num_wanted)
    num = int(min(low if place.lean else max(low, _usual_length(place)), place.most("maxItems")))
    first = place.option(max(num - num_wanted, 0) + 1, 0) if wanted else 0
    made, seen, turn = list[Any](), set[bytes](), 0
    while len(made) < num:
        nodes = [child for node in place.nodes for child in node.of_item(len(made))]
        nodes = nodes or [child for node in place.nodes for child in node.ones("unevaluatedItems")]
        nodes += [node.one["contains"] for node in wanted if first <= len(made) < first + num_wanted]
        draws = place.draws.at("items", turn) if unique else place.draws.at(len(made))
        turn += 1
        try:
            item = _part(nodes, draws, singular(place.name), place, work, make)
        except NoValueError:
            if len(made) < low:
                raise
            break
        written = orjson.dumps(item, option=orjson.OPT_SORT_KEYS)
        if not unique or written not in seen:
            made.append(item)
            seen.add(written)
        elif turn > num + 2 * ATTEMPTS:
            if len(made) < low:
                raise work.refuse(place.nodes[0], f"fewer than {low} different items found")
            break
    return made


def _usual_length(place: Place) -> int:
    prefixes = (len(node.many.get("prefixItems", ())) for node in place.nodes)
    return max(1 + place.draws.index(3, "items"), *prefixes)


def _part(nodes: list[Node], draws: Draws, name: str, place: Place, work: Work, make: Make) -> Any:
    """An item or a property."""
    if any(node.height > MAX_DEPTH - place.depth - 1 for node in nodes):
        raise work.refuse(nodes[0], "nothing may stand here")
    return make(nodes or [_ANYTHING], draws, name, place.depth + 1, lean=place.lean)


def make_object(place: Place, work: Work, make: Make) -> dict[str, Any]:
    return _ObjectMaker(place, work, make).made()


class _ObjectMaker:
    """Makes one object."""

    def __init__(self, place: Place, work: Work, make: Make) -> None:
        self.place, self.work, self.make = place, work, make
        self.most = place.most("maxProperties")
        declared = [node.named["properties"] for node in place.nodes if "properties" in node.named]
        self.declared = list(dict.fromkeys(name for properties in declared for name in properties))
        work.spend(sum(map(len, declared)) / 8)
        self.required = self._required()
        self.names = [child for node in place.nodes for child in node.ones("propertyNames")]

    def made(self) -> dict[str, Any]:
        made: dict[str, Any] = {}
        optional = self.most - len(self.required)
        for name in dict.fromkeys([*self.declared, *self.required]):
            if name in self.required:
                made[name] = self._property(name)
            elif optional > 0 and self._wanted(name) and self._add(made, name):
                optional -= 1
        self._fill(made)
        return made

    def _required(self) -> dict[str, None]:
        """The names that must be there, with those that they ask for."""
        dependent = [(name, more) for needs in self.place.asked("dependentRequired") for name, more in needs.items()]
        required = dict.fromkeys(name for names in self.place.asked("required") for name in names)
        pending = list(required)
        while pending:
            name = pending.pop()
            self.work.spend(len(dependent) / 8)
            new = [other for when, more in dependent if when == name for other in more if other not in required]
            required.update(dict.fromkeys(new))
            pending += new
        return required

    def _wanted(self, name: str) -> bool:
        if self.place.lean or self.work.steps > LEAN_STEPS or name in self.place.absent:
            return False
        return self.place.draws.happens(_OPTIONAL_SHARE, f"property {name}")

    def _add(self, made: dict[str, Any], name: str) -> bool:
        """Adds an optional property where that is possible."""
        needs = [other for more in self.place.asked("dependentRequired") for other in more.get(name, ())]
        if any(other not in self.required and other not in made for other in needs):
            return False
        if not self.work.accepts(self.names, name):
            return False
        try:
            made[name] = self._property(name)
        except NoValueError:
            return False
        return True

    def _property(self, name: str) -> Any:
        self.work.spend(len(name) / 16)
        nodes = [child for node in self.place.nodes for child in self.work.of_property(node, name)]
        nodes = nodes or [child for node in self.place.nodes for child in node.ones("unevaluatedProperties")]
        return _part(nodes, self.place.draws.at(name), name, self.place, self.work, self.make)

    def _fill(self, made: dict[str, Any]) -> None:
        """Adds properties up to `minProperties`, and a few where names are free (a map)."""
        low, draws = self.place.least("minProperties"), self.place.draws
        for name in self.declared:
            if len(made) < low and name not in made and name not in self.place.absent:
                self._add(made, name)
        if not self.place.lean and not self.declared and (self._is_map() or draws.turn):
            low = max(low, 1 + draws.index(3, "properties"))
        low = int(min(low, self.most))
        for number in range(low + 2 * ATTEMPTS):
            if len(made) >= low:
                return
            invented = self._name(number)
            if invented not in made and invented not in self.place.absent:
                self._add(made, invented)

    def _is_map(self) -> bool:
        return any(self.place.asked("additionalProperties")) or self.place.asked("patternProperties") != []

    def _name(self, number: int) -> str:
        """A name for a property that the schema does not name."""
        draws = self.place.draws.at("name", number)
        if self.names:
            return str(self.make(self.names, draws, "key", self.place.depth, lean=False))
        patterns = [pattern for known in self.place.asked("patternProperties") for pattern in known]
        if patterns and (number % 2 == 0 or False in self.place.asked("additionalProperties")):
            return matching(patterns[draws.index(len(patterns), "pattern")], draws, (0, inf), self.work.spend) or ""
        word = KEYS[draws.index(len(KEYS), "word")]
        return word if number < len(KEYS) else f"{word}_{number // len(KEYS) + 1}"
