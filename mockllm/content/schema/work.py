"""The work on one value, counted in steps, and the check of what was drawn."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from typing import Any

from mockllm.content.schema.errors import MAX_EVALUATIONS, MAX_STEPS, NoValueError, SchemaError
from mockllm.content.schema.nodes import Node
from mockllm.content.schema.plan import Plan

__all__ = ["Work"]


class Work:
    """What one value of a plan has cost so far."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.steps = 0
        self._compiled = set[Node]()
        self._refused = NoValueError("", "the values are too large")

    def spend(self, steps: float) -> None:
        """Counts one step and these more; SchemaError when the value has cost too much."""
        self.steps += 1 + int(steps)
        if self.steps > MAX_STEPS:
            rule = f"no value found in {MAX_STEPS} steps: {self._refused.rule}; relax the schema"
            raise SchemaError(self._refused.path, rule)

    def refuse(self, node: Node, rule: str) -> NoValueError:
        """The error to raise; it is named should the steps run out."""
        self._refused = NoValueError(node.path, rule)
        return self._refused

    def accepts(self, nodes: Sequence[Node], value: Any) -> bool:
        """Whether the nodes accept the value. One whose validator is too costly is left to the check of the whole."""
        for node in nodes:
            if node not in self._compiled:
                if node.span > (MAX_STEPS - self.steps) // 4:
                    continue
                self._compiled.add(node)
                self.spend(node.span)
            if not self.accepts_whole(node, value):
                return False
        return True

    def accepts_whole(self, node: Node, value: Any) -> bool:
        self._spend_evaluations(node, value)
        return self.plan.accepts(node, value)

    def of_property(self, node: Node, name: str) -> list[Node]:
        """The subschemas of a node for a property."""
        patterns = node.named.get("patternProperties", {})
        self.spend(len(patterns) // 4)
        found = [child for pattern, child in patterns.items() if self.plan.matches(pattern, name)]
        if name in node.named.get("properties", {}):
            found.append(node.named["properties"][name])
        return found or node.ones("additionalProperties")

    def _spend_evaluations(self, node: Node, value: Any) -> None:
        """Refuses what a validator would take too long for: branches that branch again on every level of the value."""
        self.spend(0)
        if not self.plan.branches or self.plan.root.num_ways * self.steps < MAX_EVALUATIONS:
            return
        num_evaluations, pending = 0, [(value, Counter({node: 1}))]
        while pending:
            value, times = pending.pop()
            below: dict[int | str, Counter[Node]] = defaultdict(Counter)
            for part, num in _in_place(times):
                self.spend(_num_children(part) // 8)
                num_evaluations += num
                for place, child in self._applied(part, value):
                    below[place][child] += num
            if num_evaluations > MAX_EVALUATIONS:
                rule = f"a check takes more than {MAX_EVALUATIONS} evaluations, its branches multiply"
                raise self.refuse(node, rule)
            pending += [(value[place], counts) for place, counts in below.items()]

    def _applied(self, node: Node, value: Any) -> Iterator[tuple[int | str, Node]]:
        """The subschemas that look at each part of the value."""
        if isinstance(value, dict):
            always = node.ones("unevaluatedProperties")
            for name in value:
                yield from ((name, child) for child in self.of_property(node, name) + always)
        elif isinstance(value, list):
            always = node.ones("contains", "unevaluatedItems")
            for number in range(len(value)):
                yield from ((number, child) for child in node.of_item(number) + always)


def _num_children(node: Node) -> int:
    return sum(map(len, node.named.values())) + sum(map(len, node.many.values()))


def _in_place(times: Counter[Node]) -> Iterator[tuple[Node, int]]:
    """The nodes and all below them that look at the same value, each once, with how often it is reached."""
    order = [(-node.rank, number, node) for number, node in enumerate(times)]
    order.sort(key=lambda entry: entry[:2])
    while order:
        _, _, node = heappop(order)
        yield node, times[node]
        for child in node.in_place():
            if child not in times:
                heappush(order, (-child.rank, len(times), child))
            times[child] += times[node]
