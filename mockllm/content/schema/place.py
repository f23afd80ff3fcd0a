"""One place in a value: all subschemas that apply there once the branches have been chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final, TypeVar

from mockllm.content.schema.draws import Draws
from mockllm.content.schema.errors import MAX_DEPTH
from mockllm.content.schema.nodes import Node
from mockllm.content.schema.work import Work

__all__ = ["Place", "unfold"]

_NULL_SHARE: Final = 0.1  # of places that may be null and are

_T = TypeVar("_T")


@dataclass(slots=True)
class Place:
    """The `turn`-th try at a place. `name` is the property it is for; `lean` leaves out what may be left out."""

    draws: Draws
    name: str
    depth: int
    lean: bool
    turn: int
    nodes: list[Node] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)  # properties that stay away
    num_choices: int = 1

    def option(self, num: int, first: int) -> int:
        """The option of this turn among `num`: all combinations of all options come up in consecutive turns."""
        chosen = (first + self.turn // self.num_choices) % num
        self.num_choices *= num
        return chosen

    def choose(self, options: Sequence[_T], is_null: Callable[[_T], bool], what: str) -> _T:
        """An option by a draw; those for null are the last, and seldom the first to be tried."""
        ordered = sorted(options, key=is_null)
        num = sum(not is_null(option) for option in ordered)
        if num == 0 or (num < len(ordered) and self.draws.happens(_NULL_SHARE, f"null {what}")):
            first = num
        else:
            first = self.draws.index(num, what)
        return ordered[self.option(len(ordered), first)]

    @property
    def doubtful(self) -> bool:
        """Whether a value drawn here may still not validate."""
        return any(node.risky for node in self.nodes) or sum(node.constrains for node in self.nodes) > 1

    def asked(self, keyword: str) -> list[Any]:
        return [node.schema[keyword] for node in self.nodes if keyword in node.schema]

    def least(self, keyword: str) -> int:
        return int(max(self.asked(keyword), default=0))

    def most(self, keyword: str) -> float:
        return min(map(int, self.asked(keyword)), default=inf)


def unfold(nodes: Iterable[Node], place: Place, work: Work) -> None:
    """Adds to the place the nodes and all that they bring in for the same value."""
    pending = list(nodes)
    while pending:
        node = pending.pop()
        work.spend(0)
        place.nodes.append(node)
        pending.extend(node.many.get("allOf", ()))
        pending.extend(node.ones("$ref"))
        pending.extend(_branch(node, keyword, place, work) for keyword in ("anyOf", "oneOf") if keyword in node.many)
        if "if" in node.one:
            pending.extend(_condition(node, place))
        for name, child in node.named.get("dependentSchemas", {}).items():
            if place.option(2, 0) == 0:
                pending.append(child)
            else:
                place.absent.add(name)
        place.absent.update(_forbidden(node, place))


def _branch(node: Node, keyword: str, place: Place, work: Work) -> Node:
    children = node.many[keyword]
    work.spend(len(children) // 8)
    children = [child for child in children if child.height <= MAX_DEPTH - place.depth]
    if not children:
        raise work.refuse(node, f"no branch of {keyword} ends within {MAX_DEPTH} levels")
    if place.lean:
        children.sort(key=lambda child: child.height)
        return children[place.option(len(children), 0)]
    return place.choose(children, lambda child: child.only_null, f"{keyword} {node.path}")


def _condition(node: Node, place: Place) -> list[Node]:
    """Either `if` with `then`, or `else`; that `if` fails then is left to the check."""
    possible = node.one["if"].height < inf
    if possible and place.option(2, place.draws.index(2, f"if {node.path}")) == 0:
        return node.ones("if", "then")
    return node.ones("else")


def _forbidden(node: Node, place: Place) -> list[str]:
    """A property that is left out to satisfy `not: {required: [...]}`."""
    names = node.schema["not"].get("required") if isinstance(node.schema.get("not"), dict) else None
    return [names[place.option(len(names), 0)]] if names else []
