"""What follows for a subschema from those below it: whether it ends, how deep its values are, how large its validator."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import Final

import orjson

from mockllm.content.schema.errors import MAX_DEPTH, MAX_IN_PLACE, SchemaError, short
from mockllm.content.schema.nodes import Node

__all__ = ["set_heights", "set_ranks", "set_spans", "why_no_value"]

_SCALARS: Final = frozenset({"string", "number", "integer", "boolean", "null"})


def set_ranks(nodes: list[Node]) -> None:
    """Sets ranks and numbers of ways; SchemaError for a loop at one value."""
    order, left = _from_below(nodes, Node.in_place)
    for node in left:
        rule = "refers to itself for the same value; put it in a property"
        raise SchemaError(_on_loop(node, left).path, rule)
    for node in order:
        node.rank = 1 + max((child.rank for child in node.in_place()), default=-1)
        if node.rank > MAX_IN_PLACE:
            raise SchemaError(node.path, f"{node.rank} schemas inside each other for one value; at most {MAX_IN_PLACE}")
    for node in _from_below(nodes, Node.children)[0]:
        node.num_ways = 1 + sum(child.num_ways for child in node.children())


def set_heights(nodes: list[Node]) -> None:
    """The least fixed point of `_least`: a node is looked at again when one below it has come down."""
    above = defaultdict(list)
    for node in nodes:
        for child in node.children():
            above[child].append(node)
    pending = deque(sorted(nodes, key=lambda node: node.rank))
    queued = set(pending)
    while pending:
        node = pending.popleft()
        queued.discard(node)
        height = _least(node)
        if height < node.height:
            node.height = height
            pending.extend(parent for parent in above[node] if parent not in queued)
            queued.update(above[node])


def set_spans(nodes: list[Node]) -> None:
    """A part without references is compiled by itself; one with a reference may bring in everything."""
    by_place = {node.where: node for node in nodes}
    for node in sorted(nodes, key=lambda node: -len(node.where)):
        if "$ref" in node.one:
            node.span = len(nodes)
        for length in range(len(node.where) - 1, -1, -1):
            parent = by_place.get(node.where[:length])
            if parent is not None:
                parent.span = min(parent.span + node.span, len(nodes))
                break


def why_no_value(node: Node) -> SchemaError:
    """The error for a node without a value: follows what makes it so down to the subschema that is to blame."""
    if node.height < inf:
        return SchemaError(node.path, f"a value has {node.height:.0f} levels at least; at most {MAX_DEPTH} are served")
    passed = set[Node]()
    while node not in passed:
        passed.add(node)
        below = next((child for child in _needed(node) if child.height == inf), None)
        if below is None:
            return SchemaError(node.path, f"{short(orjson.dumps(node.schema).decode())} admits no value; relax it")
        node = below
    return SchemaError(node.path, "recursion without an end; make a property of the loop optional or nullable")


def _from_below(nodes: list[Node], below: Callable[[Node], Iterable[Node]]) -> tuple[list[Node], Counter[Node]]:
    """The nodes in an order in which each follows all below it (Kahn), and those on loops or above them."""
    above, num_left = defaultdict(list), Counter[Node]()
    for node in nodes:
        for child in below(node):
            above[child].append(node)
            num_left[node] += 1
    order = [node for node in nodes if not num_left[node]]
    for node in order:
        for parent in above[node]:
            num_left[parent] -= 1
            if not num_left[parent]:
                order.append(parent)  # the loop goes on to it
    return order, +num_left


def _on_loop(node: Node, left: Counter[Node]) -> Node:
    passed = set[Node]()
    while node not in passed:
        passed.add(node)
        node = next(child for child in node.in_place() if left[child])
    return node


def _least(node: Node) -> float:
    heights = [_own_height(node)]
    heights += [child.height for child in (*node.many.get("allOf", ()), *node.ones("$ref"))]
    heights += [
        min(child.height for child in node.many[keyword]) for keyword in ("anyOf", "oneOf") if keyword in node.many
    ]
    return max(heights)


def _own_height(node: Node) -> float:
    schema = node.schema
    if schema.get("not") in ({}, True) or schema.get("enum") == []:
        return inf
    if "const" in schema or "enum" in schema or node.types & _SCALARS:
        return 0
    heights = [_object_height(node)] if "object" in node.types else []
    heights += [_array_height(node)] if "array" in node.types else []
    return min(heights, default=inf)


def _object_height(node: Node) -> float:
    properties, closed = node.named.get("properties", {}), node.schema.get("additionalProperties") is False
    least = -1.0
    for name in node.schema.get("required", ()):
        if name in properties:
            least = max(least, properties[name].height)
        elif closed and "patternProperties" not in node.schema:
            return inf
    return 1 + least


def _array_height(node: Node) -> float:
    num, first = int(node.schema.get("minItems", 0)), node.many.get("prefixItems", [])
    needed = first[:num] + (node.ones("items") if num > len(first) else [])
    return 1 + max((child.height for child in needed), default=-1.0)


def _needed(node: Node) -> Iterator[Node]:
    """The subschemas without which there is no value."""
    yield from node.ones("$ref")
    for keyword in ("allOf", "anyOf", "oneOf"):
        children = node.many.get(keyword, [])
        if keyword == "allOf" or all(child.height == inf for child in children):
            yield from children
    if "object" in node.types:
        required, properties = node.schema.get("required", ()), node.named.get("properties", {})
        yield from (properties[name] for name in required if name in properties)
    if "array" in node.types:
        yield from node.many.get("prefixItems", [])[: int(node.schema.get("minItems", 0))]
        yield from node.ones("items")
